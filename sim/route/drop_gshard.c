/*
 * gshard -- all first choices are served before all second choices, by position.
 *
 *     C = max(floor(T k CF / E), 4)
 *
 * Source: GShard (arXiv 2006.16668, algorithm 1) and mesh_tensorflow/transformer/moe.py @ 01231bb,
 * top-2 gating. There CF counts both choices, so their 2 is our 1. Left out: the dice that drop a
 * second choice of little weight. Any k, choice by choice.
 */
#include "route/drop_order.h"

const struct drop_policy drop_gshard = {
    .name = "gshard",
    .summary = "first choices before second ones, the earliest first; capacity rounded down",
    .source = "GShard, arXiv 2006.16668",
    .capacity = drop_floor_capacity,
    .drop = drop_by_choice,
};
