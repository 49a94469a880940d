/*
 * bench_cuda_time.c -- moe-bench time: every kernel of a layer by itself, all versions and peers in
 * turns.
 *
 * The layer runs once, so that every kernel finds its real input; then each is timed on that. Large
 * bf16 GEMMs take turns with cuBLAS's dense 8192^3 as well: what share_of_gemm is a share of.
 */
#include <math.h>
#include <stdlib.h>

#include "bench_case.h"
#include "bench_cuda.h"
#include "bench_peers.h"
#include "moe_kernels.h"

/* Beyond this many operations the first versions of the grouped GEMMs take seconds for a case. */
#define PLAIN_FLOPS_MAX 2e10
#define MMA_FLOPS_MAX   2e11
/* From here on a GEMM is held against the dense one in turns, which takes 1e12. */
#define DENSE_FLOPS_MIN 1e11

struct time_case {
    struct gpu *gpu;
    const struct bench_options *options;
    struct bench_csv *csv;
    const struct dev_weights *weights;
    const struct gpu_tokens *tokens;
    struct dev_layer *layer;
    void *permute_work;
    void *workspace;
    int64_t workspace_bytes;
    struct peer_activation activation; /* of peers */
    struct peer_gemm *peer[PEER_COUNT];
    double stop_s;
};

static struct permute_shape permute_shape(const struct time_case *time)
{
    const struct bench_layer *layer = &time->options->layer;
    return (struct permute_shape){time->tokens->num_tokens, layer->gate.top_k,
                                  layer->gate.num_experts, 1};
}

static struct combine_shape combine_shape(const struct time_case *time)
{
    const struct bench_layer *layer = &time->options->layer;
    return (struct combine_shape){time->tokens->num_tokens, layer->gate.top_k,
                                  layer->expert.hidden_dim};
}

static enum status launch_router(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct time_case *time = context;
    (void)version;
    return dev_layer_run_router(time->layer, time->tokens->x[input], stream);
}

static enum status launch_gate(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    (void)input;
    return dev_gate_version(version, time->options->layer.gate, time->tokens->num_tokens,
                            route->expert, route->gate_weight, route->logits,
                            time->weights->layer.choice_bias, stream);
}

static enum status launch_permute(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    (void)input;
    return dev_permute_version(version, permute_shape(time), route->num_rows, route->row_begin,
                               route->row_of, route->token_of, time->tokens->dev_expert,
                               time->permute_work, stream);
}

static enum status launch_rows(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    struct matrix x = {.dtype = DTYPE_BF16, .data = time->tokens->x[input]};
    return dev_permute_rows_version(
        version, combine_shape(time), route->x, x, route->row_of,
        time->options->layer.weigh_input ? time->tokens->dev_gate_weight : NULL, stream);
}

static enum status launch_combine(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    struct matrix out = {.dtype = DTYPE_BF16, .data = time->tokens->out};
    struct matrix shared = {.dtype = DTYPE_BF16};
    if (time->options->layer.shared_ffn_dim > 0) {
        shared.data = time->tokens->x[input]; /* any rows of the shape */
    }
    return dev_combine_version(version, combine_shape(time), out, route->y, route->row_of,
                               time->tokens->dev_gate_weight, shared, stream);
}

static struct grouped_gemm_run gemm_run(const struct time_case *time, int32_t version)
{
    struct dev_layer_options options = gpu_layer_options(time->gpu, time->options);
    return (struct grouped_gemm_run){.version = (enum grouped_gemm_version)version,
                                     .num_sms = options.num_sms,
                                     .without = options.without,
                                     .rows = permute_rows_max(permute_shape(time)),
                                     .expected_rows = time->tokens->load.rows,
                                     .workspace = time->workspace,
                                     .workspace_bytes = time->workspace_bytes};
}

static enum status launch_gate_up(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    struct grouped_gemm_run run = gemm_run(time, version);
    (void)input;
    return dev_grouped_gate_up(time->weights->layer.expert, route->h, route->x, route->row_begin,
                               route->num_rows, time->weights->layer.gate_up,
                               time->weights->layer.gate_up_bias, &run, stream);
}

static enum status launch_down(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct time_case *time = context;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    struct grouped_gemm_run run = gemm_run(time, version);
    (void)input;
    return dev_grouped_down(time->weights->layer.expert, route->y, route->h, route->row_begin,
                            route->num_rows, time->weights->layer.down,
                            time->weights->layer.down_bias, &run, stream);
}

static enum status launch_peer_gate_up(void *context, int32_t version, int32_t input,
                                       cudaStream_t stream)
{
    struct time_case *time = context;
    (void)input;
    enum status status = peer_run(time->peer[version], stream);
    return status == STATUS_OK ? peer_activate(&time->activation, stream) : status;
}

static enum status launch_peer_down(void *context, int32_t version, int32_t input,
                                    cudaStream_t stream)
{
    struct time_case *time = context;
    (void)input;
    return peer_run(time->peer[version], stream);
}

static const struct timed_kernel {
    const char *name;
    enum bench_part part;
    int32_t num_versions; /* from 1; 0: the grouped GEMMs' */
    enum status (*launch)(void *context, int32_t version, int32_t input, cudaStream_t stream);
    enum status (*peer)(void *context, int32_t version, int32_t input, cudaStream_t stream);
} kernels[] = {
    {"router", BENCH_ROUTER, 1, launch_router, NULL},
    {"gate", BENCH_GATE, DEV_GATE_VERSIONS, launch_gate, NULL},
    {"permute", BENCH_PERMUTE, DEV_PERMUTE_VERSIONS, launch_permute, NULL},
    {"permute_rows", BENCH_ROWS, DEV_ROWS_VERSIONS, launch_rows, NULL},
    {"grouped_gate_up", BENCH_GATE_UP, 0, launch_gate_up, launch_peer_gate_up},
    {"grouped_down", BENCH_DOWN, 0, launch_down, launch_peer_down},
    {"combine", BENCH_COMBINE, DEV_COMBINE_VERSIONS, launch_combine, NULL},
};

#define NUM_KERNELS (sizeof kernels / sizeof kernels[0])

static const char *const version_names[] = {"", "v1", "v2", "v3"};

static bool wants_peer(const struct time_case *time, const struct timed_kernel *kernel, int peer)
{
    return time->options->peers && kernel->peer != NULL &&
           peer_takes((enum peer)peer, time->options->layer.dtype);
}

/* A peer that cannot be made stays NULL and fails when its turn comes. */
static void create_peers(struct time_case *time, const struct timed_kernel *kernel)
{
    const struct expert_shape expert = time->options->layer.expert;
    const struct dev_layer_route *route = dev_layer_route(time->layer);
    bool up = kernel->part == BENCH_GATE_UP;
    struct peer_shape shape = {expert.num_experts, up ? gate_up_rows(expert) : expert.hidden_dim,
                               up ? expert.hidden_dim : expert.ffn_dim, time->tokens->expert_tokens,
                               time->options->layer.dtype};
    for (int peer = 0; peer < PEER_COUNT; peer++) {
        if (wants_peer(time, kernel, peer) &&
            peer_create(&time->peer[peer], (enum peer)peer, shape,
                        up ? (void *)time->activation.gate_up : route->y.data,
                        up ? route->x.data : route->h.data,
                        up ? time->weights->layer.gate_up.data : time->weights->layer.down.data) !=
                STATUS_OK) {
            fprintf(stderr, "moe-bench: no plan of %s for %s\n", peer_names[peer], kernel->name);
        }
    }
}

static void free_peers(struct time_case *time)
{
    for (int peer = 0; peer < PEER_COUNT; peer++) {
        peer_free(time->peer[peer]);
        time->peer[peer] = NULL;
    }
}

/* All that shall be timed in turns; the number of them. */
static int32_t list_contenders(struct time_case *time, const struct timed_kernel *kernel,
                               double flops, struct gpu_contender *contender)
{
    const struct bench_layer *layer = &time->options->layer;
    int32_t count = 0;
    for (int32_t version = 1; version <= kernel->num_versions; version++) {
        if (bench_wants_version(time->options, version_names[version])) {
            contender[count++] = (struct gpu_contender){
                .name = version_names[version], .work = {kernel->launch, time}, .version = version};
        }
    }
    for (int version = GROUPED_GEMM_AUTOMATIC;
         kernel->num_versions == 0 && version < NUM_GROUPED_GEMM_VERSIONS; version++) {
        double flops_max = version == GROUPED_GEMM_PLAIN ? PLAIN_FLOPS_MAX
                           : version == GROUPED_GEMM_MMA ? MMA_FLOPS_MAX
                                                         : HUGE_VAL;
        const char *name = grouped_gemm_version_name((enum grouped_gemm_version)version);
        if (flops < flops_max && bench_wants_version(time->options, name) &&
            grouped_gemm_takes((enum grouped_gemm_version)version, layer->expert, layer->dtype)) {
            contender[count++] = (struct gpu_contender){
                .name = name, .work = {kernel->launch, time}, .version = version};
        }
    }
    for (int peer = 0; peer < PEER_COUNT; peer++) {
        if (wants_peer(time, kernel, peer)) {
            contender[count++] = (struct gpu_contender){
                .name = peer_names[peer], .work = {kernel->peer, time}, .version = peer};
        }
    }
    return count;
}

static enum status time_kernel(struct time_case *time, const struct timed_kernel *kernel)
{
    struct gpu_contender contender[GPU_CONTENDERS_MAX] = {{0}};
    struct bench_work work = bench_work_of(&time->options->layer, kernel->part, time->tokens->load);
    create_peers(time, kernel);
    int32_t count = list_contenders(time, kernel, work.flops, contender);
    struct gpu_contender *dense = &contender[count];
    bool in_turns = kernel->num_versions == 0 && time->options->layer.dtype == DTYPE_BF16 &&
                    work.flops >= DENSE_FLOPS_MIN;
    *dense = (struct gpu_contender){.name = "dense", .work = gpu_dense_work(time->gpu)};
    enum status status = gpu_time(time->gpu, contender, count + in_turns, GPU_INPUTS_MAX,
                                  time->options->num_samples, 1.0);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        struct bench_row row =
            gpu_row(time->gpu, time->options, time->tokens, "time", kernel->name);
        if (dense->num_samples > 0) {
            row.gemm_flops_per_s = gpu_dense_flops_per_s(dense);
        }
        row.version = contender[i].name;
        row.flops = work.flops;
        row.bytes = work.bytes;
        status = gpu_write_row(time->gpu, time->csv, &row, &contender[i]);
    }
    gpu_contenders_free(contender, count + 1);
    free_peers(time);
    return status;
}

static enum status prepare(struct time_case *time, struct dev_memory *memory, struct error *error)
{
    struct dev_layer_options options = gpu_layer_options(time->gpu, time->options);
    const struct bench_layer *layer = &time->options->layer;
    enum status status =
        dev_layer_create(&time->layer, time->weights, time->tokens->num_tokens, &options, error);
    time->permute_work = dev_alloc(memory, dev_permute_work(permute_shape(time)));
    time->workspace_bytes = dev_grouped_gemm_workspace_bytes();
    time->workspace = dev_alloc(memory, time->workspace_bytes);
    if (status == STATUS_OK && time->options->peers) {
        status = peer_activation_create(&time->activation, memory, layer->expert,
                                        time->tokens->load.rows, dev_layer_route(time->layer)->h);
    }
    if (status == STATUS_OK && memory->failed) {
        status = error_add(error, STATUS_CUDA, "%d tokens: the GPU's memory is full",
                           (int)time->tokens->num_tokens);
    }
    if (status == STATUS_OK) {
        status = dev_grouped_gemm_workspace_init(time->workspace, time->workspace_bytes,
                                                 time->gpu->stream);
    }
    if (status == STATUS_OK) {
        status = dev_layer_run(time->layer, time->tokens->out, time->tokens->x[0],
                               time->tokens->dev_expert, time->tokens->dev_gate_weight, NULL,
                               time->gpu->stream);
    }
    return status == STATUS_OK && cudaStreamSynchronize(time->gpu->stream) != cudaSuccess
               ? STATUS_CUDA
               : status;
}

static enum status time_tokens(struct time_case *time, int32_t num_tokens, const char *routing,
                               struct error *error)
{
    struct gpu_tokens tokens;
    struct dev_memory memory = {0};
    enum status status =
        gpu_tokens_create(time->gpu, time->options, num_tokens, routing, &tokens, error);
    time->tokens = &tokens;
    status = status == STATUS_OK ? prepare(time, &memory, error) : status;
    for (size_t i = 0; i < NUM_KERNELS && status == STATUS_OK; i++) {
        if (bench_wants_kernel(time->options, kernels[i].name) && bench_now_s() < time->stop_s) {
            status = time_kernel(time, &kernels[i]);
        }
    }
    dev_layer_free(time->layer);
    time->layer = NULL;
    dev_memory_free(&memory);
    gpu_tokens_free(&tokens);
    return status;
}

static void plan(const struct bench_options *options, FILE *table)
{
    for (int32_t t = 0; t < options->num_tokens_count; t++) {
        for (int32_t r = 0; r < options->num_routings; r++) {
            for (size_t i = 0; i < NUM_KERNELS; i++) {
                if (bench_wants_kernel(options, kernels[i].name)) {
                    fprintf(table, "%-15s %-16s %s %6d tokens, %s%s\n", kernels[i].name,
                            options->layer.name, bench_dtype_name(options->layer.dtype),
                            (int)options->num_tokens[t], options->routing[r],
                            options->peers && kernels[i].peer != NULL ? ", with peers" : "");
                }
            }
        }
    }
}

int bench_cuda_time(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    struct gpu gpu;
    int code = gpu_begin(&gpu, options, csv, &error);
    if (code != BENCH_OK) {
        return code;
    }
    if (options->dry_run) {
        plan(options, csv->table);
        return BENCH_OK;
    }
    struct gpu_weights weights = {0};
    struct time_case time = {.gpu = &gpu,
                             .options = options,
                             .csv = csv,
                             .weights = &weights.weights,
                             .stop_s = options->budget_s > 0.0 ? bench_now_s() + options->budget_s
                                                               : 1e18};
    enum status status = gpu_ceilings(&gpu);
    if (status == STATUS_OK) {
        status = gpu_weights_create(&gpu, &options->layer, options->seed, &weights);
    }
    for (int32_t t = 0; t < options->num_tokens_count; t++) {
        for (int32_t r = 0; r < options->num_routings && status == STATUS_OK; r++) {
            if (options->num_tokens[t] > 0 && bench_now_s() < time.stop_s) {
                status = time_tokens(&time, options->num_tokens[t], options->routing[r], &error);
            }
        }
    }
    gpu_weights_free(&weights);
    return gpu_end(&gpu, status, &error, 0);
}
