/*
 * deepseek_v2 -- softmax over all; of the groups the best by their best expert, then top-k.
 *
 * Groups are the model's num_expert_groups and topk_groups, or the scenario's: with as many groups
 * as ranks a token goes to topk_groups devices at most ("device-limited routing", M = 3). Weights
 * are probabilities as they are. Left out: routed_scaling_factor, the same for all tokens.
 *
 * Source: DeepSeek-V2 (arXiv 2405.04434, section 2.2.2), group_limited_greedy, in reference/gate.h.
 */
#include "route/from_scores.h"

static enum status deepseek_v2(void *state, const struct route_input *input, struct route *route,
                               struct error *error)
{
    (void)state; /* memoryless: scores say it all */
    struct gate_rule rule = {.score = GATE_SOFTMAX, .group_score = GATE_GROUP_MAX, .scale = 1.0f};
    route_groups(input, &rule);
    return route_from_scores(rule, input, route, NULL, error);
}

const struct router route_deepseek_v2 = {
    .name = "deepseek_v2",
    .summary = "from scores: softmax, top-k of the groups whose best expert is best",
    .source = "DeepSeek-V2, arXiv 2405.04434",
    .needs_scores = true,
    .needs_groups = true,
    .route = deepseek_v2,
};
