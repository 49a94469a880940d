/* test_place_pairs.c -- moesim place with lost ranks, and with a trace that tells pairs. */
#include <criterion/criterion.h>
#include <string.h>

#include "place.h"
#include "small_trace.h"

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(place_lost, .fini = stop);
TestSuite(place_pairs, .init = small_make_directory, .fini = small_remove_directory);

static int64_t lost_load[] = {40, 30, 20, 10};
static int32_t lost_step[] = {40, 30, 20, 10};
static const bool second_lost[] = {false, true, false};

static struct load_file small_load(void)
{
    return (struct load_file){.num_steps = 1,
                              .num_layers = 1,
                              .num_experts = 4,
                              .load_tokens = lost_load,
                              .step_tokens = lost_step};
}

/* Ranks 0 1 | 2 3 | 0 1, rank 1 lost: nobody holds experts 2 and 3; the others are shared evenly by
 * two equal ranks, so before max / mean is 1. */
Test(place_lost, counts_only_the_ranks_that_are_left)
{
    struct load_file load = small_load();
    struct place_result result;
    struct place_options options = {.strategy = balance_find("elasticity_aware"),
                                    .num_slots = 6,
                                    .num_ranks = 3,
                                    .num_nodes = 1,
                                    .num_groups = 1,
                                    .rank_is_lost = second_lost};

    cr_assert_eq(place(&result, &options, &load, NULL, &arena, &error), STATUS_OK, "%s",
                 error.text);

    cr_expect_eq(result.before.homeless, 2);
    cr_expect_float_eq(result.before.max_over_mean, 1.0, 1e-12);
    cr_expect_eq(result.after.homeless, 0);
    cr_expect_eq(result.expert_of_slot[2], 2); /* a lost rank is sent nothing */
    cr_expect_eq(result.expert_of_slot[3], 3);
    /* 40 + 10 and 30 + 20 on the two ranks with four slots. */
    cr_expect_float_eq(result.after.max_over_mean, 1.0, 1e-12);
}

Test(place_lost, refuses_a_strategy_that_is_not_told_its_pairs)
{
    struct load_file load = small_load();
    struct place_result result;
    struct place_options options = {.strategy = balance_find("affinity"),
                                    .num_slots = 6,
                                    .num_ranks = 3,
                                    .num_nodes = 1,
                                    .num_groups = 1};

    cr_expect_eq(place(&result, &options, &load, NULL, &arena, &error), STATUS_INVALID);
    cr_expect_str_eq(error.text, "--strategy affinity: needs to know which experts tokens choose "
                                 "together\n");
}

/* The small trace's layers (small_trace.c): 01 23 45 67 70, then 10 12 1- 14 --. */
Test(place_pairs, counts_them_in_a_trace)
{
    struct place_options options = {.strategy = balance_find("affinity")};
    small_write();

    cr_assert_eq(place_count_pairs(&options, small_path, &arena, &error), STATUS_OK, "%s",
                 error.text);

    int32_t expected[2][8][8] = {{{0}}};
    static const int32_t pairs[][3] = {{0, 0, 1}, {0, 2, 3}, {0, 4, 5}, {0, 6, 7},
                                       {0, 7, 0}, {1, 1, 0}, {1, 1, 2}, {1, 1, 4}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        expected[pairs[i][0]][pairs[i][1]][pairs[i][2]]++;
        expected[pairs[i][0]][pairs[i][2]][pairs[i][1]]++;
    }
    int32_t next[8][8] = {{0}};
    static const int32_t steps[][2] = {{0, 1}, {0, 0}, {1, 1}, {1, 0}, {2, 1}, {2, 2}, {3, 1},
                                       {3, 2}, {4, 1}, {5, 1}, {6, 1}, {6, 4}, {7, 1}, {7, 4}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        next[steps[i][0]][steps[i][1]]++;
    }
    cr_expect_arr_eq(options.pair_tokens, expected, sizeof expected);
    cr_expect_arr_eq(options.transition_tokens, next, sizeof next);
    arena_free(&arena);
}

Test(place_pairs, wants_a_trace_only_for_who_needs_it)
{
    struct place_options options = {.strategy = balance_find("eplb")};
    cr_expect_eq(place_count_pairs(&options, "no such file", &arena, &error), STATUS_OK);
    cr_expect_null(options.pair_tokens);

    options.strategy = balance_find("trtllm_cooccurrence");
    cr_expect_eq(place_count_pairs(&options, "/dev/null", &arena, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "give a trace's directory") != NULL, "%s", error.text);
}
