/* capacity.c -- how many assignments an expert takes, and the scopes in which they compete. */
#include "route/route.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* More than any step has: keeps a huge capacity factor from overflowing the conversion. */
#define CAPACITY_ASSIGNMENTS_MAX (INT64_C(1) << 52)

int64_t capacity_assignments(int64_t num_tokens, int32_t top_k, int32_t num_experts,
                             double capacity_factor)
{
    assert(num_tokens >= 0 && top_k >= 1 && num_experts >= 1);
    assert(capacity_factor > 0.0);
    if (num_tokens == 0) {
        return 0;
    }
    double quotient = (double)num_tokens * top_k * capacity_factor / num_experts;
    if (quotient >= (double)CAPACITY_ASSIGNMENTS_MAX) {
        return CAPACITY_ASSIGNMENTS_MAX;
    }
    int64_t capacity = (int64_t)ceil(round(quotient * 0x1p20) * 0x1p-20);
    return capacity > 0 ? capacity : 1;
}

static int64_t apply_to_scope(struct route *route, const struct drop_policy *policy,
                              const struct drop_input *input, int32_t first, int32_t end,
                              uint64_t *work)
{
    assert(first >= 0 && first <= end && end <= route->num_tokens);
    if (first == end) {
        return 0; /* a rank without tokens has no capacity to enforce */
    }
    int64_t capacity =
        capacity_assignments(end - first, route->top_k, route->num_experts, input->capacity_factor);
    return policy->drop(route, first, end - first, capacity, work);
}

enum status capacity_apply(struct route *route, const struct drop_policy *policy,
                           const struct drop_input *input)
{
    size_t num_wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    assert(num_wishes <= INT32_MAX); /* a wish is named by 32 bits */
    size_t work_count = (size_t)route->num_experts + 2 * num_wishes;
    uint64_t *work = arena_alloc(input->scratch, work_count, sizeof *work);
    if (work == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t dropped = 0;
    switch (input->scope) {
    case CAPACITY_RANK:
        for (int32_t rank = 0; rank < input->num_ranks; rank++) {
            dropped += apply_to_scope(route, policy, input, input->batch->rank_begin[rank],
                                      input->batch->rank_begin[rank + 1], work);
        }
        break;
    case CAPACITY_GLOBAL:
        dropped = apply_to_scope(route, policy, input, 0, route->num_tokens, work);
        break;
    }
    assert(dropped >= 0 && dropped <= route->assignments);
    route->dropped_assignments = dropped;
    return STATUS_OK;
}
