/*
 * drop_order.c -- serving by position, by weight, by choice.
 *
 * By weight only the wishes for over-full experts are sorted, all at once and heaviest first; then
 * each expert takes them in that order until it is full.
 */
#include "route/drop_order.h"

#include <string.h>

#include "radix_sort.h"

#define FLOOR_CAPACITY_MIN 4

int64_t drop_floor_capacity(const struct capacity_input *input)
{
    const struct route_settings *settings = input->settings;
    int64_t least = settings->min_capacity < 0 ? FLOOR_CAPACITY_MIN : settings->min_capacity;
    int64_t capacity = (int64_t)capacity_quotient(input->num_tokens, input->top_k,
                                                  input->num_experts, settings->capacity_factor);
    return capacity > least ? capacity : least;
}

static bool serve(struct route *route, uint64_t *taken, uint64_t capacity, int64_t wish)
{
    int32_t expert = route->expert[wish];
    bool drop = expert != EXPERT_NOT_ROUTED && taken[expert]++ >= capacity;
    route->dropped[wish] = drop;
    return drop;
}

static uint64_t *clear_taken(const struct route *route, const struct drop_scope *scope)
{
    memset(scope->work, 0, (size_t)route->num_experts * sizeof *scope->work);
    return scope->work;
}

int64_t drop_by_position(struct route *route, const struct route_input *input,
                         const struct drop_scope *scope)
{
    (void)input;
    uint64_t *taken = clear_taken(route, scope);
    int64_t begin = (int64_t)scope->first * route->top_k;
    int64_t end = (int64_t)(scope->first + scope->count) * route->top_k;
    int64_t dropped = 0;
    for (int64_t wish = begin; wish < end; wish++) {
        dropped += serve(route, taken, (uint64_t)scope->capacity_assignments, wish);
    }
    return dropped;
}

int64_t drop_by_choice_in_order(struct route *route, const struct drop_scope *scope,
                                const uint64_t *token_order)
{
    uint64_t *taken = clear_taken(route, scope);
    int64_t dropped = 0;
    for (int32_t k = 0; k < route->top_k; k++) {
        for (int32_t i = 0; i < scope->count; i++) {
            int32_t token = token_order == NULL ? i : (int32_t)(uint32_t)token_order[i];
            int64_t wish = (int64_t)(scope->first + token) * route->top_k + k;
            dropped += serve(route, taken, (uint64_t)scope->capacity_assignments, wish);
        }
    }
    return dropped;
}

int64_t drop_by_choice(struct route *route, const struct route_input *input,
                       const struct drop_scope *scope)
{
    (void)input;
    return drop_by_choice_in_order(route, scope, NULL);
}

int64_t drop_by_weight(struct route *route, const struct route_input *input,
                       const struct drop_scope *scope)
{
    (void)input;
    uint64_t *wished = clear_taken(route, scope);
    uint64_t *record = scope->work + route->num_experts;
    uint64_t *swap = record + (int64_t)scope->count * route->top_k;
    uint64_t capacity = (uint64_t)scope->capacity_assignments;
    int64_t begin = (int64_t)scope->first * route->top_k;
    int64_t end = (int64_t)(scope->first + scope->count) * route->top_k;
    for (int64_t wish = begin; wish < end; wish++) {
        route->dropped[wish] = false;
        if (route->expert[wish] != EXPERT_NOT_ROUTED) {
            wished[route->expert[wish]]++;
        }
    }
    int32_t num_records = 0;
    for (int64_t wish = begin; wish < end; wish++) {
        if (route->expert[wish] != EXPERT_NOT_ROUTED && wished[route->expert[wish]] > capacity) {
            record[num_records++] = radix_descending(route->gate_weight[wish], (uint32_t)wish);
        }
    }
    const uint64_t *heaviest_first = radix_sort(record, swap, num_records);
    uint64_t *taken = clear_taken(route, scope); /* no longer needed as wishes */
    int64_t dropped = 0;
    for (int32_t i = 0; i < num_records; i++) {
        dropped += serve(route, taken, capacity, (int64_t)(uint32_t)heaviest_first[i]);
    }
    return dropped;
}
