/*
 * test_serve_rebalance.c -- weights that move while requests are served: how long, and who waits.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "engine.h"
#include "serve/rebalance_stalls.h"
#include "simulate.h"
#include "small_serving.h"

static struct error error;

static void expect(enum status status)
{
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
}

/* Two shards of experts' loads that shift, so that EPLB moves much. */
static void load(struct scenario *scenario, struct trace *trace, const char *more)
{
    const char *overrides[] = {"trace.batching=consecutive", "trace.tokens_per_rank=32",
                               "trace.steps=64",
                               "placement={strategy: eplb, redundant_experts: 8, "
                               "rebalance_interval_steps: 4, window_steps: 4}",
                               more};
    expect(scenario_load(scenario,
                         SOURCE_DIRECTORY "/scenarios/studies/router_lab_traffic_shift_8xh100.yaml",
                         overrides, more != NULL ? 5 : 4, &error));
    expect(simulate_open_trace(trace, scenario, 1, &error));
}

/* The engine's n-th rebalance sees the n-th window; the first is not one of serving, because its
 * placement is there when serving begins. Ranks end a step some microseconds apart, and under flow
 * who sends later meets others on the links: that is a share of some milliseconds. */
static void expect_as_the_engine(const char *more, double share)
{
    struct scenario scenario;
    struct trace trace;
    struct rebalance_stalls stalls;
    struct engine *engine = NULL;
    load(&scenario, &trace, more);
    expect(rebalance_stalls_measure(&stalls, &scenario, &trace, &error));
    expect(engine_open(&engine, &scenario, &trace, &error));
    expect(engine_run(engine, NULL, &error));
    const struct run_metrics *metrics = engine_metrics(engine);
    cr_assert_gt(metrics->num_rebalances, REBALANCE_STALLS);
    cr_expect_eq(stalls.interval_steps, 4);
    for (int32_t i = 0; i < REBALANCE_STALLS; i++) {
        const struct rebalance_record *record = &metrics->rebalance[i + 1];
        cr_expect_gt(record->moves, 0);
        cr_expect_eq(stalls.moves[i], record->moves, "%d: %lld and %lld", (int)i,
                     (long long)stalls.moves[i], (long long)record->moves);
        double most = share * (double)record->duration_ns + 1.0;
        cr_expect_float_eq(stalls.stall_ns[i], (double)record->duration_ns, most,
                           "%s: %g, the engine %g", more != NULL ? more : "alpha_beta",
                           stalls.stall_ns[i], (double)record->duration_ns);
    }
    engine_close(engine);
    trace_close(&trace);
    scenario_free(&scenario);
}

Test(serve_rebalance, stalls_are_as_long_as_the_engines)
{
    expect_as_the_engine(NULL, 0.0);
    expect_as_the_engine("network=flow", 0.002);
}

Test(serve_rebalance, who_looks_at_no_load_never_stalls)
{
    struct scenario scenario;
    struct trace trace;
    struct rebalance_stalls stalls;
    load(&scenario, &trace, "placement.strategy=static");
    expect(rebalance_stalls_measure(&stalls, &scenario, &trace, &error));
    cr_expect_eq(stalls.interval_steps, 0);
    expect(rebalance_stalls_measure(&stalls, &scenario, NULL, &error)); /* a dense model */
    cr_expect_eq(stalls.interval_steps, 0);
    trace_close(&trace);
    scenario_free(&scenario);
}

static double ms_a_step(const void *context, const struct step_load *loads, int32_t num_replicas)
{
    (void)context;
    (void)loads;
    (void)num_replicas;
    return 1e6;
}

static struct serve_result serve(struct arrival *arrival, int64_t count, double stall_ns)
{
    struct serve_result result;
    const struct arrivals arrivals = {.count = count, .arrival = arrival};
    struct serve_options options = small_serving(ms_a_step, 8);
    options.pool[SERVE_MAIN].stalls.interval_steps = 10;
    for (int32_t i = 0; i < REBALANCE_STALLS; i++) {
        options.pool[SERVE_MAIN].stalls.stall_ns[i] = stall_ns * (i % 2 == 0 ? 1.0 : 2.0);
    }
    expect(serve_run(&result, &arrivals, &options, &error));
    return result;
}

/* The prompt's step gives the first of 26 tokens: 26 steps of 1 ms, and behind the 10th and the
 * 20th 5 and 10 ms. */
Test(serve_rebalance, steps_behind_an_interval_wait_for_the_weights)
{
    struct arrival arrival = {.arrival_s = 0.0, .prompt_tokens = 100, .decode_tokens = 26};
    struct serve_result result = serve(&arrival, 1, 5e6);
    cr_expect_eq(result.request[0].end_ns, 41000000);
    cr_expect_eq(result.totals.rebalances[SERVE_MAIN], 2);
    cr_expect_float_eq(result.totals.stall_s[SERVE_MAIN], 0.015, 1e-12);
    cr_expect_float_eq(result.latency[SERVE_ITL].quantile_s[4], 0.011, 0.011 * 0.02);
    serve_result_free(&result);
}

/* Weights move while nobody is there: who comes 3 ms later waits for the rest of 5 ms, who comes
 * 20 ms later for nothing. */
Test(serve_rebalance, idle_time_hides_what_moves)
{
    struct arrival arrival[2] = {{.prompt_tokens = 100, .decode_tokens = 10},
                                 {.arrival_s = 0.013, .prompt_tokens = 100, .decode_tokens = 1}};
    struct serve_result result = serve(arrival, 2, 5e6);
    cr_expect_eq(result.request[0].end_ns, 10000000);
    cr_expect_eq(result.request[1].end_ns, 16000000);
    cr_expect_float_eq(result.totals.stall_s[SERVE_MAIN], 0.002, 1e-12);
    serve_result_free(&result);
    arrival[1].arrival_s = 0.030;
    result = serve(arrival, 2, 5e6);
    cr_expect_eq(result.request[1].end_ns, 31000000);
    cr_expect_eq(result.totals.stall_s[SERVE_MAIN], 0.0);
    serve_result_free(&result);
}
