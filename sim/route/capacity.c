/* capacity.c -- how many assignments an expert takes, and the scopes in which they compete. */
#include "route/route.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* More than any step has: keeps a huge capacity factor from overflowing the conversion. */
#define CAPACITY_ASSIGNMENTS_MAX (INT64_C(1) << 52)

double capacity_quotient(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                         double capacity_factor)
{
    assert(num_tokens >= 0 && top_k >= 1 && num_experts >= 1);
    assert(capacity_factor >= 0.0);
    double quotient = (double)num_tokens * top_k * capacity_factor / num_experts;
    if (quotient >= (double)CAPACITY_ASSIGNMENTS_MAX) {
        return (double)CAPACITY_ASSIGNMENTS_MAX;
    }
    return round(quotient * 0x1p20) * 0x1p-20;
}

int64_t capacity_assignments(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                             double capacity_factor)
{
    assert(capacity_factor > 0.0);
    if (num_tokens == 0) {
        return 0;
    }
    double quotient = capacity_quotient(num_tokens, top_k, num_experts, capacity_factor);
    int64_t capacity = (int64_t)ceil(quotient);
    return capacity > 0 ? capacity : 1;
}

int64_t drop_capacity(const struct drop_policy *policy, const struct capacity_input *input)
{
    return policy->capacity != NULL
               ? policy->capacity(input)
               : capacity_assignments(input->num_tokens, input->top_k, input->num_experts,
                                      input->settings->capacity_factor);
}

int32_t route_num_scopes(const struct route_settings *settings)
{
    return settings->capacity_scope == CAPACITY_RANK ? settings->num_ranks : 1;
}

void route_scope(const struct route_input *input, int32_t scope, int32_t num_tokens, int32_t *first,
                 int32_t *end)
{
    bool is_rank = input->settings->capacity_scope == CAPACITY_RANK;
    *first = is_rank ? input->batch->rank_begin[scope] : 0;
    *end = is_rank ? input->batch->rank_begin[scope + 1] : num_tokens;
    assert(*first >= 0 && *first <= *end && *end <= num_tokens);
}

static int64_t most_wished(const struct route *route, int32_t first, int32_t end, uint64_t *wished)
{
    uint64_t most = 0;
    memset(wished, 0, (size_t)route->num_experts * sizeof *wished);
    for (int64_t i = (int64_t)first * route->top_k; i < (int64_t)end * route->top_k; i++) {
        if (route->expert[i] != EXPERT_NOT_ROUTED) {
            uint64_t now = ++wished[route->expert[i]];
            most = now > most ? now : most;
        }
    }
    return (int64_t)most;
}

static int64_t apply_to_scope(struct route *route, const struct drop_policy *policy,
                              const struct route_input *input, struct drop_scope *scope)
{
    struct capacity_input capacity = {
        .num_tokens = scope->count,
        .top_k = route->model_top_k > 0 ? route->model_top_k : route->top_k,
        .num_experts = route->num_experts,
        .settings = input->settings,
    };
    if (policy->is_adaptive) {
        capacity.wished_max =
            most_wished(route, scope->first, scope->first + scope->count, scope->work);
    }
    scope->capacity_assignments = drop_capacity(policy, &capacity);
    int32_t takers = policy->limits_devices ? input->settings->num_ranks : route->num_experts;
    route->places += (double)scope->capacity_assignments * (double)takers;
    return policy->drop(route, input, scope);
}

enum status capacity_apply(struct route *route, const struct drop_policy *policy,
                           const struct route_input *input)
{
    size_t num_wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    assert(num_wishes <= INT32_MAX); /* a wish is named by 32 bits */
    size_t work_count = (size_t)route->num_experts + 2 * num_wishes;
    uint64_t *work = arena_alloc(input->scratch, work_count, sizeof *work);
    if (work == NULL) {
        return STATUS_NO_MEMORY;
    }
    route->dropped_assignments = 0;
    route->rerouted_assignments = 0;
    route->places = 0.0;
    int32_t num_scopes = route_num_scopes(input->settings);
    for (int32_t number = 0; number < num_scopes; number++) {
        int32_t end = 0;
        struct drop_scope scope = {.work = work};
        route_scope(input, number, route->num_tokens, &scope.first, &end);
        scope.count = end - scope.first;
        if (scope.count == 0) {
            continue; /* a rank without tokens has no capacity to enforce */
        }
        int64_t dropped = apply_to_scope(route, policy, input, &scope);
        if (dropped < 0) {
            return STATUS_NO_MEMORY;
        }
        route->dropped_assignments += dropped;
    }
    assert(route->dropped_assignments <= route->assignments);
    return STATUS_OK;
}
