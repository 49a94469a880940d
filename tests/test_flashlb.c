/*
 * test_flashlb.c -- flashlb against the published code, and the assignment it renames ranks by.
 *
 * Loads are those of deepseek-ai/EPLB's README @ d52c72d, in later steps times 1 to 4. "Original"
 * are the placements that vllm-ascend's FlashLB.rebalance_experts @ 182b75e answered, run as
 * Python.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "balance/assignment.h"
#include "balance/balance.h"

#define NUM_LAYERS  2
#define NUM_EXPERTS 12
#define NUM_SLOTS   16
#define STEPS_MAX   6

static const int32_t readme[NUM_LAYERS][NUM_EXPERTS] = {
    {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
    {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};

static struct arena arena;
static struct error error;
static struct placement placement[NUM_LAYERS];
static int32_t map[NUM_LAYERS][NUM_SLOTS];
static double state[NUM_LAYERS * NUM_EXPERTS];

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(flashlb, .fini = stop);

static void start(int32_t num_ranks)
{
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_assert_eq(
            placement_init(&placement[layer], &arena, NUM_EXPERTS, NUM_SLOTS, num_ranks, &error),
            STATUS_OK);
        memcpy(map[layer], placement[layer].expert_of_slot, sizeof map[layer]);
    }
}

static void plan(int32_t num_ranks, int32_t num_steps)
{
    static int32_t step[STEPS_MAX][NUM_LAYERS][NUM_EXPERTS];
    static int64_t load[NUM_LAYERS][NUM_EXPERTS];
    memset(load, 0, sizeof load);
    for (int32_t i = 0; i < num_steps * NUM_LAYERS * NUM_EXPERTS; i++) {
        int32_t at = i / (NUM_LAYERS * NUM_EXPERTS);
        int32_t layer = i / NUM_EXPERTS % NUM_LAYERS;
        int32_t expert = i % NUM_EXPERTS;
        int32_t times = num_steps == 1 ? 1 : 1 + (7 * at + 5 * expert) % 4;
        step[at][layer][expert] = readme[layer][expert] * times;
        load[layer][expert] += step[at][layer][expert];
    }
    struct balance_input input = {.num_layers = NUM_LAYERS,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_SLOTS,
                                  .num_ranks = num_ranks,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .num_steps = num_steps,
                                  .load_tokens = load[0],
                                  .step_tokens = step[0][0],
                                  .placement = placement,
                                  .expert_bytes = 1 << 20,
                                  .scratch = &arena};
    cr_assert_eq(balance_find("flashlb")->plan(state, &input, map[0], &error), STATUS_OK, "%s",
                 error.text);
}

static void expect_map(int32_t num_ranks, int32_t num_steps, const int32_t *expected)
{
    memset(state, 0, sizeof state);
    start(num_ranks);

    plan(num_ranks, num_steps);

    for (int32_t i = 0; i < NUM_LAYERS * NUM_SLOTS; i++) {
        cr_expect_eq(map[i / NUM_SLOTS][i % NUM_SLOTS], expected[i], "%d ranks, %d steps, slot %d",
                     num_ranks, num_steps, i);
    }
}

Test(flashlb, equals_the_original_on_one_step)
{
    const int32_t eight[NUM_LAYERS][NUM_SLOTS] = {
        {7, 1, 2, 10, 4, 5, 6, 10, 8, 4, 0, 11, 0, 5, 9, 3},
        {10, 1, 6, 3, 4, 2, 6, 7, 8, 9, 5, 11, 0, 5, 8, 7}};
    const int32_t four[NUM_LAYERS][NUM_SLOTS] = {
        {0, 10, 2, 9, 4, 5, 6, 8, 3, 2, 10, 11, 5, 1, 8, 7},
        {8, 1, 11, 3, 4, 5, 6, 7, 8, 9, 10, 2, 0, 5, 6, 7}};

    expect_map(8, 1, eight[0]);
    expect_map(4, 1, four[0]);
}

Test(flashlb, equals_the_original_where_loads_scatter_together)
{
    const int32_t eight[NUM_LAYERS][NUM_SLOTS] = {
        {0, 2, 1, 3, 4, 5, 6, 10, 11, 9, 10, 7, 8, 1, 5, 4},
        {0, 6, 2, 10, 7, 5, 5, 7, 8, 9, 6, 11, 4, 1, 8, 3}};
    const int32_t four[NUM_LAYERS][NUM_SLOTS] = {
        {0, 10, 9, 3, 4, 10, 6, 1, 8, 5, 10, 2, 11, 1, 5, 7},
        {0, 1, 7, 3, 4, 5, 6, 7, 8, 9, 2, 11, 6, 8, 5, 10}};

    expect_map(8, STEPS_MAX, eight[0]);
    expect_map(4, STEPS_MAX, four[0]);
}

/* Its second plan has the loads of the first and so keeps what that one promised, in layers where
 * mean / max is above .9: layer 1 on four ranks is, at .98. */
Test(flashlb, leaves_alone_what_still_holds)
{
    int32_t first[NUM_LAYERS][NUM_SLOTS];
    memset(state, 0, sizeof state);
    start(4);
    plan(4, 1);
    memcpy(first, map, sizeof first);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_assert_eq(placement_set(&placement[layer], map[layer], &error), STATUS_OK);
    }

    plan(4, 1);

    cr_expect_arr_eq(map[1], first[1], sizeof map[1]);
}

/* Costs 4 1 3 / 2 0 5 / 3 2 2: 1 + 2 + 2 = 5 by columns 1, 0, 2; each other way costs 6 or more. */
Test(flashlb, assigns_at_least_cost)
{
    const int32_t cost[9] = {4, 1, 3, 2, 0, 5, 3, 2, 2};
    int32_t column[3];

    cr_assert_eq(assignment_solve(column, cost, 3, &arena), STATUS_OK);

    cr_expect_eq(column[0], 1);
    cr_expect_eq(column[1], 0);
    cr_expect_eq(column[2], 2);
}
