/*
 * plan_deploy.c -- two points at work: groups, latencies, dollars.
 *
 * Groups are those of the busiest hour. Its latencies, as means:
 *
 *   TTFT  queue + half a running step + steps of the prompt + KV transfer (disaggregated)
 *   TPOT  a full batch's step; of shared pools see plan_shared.c
 *
 * The queue is M/D/c (Sakasegawa 1977), c the prompts that all groups work on at the same time:
 *
 *     W = s / 2 * load^(sqrt(2 (c + 1)) - 1) / (c (1 - load))
 *
 * and 1 + cv^2 times that where a file of requests says how lengths differ (Allen and Cunneen).
 *
 * Left out: percentiles, and the time a decode pool needs to admit a sequence.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"

#define LATENCY_MAX 1e9 /* seconds; for loads at or above 1 */

bool plan_same_layout(const struct plan_point *a, const struct plan_point *b)
{
    return a->gpu == b->gpu && a->ep == b->ep && a->tp == b->tp && a->expert_tp == b->expert_tp &&
           a->redundant_experts == b->redundant_experts && a->strategy == b->strategy &&
           a->expert_precision == b->expert_precision &&
           plan_offload_same(&a->offload, &b->offload);
}

static double rate(const struct plan_point *point)
{
    return (double)point->tokens_per_rank / (point->step_ns * 1e-9);
}

/* What the deployment's GPUs cost, and what they get done. */
static void bill(struct cost_terms *terms, struct cost_rates *rates,
                 const struct plan_deployment *deployment, const struct plan *plan,
                 const struct plan_point *points)
{
    const struct plan_gpu *gpu = &plan->gpu[points[deployment->point[0]].gpu];
    *terms = plan->terms;
    *rates = (struct cost_rates){.shared = deployment->shared};
    terms->usd_per_gpu_hour = gpu->price.usd_per_gpu_hour;
    terms->spot_usd_per_gpu_hour = gpu->spot_usd_per_gpu_hour;
    terms->watts_per_gpu = gpu->cluster.gpu.allin_watts > 0.0 ? gpu->cluster.gpu.allin_watts
                                                              : gpu->cluster.gpu.tdp_watts;
    terms->pue = gpu->cluster.gpu.allin_watts > 0.0 ? 1.0 : terms->pue;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &points[deployment->point[pool]];
        rates->tokens_per_s_per_gpu[pool] = rate(point);
        rates->group_gpus[pool] = point->ep;
        rates->utilisation_max[pool] = deployment->utilisation[pool];
    }
}

static struct cost_day price(const struct plan_deployment *deployment, const struct plan *plan,
                             const struct plan_point *points)
{
    struct cost_terms terms;
    struct cost_rates rates;
    bill(&terms, &rates, deployment, plan, points);
    struct cost_day cost = cost_day(&terms, &plan->traffic, &rates);
    /* A sum of pools: what bills the same must compare as the same. */
    cost.usd_total = round(cost.usd_total * 1e8) / 1e8;
    return cost;
}

void plan_hours(struct cost_hour *hour, const struct plan_deployment *deployment,
                const struct plan *plan, const struct plan_point *points)
{
    struct cost_terms terms;
    struct cost_rates rates;
    bill(&terms, &rates, deployment, plan, points);
    cost_hours(hour, &terms, &plan->traffic, &rates);
}

double plan_peak_requests_per_s(const struct cost_traffic *traffic)
{
    return traffic->requests_per_day / SECONDS_A_DAY * cost_peak_over_mean(traffic);
}

double plan_computed_tokens(const struct cost_traffic *traffic)
{
    return fmax(traffic->input_tokens * (1.0 - traffic->cached_share), 1.0);
}

double plan_replica_tokens(const struct plan_point *point)
{
    return (double)point->tokens_per_rank * (double)point->tp;
}

double plan_prompt_steps(const struct plan *plan, const struct plan_point *prefill)
{
    return ceil(plan_computed_tokens(&plan->traffic) / plan_replica_tokens(prefill));
}

/* Tokens that a pool has to do a second in the busiest hour. */
static double demand(const struct plan *plan, enum cost_pool pool)
{
    const struct cost_traffic *traffic = &plan->traffic;
    double tokens = pool == COST_DECODE ? traffic->output_tokens
                                        : traffic->input_tokens * (1.0 - traffic->cached_share);
    return tokens * plan_peak_requests_per_s(traffic);
}

static double queue_s(double load, double servers, double service_s, double cv)
{
    if (load >= 1.0) {
        return LATENCY_MAX;
    }
    return (1.0 + cv * cv) * service_s / 2.0 * pow(load, sqrt(2.0 * (servers + 1.0)) - 1.0) /
           (servers * (1.0 - load));
}

/* Queue and running step, then the prompt's steps; prompts that find no place for their answer
 * wait too. */
static void time_shared(struct plan_deployment *deployment, const struct plan *plan,
                        const struct plan_point *prefill, const struct plan_point *decode)
{
    const struct cost_traffic *traffic = &plan->traffic;
    int32_t groups = deployment->groups[COST_PREFILL];
    struct plan_turns turns = plan_take_turns(plan, prefill, decode, groups);
    double replicas = (double)groups * (double)(decode->ep / decode->tp);
    double places = replicas * plan_replica_tokens(decode);
    double read_s = turns.prompt_chunks * turns.read_s;
    deployment->tpot_s = turns.step_s;
    deployment->read_share = turns.read_share;
    memcpy(deployment->load, turns.load, sizeof deployment->load);
    deployment->wait_s = queue_s(turns.load[COST_PREFILL], replicas, read_s, traffic->input_cv) +
                         queue_s(turns.load[COST_DECODE], places,
                                 traffic->output_tokens * turns.step_s, traffic->output_cv) +
                         turns.step_s / 2.0;
    deployment->ttft_s = plan->host.request_ms * 1e-3 + deployment->wait_s + read_s;
}

/* Of a prompt's KV entries, through a port of the replica that has read them and one of the replica
 * that answers. Ranks in tensor parallel share them by heads; latent ones have none. */
static double transfer_s(const struct plan *plan, const struct plan_point *prefill,
                         const struct plan_point *decode)
{
    const struct moe_model *model = &plan->model;
    const struct gpu_spec *gpu = &plan->gpu[prefill->gpu].cluster.gpu;
    const struct port_spec *port = &gpu->port[TIER_SCALE_OUT];
    int32_t tp = prefill->tp < decode->tp ? prefill->tp : decode->tp;
    int32_t parts = model->attention == ATTENTION_MLA ? 1
                    : tp < model->num_kv_heads        ? tp
                                                      : model->num_kv_heads;
    if (port->bytes_per_s <= 0.0) {
        port = &gpu->port[TIER_SCALE_UP]; /* it has no other */
    }
    return memory_kv_bytes_per_token(model) * plan->traffic.input_tokens / (double)parts /
           (port->bytes_per_s * port->fraction);
}

static void time_apart(struct plan_deployment *deployment, const struct plan *plan,
                       const struct plan_point *prefill, const struct plan_point *decode)
{
    double step_s = prefill->step_ns * 1e-9;
    double steps = plan_prompt_steps(plan, prefill);
    double at_once = plan_replica_tokens(prefill) / plan_computed_tokens(&plan->traffic);
    double groups = (double)deployment->groups[COST_PREFILL];
    double servers = groups * (double)(prefill->ep / prefill->tp) * fmax(1.0, at_once);
    deployment->tpot_s = decode->step_ns * 1e-9;
    deployment->wait_s =
        queue_s(deployment->load[COST_PREFILL], servers, steps * step_s, plan->traffic.input_cv) +
        step_s / 2.0;
    deployment->ttft_s = plan->host.request_ms * 1e-3 + deployment->wait_s + steps * step_s +
                         transfer_s(plan, prefill, decode);
}

/* Groups that a pool's work of the busiest hour would fill. */
static double full_groups(const struct plan *plan, const struct plan_point *point)
{
    return demand(plan, point->pool) / (rate(point) * (double)point->ep);
}

static void count_groups(struct plan_deployment *deployment, const struct plan *plan,
                         const struct plan_point *points)
{
    double gpus_sum = 0.0;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = &points[deployment->point[pool]];
        double gpus = deployment->cost.gpus_peak[deployment->shared ? COST_PREFILL : pool];
        deployment->groups[pool] = (int32_t)lround(gpus / (double)point->ep);
        deployment->load[pool] = full_groups(plan, point) * (double)point->ep / gpus;
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

/* At which the pool, or both in one, are so many groups in the busiest hour. */
static double utilisation_of(const struct plan_deployment *deployment, const struct plan *plan,
                             const struct plan_point *points, enum cost_pool pool, int32_t groups)
{
    double full = 0.0;
    for (int32_t i = 0; i < COST_POOLS; i++) {
        full += deployment->shared || i == (int32_t)pool
                    ? full_groups(plan, &points[deployment->point[i]])
                    : 0.0;
    }
    return full / (double)groups;
}

/* Prompts and answers of one pool hold each other up, so it needs more than both would alone; apart
 * each pool needs ports for the KV entries between them. */
static void make_room(struct plan_deployment *deployment, const struct plan *plan,
                      const struct plan_point *points)
{
    const struct plan_point *prefill = &points[deployment->point[COST_PREFILL]];
    const struct plan_point *decode = &points[deployment->point[COST_DECODE]];
    double ports = plan_peak_requests_per_s(&plan->traffic) * transfer_s(plan, prefill, decode) /
                   plan->utilisation_max;
    bool has_more = false;
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        const struct plan_point *point = pool == COST_PREFILL ? prefill : decode;
        int32_t of = deployment->shared ? COST_PREFILL : pool;
        int32_t least = deployment->groups[of];
        double of_ports = fmin(ceil(ports * (double)point->tp / (double)point->ep), INT32_MAX);
        int32_t groups = deployment->shared ? plan_shared_groups(plan, prefill, decode, least)
                                            : (int32_t)of_ports;
        if (groups > least) {
            deployment->utilisation[pool] =
                utilisation_of(deployment, plan, points, (enum cost_pool)of, groups);
            has_more = true;
        }
    }
    if (has_more) {
        deployment->cost = price(deployment, plan, points);
        count_groups(deployment, plan, points);
    }
}

/* Groups, latencies and dollars at the deployment's utilisation. */
static void work_out(struct plan_deployment *deployment, const struct plan *plan,
                     const struct plan_point *points)
{
    const struct plan_point *prefill = &points[deployment->point[COST_PREFILL]];
    const struct plan_point *decode = &points[deployment->point[COST_DECODE]];
    deployment->cost = price(deployment, plan, points);
    count_groups(deployment, plan, points);
    make_room(deployment, plan, points);
    if (deployment->shared) {
        time_shared(deployment, plan, prefill, decode);
    } else {
        time_apart(deployment, plan, prefill, decode);
    }
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
        int32_t wanted = deployment->groups[of] + added[of] - deployment->added[of];
        utilisation[pool] =
            added[of] == 0 ? plan->utilisation_max
                           : utilisation_of(deployment, plan, points, (enum cost_pool)pool, wanted);
    }
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        deployment->added[pool] = added[deployment->shared ? COST_PREFILL : pool];
    }
    return plan_deploy_at(deployment, plan, points, utilisation);
}
