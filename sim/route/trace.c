/*
 * trace -- replay the recorded wishes of the batch's rows.
 *
 * What the model's own gate decided on real text: skew, drift and co-activation come with it.
 */
#include "route/route.h"

#include <assert.h>

static enum status replay(void *state, const struct route_input *input, struct route *route,
                          struct error *error)
{
    (void)state; /* memoryless: rows and layer say it all */
    assert(input->trace != NULL);
    assert(route->num_tokens == input->batch->num_tokens);
    assert(route->top_k == input->trace->top_k && route->num_experts == input->trace->num_experts);
    int64_t num_gaps;
    enum status status =
        trace_read_counted(input->trace, route->expert, route->gate_weight, &num_gaps,
                           input->trace_layer, input->batch->row, route->num_tokens, error);
    route->assignments = (int64_t)route->num_tokens * route->top_k - num_gaps;
    return status;
}

const struct router route_trace = {
    .name = "trace",
    .summary = "the recorded wishes of the trace's rows",
    .source = "moesim trace format, ARCHITECTURE.md",
    .route = replay,
};
