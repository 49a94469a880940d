/*
 * position -- the earliest tokens of the scope keep their expert.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "position". There top-k on a 0/1 map
 * leaves the order of ties open; here it is token order.
 */
#include "route/route.h"

#include <string.h>

static int64_t drop_late_tokens(struct route *route, int32_t first, int32_t count,
                                int64_t capacity_assignments, uint64_t *work)
{
    uint64_t *taken = work; /* [num_experts] */
    uint64_t capacity = (uint64_t)capacity_assignments;
    memset(taken, 0, (size_t)route->num_experts * sizeof *taken);
    int64_t begin = (int64_t)first * route->top_k;
    int64_t end = (int64_t)(first + count) * route->top_k;
    int64_t dropped = 0;
    for (int64_t i = begin; i < end; i++) {
        int32_t expert = route->expert[i];
        bool drop = expert != EXPERT_NOT_ROUTED && taken[expert]++ >= capacity;
        route->dropped[i] = drop;
        dropped += drop;
    }
    return dropped;
}

const struct drop_policy drop_position = {
    .name = "position",
    .summary = "the earliest tokens keep their expert",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_late_tokens,
};
