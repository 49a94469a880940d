/*
 * switch -- gates of one expert a token: the earliest tokens keep it.
 *
 *     C = max(floor(T CF / E), 4)
 *
 * Source: Switch Transformers (arXiv 2101.03961, section 2.2) and its code, mesh_tensorflow/
 * transformer/moe.py @ 01231bb, with min_expert_capacity 4 (routing.min_capacity). C is bounded
 * there by the tokens of a group, too, which drops no more.
 */
#include "route/drop_order.h"

const struct drop_policy drop_switch = {
    .name = "switch",
    .summary = "of top-1 gates: the earliest tokens keep it; capacity rounded down, at least 4",
    .source = "Switch Transformers, arXiv 2101.03961",
    .top_k = 1,
    .capacity = drop_floor_capacity,
    .drop = drop_by_position,
};
