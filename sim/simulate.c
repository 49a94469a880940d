/* simulate.c -- the steps every command that simulates shares. */
#include "simulate.h"

#include <string.h>

#include "generate.h"

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
    return status == STATUS_OK ? trace_digest(trace, error) : status;
}

bool simulate_same_trace(const struct scenario *a, const struct scenario *b)
{
    if (model_num_moe_layers(&a->model) == 0 || model_num_moe_layers(&b->model) == 0) {
        return false;
    }
    return strcmp(a->trace_path, b->trace_path) == 0 &&
           strcmp(a->trace_preset, b->trace_preset) == 0 &&
           (a->trace_preset[0] == '\0' ||
            (a->trace_tokens == b->trace_tokens && a->seed == b->seed));
}
