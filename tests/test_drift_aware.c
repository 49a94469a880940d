/* test_drift_aware.c -- the forecast of loads, and that what does not pay is left alone. */
#include <criterion/criterion.h>
#include <string.h>

#include "balance/forecast.h"

#define NUM_EXPERTS 8
#define NUM_STEPS   16

static struct arena arena;
static struct error error;
static int32_t step[NUM_STEPS][NUM_EXPERTS];
static int64_t sum[NUM_EXPERTS];
static struct placement placement;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(drift_aware, .fini = stop);

static struct balance_input input_of(int32_t num_steps)
{
    memset(sum, 0, sizeof sum);
    for (int32_t i = 0; i < num_steps * NUM_EXPERTS; i++) {
        sum[i % NUM_EXPERTS] += step[i / NUM_EXPERTS][i % NUM_EXPERTS];
    }
    cr_assert_eq(placement_init(&placement, &arena, NUM_EXPERTS, NUM_EXPERTS, 4, &error),
                 STATUS_OK);
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = NUM_EXPERTS,
                                  .num_slots = NUM_EXPERTS,
                                  .num_ranks = 4,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .load_tokens = sum,
                                  .step_tokens = step[0],
                                  .num_steps = num_steps,
                                  .placement = &placement,
                                  .expert_bytes = 1 << 14,
                                  .scratch = &arena};
}

/* Loads that change between every two steps and return: the mean says all, the last step nothing.
 */
Test(drift_aware, forecasts_the_mean_of_what_only_scatters)
{
    struct forecast forecast;
    double tokens[NUM_EXPERTS];
    double variance[NUM_EXPERTS];
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        int32_t at = i / NUM_EXPERTS;
        int32_t expert = i % NUM_EXPERTS;
        step[at][expert] = 100 + (at % 2 == expert % 2 ? 50 : -50);
    }
    struct balance_input input = input_of(NUM_STEPS);

    cr_assert_eq(forecast_fit(&forecast, &input, 1), STATUS_OK);
    forecast_layer(tokens, variance, &forecast, &input, 0);

    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        cr_expect_float_eq(tokens[expert], 100.0, 5.0, "expert %d: %g", expert, tokens[expert]);
        cr_expect_geq(variance[expert], 2500.0, "expert %d: %g", expert, variance[expert]);
        cr_expect_leq(variance[expert], 3750.0, "expert %d: %g", expert, variance[expert]);
    }
}

/* One step up for half of them, in the middle of the window: the level is what was last. */
Test(drift_aware, forecasts_the_level_of_what_has_moved)
{
    struct forecast forecast;
    double tokens[NUM_EXPERTS];
    double variance[NUM_EXPERTS];
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        bool late = i / NUM_EXPERTS >= NUM_STEPS / 2;
        step[i / NUM_EXPERTS][i % NUM_EXPERTS] = late == (i % 2 == 0) ? 300 : 100;
    }
    struct balance_input input = input_of(NUM_STEPS);

    cr_assert_eq(forecast_fit(&forecast, &input, 1), STATUS_OK);
    forecast_layer(tokens, variance, &forecast, &input, 0);

    cr_expect_gt(forecast.keep, 0.5);
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        double level = expert % 2 == 0 ? 300.0 : 100.0;
        cr_expect_float_eq(tokens[expert], level, 40.0, "expert %d: %g", expert, tokens[expert]);
    }
}

/* One step tells of no drift: its loads are the forecast, with the scatter of a Poisson law. */
Test(drift_aware, takes_a_single_step_as_it_is)
{
    struct forecast forecast;
    double tokens[NUM_EXPERTS];
    double variance[NUM_EXPERTS];
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        step[0][expert] = 10 * expert;
    }
    struct balance_input input = input_of(1);

    cr_assert_eq(forecast_fit(&forecast, &input, 8), STATUS_OK);
    forecast_layer(tokens, variance, &forecast, &input, 0);

    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        cr_expect_eq(tokens[expert], 10.0 * expert);
        cr_expect_eq(variance[expert], 10.0 * expert);
    }
}

/* Experts 0 and 1 are hot, both on rank 0: 200 of 320 tokens. An exchange leaves 120 there; whether
 * its two moves pay is a matter of price alone. */
Test(drift_aware, moves_when_it_pays_and_not_otherwise)
{
    int32_t map[NUM_EXPERTS];
    double state = 0.0;
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        step[i / NUM_EXPERTS][i % NUM_EXPERTS] = i % NUM_EXPERTS < 2 ? 100 : 20;
    }
    struct balance_input input = input_of(NUM_STEPS);
    input.interval_steps = 1;
    input.token_ns = 1.0;
    const struct balance_strategy *strategy = balance_find("drift_aware");
    cr_assert_eq(strategy->state_bytes, sizeof state);

    input.near_move_ns = 1e6;
    memcpy(map, placement.expert_of_slot, sizeof map);
    cr_assert_eq(strategy->plan(&state, &input, map, &error), STATUS_OK);
    cr_expect_arr_eq(map, placement.expert_of_slot, sizeof map);

    state = 0.0;
    input.near_move_ns = 10.0;
    cr_assert_eq(strategy->plan(&state, &input, map, &error), STATUS_OK);
    cr_expect_neq(map[0] < 2, map[1] < 2, "one hot expert left on rank 0");
}
