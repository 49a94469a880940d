/*
 * topk_softmax -- the k largest scores, then softmax over those: weights of a token sum to 1.
 *
 * The same as softmax over all experts with the chosen weights renormalised (Qwen3-MoE).
 *
 * Source: Mixtral (arXiv 2401.04088, section 2.1), in reference/gate.h.
 */
#include "route/from_scores.h"

static enum status topk_softmax(void *state, const struct route_input *input, struct route *route,
                                struct error *error)
{
    (void)state; /* memoryless: scores say it all */
    const struct gate_rule rule = {
        .score = GATE_CHOSEN_SOFTMAX, .num_groups = 1, .topk_groups = 1, .scale = 1.0f};
    return route_from_scores(rule, input, route, NULL, error);
}

const struct router route_topk_softmax = {
    .name = "topk_softmax",
    .summary = "from scores: top-k, then softmax over the chosen",
    .source = "Mixtral, arXiv 2401.04088",
    .needs_scores = true,
    .route = topk_softmax,
};
