/*
 * trace -- replay the recorded wishes of the batch's rows.
 *
 * What the model's own gate decided on real text: skew, drift and co-activation come with it.
 */
#include "route/route.h"

#include <assert.h>

#define TOKENS_AT_ONCE 1024 /* a sum of 32 bits counts twice as many lanes at once */

static enum status replay(void *state, const struct route_input *input, struct route *route,
                          struct error *error)
{
    (void)state; /* memoryless: rows and layer say it all */
    assert(input->trace != NULL);
    assert(route->num_tokens == input->batch->num_tokens);
    assert(route->top_k == input->trace->top_k && route->num_experts == input->trace->num_experts);
    enum status status =
        trace_read(input->trace, route->expert, route->gate_weight, input->trace_layer,
                   input->batch->row, route->num_tokens, error);
    if (status != STATUS_OK) {
        return status;
    }
    route->assignments = 0;
    for (int32_t token = 0; token < route->num_tokens; token += TOKENS_AT_ONCE) {
        int32_t left = route->num_tokens - token;
        int32_t wishes = (left < TOKENS_AT_ONCE ? left : TOKENS_AT_ONCE) * route->top_k;
        const int32_t *expert = &route->expert[(int64_t)token * route->top_k];
        int32_t assignments = 0;
#pragma omp simd reduction(+ : assignments)
        for (int32_t i = 0; i < wishes; i++) {
            assignments += expert[i] != EXPERT_NOT_ROUTED;
        }
        route->assignments += assignments;
    }
    return STATUS_OK;
}

const struct router route_trace = {
    .name = "trace",
    .summary = "the recorded wishes of the trace's rows",
    .source = "moesim trace format, ARCHITECTURE.md",
    .route = replay,
};
