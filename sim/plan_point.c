/*
 * plan_point.c -- one layout and batch: its words, its scenario, its bound, its simulation.
 *
 * What a point is simulated with, beside what the plan says: routing as traced, nothing dropped;
 * DeepEP's kernels (low latency for decode, normal for prefill), fp8 out and bf16 back; the nearest
 * replica serves; experts placed by the loads of the whole trace. Where steps need more tokens than
 * the trace has, its requests repeat.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "engine.h"
#include "place.h"
#include "plan_internal.h"
#include "simulate.h"

#define TOKENS_SAMPLED 8192 /* of a point, if its steps are smaller */
#define STEPS_MAX      8
#define STEPS_OFFLOAD  256 /* likewise where caches fill and empty from step to step */
#define WARM_UP        4   /* part of such steps that is not measured: caches begin arbitrarily */
#define NO_LIMIT       1e6 /* memory was looked at when points were made */

/* The mean over tokens of the length of what they are in: long ones have more of them,
 * E[L^2] / E[L]. */
static double length_of_tokens(double mean, double cv)
{
    return mean * (1.0 + cv * cv);
}

/* Of prompts and answers that are long apart from each other. */
int32_t plan_decode_context(const struct cost_traffic *traffic)
{
    return (int32_t)lround(traffic->input_tokens +
                           0.5 * length_of_tokens(traffic->output_tokens, traffic->output_cv));
}

/* Computed tokens stand behind the cached ones: the mean position of the rest of a prompt of L
 * tokens, of which a share c is cached, is L (1 + c) / 2. */
int32_t plan_prefill_context(const struct cost_traffic *traffic)
{
    double length = length_of_tokens(traffic->input_tokens, traffic->input_cv);
    return (int32_t)lround(length * (1.0 + traffic->cached_share));
}

void plan_point_words(char *text, size_t bytes, const struct plan_point *point)
{
    char extra[256] = "", offload[160], sharing[SHARING_BYTES];
    size_t used = 0;
    if (point->tp > 1) {
        used +=
            (size_t)snprintf(extra + used, sizeof extra - used, ", attention TP%d", (int)point->tp);
    }
    if (point->redundant_experts > 0) {
        used += (size_t)snprintf(extra + used, sizeof extra - used, ", %d redundant experts",
                                 (int)point->redundant_experts);
    }
    if (point->strategy->needs != 0) {
        used += (size_t)snprintf(extra + used, sizeof extra - used, ", %s", point->strategy->name);
    }
    if (point->micro_batches > 1) {
        used += (size_t)snprintf(extra + used, sizeof extra - used, ", %d micro-batches",
                                 (int)point->micro_batches);
    }
    plan_offload_words(offload, sizeof offload, point);
    used += (size_t)snprintf(extra + used, sizeof extra - used, "%s", offload);
    assert(used < sizeof extra);
    (void)snprintf(
        text, bytes, "%s, %d %s a GPU%s", scenario_sharing(sharing, point->ep, point->expert_tp),
        (int)point->tokens_per_rank, point->pool == COST_PREFILL ? "tokens" : "sequences", extra);
}

double plan_gpu_s_per_million(const struct plan_point *point, double step_ns)
{
    return step_ns * 1e-9 / (double)point->tokens_per_rank * 1e6;
}

static int64_t num_steps(const struct plan_point *point)
{
    int64_t steps = TOKENS_SAMPLED / ((int64_t)point->tokens_per_rank * point->ep);
    int64_t most = point->offload.home == OFFLOAD_NOTHING ? STEPS_MAX : STEPS_OFFLOAD;
    return steps < 1 ? 1 : steps > most ? most : steps;
}

void plan_point_scenario(struct scenario *scenario, const struct plan *plan,
                         const struct plan_point *point)
{
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    bool prefill = point->pool == COST_PREFILL;
    bool is_cut = point->expert_tp > 1;
    *scenario = (struct scenario){
        .model = plan->model,
        .cluster = gpu->cluster,
        .ep = point->ep,
        .expert_tp = is_cut ? point->expert_tp : 1,
        .tp = point->tp,
        .phase = prefill ? PHASE_PREFILL : PHASE_DECODE,
        .context_tokens =
            prefill ? plan_prefill_context(&plan->traffic) : plan_decode_context(&plan->traffic),
        .tokens_per_rank = point->tokens_per_rank,
        .batching = BATCHING_INTERLEAVED,
        .num_steps = num_steps(point),
        .router = route_find("trace"),
        .drop = drop_find("position"),
        .strategy = point->strategy,
        .redundant_experts = point->redundant_experts,
        .replica = dispatch_find("locality"),
        .collective = is_cut ? collective_find("allgather_reducescatter")
                             : collective_usual_on(&gpu->cluster.gpu, prefill),
        .dispatch_precision = is_cut ? PRECISION_BF16 : PRECISION_FP8,
        .combine_precision = PRECISION_BF16,
        .micro_batches = point->micro_batches,
        .chunks = 1,
        .shared_tokens =
            prefill || point->micro_batches > 1 ? 0 : engine_shared_tokens(plan->host.name),
        .net = plan->net,
        .gpu_model = plan->gpu_model,
        .memory_fraction = NO_LIMIT,
        .price = gpu->price,
        .seed = plan->seed,
    };
    struct cluster *cluster = &scenario->cluster;
    int32_t on_node = gpu->cluster.gpus_per_node;
    cluster->gpus_per_node = point->ep < on_node ? point->ep : on_node;
    cluster->num_nodes = point->ep / cluster->gpus_per_node;
    cluster->fabric = FABRIC_FLAT;
    cluster->nodes_per_leaf = cluster->num_nodes;
    cluster->spine_oversubscription = 1.0;
    scenario->model.precision_expert = point->expert_precision;
    (void)snprintf(scenario->kernels, sizeof scenario->kernels, "%s", plan->kernels);
    (void)scenario_choose_kernels(scenario);
    plan_offload_scenario(scenario, plan, point);
    if (cluster->gpu.flops_per_s[PRECISION_FP8] <= 0.0) {
        scenario->dispatch_precision = PRECISION_BF16;
    }
    const struct fitted_collective *fitted = cluster_constants(
        cluster, scenario->collective->name, precision_name(scenario->dispatch_precision));
    cluster->fitted_used = fitted != NULL ? (int32_t)(fitted - cluster->fitted) + 1 : 0;
}

/* A phase of one layer on a rank that has its fair share of so many tokens a rank. */
static double phase_ns(const struct scenario *scenario, enum gpu_phase phase, int32_t layer,
                       int32_t tokens)
{
    bool is_split = phase == GPU_ATTENTION || phase == GPU_DENSE_FFN || phase == GPU_HEAD ||
                    (phase == GPU_SHARED && scenario_gate_peers(scenario) > 1);
    int32_t ranks = is_split ? scenario->tp : 1;
    struct gpu_work work = {.phase = phase,
                            .model = &scenario->model,
                            .layer = layer,
                            .prefill = scenario->phase == PHASE_PREFILL,
                            .shards = ranks,
                            .tokens = tokens * ranks};
    if (phase == GPU_ATTENTION) {
        int64_t back = work.prefill ? (scenario->context_tokens + 1) / 2 : scenario->context_tokens;
        work.attended_tokens = work.tokens * model_attended_tokens(&scenario->model, layer, back);
        work.context_tokens = work.prefill ? work.tokens : work.attended_tokens;
    }
    if (phase == GPU_HEAD && work.prefill) {
        work.tokens = (work.tokens + scenario->context_tokens - 1) / scenario->context_tokens;
    }
    return scenario->gpu_model->duration_ns(&scenario->cluster.gpu, &work);
}

/* No expert phase beats its arithmetic at the peak of GPU and of CPUs that help, spread evenly. */
static double expert_bound_ns(const struct scenario *scenario, int32_t tokens)
{
    const struct moe_model *model = &scenario->model;
    const struct gpu_spec *gpu = &scenario->cluster.gpu;
    double peak = gpu->flops_per_s[model->precision_expert];
    double flops = 2.0 * model_expert_params(model) * (double)tokens * (double)model->top_k;
    peak = peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16];
    return flops / (peak + scenario->offload.cpu_flops_per_s) * 1e9;
}

static double own_bound_ns(const struct scenario *scenario, int32_t layer, int32_t tokens)
{
    bool is_moe = model_layer_is_moe(&scenario->model, layer);
    return phase_ns(scenario, GPU_ATTENTION, layer, tokens) +
           phase_ns(scenario, is_moe ? GPU_GATE : GPU_DENSE_FFN, layer, tokens);
}

static double layer_experts_bound_ns(const struct scenario *scenario, int32_t layer, int32_t tokens)
{
    if (!model_layer_is_moe(&scenario->model, layer)) {
        return 0.0;
    }
    double routed_ns = expert_bound_ns(scenario, tokens);
    double shared_ns =
        scenario->model.shared_ffn_dim > 0 ? phase_ns(scenario, GPU_SHARED, layer, tokens) : 0.0;
    return scenario->shared_tokens > 0 ? fmax(routed_ns, shared_ns) : routed_ns + shared_ns;
}

/* Micro-batches of a rank compute one after another. */
double plan_point_bound_ns(double *own_ns, const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    const struct moe_model *model = &scenario.model;
    int32_t tokens = point->tokens_per_rank;
    double experts_ns = 0.0;
    *own_ns = phase_ns(&scenario, GPU_HEAD, model->num_layers, tokens);
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        int32_t parts = model_layer_is_moe(model, layer) ? point->micro_batches : 1;
        *own_ns += (double)parts * own_bound_ns(&scenario, layer, tokens / parts);
        experts_ns += (double)parts * layer_experts_bound_ns(&scenario, layer, tokens / parts);
    }
    return *own_ns + experts_ns;
}

/* Experts where the point's strategy puts them after a look at the whole trace. */
static enum status place_experts(struct scenario *scenario, const struct plan_world *world,
                                 struct arena *arena, struct error *error)
{
    struct place_result result;
    struct place_options options = {.strategy = scenario->strategy,
                                    .num_slots =
                                        scenario->model.num_experts + scenario->redundant_experts,
                                    .num_ranks = scenario_expert_groups(scenario),
                                    .num_nodes = scenario_group_nodes(scenario),
                                    .num_groups = scenario->model.num_expert_groups,
                                    .expert_bytes = scenario_expert_bytes(scenario)};
    enum status status = place(&result, &options, &world->load, NULL, arena, error);
    if (status == STATUS_OK) {
        scenario->initial_expert_of_slot = result.expert_of_slot;
    }
    return status;
}

static void take_results(struct plan_point *point, const struct engine *engine,
                         const struct scenario *scenario)
{
    const struct run_metrics *metrics = engine_metrics(engine);
    bool is_offloaded = metrics->offload_window != NULL;
    int32_t first = is_offloaded ? metrics->num_windows / WARM_UP : 0;
    int64_t steps = 0;
    struct offload_counts counts = {0};
    point->imbalance = run_totals(metrics, scenario).rank_tokens_max_over_mean;
    point->step_ns = 0.0;
    memset(point->phase_ns, 0, sizeof point->phase_ns);
    for (int32_t i = first; i < metrics->num_windows; i++) {
        const struct step_window *window = &metrics->window[i];
        steps += window->num_steps;
        point->step_ns += (double)window->step_ns_sum;
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            point->phase_ns[phase] += window->phase_ns[phase];
        }
        if (is_offloaded) {
            offload_add(&counts, &metrics->offload_window[i]);
        }
    }
    point->step_ns /= (double)steps;
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        point->phase_ns[phase] /= (double)steps;
    }
    point->hit_rate = is_offloaded ? offload_share(&counts, counts.hits) : -1.0;
    point->fate = PLAN_SIMULATED;
}

/* The whole trace where a step's tokens, request by request, are enough for it. */
static void choose_batching(struct scenario *scenario, const struct plan_world *world)
{
    int64_t tokens = scenario->num_steps * scenario->tokens_per_rank * scenario->ep;
    if (scenario->phase == PHASE_PREFILL && world->has_trace && tokens <= world->trace.num_tokens) {
        scenario->batching = BATCHING_CONSECUTIVE;
    }
}

enum status plan_point_run(struct plan_point *point, const struct plan_world *world,
                           struct error *error)
{
    struct scenario *scenario = malloc(sizeof *scenario);
    struct error *problems = calloc(1, sizeof *problems);
    struct engine *engine = NULL;
    struct arena arena = {0};
    enum status status = scenario == NULL || problems == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        plan_point_scenario(scenario, world->plan, point);
        choose_batching(scenario, world);
        if (world->has_trace && scenario->strategy->needs != 0) {
            status = place_experts(scenario, world, &arena, problems);
        }
    }
    if (status == STATUS_OK) {
        status = engine_open(&engine, scenario, world->has_trace ? &world->trace : NULL, problems);
    }
    if (status == STATUS_OK) {
        status = engine_run(engine, NULL, problems);
    }
    if (status == STATUS_OK) {
        take_results(point, engine, scenario);
    } else if (status == STATUS_INVALID) {
        point->fate = PLAN_IMPOSSIBLE;
        (void)snprintf(point->why, sizeof point->why, "%.*s", (int)strcspn(problems->text, "\n"),
                       problems->text);
        status = STATUS_OK;
    } else if (problems != NULL) {
        status =
            error_add(error, status, "%.*s", (int)strcspn(problems->text, "\n"), problems->text);
    }
    engine_close(engine);
    arena_free(&arena);
    free(problems);
    free(scenario);
    return status;
}

static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < count; i++) {
        digest = digest_u64(digest, byte[i]);
    }
    return digest;
}

uint64_t plan_point_digest(const struct plan_point *point, const struct plan_world *world)
{
    const struct plan *plan = world->plan;
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    const int64_t numbers[] = {point->pool,
                               point->ep,
                               point->tp,
                               point->redundant_experts,
                               point->tokens_per_rank,
                               point->micro_batches,
                               (int64_t)point->expert_precision,
                               scenario.context_tokens,
                               gpu->cluster.gpus_per_node,
                               (int64_t)plan->seed};
    uint64_t digest = DIGEST_START;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        digest = digest_u64(digest, (uint64_t)numbers[i]);
    }
    if (point->expert_tp > 1) {
        digest = digest_u64(digest, (uint64_t)point->expert_tp);
    }
    if (scenario.shared_tokens > 0) {
        digest = digest_u64(digest, (uint64_t)scenario.shared_tokens);
    }
    digest = digest_u64(digest, world->trace.digest);
    digest = digest_text(digest, point->strategy->name);
    digest = plan_offload_digest(digest, &scenario.offload);
    digest = digest_text(digest, plan->net->name);
    digest = digest_text(digest, plan->gpu_model->name);
    digest = digest_text(digest, plan->kernels);
    digest = digest_bytes(digest, &plan->model, sizeof plan->model);
    return digest_bytes(digest, &gpu->cluster, sizeof gpu->cluster);
}
