/* test_balance.c -- strategies keep every expert and repeat themselves; EPLB is its original. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <glob.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"
#include "balance/eplb.h"
#include "csv.h"

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(balance, .fini = stop);
TestSuite(eplb, .fini = stop);

/* Laws, over every strategy: three layers of skewed loads, eight ranks on two nodes. */

#define NUM_LAYERS  3
#define NUM_EXPERTS 32
#define NUM_SLOTS   40
#define NUM_RANKS   8

static int64_t load_tokens[NUM_LAYERS][NUM_EXPERTS];
static int32_t step_tokens[NUM_LAYERS][NUM_EXPERTS]; /* a window of one step */
static struct placement placement[NUM_LAYERS];
static int32_t expert_of_slot[NUM_LAYERS][NUM_SLOTS];

/* A few hot experts, neighbours and so on the same rank under linear placement. */
static void set_law_up(void)
{
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_assert_eq(
            placement_init(&placement[layer], &arena, NUM_EXPERTS, NUM_SLOTS, NUM_RANKS, NULL),
            STATUS_OK);
        memcpy(expert_of_slot[layer], placement[layer].expert_of_slot, sizeof expert_of_slot[0]);
        for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
            int32_t place = (expert + 13 * layer) % NUM_EXPERTS;
            load_tokens[layer][expert] = 100 + 6400 / (1 + place * place) + place % 3;
            step_tokens[layer][expert] = (int32_t)load_tokens[layer][expert];
        }
    }
}

static enum status plan(const struct balance_strategy *strategy)
{
    struct balance_input input = {.num_layers = NUM_LAYERS,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_SLOTS,
                                  .num_ranks = NUM_RANKS,
                                  .num_nodes = 2,
                                  .num_groups = 4,
                                  .load_tokens = &load_tokens[0][0],
                                  .step_tokens = &step_tokens[0][0],
                                  .num_steps = 1,
                                  .placement = placement,
                                  .expert_bytes = 1 << 20,
                                  .scratch = &arena};
    void *state = arena_alloc(&arena, 1, strategy->state_bytes);
    return strategy->plan(state, &input, &expert_of_slot[0][0], &error);
}

/* Tokens of the busiest rank when every replica of an expert serves an equal share. */
static double busiest_rank_tokens(int32_t layer)
{
    double tokens_max = 0.0;
    for (int32_t rank = 0; rank < NUM_RANKS; rank++) {
        double tokens = 0.0;
        for (int32_t slot = placement[layer].rank_begin[rank];
             slot < placement[layer].rank_begin[rank + 1]; slot++) {
            int32_t expert = placement[layer].expert_of_slot[slot];
            tokens += (double)load_tokens[layer][expert] /
                      placement_num_replicas(&placement[layer], expert);
        }
        tokens_max = tokens > tokens_max ? tokens : tokens_max;
    }
    return tokens_max;
}

static struct criterion_test_params strategy_indices(void)
{
    static size_t cases[] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t count;
    balance_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
    return cr_make_param_array(size_t, cases, (size_t)count);
}

ParameterizedTestParameters(balance_law, leaves_every_expert_a_slot)
{
    return strategy_indices();
}

ParameterizedTest(size_t *index, balance_law, leaves_every_expert_a_slot)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    set_law_up();

    cr_assert_eq(plan(strategy), STATUS_OK, "%s: %s", strategy->name, error.text);

    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_expect_eq(placement_set(&placement[layer], expert_of_slot[layer], &error), STATUS_OK,
                     "%s: %s", strategy->name, error.text);
    }
    stop();
}

ParameterizedTestParameters(balance_law, repeats_itself)
{
    return strategy_indices();
}

ParameterizedTest(size_t *index, balance_law, repeats_itself)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    static int32_t first[NUM_LAYERS][NUM_SLOTS];
    set_law_up();
    cr_assert_eq(plan(strategy), STATUS_OK);
    memcpy(first, expert_of_slot, sizeof first);
    set_law_up();

    cr_assert_eq(plan(strategy), STATUS_OK);

    cr_expect_arr_eq(expert_of_slot, first, sizeof first, "%s", strategy->name);
    stop();
}

ParameterizedTestParameters(balance_law, never_worsens_the_busiest_rank)
{
    return strategy_indices();
}

ParameterizedTest(size_t *index, balance_law, never_worsens_the_busiest_rank)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    set_law_up();
    cr_assert_eq(plan(strategy), STATUS_OK);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        double before_tokens = busiest_rank_tokens(layer);
        cr_assert_eq(placement_set(&placement[layer], expert_of_slot[layer], &error), STATUS_OK);
        cr_expect_leq(busiest_rank_tokens(layer), before_tokens, "%s", strategy->name);
    }
    stop();
}

Test(balance, finds_every_name_and_nothing_else)
{
    int32_t count;
    const struct balance_strategy *const *all = balance_all(&count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(balance_find(all[i]->name), all[i]);
    }
    cr_expect_null(balance_find("no such"));
}

Test(balance, static_changes_nothing)
{
    set_law_up();

    cr_assert_eq(plan(balance_find("static")), STATUS_OK);

    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_expect_arr_eq(expert_of_slot[layer], placement[layer].expert_of_slot,
                         sizeof expert_of_slot[0]);
    }
}

Test(balance, eplb_relieves_the_busiest_rank_of_skewed_loads)
{
    set_law_up();
    cr_assert_eq(plan(balance_find("eplb")), STATUS_OK);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        double before_tokens = busiest_rank_tokens(layer);
        cr_assert_eq(placement_set(&placement[layer], expert_of_slot[layer], &error), STATUS_OK);
        cr_expect_lt(busiest_rank_tokens(layer), before_tokens);
    }
}

/* The example of deepseek-ai/EPLB's README @ d52c72d: two layers of 12 experts on 16 slots, four
 * groups, two nodes, eight GPUs. The expected map is the one the README prints. */
Test(eplb, gives_the_placement_its_readme_prints)
{
    const int64_t load[2][12] = {{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
                                 {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};
    const int32_t expected[2][16] = {{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
                                     {7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}};
    struct eplb_shape shape = {12, 16, 4, 2, 8};
    for (int32_t layer = 0; layer < 2; layer++) {
        int32_t map[16];

        cr_assert_eq(eplb_layer(map, load[layer], &shape, &arena), STATUS_OK);

        cr_expect_arr_eq(map, expected[layer], sizeof map, "layer %d", layer);
    }
}

/* Without load every expert ties at 0 and the first always wins the spare slot; then each slot in
 * order goes to the pack with the lowest index that is not full. */
Test(eplb, gives_ties_to_the_first)
{
    struct eplb_shape shape = {4, 6, 1, 1, 3};
    const int64_t load[4] = {0};
    const int32_t expected[6] = {0, 1, 2, 3, 0, 0};
    int32_t map[6];

    cr_assert_eq(eplb_layer(map, load, &shape, &arena), STATUS_OK);

    cr_expect_arr_eq(map, expected, sizeof map);
}

/* Three groups do not spread over two nodes: then groups and nodes count for nothing. */
Test(eplb, is_global_when_groups_do_not_fit_nodes)
{
    const int64_t load[12] = {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86};
    struct eplb_shape three_groups = {12, 16, 3, 2, 8};
    struct eplb_shape global = {12, 16, 1, 1, 8};
    int32_t map[16];
    int32_t expected[16];

    cr_assert_eq(eplb_layer(map, load, &three_groups, &arena), STATUS_OK);
    cr_assert_eq(eplb_layer(expected, load, &global, &arena), STATUS_OK);

    cr_expect_arr_eq(map, expected, sizeof map);
}

Test(eplb, refuses_shapes_with_every_reason)
{
    struct error problems = {0};

    cr_expect_eq(eplb_check(&(struct eplb_shape){12, 16, 4, 2, 8}, NULL), STATUS_OK);
    cr_expect_eq(eplb_check(&(struct eplb_shape){13, 17, 4, 2, 7}, &problems), STATUS_INVALID);

    cr_expect_eq(problems.num_problems, 3, "%s", problems.text);
}

Test(eplb, leaves_the_map_alone_when_it_refuses_the_shape)
{
    struct balance_input input = {.num_layers = 1,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_SLOTS,
                                  .num_ranks = NUM_RANKS,
                                  .num_nodes = 1,
                                  .num_groups = 5, /* do not divide the experts */
                                  .load_tokens = load_tokens[0],
                                  .scratch = &arena};
    int32_t map[NUM_SLOTS] = {42};

    cr_expect_eq(balance_find("eplb")->plan(NULL, &input, map, &error), STATUS_INVALID);

    cr_expect_eq(map[0], 42);
    cr_expect_eq(map[NUM_SLOTS - 1], 0);
}

/* Goldens: what the PyTorch original with a stable sort gives, one row a layer. */

static int64_t count_golden_differences(const char *golden_path, const char *load_path,
                                        struct eplb_shape shape)
{
    struct csv golden = csv_read(golden_path);
    struct csv load = csv_read(load_path);
    cr_assert(golden.value != NULL && load.value != NULL, "%s or %s", golden_path, load_path);
    cr_assert_eq(golden.num_rows, load.num_rows);
    shape.num_experts = (int32_t)load.num_columns;
    shape.num_slots = (int32_t)golden.num_columns;
    int32_t *map = calloc((size_t)golden.num_columns, sizeof *map);
    cr_assert_not_null(map);
    int64_t differences = 0;
    for (int64_t layer = 0; layer < golden.num_rows; layer++) {
        cr_assert_eq(eplb_layer(map, load.value + layer * load.num_columns, &shape, &arena),
                     STATUS_OK);
        for (int64_t slot = 0; slot < golden.num_columns; slot++) {
            differences += map[slot] != golden.value[layer * golden.num_columns + slot];
        }
    }
    free(map);
    free(golden.value);
    free(load.value);
    return differences;
}

/* INPUT_SLOTS_nNODESgGPUS_MODE.eplbstable.phy2log.csv; hier has 8 groups, glob 1. */
Test(eplb, equals_every_golden_placement)
{
    glob_t files = {0};
    if (glob(SHARED_DATA "/placement/*_n*g*_*.eplbstable.phy2log.csv", 0, NULL, &files) != 0) {
        cr_skip_test("no data: %s/placement", SHARED_DATA);
    }
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char load_path[1024];
        char mode[8];
        int slots;
        struct eplb_shape shape = {0};
        snprintf(load_path, sizeof load_path, "%s", files.gl_pathv[i]);
        char *tail = strrchr(load_path, '_'); /* _MODE, then _nNODESgGPUS, then _SLOTS */
        for (int32_t part = 0; part < 2; part++) {
            *tail = ' ';
            tail = strrchr(load_path, '_');
        }
        cr_assert_eq(
            sscanf(tail, "_%d n%dg%d %4[a-z]", &slots, &shape.num_nodes, &shape.num_ranks, mode), 4,
            "%s", files.gl_pathv[i]);
        snprintf(tail, sizeof load_path - (size_t)(tail - load_path), ".csv");
        shape.num_groups = strcmp(mode, "hier") == 0 ? 8 : 1;

        cr_expect_eq(count_golden_differences(files.gl_pathv[i], load_path, shape), 0, "%s",
                     files.gl_pathv[i]);
    }
    fprintf(stderr, "eplb: %zu golden files compared\n", files.gl_pathc);
    globfree(&files);
}
