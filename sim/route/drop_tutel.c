/*
 * tutel -- a capacity that adapts: first choices before second ones, the earliest first.
 *
 *     CF > 0   C = k floor(CF ceil(T / E))
 *     CF = 0   C = what the most wished expert needs
 *     CF < 0   C = the smaller of the two, for -CF
 *
 * each rounded up to a multiple of routing.capacity_multiple (1). With CF below 1 and few tokens an
 * expert may take none: so it is in the source. A negative factor drops what the positive one does;
 * it saves the rows that nobody needs.
 *
 * Source: Tutel (arXiv 2206.03382, section 3.2), tutel/impls/fast_dispatch.py @ 82af7aa, without
 * batch-prioritised routing and without the maximum over ranks.
 */
#include <math.h>

#include "route/drop_order.h"

static int64_t adaptive_capacity(const struct capacity_input *input)
{
    const struct route_settings *settings = input->settings;
    double factor = settings->capacity_factor;
    int64_t mean = (input->num_tokens + input->num_experts - 1) / input->num_experts;
    int64_t multiple = settings->capacity_multiple == 0 ? 1 : settings->capacity_multiple;
    int64_t limit = input->top_k *
                    (int64_t)floor(capacity_quotient(mean, 1, 1, factor < 0.0 ? -factor : factor));
    int64_t capacity = limit;
    if (!(factor > 0.0)) {
        bool is_limited = factor < 0.0 && limit < input->wished_max;
        capacity = is_limited ? limit : input->wished_max;
    }
    return (capacity + multiple - 1) / multiple * multiple;
}

const struct drop_policy drop_tutel = {
    .name = "tutel",
    .summary = "first choices before second ones; factor 0: what is needed, below 0: at most that",
    .source = "Tutel fast_dispatch.py @ 82af7aa",
    .is_adaptive = true,
    .may_be_negative = true,
    .capacity = adaptive_capacity,
    .drop = drop_by_choice,
};
