/*
 * bench_engine.c -- simulated time over CPU time of one core, DeepSeek-V3 decoding.
 *
 * Prints CSV. Run by hand on a quiet machine: it is no test.
 *
 * Measured 2026-11-23 on a core of an AMD EPYC (Zen 5) beside much other work, gcc 12.2 -O2, 128
 * tokens a rank, fitted kernels, best of several: EP32 14.9 times as fast as the cluster it
 * simulates (2.2 million events a second), EP144 4.6 times (1.6 million, 56 million messages), 41
 * ms of CPU a step; with every message an exact max-min flow 2.0 s.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench_clock.h"
#include "engine.h"
#include "simulate.h"

static enum status bench(const char *name, const char *const *override, int32_t num_overrides,
                         struct error *error)
{
    struct scenario scenario = {0};
    struct trace trace = {0};
    struct engine *engine = NULL;
    enum status status = scenario_load(
        &scenario, SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml", override,
        num_overrides, error);
    if (status == STATUS_OK) {
        status = simulate_open_trace(&trace, &scenario, 1, error);
    }
    if (status == STATUS_OK) {
        status = engine_open(&engine, &scenario, &trace, error);
    }
    double begin_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    if (status == STATUS_OK) {
        status = engine_run(engine, NULL, error);
    }
    double used_s = clock_s(CLOCK_PROCESS_CPUTIME_ID) - begin_s;
    if (status == STATUS_OK) {
        const struct run_metrics *metrics = engine_metrics(engine);
        double simulated_s =
            run_totals(metrics, &scenario).step_ns_mean * 1e-9 * (double)metrics->num_steps;
        printf("%s,%d,%lld,%.4f,%.4f,%.2f,%.0f,%.0f\n", name, (int)scenario.ep,
               (long long)metrics->num_steps, simulated_s, used_s, simulated_s / used_s,
               (double)metrics->events / used_s, (double)metrics->messages / used_s);
    }
    engine_close(engine);
    trace_close(&trace);
    scenario_free(&scenario);
    return status;
}

int main(void)
{
    static const char *const ep32[] = {"trace.tokens_per_rank=128", "context_tokens=3072",
                                       "trace.tokens=49152", "trace.steps=12"};
    static const char *const ep144[] = {
        "trace.tokens_per_rank=128", "trace.tokens=49152", "trace.steps=12",
        "cluster.nodes=18",          "parallel.ep=144",    "placement.redundant_experts=32"};
    static const char *const ep144_flow[] = {"trace.tokens_per_rank=128",
                                             "trace.tokens=49152",
                                             "trace.steps=1",
                                             "cluster.nodes=18",
                                             "parallel.ep=144",
                                             "placement.redundant_experts=32",
                                             "network=flow"};
    struct error error = {0};
    puts("case,ranks,steps,simulated_s,cpu_s,simulated_over_cpu,events_per_s,messages_per_s");
    enum status status = bench("ep32", ep32, 4, &error);
    if (status == STATUS_OK) {
        status = bench("ep144", ep144, 6, &error);
    }
    if (status == STATUS_OK) {
        status = bench("ep144_flow", ep144_flow, 7, &error);
    }
    fputs(error.text, stderr);
    return status != STATUS_OK;
}
