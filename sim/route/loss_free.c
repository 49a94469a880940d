/*
 * loss_free -- deepseek_v3 with a bias an expert that steps towards the mean load after each batch.
 *
 *     b_e += routing.bias_update * sign(mean load - load of e)
 *
 * The bias moves choices, not weights. It starts at 0: what a trace's model learned to need is not
 * in the trace, so the first batches are deepseek_v3's. A batch is what the experts see at once: a
 * step, or one of its micro-batches and chunks.
 *
 * Source: Wang et al., "Auxiliary-Loss-Free Load Balancing" (arXiv 2408.15664, algorithm 1), whose
 * step is 0.001; in reference/gate_batch.h.
 */
#include "route/from_scores.h"

static enum status loss_free(void *state, const struct route_input *input, struct route *route,
                             struct error *error)
{
    float *bias = (float *)state + (int64_t)input->trace_layer * route->num_experts;
    int64_t *load_tokens =
        arena_alloc(input->scratch, (size_t)route->num_experts, sizeof *load_tokens);
    struct gate_rule rule = {
        .score = GATE_SIGMOID,
        .renormalize = true,
        .group_score = GATE_GROUP_TOP2,
        .scale = 1.0f,
    };
    if (load_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    route_groups(input, &rule);
    enum status status = route_from_scores(rule, input, route, bias, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int64_t wish = 0; wish < route->assignments; wish++) {
        load_tokens[route->expert[wish]]++;
    }
    ref_loss_free_update(route->num_experts, bias, load_tokens,
                         (float)input->settings->bias_update);
    return STATUS_OK;
}

const struct router route_loss_free = {
    .name = "loss_free",
    .summary = "from scores: deepseek_v3 with a bias that steps towards the mean load",
    .source = "Wang et al., arXiv 2408.15664",
    .needs_scores = true,
    .expert_state_bytes = sizeof(float),
    .route = loss_free,
};
