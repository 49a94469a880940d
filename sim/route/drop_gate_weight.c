/*
 * gate_weight -- the highest gate weights of an expert keep it; of equal ones, the earlier token.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "probs".
 */
#include "route/drop_order.h"

const struct drop_policy drop_gate_weight = {
    .name = "gate_weight",
    .summary = "the highest gate weights of an expert keep it",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_by_weight,
};
