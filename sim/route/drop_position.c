/*
 * position -- the earliest tokens of the scope keep their expert.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "position". There top-k on a 0/1 map
 * leaves the order of ties open; here it is token order.
 */
#include "route/drop_order.h"

const struct drop_policy drop_position = {
    .name = "position",
    .summary = "the earliest tokens keep their expert",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_by_position,
};
