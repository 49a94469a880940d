/*
 * gate_weight -- the highest gate weights of an expert keep it; of equal ones, the earlier token.
 *
 * Source: Megatron-LM, moe_utils.py @ d98e8a6, drop policy "probs".
 *
 * Only the wishes for over-full experts are sorted, all at once and heaviest first; then each
 * expert takes them in that order until it is full.
 */
#include "route/route.h"

#include <string.h>

#include "radix_sort.h"

/* Ascending records are descending weights, whatever their sign; the sum turns -0 into +0. */
static uint64_t wish_record(float gate_weight, int64_t wish)
{
    float weight = gate_weight + 0.0f;
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    uint32_t descending = bits >> 31 != 0 ? bits : ~bits & UINT32_C(0x7fffffff);
    return (uint64_t)descending << 32 | (uint64_t)wish;
}

static int64_t drop_light_tokens(struct route *route, int32_t first, int32_t count,
                                 int64_t capacity_assignments, uint64_t *work)
{
    uint64_t *wished = work; /* [num_experts] */
    uint64_t *record = work + route->num_experts;
    uint64_t *swap = record + (int64_t)count * route->top_k;
    uint64_t capacity = (uint64_t)capacity_assignments;
    int64_t begin = (int64_t)first * route->top_k;
    int64_t end = (int64_t)(first + count) * route->top_k;
    memset(wished, 0, (size_t)route->num_experts * sizeof *wished);
    for (int64_t i = begin; i < end; i++) {
        route->dropped[i] = false;
        if (route->expert[i] != EXPERT_NOT_ROUTED) {
            wished[route->expert[i]]++;
        }
    }
    int32_t num_records = 0;
    for (int64_t i = begin; i < end; i++) {
        if (route->expert[i] != EXPERT_NOT_ROUTED && wished[route->expert[i]] > capacity) {
            record[num_records++] = wish_record(route->gate_weight[i], i);
        }
    }
    const uint64_t *heaviest_first = radix_sort(record, swap, num_records);
    uint64_t *taken = wished; /* no longer needed as wishes */
    memset(taken, 0, (size_t)route->num_experts * sizeof *taken);
    int64_t dropped = 0;
    for (int32_t i = 0; i < num_records; i++) {
        int64_t wish = (int64_t)(uint32_t)heaviest_first[i];
        bool drop = taken[route->expert[wish]]++ >= capacity;
        route->dropped[wish] = drop;
        dropped += drop;
    }
    return dropped;
}

const struct drop_policy drop_gate_weight = {
    .name = "gate_weight",
    .summary = "the highest gate weights of an expert keep it",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .drop = drop_light_tokens,
};
