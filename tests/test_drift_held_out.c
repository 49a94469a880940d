/*
 * test_drift_held_out.c -- what drift_aware is for: steps that nobody has seen.
 *
 * Loads that drift by a known law; every strategy sees the same steps and serves the next ones.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "balance/balance.h"

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(drift_held_out, .fini = stop);

enum { LAYERS = 8, EXPERTS = 64, SLOTS = 72, RANKS = 8, PAST = 32, STEPS = 48, INTERVAL = 4 };

static int32_t drifting[STEPS][LAYERS][EXPERTS];

/* Nearly normal: twelve uniform numbers, less their mean. */
static double normal(uint64_t *seed)
{
    double total = -6.0;
    for (int32_t i = 0; i < 12; i++) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        total += (double)(*seed >> 11) * 0x1p-53;
    }
    return total;
}

/* Log-normal means; around them deviations of which 0.9 is left a step later. */
static void let_loads_drift(void)
{
    uint64_t seed = 7;
    for (int32_t i = 0; i < LAYERS * EXPERTS; i++) {
        double mean = 5.0 + normal(&seed);
        double deviation = 0.5 * normal(&seed);
        for (int32_t at = 0; at < STEPS; at++) {
            drifting[at][i / EXPERTS][i % EXPERTS] = (int32_t)exp(mean + deviation);
            deviation = 0.9 * deviation + 0.5 * sqrt(0.19) * normal(&seed);
        }
    }
}

static double balancedness_of(const struct placement *of_layer, int32_t at, int32_t layer)
{
    double total = 0.0;
    double busiest = 0.0;
    for (int32_t rank = 0; rank < RANKS; rank++) {
        double tokens = 0.0;
        for (int32_t slot = of_layer->rank_begin[rank]; slot < of_layer->rank_begin[rank + 1];
             slot++) {
            int32_t expert = of_layer->expert_of_slot[slot];
            tokens +=
                (double)drifting[at][layer][expert] / placement_num_replicas(of_layer, expert);
        }
        total += tokens;
        busiest = tokens > busiest ? tokens : busiest;
    }
    return total / RANKS / busiest;
}

/* Mean over steps PAST .. STEPS - 1 of a strategy that is asked every INTERVAL of them, with all
 * steps before in its window. Adds the experts that move. */
static double held_out(const char *name, int32_t *num_moves)
{
    static struct placement of_layer[LAYERS];
    static int64_t tokens[LAYERS * EXPERTS];
    static int32_t map[LAYERS][SLOTS];
    const struct balance_strategy *strategy = balance_find(name);
    struct expert_move move[SLOTS];
    double sum_balancedness = 0.0;
    void *state = arena_alloc(&arena, 1, balance_state_bytes(strategy, LAYERS, EXPERTS) + 1);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        cr_assert_eq(placement_init(&of_layer[layer], &arena, EXPERTS, SLOTS, RANKS, &error),
                     STATUS_OK);
        memcpy(map[layer], of_layer[layer].expert_of_slot, sizeof map[layer]);
    }
    memset(tokens, 0, sizeof tokens);
    for (int32_t at = 0; at < STEPS; at++) {
        struct balance_input input = {.num_layers = LAYERS,
                                      .num_experts = EXPERTS,
                                      .num_slots = SLOTS,
                                      .num_ranks = RANKS,
                                      .num_nodes = 1,
                                      .num_groups = 1,
                                      .load_tokens = tokens,
                                      .step_tokens = drifting[0][0],
                                      .num_steps = at,
                                      .placement = of_layer,
                                      .expert_bytes = 1 << 20,
                                      .interval_steps = INTERVAL,
                                      .scratch = &arena};
        if (at >= PAST && at % INTERVAL == 0) {
            cr_assert_eq(strategy->plan(state, &input, map[0], &error), STATUS_OK);
        }
        for (int32_t layer = 0; layer < LAYERS; layer++) {
            *num_moves += placement_moves(&of_layer[layer], move, layer, map[layer], RANKS);
            cr_assert_eq(placement_set(&of_layer[layer], map[layer], &error), STATUS_OK);
            sum_balancedness += at < PAST ? 0.0 : balancedness_of(&of_layer[layer], at, layer);
        }
        for (int32_t i = 0; i < LAYERS * EXPERTS; i++) {
            tokens[i] += drifting[at][i / EXPERTS][i % EXPERTS];
        }
    }
    return sum_balancedness / (STEPS - PAST) / LAYERS;
}

/* Swift and omni, which move little, stay far behind; the others move more, and yet. */
Test(drift_held_out, drift_aware_balances_best_and_moves_less_than_who_comes_near)
{
    const char *others[] = {"flashlb", "deepseek_vec", "eplb", "omni", "swift"};
    int32_t own_moves = 0;
    let_loads_drift();

    double own = held_out("drift_aware", &own_moves);

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int32_t moves = 0;
        double other = held_out(others[i], &moves);
        cr_expect_gt(own, other, "%s %.4f, drift_aware %.4f", others[i], other, own);
        cr_expect(moves > own_moves || other < own - 0.05, "%s %d moves, drift_aware %d", others[i],
                  (int)moves, (int)own_moves);
    }
}
