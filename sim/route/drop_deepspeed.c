/*
 * deepspeed -- one order for each kind of gate, and a capacity of at least 8.
 *
 *     C = max(ceil(T k CF / E), 8);   CF = 0: what the most wished expert needs (drop_tokens false)
 *
 *     k = 1   tokens in random order ("random token selection")
 *     k = 2   first choices before second ones, the earliest first
 *     k > 2   the highest gate weights of an expert
 *
 * Source: DeepSpeed, deepspeed/moe/sharded_moe.py @ edaa722. Ours draws the random order from seed,
 * layer and trace row. Left out: noise on logits and the sampling of the second expert, which are
 * the gate's; rounding C up to the tensor-parallel degree; the maximum of C over ranks where CF is
 * 0, which pads more and drops nothing.
 */
#include "gate_hash.h"
#include "radix_sort.h"
#include "route/drop_order.h"

#define MIN_CAPACITY 8

static int64_t deepspeed_capacity(const struct capacity_input *input)
{
    const struct route_settings *settings = input->settings;
    if (!(settings->capacity_factor > 0.0)) {
        return input->wished_max;
    }
    int64_t least = settings->min_capacity < 0 ? MIN_CAPACITY : settings->min_capacity;
    int64_t capacity = capacity_assignments(input->num_tokens, input->top_k, input->num_experts,
                                            settings->capacity_factor);
    return capacity > least ? capacity : least;
}

static int64_t drop_at_random(struct route *route, const struct route_input *input,
                              const struct drop_scope *scope)
{
    uint64_t *record = drop_token_records(route, scope);
    uint64_t stream = gate_hash(input->settings->seed ^ gate_hash((uint64_t)input->trace_layer));
    for (int32_t i = 0; i < scope->count; i++) {
        uint64_t draw = gate_hash(stream ^ (uint64_t)input->batch->row[scope->first + i]);
        record[i] = (draw & ~UINT64_C(0xffffffff)) | (uint64_t)i;
    }
    return drop_by_choice_in_order(route, scope,
                                   radix_sort(record, record + scope->count, scope->count));
}

static int64_t drop_overflow(struct route *route, const struct route_input *input,
                             const struct drop_scope *scope)
{
    switch (route->top_k) {
    case 1:
        return drop_at_random(route, input, scope);
    case 2:
        return drop_by_choice(route, input, scope);
    default:
        return drop_by_weight(route, input, scope);
    }
}

const struct drop_policy drop_deepspeed = {
    .name = "deepspeed",
    .summary = "at random, by choice or by weight for k = 1, 2 or more; capacity at least 8",
    .source = "DeepSpeed sharded_moe.py @ edaa722",
    .is_adaptive = true,
    .capacity = deepspeed_capacity,
    .drop = drop_overflow,
};
