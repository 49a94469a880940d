/*
 * plan_interval.c -- what a deployment's figures are when the models behind its steps are off.
 *
 * Prefill's step is multiplied by the low or the high of its error, decode's too, and each of the
 * four deployments that come of it is worked out anew, with as many groups as its steps then take,
 * and as many more as a percentile took.
 * The time to the first token is at least as far off as whole engines' (plan_ttft_error).
 * An amount's interval goes from the least of the four to the most. Groups come whole, so an error
 * that moves no group moves no dollar.
 */
#include <math.h>

#include "plan_internal.h"

static void include(struct plan_range *range, double value)
{
    range->low = fmin(range->low, value);
    range->high = fmax(range->high, value);
}

static void include_deployment(struct plan_interval *interval,
                               const struct plan_deployment *deployment)
{
    const struct cost_day *cost = &deployment->cost;
    include(&interval->usd_per_day, cost->usd_total);
    include(&interval->usd_per_request, cost->usd_per_request);
    include(&interval->usd_per_million_input, cost->usd_per_million_input);
    include(&interval->usd_per_million_output, cost->usd_per_million_output);
    include(&interval->ttft_s, deployment->ttft_s);
    include(&interval->tpot_s, deployment->tpot_s);
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        include(&interval->groups[pool], (double)deployment->groups[pool]);
    }
}

static void start_at(struct plan_interval *interval, const struct plan_deployment *deployment)
{
    const struct cost_day *cost = &deployment->cost;
    *interval = (struct plan_interval){
        .usd_per_day = {cost->usd_total, cost->usd_total},
        .usd_per_request = {cost->usd_per_request, cost->usd_per_request},
        .usd_per_million_input = {cost->usd_per_million_input, cost->usd_per_million_input},
        .usd_per_million_output = {cost->usd_per_million_output, cost->usd_per_million_output},
        .ttft_s = {deployment->ttft_s, deployment->ttft_s},
        .tpot_s = {deployment->tpot_s, deployment->tpot_s}};
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        double groups = deployment->groups[pool];
        interval->groups[pool] = (struct plan_range){groups, groups};
    }
}

static void stretch(struct plan_point *point, double factor)
{
    point->step_ns *= factor;
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        point->phase_ns[phase] *= factor;
    }
}

void plan_note_interval(struct plan_deployment *deployment, const struct plan *plan,
                        const struct plan_point *points)
{
    struct plan_interval *interval = &deployment->interval;
    start_at(interval, deployment);
    for (int32_t corner = 0; corner < 4; corner++) {
        struct plan_point point[COST_POOLS];
        struct plan_deployment off;
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            point[pool] = points[deployment->point[pool]];
            stretch(&point[pool], corner >> pool & 1 ? point[pool].high : point[pool].low);
            interval->known_share[pool] = point[pool].known_share;
        }
        /* It may take more GPUs than there are: what it would cost all the same. */
        (void)plan_deploy(&off, plan, point, 0, 1, deployment->shared);
        if (deployment->added[COST_PREFILL] > 0 || deployment->added[COST_DECODE] > 0) {
            (void)plan_add_groups(&off, plan, point, deployment->added);
        }
        include_deployment(interval, &off);
    }
    struct plan_range factor;
    if (plan_ttft_error(&factor, plan)) {
        include(&interval->ttft_s, factor.low * deployment->ttft_s);
        include(&interval->ttft_s, factor.high * deployment->ttft_s);
    }
}

struct plan_range plan_work_error(const struct plan_deployment *deployment,
                                  const struct plan_point *points)
{
    struct plan_range range = {0.0, 0.0};
    const struct cost_day *cost = &deployment->cost;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &points[deployment->point[pool]];
        double share = cost->usd[pool] / cost->usd_total;
        range.low += share * (1.0 - point->low);
        range.high += share * (point->high - 1.0);
    }
    return range;
}
