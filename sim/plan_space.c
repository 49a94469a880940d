/*
 * plan_space.c -- every point of a plan, and which of them need no simulation.
 *
 * Three bounds prune before anything is simulated: memory at the mean context; the step's lower
 * bound against the latency targets; and the number of GPUs.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan_internal.h"

#define POINTS_MAX 16384 /* an engine run each: days of work */

static const char *const fate_names[PLAN_FATES] = {
    [PLAN_OPEN] = "has nothing to work with: the other pool has none left",
    [PLAN_SIMULATED] = "simulated",
    [PLAN_NO_MEMORY] = "does not fit into memory",
    [PLAN_TOO_SLOW] = "misses a latency target by 10 % even at its lower bound",
    [PLAN_DOMINATED] = "at its lower bound no better than a simulated point",
    [PLAN_TOO_MANY] = "takes more GPUs than there are",
    [PLAN_IMPOSSIBLE] = "is not possible with this model",
};

const char *plan_fate_name(enum plan_fate fate)
{
    assert(fate < PLAN_FATES);
    return fate_names[fate];
}

struct growing {
    struct plan_point *point;
    int32_t count;
    int32_t capacity;
};

bool plan_same_point(const struct plan_point *a, const struct plan_point *b)
{
    return plan_same_layout(a, b) && a->pool == b->pool &&
           a->tokens_per_rank == b->tokens_per_rank && a->micro_batches == b->micro_batches &&
           a->offload.misses == b->offload.misses;
}

/* Rounding up redundant experts makes equals of some: one of them is enough. */
static enum status add_point(struct growing *list, const struct plan_point *point)
{
    for (int32_t i = 0; i < list->count; i++) {
        if (plan_same_point(&list->point[i], point)) {
            return STATUS_OK;
        }
    }
    if (list->count == list->capacity) {
        int32_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        if (capacity > POINTS_MAX) {
            return STATUS_INVALID;
        }
        struct plan_point *grown = realloc(list->point, (size_t)capacity * sizeof *grown);
        if (grown == NULL) {
            return STATUS_NO_MEMORY;
        }
        list->point = grown;
        list->capacity = capacity;
    }
    list->point[list->count++] = *point;
    return STATUS_OK;
}

static bool computes(const struct gpu_spec *gpu, enum precision precision)
{
    return gpu->flops_per_s[precision] > 0.0 || precision == PRECISION_MXFP4 ||
           precision == PRECISION_NVFP4;
}

/* What the engine would refuse, in words; NULL: nothing. */
static const char *objection(const struct plan *plan, const struct plan_point *point)
{
    const struct moe_model *model = &plan->model;
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    if (point->ep > gpu->cluster.gpus_per_node && point->ep % gpu->cluster.gpus_per_node != 0) {
        return "is no whole number of nodes";
    }
    if (point->ep % point->tp != 0 || model->num_q_heads % point->tp != 0 ||
        (model->dense_ffn_dim > 0 && model->dense_ffn_dim % point->tp != 0)) {
        return "attention_tp does not divide ep, the heads or the dense FFN";
    }
    if (point->expert_tp > 1 && (model->num_experts == 0 || point->ep % point->expert_tp != 0 ||
                                 model->expert_ffn_dim % point->expert_tp != 0)) {
        return "expert_tp does not divide ep or the experts' width";
    }
    int32_t on_node = gpu->cluster.gpus_per_node;
    if (point->expert_tp > 1 && point->ep > on_node && on_node % point->expert_tp != 0 &&
        point->expert_tp % on_node != 0) {
        return "expert_tp is neither a part of a node nor whole nodes";
    }
    if (!computes(&gpu->cluster.gpu, point->expert_precision) ||
        !computes(&gpu->cluster.gpu, model->precision_dense)) {
        return "the GPU does not compute in this format";
    }
    if (model->num_experts == 0 && point->ep != point->tp) {
        return "a dense model is shared by tensor parallelism alone";
    }
    if (point->micro_batches > point->tokens_per_rank) {
        return "more micro-batches than tokens";
    }
    return plan_offload_objection(plan, point);
}

static struct memory_use memory_of(const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    scenario.memory_fraction = plan->memory_fraction;
    int64_t tokens = point->tokens_per_rank;
    int64_t kv_tokens = point->pool == COST_PREFILL
                            ? (int64_t)fmax((double)tokens, plan->traffic.input_tokens)
                            : tokens * plan_decode_context(&plan->traffic);
    return scenario_memory(&scenario, kv_tokens);
}

bool plan_point_fits(const struct plan *plan, const struct plan_point *point)
{
    struct memory_use use = memory_of(plan, point);
    return use.total_bytes <= use.limit_bytes && plan_offload_fits(plan, point);
}

/* A shared pool reads a prompt alone, in steps that are as long as it is of them, and experts then
 * have the tokens of one replica. */
double plan_point_least_s(const struct plan *plan, const struct plan_point *point)
{
    if (point->pool == COST_DECODE) {
        return point->bound_ns * 1e-9;
    }
    if (!plan->shared) {
        return plan_prompt_steps(plan, point) * point->bound_ns * 1e-9;
    }
    double full_steps = plan_computed_tokens(&plan->traffic) / plan_replica_tokens(point);
    return full_steps * point->own_bound_ns * 1e-9;
}

static bool misses_target(const struct plan *plan, const struct plan_point *point)
{
    double target_s = point->pool == COST_DECODE ? plan->tpot_s : plan->ttft_s;
    return target_s > 0.0 && plan_point_least_s(plan, point) > PLAN_MORE * target_s;
}

static void judge(struct plan_point *point, const struct plan *plan)
{
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    const char *words = objection(plan, point);
    int64_t gpus_max =
        gpu->nodes_max > 0 ? (int64_t)gpu->nodes_max * gpu->cluster.gpus_per_node : INT32_MAX;
    if (words != NULL) {
        point->fate = PLAN_IMPOSSIBLE;
        (void)snprintf(point->why, sizeof point->why, "%s", words);
        return;
    }
    point->memory = memory_of(plan, point);
    point->bound_ns = plan_point_bound_ns(&point->own_bound_ns, plan, point);
    if (!plan_point_fits(plan, point)) {
        point->fate = PLAN_NO_MEMORY;
    } else if (point->ep > gpus_max || (plan->gpus_max > 0 && point->ep > plan->gpus_max)) {
        point->fate = PLAN_TOO_MANY;
    } else if (misses_target(plan, point)) {
        point->fate = PLAN_TOO_SLOW;
    }
}

/* Experts in host memory or on drives stay where they are loaded, and are computed in one piece. */
static enum status add_offloads(struct growing *list, const struct plan *plan,
                                const struct plan_point *stem)
{
    enum status status = STATUS_OK;
    struct plan_point point = *stem;
    point.strategy = balance_find("static");
    point.micro_batches = 1;
    for (int32_t i = 0; i < plan_offload_count(plan); i++) {
        for (int32_t p = 0; p < plan->expert_precision.count; p++) {
            point.expert_precision = (enum precision)plan->expert_precision.value[p];
            if (status == STATUS_OK && plan_offload_take(&point, plan, i)) {
                status = add_point(list, &point);
            }
        }
    }
    return status;
}

/* Experts that are cut over GPUs, which have the same to do. */
static enum status add_cut(struct growing *list, const struct plan *plan,
                           const struct plan_point *stem)
{
    enum status status = STATUS_OK;
    struct plan_point point = *stem;
    point.strategy = balance_find("static");
    point.micro_batches = 1;
    for (int32_t t = 0; t < plan->expert_tp.count; t++) {
        point.expert_tp = plan->expert_tp.value[t];
        for (int32_t p = 0; p < plan->expert_precision.count && point.expert_tp > 1; p++) {
            int32_t groups = point.ep / point.expert_tp;
            point.redundant_experts =
                memory_redundant_for(&plan->model, 0, groups > 0 ? groups : 1);
            point.expert_precision = (enum precision)plan->expert_precision.value[p];
            status = status == STATUS_OK ? add_point(list, &point) : status;
        }
    }
    return status;
}

static bool keeps_whole(const struct plan *plan)
{
    bool whole = false;
    for (int32_t t = 0; t < plan->expert_tp.count; t++) {
        whole |= plan->expert_tp.value[t] == 1;
    }
    return whole;
}

/* All layouts of one group size. */
static enum status add_layouts(struct growing *list, const struct plan *plan,
                               const struct plan_point *stem)
{
    enum status status = STATUS_OK;
    struct plan_point point = *stem;
    for (int32_t r = 0; r < plan->redundant_experts.count; r++) {
        point.redundant_experts =
            memory_redundant_for(&plan->model, plan->redundant_experts.value[r], point.ep);
        for (int32_t s = 0; s < plan->num_strategies; s++) {
            point.strategy = plan->strategy[s];
            for (int32_t m = 0; m < plan->micro_batches.count; m++) {
                point.micro_batches = plan->micro_batches.value[m];
                for (int32_t p = 0; p < plan->expert_precision.count; p++) {
                    point.expert_precision = (enum precision)plan->expert_precision.value[p];
                    status = status == STATUS_OK ? add_point(list, &point) : status;
                }
            }
        }
    }
    return status;
}

static enum status add_pool(struct growing *list, const struct plan *plan, int32_t gpu,
                            enum cost_pool pool)
{
    const struct plan_space *space = &plan->space[pool];
    enum status status = STATUS_OK;
    for (int32_t e = 0; e < space->ep.count; e++) {
        for (int32_t t = 0; t < plan->attention_tp.count; t++) {
            for (int32_t n = 0; n < space->tokens_per_rank.count && status == STATUS_OK; n++) {
                struct plan_point stem = {.gpu = gpu,
                                          .pool = pool,
                                          .ep = space->ep.value[e],
                                          .tp = plan->attention_tp.value[t],
                                          .tokens_per_rank = space->tokens_per_rank.value[n]};
                if (plan_offload_none(plan) && keeps_whole(plan)) {
                    status = add_layouts(list, plan, &stem);
                }
                status = status == STATUS_OK ? add_offloads(list, plan, &stem) : status;
                status = status == STATUS_OK ? add_cut(list, plan, &stem) : status;
            }
        }
    }
    return status;
}

enum status plan_enumerate(struct plan_point **points, int32_t *count, const struct plan *plan,
                           struct error *error)
{
    struct growing list = {0};
    enum status status = STATUS_OK;
    for (int32_t gpu = 0; gpu < plan->num_gpus && status == STATUS_OK; gpu++) {
        for (int32_t pool = 0; pool < COST_POOLS && status == STATUS_OK; pool++) {
            status = add_pool(&list, plan, gpu, (enum cost_pool)pool);
        }
    }
    for (int32_t i = 0; i < list.count; i++) {
        judge(&list.point[i], plan);
    }
    *points = list.point;
    *count = list.count;
    return status == STATUS_INVALID
               ? error_add(error, status,
                           "search spans more than %d points; give its lists fewer values",
                           POINTS_MAX)
               : status;
}
