/* test_event.c -- the queue's order, and the arena under it. */
#include <criterion/criterion.h>
#include <stdint.h>

#include "arena.h"
#include "event.h"
#include "rng.h"

Test(event_queue, pops_by_time_then_by_order_of_scheduling)
{
    struct event_queue queue = {0};
    int64_t times[] = {30, 10, 20, 10, 30, 10};
    for (int32_t rank = 0; rank < 6; rank++) {
        cr_assert_eq(event_push(&queue, (struct event){.time_ns = times[rank], .rank = rank}),
                     STATUS_OK);
    }

    int32_t expected[] = {1, 3, 5, 2, 0, 4};
    for (int32_t index = 0; index < 6; index++) {
        struct event event;
        cr_assert(event_pop(&queue, &event));
        cr_expect_eq(event.rank, expected[index]);
    }

    struct event event;
    cr_expect(!event_pop(&queue, &event));
    event_queue_free(&queue);
}

Test(event_queue, never_runs_back_under_random_load)
{
    struct event_queue queue = {0};
    gsl_rng *rng = rng_stream(1, "test event", 0);
    int64_t last_ns = 0;
    int64_t last_seq = -1;
    for (int32_t round = 0; round < 100000; round++) {
        if (gsl_rng_uniform_int(rng, 3) > 0 || queue.count == 0) {
            int64_t time_ns = queue.now_ns + (int64_t)gsl_rng_uniform_int(rng, 8);
            cr_assert_eq(event_push(&queue, (struct event){.time_ns = time_ns}), STATUS_OK);
            continue;
        }
        struct event event;
        cr_assert(event_pop(&queue, &event));
        cr_assert(event.time_ns > last_ns || (event.time_ns == last_ns && event.seq > last_seq) ||
                  last_seq < 0);
        last_ns = event.time_ns;
        last_seq = event.seq;
    }
    gsl_rng_free(rng);
    event_queue_free(&queue);
}

Test(arena, hands_out_zeroed_aligned_memory_and_keeps_blocks_over_a_reset)
{
    struct arena arena = {0};
    unsigned char *first = arena_alloc(&arena, 1000, 1);
    cr_assert_not_null(first);
    cr_expect_eq((uintptr_t)first % 64, 0);
    first[999] = 1;
    cr_assert_not_null(arena_alloc(&arena, 1000000, 8)); /* a block of its own */

    arena_reset(&arena);

    unsigned char *again = arena_alloc(&arena, 1000, 1);
    cr_expect_eq(again, first);
    cr_expect_eq(again[999], 0);
    arena_free(&arena);
    arena_free(&arena);
}

Test(arena, refuses_sizes_that_overflow)
{
    struct arena arena = {0};

    cr_expect_null(arena_alloc(&arena, SIZE_MAX, 2));
    cr_expect_null(arena_alloc(&arena, SIZE_MAX / 2, 2));

    arena_free(&arena);
}
