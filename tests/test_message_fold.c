/* test_message_fold.c -- a number of messages against Horner's rule, message by message. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "message_fold.h"
#include "rng.h"

#define MESSAGES_MAX 600

static struct message message[MESSAGES_MAX];
static int64_t at_ns[MESSAGES_MAX];

static void draw(void)
{
    gsl_rng *rng = rng_stream(7, "test message fold", 0);
    for (int32_t i = 0; i < MESSAGES_MAX; i++) {
        message[i] = (struct message){.dst_rank = (int32_t)gsl_rng_uniform_int(rng, 65536),
                                      .bytes = (int64_t)gsl_rng_uniform_int(rng, 1UL << 31)};
        at_ns[i] = (int64_t)gsl_rng_uniform_int(rng, 1UL << 31) << 20;
    }
    gsl_rng_free(rng);
}

Test(message_fold, is_a_polynomial_of_the_words_by_every_path)
{
    static const int32_t counts[] = {0, 1, 2, 7, 8, 9, 255, 256, 257, 511, 512, 513, MESSAGES_MAX};
    word_sum *path[FOLD_PATHS_MAX];
    struct message_fold fold;
    draw();
    message_fold_init(&fold);
    int32_t num_paths = message_fold_paths(path);
    cr_assert_eq(fold.sum, path[num_paths - 1], "the fastest");
    for (int32_t p = 0; p < num_paths; p++) {
        fold.sum = path[p];
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            uint64_t value = 0;
            for (int32_t i = 0; i < counts[c]; i++) {
                value = value * FOLD_BASE + message_fold(&fold, 5, &message[i], &at_ns[i], 1);
            }
            cr_expect_eq(message_fold(&fold, 5, message, at_ns, counts[c]), value,
                         "path %d, %d messages", p, counts[c]);
        }
    }
}

/* Equal words are what digests cannot tell apart. */
Test(message_fold, a_word_has_every_part_of_a_message)
{
    const struct message other[] = {{1, 0, 10}, {2, 0, 10}, {1, 0, 11}};
    const int64_t now[] = {3, 4};
    struct message_fold fold;
    message_fold_init(&fold);
    uint64_t value = message_fold(&fold, 5, &other[0], &now[0], 1);
    cr_expect_neq(message_fold(&fold, 6, &other[0], &now[0], 1), value, "common");
    cr_expect_neq(message_fold(&fold, 5, &other[1], &now[0], 1), value, "rank");
    cr_expect_neq(message_fold(&fold, 5, &other[2], &now[0], 1), value, "bytes");
    cr_expect_neq(message_fold(&fold, 5, &other[0], &now[1], 1), value, "time");
}
