/* test_balance.c -- laws that every strategy keeps: experts, repetition, busiest rank, doubles. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stddef.h>
#include <string.h>

#include "balance/balance.h"

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(balance, .fini = stop);

/* Laws, over every strategy: three layers of skewed loads, eight ranks on two nodes. */

#define NUM_LAYERS  3
#define NUM_EXPERTS 32
#define NUM_SLOTS   40
#define NUM_RANKS   8

static int64_t load_tokens[NUM_LAYERS][NUM_EXPERTS];
static int32_t step_tokens[NUM_LAYERS][NUM_EXPERTS]; /* a window of one step */
static int32_t pair_tokens[NUM_LAYERS][NUM_EXPERTS][NUM_EXPERTS];
static int32_t transition_tokens[NUM_LAYERS - 1][NUM_EXPERTS][NUM_EXPERTS];
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
            for (int32_t other = 0; other < NUM_EXPERTS; other++) {
                bool is_alike = (expert ^ other) % 4 == 0; /* four kinds of tokens */
                pair_tokens[layer][expert][other] = other == expert ? 0 : is_alike ? 90 : 7;
                if (layer > 0) {
                    transition_tokens[layer - 1][expert][other] = is_alike ? 80 : 9;
                }
            }
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
                                  .pair_tokens = &pair_tokens[0][0][0],
                                  .transition_tokens = &transition_tokens[0][0][0],
                                  .placement = placement,
                                  .expert_bytes = 1 << 20,
                                  .scratch = &arena};
    void *state = arena_alloc(&arena, 1, balance_state_bytes(strategy, NUM_LAYERS, NUM_EXPERTS));
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
    static size_t cases[32];
    int32_t count;
    balance_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
    for (size_t i = 0; i < (size_t)count; i++) {
        cases[i] = i;
    }
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
        cr_expect(strategy->ignores_load || busiest_rank_tokens(layer) <= before_tokens, "%s",
                  strategy->name);
    }
    stop();
}

ParameterizedTestParameters(balance_law, holds_no_expert_twice_where_it_says_so)
{
    return strategy_indices();
}

ParameterizedTest(size_t *index, balance_law, holds_no_expert_twice_where_it_says_so)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    set_law_up();
    cr_assert_eq(plan(strategy), STATUS_OK);
    int32_t twice = 0;
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        const int32_t *map = expert_of_slot[layer];
        for (int32_t slot = 0; slot < NUM_SLOTS; slot++) {
            int32_t rank_end = (slot / (NUM_SLOTS / NUM_RANKS) + 1) * (NUM_SLOTS / NUM_RANKS);
            for (int32_t other = slot + 1; other < rank_end; other++) {
                twice += map[slot] == map[other];
            }
        }
    }
    cr_expect(!strategy->spreads_replicas || twice == 0, "%s: %d", strategy->name, (int)twice);
    stop();
}

ParameterizedTestParameters(balance_law, changes_nothing_when_asked_again_where_it_says_so)
{
    return strategy_indices();
}

ParameterizedTest(size_t *index, balance_law, changes_nothing_when_asked_again_where_it_says_so)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    static int32_t first[NUM_LAYERS][NUM_SLOTS];
    set_law_up();
    cr_assert_eq(plan(strategy), STATUS_OK);
    memcpy(first, expert_of_slot, sizeof first);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_assert_eq(placement_set(&placement[layer], expert_of_slot[layer], &error), STATUS_OK);
    }

    cr_assert_eq(plan(strategy), STATUS_OK);

    cr_expect(!strategy->settles || memcmp(expert_of_slot, first, sizeof first) == 0, "%s",
              strategy->name);
    stop();
}

ParameterizedTestParameters(balance_law, leaves_equal_ranks_alone_where_it_says_so)
{
    return strategy_indices();
}

/* As many slots as experts, each with the same load: no rank can be relieved. */
ParameterizedTest(size_t *index, balance_law, leaves_equal_ranks_alone_where_it_says_so)
{
    int32_t count;
    const struct balance_strategy *strategy = balance_all(&count)[*index];
    int64_t window[NUM_EXPERTS];
    int32_t step[NUM_EXPERTS];
    int32_t map[NUM_EXPERTS];
    struct placement even;
    cr_assert_eq(placement_init(&even, &arena, NUM_EXPERTS, NUM_EXPERTS, NUM_RANKS, NULL),
                 STATUS_OK);
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        window[expert] = 100;
        step[expert] = 100;
        map[expert] = even.expert_of_slot[expert];
    }
    struct balance_input input = {.num_layers = 1,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_EXPERTS,
                                  .num_ranks = NUM_RANKS,
                                  .num_nodes = 2,
                                  .num_groups = 4,
                                  .load_tokens = window,
                                  .step_tokens = step,
                                  .num_steps = 1,
                                  .pair_tokens = &pair_tokens[0][0][0],
                                  .transition_tokens = &transition_tokens[0][0][0],
                                  .placement = &even,
                                  .expert_bytes = 1 << 20,
                                  .scratch = &arena};
    void *state = arena_alloc(&arena, 1, balance_state_bytes(strategy, 1, NUM_EXPERTS));

    cr_assert_eq(strategy->plan(state, &input, map, &error), STATUS_OK, "%s", error.text);

    cr_expect(!strategy->keeps_balanced || memcmp(map, even.expert_of_slot, sizeof map) == 0, "%s",
              strategy->name);
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

Test(balance, eplb_leaves_the_map_alone_when_it_refuses_the_shape)
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
