/* test_placement.c -- the two views of a placement agree, and a change sends what is missing. */
#include <criterion/criterion.h>
#include <string.h>

#include "placement.h"

static struct arena arena;
static struct placement placement;

static void start(int32_t num_experts, int32_t num_slots, int32_t num_ranks)
{
    cr_assert_eq(placement_init(&placement, &arena, num_experts, num_slots, num_ranks, NULL),
                 STATUS_OK);
}

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(placement, .fini = stop);

static void expect_equal(const int32_t *actual, const int32_t *expected, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(actual[i], expected[i], "[%d]: %d, expected %d", i, actual[i], expected[i]);
    }
}

Test(placement, starts_linear_and_wraps_round)
{
    start(4, 6, 2);

    expect_equal(placement.expert_of_slot, (int32_t[]){0, 1, 2, 3, 0, 1}, 6);
    expect_equal(placement.rank_begin, (int32_t[]){0, 3, 6}, 3);
    expect_equal(placement.rank_of_slot, (int32_t[]){0, 0, 0, 1, 1, 1}, 6);
    expect_equal(placement.slot_begin, (int32_t[]){0, 2, 4, 5, 6}, 5);
    expect_equal(placement.slot_of, (int32_t[]){0, 4, 1, 5, 2, 3}, 6);
    cr_expect_eq(placement_num_replicas(&placement, 1), 2);
}

Test(placement, refuses_counts_that_break_a_rule)
{
    static struct error error;

    cr_expect_eq(placement_init(&placement, &arena, 8, 7, 1, &error), STATUS_INVALID);
    cr_expect_eq(placement_init(&placement, &arena, 8, 10, 4, &error), STATUS_INVALID);
    cr_expect_eq(placement_init(&placement, &arena, 0, 4, 4, &error), STATUS_INVALID);
    cr_expect_eq(placement_init(&placement, &arena, 4, 4, 0, &error), STATUS_INVALID);
    cr_expect_eq(error.num_problems, 4);
}

Test(placement, regroups_slots_when_it_is_set)
{
    start(3, 6, 3);

    cr_assert_eq(placement_set(&placement, (int32_t[]){2, 2, 0, 1, 2, 0}, NULL), STATUS_OK);

    expect_equal(placement.expert_of_slot, (int32_t[]){2, 2, 0, 1, 2, 0}, 6);
    expect_equal(placement.slot_begin, (int32_t[]){0, 2, 3, 6}, 4);
    expect_equal(placement.slot_of, (int32_t[]){2, 5, 3, 0, 1, 4}, 6);
}

Test(placement, stays_as_it_was_when_a_map_is_refused)
{
    start(3, 6, 3);
    static struct error error;
    cr_assert_eq(placement_set(&placement, (int32_t[]){2, 2, 0, 1, 2, 0}, NULL), STATUS_OK);

    cr_expect_eq(placement_set(&placement, (int32_t[]){0, 0, 0, 2, 2, 2}, &error), STATUS_INVALID);
    cr_expect_eq(placement_set(&placement, (int32_t[]){0, 1, 2, 3, 0, 1}, &error), STATUS_INVALID);
    cr_expect_eq(placement_set(&placement, (int32_t[]){0, 1, 2, -1, 0, 1}, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "expert 1 has no slot"));
    cr_expect_not_null(strstr(error.text, "slot 3 names expert 3"));
    expect_equal(placement.expert_of_slot, (int32_t[]){2, 2, 0, 1, 2, 0}, 6);
    expect_equal(placement.slot_begin, (int32_t[]){0, 2, 3, 6}, 4);
    expect_equal(placement.slot_of, (int32_t[]){2, 5, 3, 0, 1, 4}, 6);
}

static void expect_moves(const int32_t *expert_of_slot, int32_t gpus_per_node,
                         const struct expert_move *expected, int32_t num_expected)
{
    struct expert_move move[64];
    int32_t count = placement_moves(&placement, move, 7, expert_of_slot, gpus_per_node);
    cr_assert_eq(count, num_expected, "%d moves, expected %d", count, num_expected);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(move[i].layer, 7);
        cr_expect(move[i].expert == expected[i].expert &&
                      move[i].from_rank == expected[i].from_rank &&
                      move[i].to_rank == expected[i].to_rank,
                  "move %d: expert %d from %d to %d", i, move[i].expert, move[i].from_rank,
                  move[i].to_rank);
    }
}

Test(placement, charges_no_move_for_a_slot_renamed_within_its_rank)
{
    start(4, 8, 2); /* both ranks hold 0 1 2 3 */

    expect_moves((int32_t[]){3, 2, 1, 0, 1, 1, 2, 2}, 2, NULL, 0);
}

Test(placement, sends_two_new_copies_on_one_rank_once)
{
    start(4, 4, 2); /* rank 0: 0 1; rank 1: 2 3 */

    expect_moves((int32_t[]){3, 3, 2, 1}, 2,
                 (struct expert_move[]){{.expert = 3, .from_rank = 1, .to_rank = 0},
                                        {.expert = 1, .from_rank = 0, .to_rank = 1}},
                 2);
}

Test(placement, fetches_from_the_same_node_where_it_can)
{
    start(4, 8, 4); /* nodes {0, 1} and {2, 3}; even ranks hold 0 1, odd ranks 2 3 */

    expect_moves((int32_t[]){3, 2, 2, 3, 1, 3, 1, 0}, 2,
                 (struct expert_move[]){{.expert = 2, .from_rank = 1, .to_rank = 0},
                                        {.expert = 3, .from_rank = 1, .to_rank = 0},
                                        {.expert = 3, .from_rank = 3, .to_rank = 2},
                                        {.expert = 0, .from_rank = 2, .to_rank = 3},
                                        {.expert = 1, .from_rank = 2, .to_rank = 3}},
                 5);
}

Test(placement, asks_the_holder_that_has_been_asked_least)
{
    start(4, 8, 4); /* one node; even ranks hold 0 1, odd ranks 2 3 */

    /* Expert 0 to rank 1: ranks 0 and 2 were asked 0 times, the lower sends. Expert 1 to rank 1:
     * rank 2 was asked less. Rank 3 finds them even again. */
    expect_moves((int32_t[]){0, 1, 0, 1, 2, 3, 1, 0}, 4,
                 (struct expert_move[]){{.expert = 0, .from_rank = 0, .to_rank = 1},
                                        {.expert = 1, .from_rank = 2, .to_rank = 1},
                                        {.expert = 2, .from_rank = 1, .to_rank = 2},
                                        {.expert = 3, .from_rank = 3, .to_rank = 2},
                                        {.expert = 0, .from_rank = 0, .to_rank = 3},
                                        {.expert = 1, .from_rank = 2, .to_rank = 3}},
                 6);
}

static bool rank_holds(const int32_t *expert_of_slot, int32_t rank, int32_t expert)
{
    for (int32_t slot = placement.rank_begin[rank]; slot < placement.rank_begin[rank + 1]; slot++) {
        if (expert_of_slot[slot] == expert) {
            return true;
        }
    }
    return false;
}

Test(placement, sends_every_missing_pair_once_and_from_a_holder)
{
    start(24, 40, 8);
    uint32_t draw = 1;
    for (int32_t round = 0; round < 50; round++) {
        int32_t next[40];
        for (int32_t slot = 0; slot < 40; slot++) {
            draw = draw * UINT32_C(1664525) + UINT32_C(1013904223);
            next[slot] = slot < 24 ? (slot * 7 + round) % 24 : (int32_t)(draw >> 16) % 24;
        }
        struct expert_move move[40];
        int32_t count = placement_moves(&placement, move, 0, next, 4);

        int32_t missing = 0;
        for (int32_t rank = 0; rank < 8; rank++) {
            for (int32_t expert = 0; expert < 24; expert++) {
                missing += rank_holds(next, rank, expert) &&
                           !rank_holds(placement.expert_of_slot, rank, expert);
            }
        }
        cr_assert_eq(count, missing);
        for (int32_t i = 0; i < count; i++) {
            const struct expert_move *m = &move[i];
            cr_assert(rank_holds(placement.expert_of_slot, m->from_rank, m->expert));
            cr_assert(!rank_holds(placement.expert_of_slot, m->to_rank, m->expert));
            cr_assert(rank_holds(next, m->to_rank, m->expert));
            cr_assert(i == 0 || m[-1].to_rank < m->to_rank ||
                      (m[-1].to_rank == m->to_rank && m[-1].expert < m->expert));
        }
        cr_assert_eq(placement_set(&placement, next, NULL), STATUS_OK);
    }
}
