/*
 * batch_prioritised -- tokens that the gate is sure of come first, choice by choice.
 *
 *     C = ceil(T k CF / E), rounded up to a multiple of 4 (routing.capacity_multiple)
 *
 * Tokens are sorted by the gate weight of their first choice, heaviest first; then all first
 * choices are served, then all second ones.
 *
 * Source: V-MoE (arXiv 2106.05974, section 4.1), vmoe/moe.py @ 1030c71.
 */
#include "radix_sort.h"
#include "route/drop_order.h"

#define CAPACITY_MULTIPLE 4

static int64_t rounded_capacity(const struct capacity_input *input)
{
    const struct route_settings *settings = input->settings;
    int64_t multiple =
        settings->capacity_multiple == 0 ? CAPACITY_MULTIPLE : settings->capacity_multiple;
    int64_t capacity = capacity_assignments(input->num_tokens, input->top_k, input->num_experts,
                                            settings->capacity_factor);
    return (capacity + multiple - 1) / multiple * multiple;
}

static int64_t drop_unsure_tokens(struct route *route, const struct route_input *input,
                                  const struct drop_scope *scope)
{
    (void)input; /* the weights say it all */
    uint64_t *record = drop_token_records(route, scope);
    for (int32_t i = 0; i < scope->count; i++) {
        int64_t first_choice = (int64_t)(scope->first + i) * route->top_k;
        record[i] = radix_descending(route->gate_weight[first_choice], (uint32_t)i);
    }
    return drop_by_choice_in_order(route, scope,
                                   radix_sort(record, record + scope->count, scope->count));
}

const struct drop_policy drop_batch_prioritised = {
    .name = "batch_prioritised",
    .summary = "tokens of the heaviest first choice come first; capacity a multiple of 4",
    .source = "V-MoE, arXiv 2106.05974; vmoe/moe.py @ 1030c71",
    .capacity = rounded_capacity,
    .drop = drop_unsure_tokens,
};
