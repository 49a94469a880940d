/*
 * plan_front.c -- all deployments by dollars a day: who is on the front, who wins, where the
 * reference stands.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"

#define EQUAL 0.001

static int compare_deployments(const void *left, const void *right)
{
    const struct plan_deployment *a = left;
    const struct plan_deployment *b = right;
    const double keys[][2] = {{a->cost.usd_total, b->cost.usd_total},
                              {a->tpot_s, b->tpot_s},
                              {a->ttft_s, b->ttft_s},
                              {a->point[0], b->point[0]},
                              {a->point[1], b->point[1]}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (keys[i][0] != keys[i][1]) {
            return keys[i][0] < keys[i][1] ? -1 : 1;
        }
    }
    return (int)a->shared - (int)b->shared;
}

static bool as_fast(const struct plan_deployment *a, const struct plan_deployment *b)
{
    return a->ttft_s <= b->ttft_s && a->tpot_s <= b->tpot_s;
}

/* The nearest limit, of rates and targets; 1: it is reached. A mean says little of a percentile of
 * TTFT: queues have exponential tails. */
static double tightness(const struct plan_deployment *deployment, const struct plan *plan)
{
    double prefill = deployment->load[COST_PREFILL], decode = deployment->load[COST_DECODE];
    double load = deployment->shared ? prefill + decode : fmax(prefill, decode);
    double nearest = load / plan->utilisation_max;
    double tail = fmax(1.0, -log(1.0 - plan->ttft_percentile / 100.0));
    if (plan->ttft_s > 0.0) {
        nearest = fmax(nearest, tail * deployment->ttft_s / plan->ttft_s);
    }
    if (plan->tpot_s > 0.0) {
        nearest = fmax(nearest, deployment->tpot_s / plan->tpot_s);
    }
    return nearest;
}

/* Whole groups make many deployments cost the same: of those the one that is furthest from all
 * limits. */
static void choose_winner(struct plan_answer *answer, const struct plan *plan)
{
    double best = HUGE_VAL;
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        double own = tightness(deployment, plan);
        bool is_first = answer->winner < 0;
        bool costs_more = !is_first && deployment->cost.usd_total >
                                           answer->deployment[answer->winner].cost.usd_total;
        if (deployment->meets_targets && !costs_more && (is_first || own < best - EQUAL)) {
            answer->winner = i;
            best = own;
        }
    }
}

/* What is cheaper stands before, so only those can beat it. */
static void mark_front(struct plan_answer *answer)
{
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        struct plan_deployment *deployment = &answer->deployment[i];
        deployment->on_front = true;
        for (int32_t j = 0; j < i && deployment->on_front; j++) {
            deployment->on_front = !as_fast(&answer->deployment[j], deployment);
        }
        answer->num_front += deployment->on_front;
    }
}

static bool is_reference(const struct plan_answer *answer, const struct plan *plan, int32_t index)
{
    const struct plan_deployment *deployment = &answer->deployment[index];
    const struct plan_point *prefill = &answer->point[deployment->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[deployment->point[COST_DECODE]];
    const struct plan_reference *wanted = &plan->reference;
    return !deployment->shared && prefill->ep == wanted->prefill_ep &&
           decode->ep == wanted->decode_ep &&
           prefill->redundant_experts == wanted->redundant_experts &&
           decode->redundant_experts == wanted->redundant_experts;
}

/* Of the reference's layout the cheapest batch that meets the targets; where none does, the
 * cheapest. */
static void find_reference(struct plan_answer *answer, const struct plan *plan)
{
    for (int32_t i = 0; plan->reference.given && i < answer->num_deployments; i++) {
        bool found = answer->reference >= 0;
        bool is_better = !found || (answer->deployment[i].meets_targets &&
                                    !answer->deployment[answer->reference].meets_targets);
        if (is_better && is_reference(answer, plan, i)) {
            answer->reference = i;
        }
    }
    if (answer->reference >= 0) {
        const struct plan_deployment *reference = &answer->deployment[answer->reference];
        int32_t cheapest = 0;
        while (!as_fast(&answer->deployment[cheapest], reference)) {
            cheapest++; /* ends at the reference itself */
        }
        answer->reference_excess =
            reference->cost.usd_total / answer->deployment[cheapest].cost.usd_total - 1.0;
    }
}

static int64_t count_simulated(const struct plan_answer *answer, enum cost_pool pool)
{
    int64_t count = 0;
    for (int32_t i = 0; i < answer->num_points; i++) {
        count += answer->point[i].fate == PLAN_SIMULATED && answer->point[i].pool == pool;
    }
    return count;
}

void plan_point_note_error(struct plan_point *point, const struct plan *plan)
{
    struct plan_error error = plan_point_error(plan, point);
    point->low = error.low;
    point->high = error.high;
    point->known_share = error.share;
}

void plan_note_error(struct plan_answer *answer, const struct plan *plan)
{
    int32_t chosen = answer->winner >= 0 ? answer->winner : 0;
    for (int32_t pool = 0; pool < COST_POOLS && answer->num_deployments > 0; pool++) {
        int32_t point = answer->deployment[chosen].point[pool];
        answer->error[pool] = plan_point_error(plan, &answer->point[point]);
    }
}

int32_t plan_insert(struct plan_answer *answer, const struct plan_deployment *deployment)
{
    int32_t at = 0;
    while (at < answer->num_deployments &&
           compare_deployments(&answer->deployment[at], deployment) <= 0) {
        at++;
    }
    memmove(&answer->deployment[at + 1], &answer->deployment[at],
            (size_t)(answer->num_deployments - at) * sizeof *deployment);
    answer->deployment[at] = *deployment;
    answer->num_deployments++;
    answer->reference += answer->reference >= at;
    answer->winner += answer->winner >= at;
    return at;
}

/* Where more GPUs are wanted than may be had, notes how many would do. */
static void add_deployment(struct plan_answer *answer, const struct plan *plan, int32_t prefill,
                           int32_t decode, bool shared)
{
    struct plan_deployment *next = &answer->deployment[answer->num_deployments];
    if (plan_deploy(next, plan, answer->point, prefill, decode, shared)) {
        answer->num_deployments++;
    } else if (next->num_gpus > 0 &&
               (answer->gpus_least == 0 || next->num_gpus < answer->gpus_least)) {
        answer->gpus_least = next->num_gpus;
    }
}

enum plan_verdict plan_verdict(const struct plan *plan, const struct plan_deployment *deployment)
{
    bool by_means = plan->ttft_percentile == 0 && plan->tpot_percentile == 0;
    return !deployment->meets_targets          ? PLAN_MISSES
           : by_means || deployment->is_served ? PLAN_MEETS
                                               : PLAN_NOT_JUDGED;
}

int32_t plan_count(const struct plan *plan, const struct plan_answer *answer,
                   enum plan_verdict verdict)
{
    int32_t count = 0;
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        count += plan_verdict(plan, &answer->deployment[i]) == verdict;
    }
    return count;
}

enum status plan_combine(struct plan_answer *answer, const struct plan *plan)
{
    int64_t most = 2 * count_simulated(answer, COST_PREFILL) * count_simulated(answer, COST_DECODE);
    free(answer->deployment);
    answer->num_deployments = answer->num_front = 0;
    answer->gpus_least = 0;
    answer->winner = answer->reference = -1;
    answer->deployment = calloc((size_t)most + 1 + PLAN_FINALISTS, sizeof *answer->deployment);
    if (answer->deployment == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < answer->num_points; i++) {
        if (answer->point[i].fate == PLAN_SIMULATED) {
            plan_point_note_error(&answer->point[i], plan);
        }
    }
    for (int32_t p = 0; p < answer->num_points; p++) {
        for (int32_t d = 0; d < answer->num_points; d++) {
            if (answer->point[p].fate != PLAN_SIMULATED ||
                answer->point[d].fate != PLAN_SIMULATED || answer->point[p].pool != COST_PREFILL ||
                answer->point[d].pool != COST_DECODE) {
                continue;
            }
            for (int32_t shared = 0; shared < 2; shared++) {
                if (shared == 1 ? plan->shared : plan->disaggregated) {
                    add_deployment(answer, plan, p, d, shared == 1);
                }
            }
        }
    }
    qsort(answer->deployment, (size_t)answer->num_deployments, sizeof *answer->deployment,
          compare_deployments);
    mark_front(answer);
    choose_winner(answer, plan);
    find_reference(answer, plan);
    plan_note_error(answer, plan);
    return STATUS_OK;
}
