/* simulate.c -- the steps every command that simulates shares. */
#include "simulate.h"

#include <string.h>

#include "generate.h"
#include "trace_side.h"

/* Runs that choose from scores depend on them, so they belong into their trace's fingerprint. */
static enum status digest_scores(struct trace *trace, const char *whoever, struct error *error)
{
    struct trace_side side;
    enum status status = trace_side_open_scores(&side, trace, whoever, error);
    if (status == STATUS_OK) {
        trace->digest = trace_side_digest_scores(&side, trace->digest);
    }
    trace_side_close(&side);
    return status;
}

enum status simulate_open_trace(struct trace *trace, const struct scenario *scenario,
                                int32_t num_threads, struct error *error)
{
    *trace = (struct trace){0};
    if (model_num_moe_layers(&scenario->model) == 0) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (scenario->trace_preset[0] != '\0') {
        struct generate_options options = {.preset = scenario->trace_preset,
                                           .num_tokens = scenario->trace_tokens,
                                           .seed = scenario->seed,
                                           .num_threads = num_threads};
        status = generate_in_memory(trace, &options, error);
    } else {
        status = trace_open(trace, scenario->trace_path, error);
    }
    if (status == STATUS_OK) {
        status = trace_digest(trace, error);
    }
    const char *whoever = scenario_needs_scores(scenario);
    if (status == STATUS_OK && whoever != NULL) {
        status = digest_scores(trace, whoever, error);
    }
    return status;
}

bool simulate_same_trace(const struct scenario *a, const struct scenario *b)
{
    if (model_num_moe_layers(&a->model) == 0 || model_num_moe_layers(&b->model) == 0) {
        return false;
    }
    return (scenario_needs_scores(a) != NULL) == (scenario_needs_scores(b) != NULL) &&
           strcmp(a->trace_path, b->trace_path) == 0 &&
           strcmp(a->trace_preset, b->trace_preset) == 0 &&
           (a->trace_preset[0] == '\0' ||
            (a->trace_tokens == b->trace_tokens && a->seed == b->seed));
}
