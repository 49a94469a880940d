/* cmd_trace_simulate.c -- what the simulator makes of a trace and of one generated from its fit. */
#include <math.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "engine.h"

#define STEPS_MAX 400
#define OVERRIDES 5
#define WORD      4200 /* a key and a path */

const int32_t trace_simulated_tokens[TRACE_SIMULATIONS] = {8, 32, 128, 512, 1024};
static const char *const figure_name[TRACE_SIMULATED] = {"rank_tokens_max_over_mean",
                                                         "dropped_fraction", "step_ns_mean"};

/* One run of a scenario over a trace with so many tokens a rank. num_ranks out, also where
 * tokens_per_rank is 0: then nothing is run. */
static enum status simulate(double figure[TRACE_SIMULATED], int32_t *num_ranks,
                            const char *scenario_path, const char *directory,
                            const struct trace *trace, int32_t tokens_per_rank, struct error *error)
{
    char word[OVERRIDES][WORD];
    const char *overrides[OVERRIDES] = {word[0], word[1], word[2], word[3], word[4]};
    struct scenario scenario = {0};
    struct engine *engine = NULL;
    (void)snprintf(word[0], WORD, "trace.path=%s", directory);
    (void)snprintf(word[1], WORD, "trace.tokens_per_rank=%d",
                   tokens_per_rank > 0 ? tokens_per_rank : 1);
    (void)snprintf(word[2], WORD, "trace.batching=shuffled");
    (void)snprintf(word[3], WORD, "routing.capacity_factor=1.25");
    (void)snprintf(word[4], WORD, "routing.capacity_scope=global");
    enum status status = scenario_load(&scenario, scenario_path, overrides, OVERRIDES, error);
    *num_ranks = scenario.ep;
    if (status == STATUS_OK && tokens_per_rank > 0) {
        int64_t steps = trace->num_tokens / ((int64_t)tokens_per_rank * scenario.ep);
        scenario.num_steps = steps < STEPS_MAX ? steps : STEPS_MAX;
        status = engine_open(&engine, &scenario, trace, error);
        if (status == STATUS_OK) {
            status = engine_run(engine, NULL, error);
        }
        if (status == STATUS_OK) {
            struct run_totals totals = run_totals(engine_metrics(engine), &scenario);
            figure[0] = totals.rank_tokens_max_over_mean;
            figure[1] = (double)totals.dropped_assignments / (double)totals.assignments;
            figure[2] = totals.step_ns_mean;
        }
    }
    engine_close(engine);
    scenario_free(&scenario);
    return status;
}

enum status trace_cli_simulate(struct trace_simulated simulated[TRACE_SIMULATIONS],
                               const char *scenario_path, const char *directory,
                               const struct trace *trace, const struct trace *other,
                               struct progress *progress, struct error *error)
{
    double unused[TRACE_SIMULATED];
    int32_t num_ranks = 0;
    enum status status = simulate(unused, &num_ranks, scenario_path, directory, other, 0, error);
    for (int32_t i = 0; status == STATUS_OK && i < TRACE_SIMULATIONS; i++) {
        int32_t tokens = trace_simulated_tokens[i];
        simulated[i] = (struct trace_simulated){.known = tokens % num_ranks == 0};
        if (!simulated[i].known) {
            continue;
        }
        status = simulate(simulated[i].value, &num_ranks, scenario_path, directory, trace,
                          tokens / num_ranks, error);
        if (status == STATUS_OK) {
            status = simulate(simulated[i].other, &num_ranks, scenario_path, directory, other,
                              tokens / num_ranks, error);
        }
        progress_update(progress, i + 1, TRACE_SIMULATIONS);
    }
    return status;
}

void trace_cli_print_simulated(const struct trace_simulated simulated[TRACE_SIMULATIONS])
{
    printf("\nsimulated, requests mixed, capacity factor 1.25: generated beside measured\n\n"
           "%8s %26s %26s %30s\n",
           "tokens", "busiest / mean rank", "dropped", "step");
    for (int32_t i = 0; i < TRACE_SIMULATIONS; i++) {
        const double *value = simulated[i].value;
        const double *other = simulated[i].other;
        if (!simulated[i].known) {
            printf("%8d %26s %26s %30s\n", trace_simulated_tokens[i], "-", "-", "-");
            continue;
        }
        printf("%8d %9.3f %7.3f %+6.1f %% %8.2f %% %5.2f %% %+5.1f %% %9.1f %9.1f us %+5.1f %%\n",
               trace_simulated_tokens[i], value[0], other[0], 100 * (value[0] / other[0] - 1),
               100 * value[1], 100 * other[1], 100 * (value[1] / other[1] - 1), value[2] / 1e3,
               other[2] / 1e3, 100 * (value[2] / other[2] - 1));
    }
}

cJSON *trace_cli_simulated_json(const struct trace_simulated simulated[TRACE_SIMULATIONS])
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; i < TRACE_SIMULATIONS; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddNumberToObject(one, "tokens", trace_simulated_tokens[i]);
        for (int32_t f = 0; f < TRACE_SIMULATED && simulated[i].known; f++) {
            cJSON *pair = cJSON_AddObjectToObject(one, figure_name[f]);
            cJSON_AddNumberToObject(pair, "value", simulated[i].value[f]);
            cJSON_AddNumberToObject(pair, "other", simulated[i].other[f]);
        }
        cJSON_AddItemToArray(list, one);
    }
    return list;
}
