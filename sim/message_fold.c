/* message_fold.c -- a sum of products, by blocks; in vectors where they multiply 64 bits. */
#include "message_fold.h"

#include <stdbool.h>

/* A message's word: each of its parts spread by an odd constant of its own. */
static inline uint64_t message_word(uint64_t common, const struct message *message, int64_t at_ns)
{
    return common + (uint64_t)at_ns +
           (uint64_t)(uint32_t)message->dst_rank * UINT64_C(0x9e3779b97f4a7c15) +
           (uint64_t)message->bytes * UINT64_C(0x165667b19e3779f9);
}

__attribute__((always_inline)) static inline uint64_t sum_words(const uint64_t *restrict power,
                                                                const struct told *told,
                                                                int32_t begin, int32_t end,
                                                                bool is_wide)
{
    const struct message *restrict message = told->message;
    const int64_t *restrict at_ns = told->at_ns;
    const uint64_t common = told->common;
    uint64_t sum = 0;
#pragma omp simd reduction(+ : sum) if (is_wide)
    for (int32_t i = begin; i < end; i++) {
        sum += power[i - begin] * message_word(common, &message[i], at_ns[i]);
    }
    return sum;
}

static uint64_t sum_words_anywhere(const uint64_t *power, const struct told *told, int32_t begin,
                                   int32_t end)
{
    return sum_words(power, told, begin, end, false);
}

#ifdef __x86_64__ /* has vectors that multiply 64 bits from AVX-512 on */
__attribute__((target("avx512f,avx512dq"))) static uint64_t
sum_words_avx512(const uint64_t *power, const struct told *told, int32_t begin, int32_t end)
{
    return sum_words(power, told, begin, end, true);
}
#endif

int32_t message_fold_paths(word_sum *path[FOLD_PATHS_MAX])
{
    int32_t count = 0;
    path[count++] = sum_words_anywhere;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
        path[count++] = sum_words_avx512;
    }
#endif
    return count;
}

void message_fold_init(struct message_fold *fold)
{
    word_sum *path[FOLD_PATHS_MAX];
    fold->sum = path[message_fold_paths(path) - 1];
    fold->power[FOLD_MESSAGES] = 1;
    for (int32_t i = FOLD_MESSAGES; i > 0; i--) {
        fold->power[i - 1] = fold->power[i] * FOLD_BASE;
    }
}

uint64_t message_fold(const struct message_fold *fold, uint64_t common,
                      const struct message *message, const int64_t *at_ns, int32_t count)
{
    const struct told told = {common, message, at_ns};
    uint64_t value = 0;
    for (int32_t begin = 0; begin < count; begin += FOLD_MESSAGES) {
        int32_t end = count - begin < FOLD_MESSAGES ? count : begin + FOLD_MESSAGES;
        const uint64_t *power = &fold->power[FOLD_MESSAGES - (end - begin)];
        value = value * power[0] + fold->sum(power + 1, &told, begin, end);
    }
    return value;
}
