/*
 * test_engine_laws.c -- 10,000 random scenarios, in four parts so that they run side by side:
 * tokens in = computed + dropped, bytes sent = received, time never runs back and all of it is
 * booked, two runs are equal.
 */
#include <criterion/criterion.h>
#include <math.h>

#include "random_run.h"

#define ROUNDS_A_PART 2500

static struct engine *simulate(const struct random_run *run)
{
    struct engine *engine = NULL;
    struct error error = {0};
    cr_assert_eq(engine_open(&engine, &run->scenario, &run->trace, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
    return engine;
}

static void check_tokens(const struct random_run *run, const struct run_metrics *metrics,
                         uint64_t round)
{
    int64_t computed = 0;
    int64_t wished = 0;
    int64_t dropped = 0;
    for (int64_t index = 0; index < (int64_t)metrics->num_layers * metrics->num_ranks; index++) {
        computed += metrics->rank_tokens[index];
    }
    for (int64_t index = 0; index < (int64_t)metrics->num_layers * metrics->num_experts; index++) {
        wished += metrics->expert_tokens[index];
        dropped += metrics->expert_dropped[index];
    }
    struct run_totals totals = run_totals(metrics, &run->scenario);
    cr_assert_eq(wished, totals.assignments, "round %llu", (unsigned long long)round);
    cr_assert_eq(dropped, totals.dropped_assignments, "round %llu", (unsigned long long)round);
    cr_assert_eq(wished, computed + dropped, "round %llu", (unsigned long long)round);
    if (run->scenario.capacity_factor <= 0.0) {
        cr_assert_eq(dropped, 0);
    }
    cr_assert_eq(totals.tokens,
                 metrics->num_steps * run->scenario.tokens_per_rank * run->scenario.ep);
}

static void check_time(const struct run_metrics *metrics, uint64_t round)
{
    for (int32_t index = 0; index < metrics->num_windows; index++) {
        const struct step_window *window = &metrics->window[index];
        cr_assert_gt(window->step_ns_min, 0);
        cr_assert_leq(window->step_ns_min, window->step_ns_max);
        double booked_ns = 0.0;
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            cr_assert_geq(window->phase_ns[phase], 0.0);
            booked_ns += window->phase_ns[phase];
        }
        cr_assert_lt(fabs(booked_ns - (double)window->step_ns_sum),
                     1e-9 * (double)window->step_ns_sum + 1e-3, "round %llu: %f of %lld ns booked",
                     (unsigned long long)round, booked_ns, (long long)window->step_ns_sum);
    }
}

static void check_bytes(const struct run_metrics *metrics)
{
    cr_assert_eq(metrics->bytes_sent, metrics->bytes_received);
    int64_t carried = 0;
    for (int32_t link = 0; link < metrics->num_links; link++) {
        carried += metrics->link[link].bytes;
    }
    cr_assert_geq(carried, 2 * metrics->bytes_sent); /* out of one port and into another */
}

static void check_part(uint64_t part)
{
    for (uint64_t round = part * ROUNDS_A_PART; round < (part + 1) * ROUNDS_A_PART; round++) {
        struct random_run run;
        random_run_make(&run, round);
        struct engine *engine = simulate(&run);
        const struct run_metrics *metrics = engine_metrics(engine);
        check_tokens(&run, metrics, round);
        check_time(metrics, round);
        check_bytes(metrics);
        if (round % 10 == 0) {
            struct engine *again = simulate(&run);
            cr_assert_eq(engine_metrics(again)->digest, metrics->digest, "round %llu",
                         (unsigned long long)round);
            engine_close(again);
        }
        engine_close(engine);
        random_run_free(&run);
    }
}

Test(engine, keeps_its_laws_in_random_scenarios_part_1)
{
    check_part(0);
}

Test(engine, keeps_its_laws_in_random_scenarios_part_2)
{
    check_part(1);
}

Test(engine, keeps_its_laws_in_random_scenarios_part_3)
{
    check_part(2);
}

Test(engine, keeps_its_laws_in_random_scenarios_part_4)
{
    check_part(3);
}
