/*
 * quantile -- top-k of scores less a bias: the quantile that would have let T k / E tokens pass.
 *
 *     b = routing.bias_decay * b + (1 - routing.bias_decay) * mean quantile, less its mean
 *
 * The quantile is that of each scope of routing.capacity_scope, averaged. The bias starts at 0 and
 * changes after each batch: a step, or one of its micro-batches and chunks. Weights are softmax
 * over the chosen.
 *
 * Source: Megatron-LM, moe_utils.py and finalize_model_grads.py @ d98e8a6, quantile_balancing, in
 * reference/gate_batch.h. Its default is a decay of 0.
 */
#include "route/from_scores.h"

static enum status route_part(const struct route_input *input, struct route *route, int32_t first,
                              int32_t count, const float *bias, float *quantile)
{
    int64_t wish = (int64_t)first * route->top_k;
    struct gate_batch batch = route_batch(input, route, first, count);
    uint64_t *work = arena_take(input->scratch, 2 * (size_t)count, sizeof *work);
    float *threshold = arena_take(input->scratch, (size_t)count, sizeof *threshold);
    if (batch.logits == NULL || work == NULL || threshold == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_quantile(batch, route->expert + wish, route->gate_weight + wish,
                                      quantile, bias, work, threshold);
    if (status == STATUS_OK) {
        ref_full_weight(batch, false, route->full_weight + first, route->expert + wish,
                        route->gate_weight + wish);
    }
    return status;
}

static enum status route_scopes(const struct route_input *input, struct route *route,
                                const float *bias, float *mean, float *quantile)
{
    int32_t num_scopes = route_num_scopes(input->settings);
    int32_t num_filled = 0;
    enum status status = STATUS_OK;
    for (int32_t scope = 0; scope < num_scopes && status == STATUS_OK; scope++) {
        int32_t first = 0;
        int32_t end = 0;
        route_scope(input, scope, route->num_tokens, &first, &end);
        if (first == end) {
            continue;
        }
        status = route_part(input, route, first, end - first, bias, quantile);
        num_filled++;
        for (int32_t e = 0; e < route->num_experts; e++) {
            mean[e] += (quantile[e] - mean[e]) / (float)num_filled;
        }
    }
    return status;
}

static enum status quantile(void *state, const struct route_input *input, struct route *route,
                            struct error *error)
{
    float *bias = (float *)state + (int64_t)input->trace_layer * route->num_experts;
    float *mean = arena_alloc(input->scratch, (size_t)route->num_experts, sizeof *mean);
    float *of_scope = arena_take(input->scratch, (size_t)route->num_experts, sizeof *of_scope);
    if (mean == NULL || of_scope == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (route->top_k >= route->num_experts || route->top_k >= GATE_TOP_K_MAX) {
        return error_add(error, STATUS_INVALID,
                         "routing.policy: quantile chooses fewer than all experts and at most %d, "
                         "not %d of %d",
                         GATE_TOP_K_MAX - 1, (int)route->top_k, (int)route->num_experts);
    }
    enum status status = route_check_limits(route, error);
    if (status == STATUS_OK) {
        status = route_take_full_weight(input, route);
    }
    if (status == STATUS_OK) {
        status = route_scopes(input, route, bias, mean, of_scope);
    }
    if (status == STATUS_OK && route->num_tokens > 0) {
        ref_quantile_update(route->num_experts, bias, mean, (float)input->settings->bias_decay);
    }
    route->assignments = (int64_t)route->num_tokens * route->top_k;
    return status;
}

const struct router route_quantile = {
    .name = "quantile",
    .summary = "from scores: top-k less a bias that would let every expert's share pass",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .needs_scores = true,
    .expert_state_bytes = sizeof(float),
    .route = quantile,
};
