/*
 * plan_deploy.c -- two points at work: groups, latencies, dollars, and who is on the front.
 *
 * Groups are those of the busiest hour. Its latencies, as means:
 *
 *   TTFT  queue + half a running step + steps of the prompt + KV transfer (disaggregated)
 *   TPOT  a full batch's step; shared pools lose the time that prefill takes
 *
 * The queue is M/D/c (Sakasegawa 1977), c the prompts that all groups work on at the same time:
 *
 *     W = s / 2 * load^(sqrt(2 (c + 1)) - 1) / (c (1 - load))
 *
 * Left out: percentiles, lengths that differ, and the time a decode pool needs to admit a sequence.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"

#define LATENCY_MAX 1e9 /* seconds; for loads at or above 1 */
#define LOAD_EQUAL  0.001

bool plan_same_layout(const struct plan_point *a, const struct plan_point *b)
{
    return a->gpu == b->gpu && a->ep == b->ep && a->tp == b->tp &&
           a->redundant_experts == b->redundant_experts && a->strategy == b->strategy &&
           a->expert_precision == b->expert_precision &&
           plan_offload_same(&a->offload, &b->offload);
}

static double rate(const struct plan_point *point, double factor)
{
    return (double)point->tokens_per_rank / (point->step_ns * factor * 1e-9);
}

static struct cost_day price(const struct plan_deployment *deployment, const struct plan *plan,
                             const struct plan_point *points, const double factor[COST_POOLS])
{
    const struct plan_gpu *gpu = &plan->gpu[points[deployment->point[0]].gpu];
    struct cost_terms terms = plan->terms;
    struct cost_rates rates = {.shared = deployment->shared};
    terms.usd_per_gpu_hour = gpu->price.usd_per_gpu_hour;
    terms.watts_per_gpu = gpu->cluster.gpu.allin_watts > 0.0 ? gpu->cluster.gpu.allin_watts
                                                             : gpu->cluster.gpu.tdp_watts;
    terms.pue = gpu->cluster.gpu.allin_watts > 0.0 ? 1.0 : terms.pue;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &points[deployment->point[pool]];
        rates.tokens_per_s_per_gpu[pool] = rate(point, factor[pool]);
        rates.group_gpus[pool] = point->ep;
        rates.utilisation_max[pool] = deployment->utilisation[pool];
    }
    struct cost_day cost = cost_day(&terms, &plan->traffic, &rates);
    /* A sum of pools: what bills the same must compare as the same. */
    cost.usd_total = round(cost.usd_total * 1e8) / 1e8;
    return cost;
}

/* Tokens that a pool has to do a second in the busiest hour. */
static double demand(const struct plan *plan, enum cost_pool pool)
{
    const struct cost_traffic *traffic = &plan->traffic;
    double tokens = pool == COST_DECODE ? traffic->output_tokens
                                        : traffic->input_tokens * (1.0 - traffic->cached_share);
    return traffic->requests_per_day * tokens / SECONDS_A_DAY * cost_peak_over_mean(traffic);
}

static double queue_s(double load, double servers, double service_s)
{
    if (load >= 1.0) {
        return LATENCY_MAX;
    }
    return service_s / 2.0 * pow(load, sqrt(2.0 * (servers + 1.0)) - 1.0) /
           (servers * (1.0 - load));
}

static void time_tokens(struct plan_deployment *deployment, const struct plan *plan,
                        const struct plan_point *prefill, const struct plan_point *decode)
{
    const struct gpu_spec *gpu = &plan->gpu[prefill->gpu].cluster.gpu;
    double step_s = prefill->step_ns * 1e-9;
    double decode_s = decode->step_ns * 1e-9;
    double computed = plan->traffic.input_tokens * (1.0 - plan->traffic.cached_share);
    double width = (double)prefill->tokens_per_rank * (double)prefill->tp; /* of a replica */
    double steps = ceil(fmax(computed, 1.0) / width);
    double groups = (double)deployment->groups[COST_PREFILL];
    double servers = groups * (double)(prefill->ep / prefill->tp) * fmax(1.0, width / computed);
    double load = deployment->load[COST_PREFILL];
    double turn_s = step_s;
    double transfer_s = 0.0;
    deployment->tpot_s = decode_s;
    if (deployment->shared) { /* a decode step between two of prefill */
        turn_s = step_s + decode_s;
        deployment->tpot_s = load < 1.0 ? decode_s / (1.0 - load) : LATENCY_MAX;
        load += deployment->load[COST_DECODE];
    } else {
        const struct port_spec *port = &gpu->port[TIER_SCALE_OUT];
        transfer_s = memory_kv_bytes_per_token(&plan->model) * plan->traffic.input_tokens /
                     (double)prefill->tp / (port->bytes_per_s * port->fraction);
    }
    deployment->wait_s = queue_s(load, servers, steps * turn_s) + turn_s / 2.0;
    deployment->ttft_s = deployment->wait_s + steps * turn_s + transfer_s;
}

static void count_groups(struct plan_deployment *deployment, const struct plan *plan,
                         const struct plan_point *points)
{
    double gpus_sum = 0.0;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &points[deployment->point[pool]];
        double gpus = deployment->cost.gpus_peak[deployment->shared ? COST_PREFILL : pool];
        deployment->groups[pool] = (int32_t)lround(gpus / (double)point->ep);
        deployment->load[pool] = demand(plan, (enum cost_pool)pool) / (rate(point, 1.0) * gpus);
        gpus_sum += deployment->shared && pool == COST_DECODE ? 0.0 : gpus;
    }
    deployment->num_gpus = (int32_t)fmin(gpus_sum, INT32_MAX);
}

static bool fits_together(const struct plan_point *prefill, const struct plan_point *decode)
{
    return decode->memory.total_bytes + prefill->memory.buffer_bytes + prefill->memory.kv_bytes <=
           decode->memory.limit_bytes;
}

static bool meets_targets(const struct plan_deployment *deployment, const struct plan *plan)
{
    return (plan->ttft_s <= 0.0 || deployment->ttft_s <= plan->ttft_s) &&
           (plan->tpot_s <= 0.0 || deployment->tpot_s <= plan->tpot_s) &&
           (plan->usd_per_day_max <= 0.0 || deployment->cost.usd_total <= plan->usd_per_day_max);
}

static bool may_be_had(const struct plan_deployment *deployment, const struct plan *plan,
                       const struct plan_gpu *gpu)
{
    int64_t most =
        gpu->nodes_max > 0 ? (int64_t)gpu->nodes_max * gpu->cluster.gpus_per_node : INT64_MAX;
    return deployment->num_gpus <= most &&
           (plan->gpus_max == 0 || deployment->num_gpus <= plan->gpus_max);
}

/* Groups, latencies and dollars at the deployment's utilisation. */
static void work_out(struct plan_deployment *deployment, const struct plan *plan,
                     const struct plan_point *points)
{
    static const double exact[COST_POOLS] = {1.0, 1.0};
    double low[COST_POOLS], high[COST_POOLS];
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        low[pool] = points[deployment->point[pool]].low;
        high[pool] = points[deployment->point[pool]].high;
    }
    deployment->cost = price(deployment, plan, points, exact);
    count_groups(deployment, plan, points);
    time_tokens(deployment, plan, &points[deployment->point[COST_PREFILL]],
                &points[deployment->point[COST_DECODE]]);
    deployment->usd_per_day_low = price(deployment, plan, points, low).usd_total;
    deployment->usd_per_day_high = price(deployment, plan, points, high).usd_total;
    deployment->meets_targets = meets_targets(deployment, plan);
}

bool plan_deploy_at(struct plan_deployment *deployment, const struct plan *plan,
                    const struct plan_point *points, const double utilisation[COST_POOLS])
{
    const struct plan_point *p = &points[deployment->point[COST_PREFILL]];
    const struct plan_point *d = &points[deployment->point[COST_DECODE]];
    bool shared = deployment->shared;
    assert(p->fate == PLAN_SIMULATED && d->fate == PLAN_SIMULATED);
    if (p->gpu != d->gpu || (shared && (!plan_same_layout(p, d) || !fits_together(p, d)))) {
        return false;
    }
    memcpy(deployment->utilisation, utilisation, sizeof deployment->utilisation);
    work_out(deployment, plan, points);
    return may_be_had(deployment, plan, &plan->gpu[p->gpu]);
}

bool plan_deploy(struct plan_deployment *deployment, const struct plan *plan,
                 const struct plan_point *points, int32_t prefill, int32_t decode, bool shared)
{
    const double utilisation[COST_POOLS] = {plan->utilisation_max, plan->utilisation_max};
    *deployment = (struct plan_deployment){.point = {prefill, decode}, .shared = shared};
    return plan_deploy_at(deployment, plan, points, utilisation);
}

bool plan_add_groups(struct plan_deployment *deployment, const struct plan *plan,
                     const struct plan_point *points, const int32_t added[COST_POOLS])
{
    double utilisation[COST_POOLS];
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        int32_t of = deployment->shared ? COST_PREFILL : pool;
        double groups = (double)deployment->groups[of];
        double load = deployment->load[of];
        load += deployment->shared ? deployment->load[COST_DECODE] : 0.0;
        double wanted = groups + (double)(added[of] - deployment->added[of]);
        utilisation[pool] = added[of] == 0 ? plan->utilisation_max : load * groups / wanted;
    }
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        deployment->added[pool] = added[deployment->shared ? COST_PREFILL : pool];
    }
    return plan_deploy_at(deployment, plan, points, utilisation);
}

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

/* Of a pool that is in use all the time, 1; of the fuller pool. */
static double fullest(const struct plan_deployment *deployment)
{
    return deployment->shared ? deployment->load[COST_PREFILL] + deployment->load[COST_DECODE]
                              : fmax(deployment->load[COST_PREFILL], deployment->load[COST_DECODE]);
}

/* Whole groups make many deployments cost the same: of those the one with most room to grow. */
static void choose_winner(struct plan_answer *answer)
{
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        const struct plan_deployment *winner =
            answer->winner >= 0 ? &answer->deployment[answer->winner] : NULL;
        bool wins = winner == NULL || (deployment->cost.usd_total == winner->cost.usd_total &&
                                       fullest(deployment) < fullest(winner) - LOAD_EQUAL);
        if (deployment->meets_targets && wins) {
            answer->winner = i;
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
        answer->num_feasible += deployment->meets_targets;
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
    answer->num_feasible += deployment->meets_targets;
    answer->reference += answer->reference >= at;
    answer->winner += answer->winner >= at;
    return at;
}

enum status plan_combine(struct plan_answer *answer, const struct plan *plan)
{
    int64_t most = 2 * count_simulated(answer, COST_PREFILL) * count_simulated(answer, COST_DECODE);
    free(answer->deployment);
    answer->num_deployments = answer->num_front = answer->num_feasible = 0;
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
                bool wanted = shared == 1 ? plan->shared : plan->disaggregated;
                answer->num_deployments +=
                    wanted && plan_deploy(&answer->deployment[answer->num_deployments], plan,
                                          answer->point, p, d, shared == 1);
            }
        }
    }
    qsort(answer->deployment, (size_t)answer->num_deployments, sizeof *answer->deployment,
          compare_deployments);
    mark_front(answer);
    choose_winner(answer);
    find_reference(answer, plan);
    plan_note_error(answer, plan);
    return STATUS_OK;
}
