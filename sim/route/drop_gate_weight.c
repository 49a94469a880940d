/*
 * gate_weight -- the highest gate weights of an expert keep it; of equal ones, the earlier token.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "probs".
 */
#include "route/drop_order.h"

static int64_t drop_light_tokens(struct route *route, const struct route_input *input,
                                 const struct drop_scope *scope)
{
    (void)input; /* the weights say it all */
    return drop_by_weight(route, scope);
}

const struct drop_policy drop_gate_weight = {
    .name = "gate_weight",
    .summary = "the highest gate weights of an expert keep it",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_light_tokens,
};
