/*
 * deepseek_v3 -- sigmoids; of the model's groups the best by their two best experts, then top-k.
 *
 * Groups are the model's num_expert_groups and topk_groups, or the scenario's; weights are sigmoids
 * over the sum of the chosen. Left out: the bias that training adds to the choice (a trace does not
 * hold it), so of a model trained with one the choice here is what its gate alone would do; and
 * routed_scaling_factor, which is the same for all tokens.
 *
 * Source: DeepSeek-V3 (arXiv 2412.19437, section 2.1.2), in reference/gate.h.
 */
#include "route/from_scores.h"

static enum status deepseek_v3(void *state, const struct route_input *input, struct route *route,
                               struct error *error)
{
    (void)state; /* memoryless: scores say it all */
    struct gate_rule rule = {
        .score = GATE_SIGMOID,
        .renormalize = true,
        .group_score = GATE_GROUP_TOP2,
        .scale = 1.0f,
    };
    route_groups(input, &rule);
    return route_from_scores(rule, input, route, NULL, error);
}

const struct router route_deepseek_v3 = {
    .name = "deepseek_v3",
    .summary = "from scores: sigmoids, top-k of the best groups, without bias",
    .source = "DeepSeek-V3, arXiv 2412.19437",
    .needs_scores = true,
    .route = deepseek_v3,
};
