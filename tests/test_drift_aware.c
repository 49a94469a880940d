/* test_drift_aware.c -- the forecast of loads, spare slots, and that what does not pay is left. */
#include <criterion/criterion.h>
#include <string.h>

#include "balance/forecast.h"
#include "balance/relocate.h"

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

static double forecast_of(int32_t expert, int32_t num_steps, int32_t interval_steps)
{
    struct forecast forecast;
    double sum_tokens[NUM_EXPERTS];
    double tokens[NUM_EXPERTS];
    struct balance_input input = input_of(num_steps);
    for (int32_t i = 0; i < NUM_EXPERTS; i++) {
        sum_tokens[i] = (double)sum[i];
    }
    cr_assert_eq(forecast_fit(&forecast, &input, interval_steps, sum_tokens, num_steps), STATUS_OK);
    forecast_layer(tokens, &forecast, &input, 0, sum_tokens);
    return tokens[expert];
}

/* Loads that change between every two steps and return: the mean says all, the last step nothing.
 */
Test(drift_aware, forecasts_the_mean_of_what_only_scatters)
{
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        int32_t at = i / NUM_EXPERTS;
        int32_t expert = i % NUM_EXPERTS;
        step[at][expert] = 100 + (at % 2 == expert % 2 ? 50 : -50);
    }

    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        double tokens = forecast_of(expert, NUM_STEPS, 1);
        cr_expect_float_eq(tokens, 100.0, 1e-6, "expert %d: %g", expert, tokens);
    }
}

/* One step up for half of them, in the middle of the window: the level is what was last. */
Test(drift_aware, forecasts_the_level_of_what_has_moved)
{
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        bool late = i / NUM_EXPERTS >= NUM_STEPS / 2;
        step[i / NUM_EXPERTS][i % NUM_EXPERTS] = late == (i % 2 == 0) ? 300 : 100;
    }

    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        double level = expert % 2 == 0 ? 300.0 : 100.0;
        double tokens = forecast_of(expert, NUM_STEPS, 1);
        cr_expect_float_eq(tokens, level, 40.0, "expert %d: %g", expert, tokens);
    }
}

/* Weights sum to 1, however the loads went: what never changes is forecast exactly. */
Test(drift_aware, forecasts_what_never_changes_exactly)
{
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        step[i / NUM_EXPERTS][i % NUM_EXPERTS] = i % NUM_EXPERTS == 0 ? 77 : i * 7 % 31;
    }

    for (int32_t interval = 1; interval <= 64; interval *= 4) {
        cr_expect_float_eq(forecast_of(0, NUM_STEPS, interval), 77.0, 1e-9);
    }
}

Test(drift_aware, takes_a_single_step_as_it_is)
{
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        step[0][expert] = 10 * expert;
    }

    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        cr_expect_eq(forecast_of(expert, 1, 8), 10.0 * expert);
    }
}

/* Of an AR(1) without noise only the newest step tells of its deviation, and its mean weighs ends
 * 1 / (1 - decay) times as much as what lies between: with decay 1/2 and 4 steps (1, 1/2, 1/2, 1) /
 * 3. One step ahead, half is deviation. */
Test(drift_aware, weighs_the_steps_of_a_known_process_as_theory_says)
{
    struct forecast forecast = {.num_steps = 4, .drift = 3.0, .decay = 0.5};
    const double weight[] = {2.0 / 3.0, 1.0 / 12.0, 1.0 / 12.0, 1.0 / 6.0};

    cr_assert_eq(forecast_weigh(&forecast, 1, &arena), STATUS_OK);

    cr_expect_float_eq(forecast.keep, 0.5, 1e-5);
    for (int32_t back = 0; back < 4; back++) {
        cr_expect_float_eq(forecast.step_weight[back], weight[back], 1e-5, "%d: %g", back,
                           forecast.step_weight[back]);
    }
}

/* Noise alone: every step counts the same, the 12 old ones as one mean that is 12 times as sure. */
Test(drift_aware, weighs_steps_seen_earlier_by_their_number)
{
    struct forecast forecast = {.num_steps = 4, .old_steps = 12.0, .noise = 2.0, .decay = 0.5};

    cr_assert_eq(forecast_weigh(&forecast, 3, &arena), STATUS_OK);

    cr_expect_float_eq(forecast.keep, 0.0, 1e-12);
    cr_expect_float_eq(forecast.sum_weight, 1.0 / 16.0, 1e-12);
    for (int32_t back = 0; back < 4; back++) {
        cr_expect_float_eq(forecast.step_weight[back], 0.0, 1e-12);
    }
}

/* Expert 0 is hot and has two of three ranks; the spare slots, of expert 1, are on the same two. An
 * expert of the third steps aside into one of them, and expert 0 gets its place. */
Test(drift_aware, lets_an_expert_step_aside_where_spare_slots_are_in_the_wrong_place)
{
    const int32_t in_force[] = {0, 1, 0, 1, 2, 3};
    const double tokens[] = {400.0, 4.0, 50.0, 60.0};
    struct balance_input input = {.num_layers = 1,
                                  .num_experts = 4,
                                  .num_slots = 6,
                                  .num_ranks = 3,
                                  .num_nodes = 1,
                                  .scratch = &arena};
    struct relocate relocate;
    cr_assert_eq(relocate_open(&relocate, &input), STATUS_OK);
    memcpy(relocate.tokens, tokens, sizeof tokens);
    memcpy(relocate.fresh, in_force, sizeof in_force);
    relocate.steps = 1.0;
    relocate_start(&relocate, in_force);

    relocate_replicas(&relocate);

    for (int32_t rank = 0; rank < 3; rank++) {
        cr_expect(relocate_holds(&relocate, rank, 0), "rank %d", rank);
    }
    for (int32_t expert = 0; expert < 4; expert++) {
        cr_expect_eq(relocate.replicas[expert], expert == 0 ? 3 : 1, "expert %d", expert);
    }
}

/* Experts 0 and 1 are hot, both on rank 0: 200 of 320 tokens. An exchange leaves 120 there; whether
 * its two moves pay is a matter of price alone. */
Test(drift_aware, moves_when_it_pays_and_not_otherwise)
{
    int32_t map[NUM_EXPERTS];
    double state[1 + NUM_EXPERTS] = {0};
    for (int32_t i = 0; i < NUM_STEPS * NUM_EXPERTS; i++) {
        step[i / NUM_EXPERTS][i % NUM_EXPERTS] = i % NUM_EXPERTS < 2 ? 100 : 20;
    }
    struct balance_input input = input_of(NUM_STEPS);
    input.interval_steps = 1;
    input.token_ns = 1.0;
    const struct balance_strategy *strategy = balance_find("drift_aware");
    cr_assert_eq(balance_state_bytes(strategy, 1, NUM_EXPERTS), sizeof state);

    input.near_move_ns = 1e6;
    memcpy(map, placement.expert_of_slot, sizeof map);
    cr_assert_eq(strategy->plan(state, &input, map, &error), STATUS_OK);
    cr_expect_arr_eq(map, placement.expert_of_slot, sizeof map);

    memset(state, 0, sizeof state);
    input.near_move_ns = 10.0;
    cr_assert_eq(strategy->plan(state, &input, map, &error), STATUS_OK);
    cr_expect_neq(map[0] < 2, map[1] < 2, "one hot expert left on rank 0");
}
