/*
 * test_balance_strategies.c -- each placement strategy against answers known from elsewhere.
 *
 * The loads are those of deepseek-ai/EPLB's README @ d52c72d. Answers marked "original" were
 * printed by the published code named beside them; the others are worked out as the comment says.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"

#define NUM_LAYERS  2
#define NUM_EXPERTS 12
#define NUM_SLOTS   16

static const int64_t readme[NUM_LAYERS][NUM_EXPERTS] = {
    {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
    {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};
static const int32_t readme_step[NUM_LAYERS][NUM_EXPERTS] = {
    {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
    {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(strategy, .fini = stop);

/* Plans one window of num_steps steps that starts with linear placement. */
static void plan(int32_t *map, const char *name, const struct balance_input *shape,
                 const int64_t *load_tokens, const int32_t *step_tokens)
{
    struct balance_input input = *shape;
    struct placement placement[NUM_LAYERS];
    cr_assert_leq(input.num_layers, NUM_LAYERS);
    for (int32_t layer = 0; layer < input.num_layers; layer++) {
        cr_assert_eq(placement_init(&placement[layer], &arena, input.num_experts, input.num_slots,
                                    input.num_ranks, &error),
                     STATUS_OK);
        memcpy(map + layer * input.num_slots, placement[layer].expert_of_slot,
               (size_t)input.num_slots * sizeof *map);
    }
    input.load_tokens = load_tokens;
    input.step_tokens = step_tokens;
    input.placement = placement;
    input.expert_bytes = 1 << 20;
    input.scratch = &arena;
    const struct balance_strategy *strategy = balance_find(name);
    cr_assert_not_null(strategy, "%s", name);
    void *state =
        arena_alloc(&arena, 1, balance_state_bytes(strategy, input.num_layers, input.num_experts));
    cr_assert_eq(strategy->plan(state, &input, map, &error), STATUS_OK, "%s", error.text);
}

static struct balance_input readme_shape(int32_t num_ranks, int32_t num_nodes, int32_t num_groups)
{
    return (struct balance_input){.num_layers = NUM_LAYERS,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_SLOTS,
                                  .num_ranks = num_ranks,
                                  .num_nodes = num_nodes,
                                  .num_groups = num_groups,
                                  .num_steps = 1};
}

/* Within each rank, ascending: for originals whose order within a rank is a hash table's. */
static void sort_ranks(int32_t *map, int32_t num_ranks)
{
    int32_t slots_per_rank = NUM_SLOTS / num_ranks;
    for (int32_t slot = 1; slot < NUM_SLOTS; slot++) {
        for (int32_t at = slot; at % slots_per_rank != 0 && map[at - 1] > map[at]; at--) {
            int32_t expert = map[at];
            map[at] = map[at - 1];
            map[at - 1] = expert;
        }
    }
}

static void expect_ranks(const char *name, int32_t num_ranks, const int32_t *expected)
{
    struct balance_input shape = readme_shape(num_ranks, 1, 1);
    int32_t map[NUM_LAYERS][NUM_SLOTS];
    int32_t sorted[NUM_LAYERS][NUM_SLOTS];

    plan(map[0], name, &shape, readme[0], readme_step[0]);

    memcpy(sorted, expected, sizeof sorted);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        sort_ranks(map[layer], num_ranks);
        sort_ranks(sorted[layer], num_ranks);
        cr_expect_arr_eq(map[layer], sorted[layer], sizeof map[layer], "%s: layer %d", name,
                         (int)layer);
    }
}

static void expect_plan(const char *name, int32_t num_ranks, const int32_t *expected)
{
    struct balance_input shape = readme_shape(num_ranks, 1, 1);
    int32_t map[NUM_LAYERS][NUM_SLOTS];

    plan(map[0], name, &shape, readme[0], readme_step[0]);

    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        for (int32_t slot = 0; slot < NUM_SLOTS; slot++) {
            cr_expect_eq(map[layer][slot], expected[layer * NUM_SLOTS + slot],
                         "%s: layer %d slot %d: %d", name, layer, slot, map[layer][slot]);
        }
    }
}

/* Slot p of rank r is card 8 p + r; cards 12 to 15, on ranks 4 to 7, copy what ranks 0 to 3 hold.
 */
Test(strategy, round_robin_deals_one_by_one)
{
    const int32_t row[NUM_SLOTS] = {0, 8, 1, 9, 2, 10, 3, 11, 4, 0, 5, 1, 6, 2, 7, 3};
    int32_t expected[NUM_LAYERS][NUM_SLOTS];
    memcpy(expected[0], row, sizeof row);
    memcpy(expected[1], row, sizeof row);

    expect_plan("round_robin", 8, expected[0]);
}

/* The second round runs from rank 7 to rank 0: cards 8 to 11 to ranks 7 to 4; ranks 3 to 0 copy the
 * first experts of ranks 7 to 4. */
Test(strategy, zigzag_deals_back_and_forth)
{
    const int32_t row[NUM_SLOTS] = {0, 4, 1, 5, 2, 6, 3, 7, 4, 11, 5, 10, 6, 9, 7, 8};
    int32_t expected[NUM_LAYERS][NUM_SLOTS];
    memcpy(expected[0], row, sizeof row);
    memcpy(expected[1], row, sizeof row);

    expect_plan("zigzag", 8, expected[0]);
}

/* EPLB's README map, each GPU's pair turned where linear placement (slot s holds s % 12) had one of
 * it in the other place: 4 on GPU 2 of layer 0; 0 on GPU 6 and 3 on GPU 7 of layer 1. */
Test(strategy, vllm_is_eplb_that_keeps_slots)
{
    const int32_t expected[NUM_LAYERS][NUM_SLOTS] = {
        {5, 6, 5, 7, 4, 8, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
        {7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 0, 5, 1, 3}};
    struct balance_input shape = readme_shape(8, 2, 4);
    int32_t map[NUM_LAYERS][NUM_SLOTS];

    plan(map[0], "vllm", &shape, readme[0], readme_step[0]);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Linear placement serves the README's loads at a utilisation near 0.6. */
Test(strategy, sglang_is_eplb_while_ranks_are_uneven)
{
    struct balance_input shape = readme_shape(8, 2, 4);
    int32_t map[NUM_LAYERS][NUM_SLOTS];
    int32_t expected[NUM_LAYERS][NUM_SLOTS];

    plan(map[0], "sglang", &shape, readme[0], readme_step[0]);
    plan(expected[0], "eplb", &shape, readme[0], readme_step[0]);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Two ranks with 95 and 105 of 200 tokens: utilisation 100 / 105 = 0.952 is above 0.9. */
Test(strategy, sglang_leaves_even_ranks_alone)
{
    const int64_t load[4] = {50, 45, 55, 50};
    const int32_t step[4] = {50, 45, 55, 50};
    const int32_t linear[4] = {0, 1, 2, 3};
    struct balance_input shape = {.num_layers = 1,
                                  .num_experts = 4,
                                  .num_slots = 4,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = 1};
    int32_t map[4];

    plan(map, "sglang", &shape, load, step);

    cr_expect_arr_eq(map, linear, sizeof map);
}

/* The published decode path, translated to NumPy in fp32 with a stable sort. */
Test(strategy, deepseek_vec_deals_the_readme)
{
    const int32_t expected[NUM_LAYERS][NUM_SLOTS] = {
        {10, 1, 1, 7, 10, 8, 3, 6, 0, 5, 9, 2, 11, 5, 4, 4},
        {1, 9, 8, 10, 2, 8, 7, 4, 5, 6, 7, 0, 5, 6, 3, 11}};

    expect_plan("deepseek_vec", 4, expected[0]);
}

/* Expert 0 has more tokens in the window (60 to 50), but a copy of expert 1, alone hottest in one
 * step, takes 50 - 25 = 25 off the steps' maxima; one of 0 takes 3 x (20 - 19) = 3: expert 2 is
 * close behind it. The slots weigh 60, 57, 25, 25. */
Test(strategy, deepseek_vec_counts_steps_not_sums)
{
    const int64_t load[3] = {60, 50, 57};
    const int32_t step[4][3] = {{20, 0, 19}, {20, 0, 19}, {20, 0, 19}, {0, 50, 0}};
    const int32_t expected[4] = {0, 1, 2, 1};
    struct balance_input shape = {.num_layers = 1,
                                  .num_experts = 3,
                                  .num_slots = 4,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = 4};
    int32_t map[4];

    plan(map, "deepseek_vec", &shape, load, step[0]);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* doReplication and doPlacement restated in Python with heapq. */
Test(strategy, trtllm_places_the_readme)
{
    const int32_t expected[NUM_LAYERS][NUM_SLOTS] = {
        {10, 8, 3, 7, 10, 1, 1, 4, 0, 5, 4, 2, 11, 5, 9, 6},
        {1, 8, 3, 11, 2, 8, 9, 10, 5, 6, 7, 0, 5, 6, 7, 4}};

    expect_plan("trtllm", 4, expected[0]);
}

/* Expert 1 had 200 tokens a step ago, which count 198 by now; expert 0 has 199, so the spare slot
 * is expert 0's. Then 198 (expert 1) goes to rank 0, both halves of expert 0 to rank 1 (99.5 is
 * less than 198), and expert 2 to what is left. */
Test(strategy, trtllm_lets_older_steps_count_less)
{
    const int32_t step[2][3] = {{0, 200, 0}, {199, 0, 1}};
    const int64_t load[3] = {199, 200, 1};
    const int32_t expected[4] = {1, 2, 0, 0};
    struct balance_input shape = {.num_layers = 1,
                                  .num_experts = 3,
                                  .num_slots = 4,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = 2};
    int32_t map[4];

    plan(map, "trtllm", &shape, load, step[0]);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Original: DefaultEplb.rebalance_experts, vllm-ascend @ 182b75e, slot loads an even share. */
Test(strategy, ascend_default_equals_the_original)
{
    const int32_t eight[NUM_LAYERS][NUM_SLOTS] = {
        {3, 1, 4, 8, 1, 5, 6, 10, 10, 7, 0, 2, 11, 4, 5, 9},
        {5, 11, 6, 7, 7, 8, 8, 9, 1, 10, 2, 4, 0, 5, 6, 3}};
    const int32_t four[NUM_LAYERS][NUM_SLOTS] = {
        {0, 1, 4, 3, 4, 10, 8, 2, 5, 1, 7, 11, 10, 5, 9, 6},
        {0, 5, 6, 7, 3, 5, 6, 11, 8, 7, 1, 4, 8, 9, 2, 10}};

    expect_plan("ascend_default", 8, eight[0]);
    expect_plan("ascend_default", 4, four[0]);
}

/* Original: SwiftBalanceEplb.rebalance_experts, vllm-ascend @ 182b75e; it keeps ranks as sets. */
Test(strategy, swift_equals_the_original)
{
    const int32_t eight[NUM_LAYERS][NUM_SLOTS] = {
        {0, 1, 2, 3, 7, 5, 6, 4, 8, 9, 10, 11, 10, 5, 1, 10},
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 5, 7, 8, 6}};
    const int32_t four[NUM_LAYERS][NUM_SLOTS] = {
        {0, 1, 2, 3, 4, 5, 6, 8, 7, 9, 10, 11, 10, 1, 4, 5},
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 8, 5, 6, 7}};

    expect_ranks("swift", 8, eight[0]);
    expect_ranks("swift", 4, four[0]);
}

/* Ranks of 90 and 10: heaviest first, 50 to rank 0 and 40 to rank 1, then 8 to rank 1 (40 < 50) and
 * 2 to rank 1 were it not full: 52 and 48. Expert 0 and 3 keep their places. */
Test(strategy, smart_deals_heaviest_first)
{
    const int64_t load[4] = {50, 40, 8, 2};
    const int32_t step[4] = {50, 40, 8, 2};
    const int32_t expected[4] = {0, 3, 2, 1};
    struct balance_input shape = {.num_layers = 1,
                                  .num_experts = 4,
                                  .num_slots = 4,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = 1};
    int32_t map[4];

    plan(map, "smart", &shape, load, step);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Six slots for four experts on two ranks: the hottest, expert 0, is on both (45 each). Its own
 * slot goes to a second copy of expert 1 (20 each). By weight 20, 20, 30 ... : expert 2 (30) to
 * rank 0, then 20 to rank 1, 20 to rank 0 (75 > 65, so rank 1 first; it holds expert 1 already),
 * and 5 to rank 1. */
Test(strategy, biased_puts_the_hottest_everywhere)
{
    const int64_t load[4] = {90, 40, 30, 5};
    const int32_t step[4] = {90, 40, 30, 5};
    const int32_t expected[6] = {0, 1, 2, 3, 0, 1};
    struct balance_input shape = {.num_layers = 1,
                                  .num_experts = 4,
                                  .num_slots = 6,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = 1};
    int32_t map[6];

    plan(map, "biased", &shape, load, step);

    cr_expect_arr_eq(map, expected, sizeof map);
}

static struct balance_input two_ranks(int32_t num_steps, int32_t num_slots)
{
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = 4,
                                  .num_slots = num_slots,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = num_steps};
}

/* Experts 0 and 1 share rank 0 and have become hot: every step waits for 200 tokens, and the next
 * will. By the window all experts are equal, so a strategy that sees only sums finds nothing to do.
 * Expert 0 for expert 2 leaves 100: 100 tokens less a step for two moves of 2^20 / 21504 / 2 / 8 =
 * 3 each. */
Test(strategy, drift_aware_parts_experts_that_have_become_hot)
{
    const int64_t load[4] = {200, 200, 200, 200};
    const int32_t step[4][4] = {
        {0, 0, 100, 100}, {0, 0, 100, 100}, {100, 100, 0, 0}, {100, 100, 0, 0}};
    const int32_t expected[4] = {2, 1, 0, 3};
    const int32_t linear[4] = {0, 1, 2, 3};
    struct balance_input shape = two_ranks(4, 4);
    int32_t map[4];

    plan(map, "drift_aware", &shape, load, step[0]);
    cr_expect_arr_eq(map, expected, sizeof map);

    plan(map, "smart", &shape, load, step[0]);
    cr_expect_arr_eq(map, linear, sizeof map);
}

/* A hundredth of the tokens, hot together: even if 2 a window were saved, two moves of 3 each would
 * not pay. */
Test(strategy, drift_aware_makes_no_change_that_costs_more_than_it_saves)
{
    const int64_t load[4] = {1, 1, 1, 1};
    const int32_t step[2][4] = {{1, 1, 0, 0}, {0, 0, 1, 1}};
    const int32_t linear[4] = {0, 1, 2, 3};
    struct balance_input shape = two_ranks(2, 4);
    int32_t map[4];

    plan(map, "drift_aware", &shape, load, step[0]);

    cr_expect_arr_eq(map, linear, sizeof map);
}

/* Linear placement is {0 1 2 | 3 0 1}; ranks serve 100 + 5 + 150 and 70 + 100 + 5, so the step
 * waits for 255. A copy of expert 2 in expert 1's slot on rank 1 leaves 100 + 10 + 75 and
 * 70 + 100 + 75 = 245 for one move of 3, gain 7. The exchange of 2 for 3 leaves 175 and 255. */
Test(strategy, drift_aware_copies_what_is_hot)
{
    const int64_t load[4] = {200, 10, 150, 70};
    const int32_t step[4] = {200, 10, 150, 70};
    const int32_t expected[6] = {0, 1, 2, 3, 0, 2};
    struct balance_input shape = two_ranks(1, 6);
    int32_t map[6];

    plan(map, "drift_aware", &shape, load, step);

    cr_expect_arr_eq(map, expected, sizeof map);
}
