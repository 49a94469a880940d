/*
 * softmax_topk -- softmax over all experts, then the k largest; weights as they are.
 *
 * Weights of a token sum to less than 1, the less the flatter its scores: under the drop policy
 * gate_weight, tokens that the gate is sure of go first.
 *
 * Source: OLMoE and Switch (arXiv 2409.02060; 2101.03961), in reference/gate.h.
 */
#include "route/from_scores.h"

static enum status softmax_topk(void *state, const struct route_input *input, struct route *route,
                                struct error *error)
{
    (void)state; /* memoryless: scores say it all */
    const struct gate_rule rule = {
        .score = GATE_SOFTMAX, .num_groups = 1, .topk_groups = 1, .scale = 1.0f};
    return route_from_scores(rule, input, route, NULL, error);
}

const struct router route_softmax_topk = {
    .name = "softmax_topk",
    .summary = "from scores: softmax over all experts, then top-k",
    .source = "OLMoE, arXiv 2409.02060",
    .needs_scores = true,
    .route = softmax_topk,
};
