/*
 * bench_cuda_forward.c -- moe-bench forward: the whole layer as one CUDA graph, and its phases.
 *
 * A second graph of the same layer has events between the phases; their sum against the plain
 * graph's time says how much of the layer the phases explain. Peers are the same layer with the
 * grouped GEMMs made out of cuBLAS.
 */
#include <stdlib.h>

#include "bench_cuda.h"
#include "bench_forward.h"
#include "bench_peers.h"
#include "moe_kernels.h"

struct forward {
    struct gpu *gpu;
    const struct bench_options *options;
    struct bench_csv *csv;
    const struct dev_weights *weights;
    const struct gpu_tokens *tokens;
    struct dev_layer *layer;
    struct dev_memory memory;
    struct peer_activation activation; /* of peers */
    struct peer_gemm *gate_up[PEER_COUNT];
    struct peer_gemm *down[PEER_COUNT];
    int32_t peer;
    cudaEvent_t mark[DEV_PHASE_COUNT + 1];
};

static const enum bench_part part_of_phase[DEV_PHASE_COUNT] = {
    BENCH_ROUTER, BENCH_GATE, BENCH_PERMUTE, BENCH_ROWS, BENCH_GATE_UP, BENCH_DOWN, BENCH_COMBINE};

static enum status launch_layer(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct forward *forward = context;
    (void)version;
    return dev_layer_run(forward->layer, forward->tokens->out, forward->tokens->x[input],
                         forward->tokens->dev_expert, forward->tokens->dev_gate_weight, NULL,
                         stream);
}

static enum status run_peer_experts(void *context, enum dev_phase phase, cudaStream_t stream)
{
    struct forward *forward = context;
    if (phase == DEV_PHASE_DOWN) {
        return peer_run(forward->down[forward->peer], stream);
    }
    enum status status = peer_run(forward->gate_up[forward->peer], stream);
    return status == STATUS_OK ? peer_activate(&forward->activation, stream) : status;
}

static enum status launch_peer(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct forward *forward = context;
    forward->peer = version;
    dev_layer_replace_experts(forward->layer, run_peer_experts, forward);
    enum status status = launch_layer(context, 0, input, stream);
    dev_layer_replace_experts(forward->layer, NULL, NULL);
    return status;
}

/* A peer that cannot be made stays NULL and fails when its turn comes. */
static enum status create_peers(struct forward *forward)
{
    const struct expert_shape expert = forward->options->layer.expert;
    const struct dev_layer_route *route = dev_layer_route(forward->layer);
    const struct moe_layer *weights = &forward->weights->layer;
    const int32_t *loads = forward->tokens->expert_tokens;
    struct peer_shape up = {expert.num_experts, gate_up_rows(expert), expert.hidden_dim, loads,
                            weights->dtype};
    struct peer_shape down = {expert.num_experts, expert.hidden_dim, expert.ffn_dim, loads,
                              weights->dtype};
    enum status status = peer_activation_create(&forward->activation, &forward->memory, expert,
                                                forward->tokens->load.rows, route->h);
    for (int peer = 0; peer < PEER_COUNT && status == STATUS_OK; peer++) {
        if (peer_takes((enum peer)peer, weights->dtype) &&
            peer_create(&forward->gate_up[peer], (enum peer)peer, up, forward->activation.gate_up,
                        route->x.data, weights->gate_up.data) == STATUS_OK &&
            peer_create(&forward->down[peer], (enum peer)peer, down, route->y.data, route->h.data,
                        weights->down.data) != STATUS_OK) {
            fprintf(stderr, "moe-bench: no plan of %s for down\n", peer_names[peer]);
        }
    }
    return status;
}

static enum status time_whole(struct forward *forward)
{
    const struct bench_layer *layer = &forward->options->layer;
    struct gpu_contender contender[1 + PEER_COUNT] = {
        {.name = "graph", .work = {launch_layer, forward}}};
    int32_t count = 1;
    enum status status = forward->options->peers ? create_peers(forward) : STATUS_OK;
    for (int peer = 0; peer < PEER_COUNT; peer++) {
        if (forward->options->peers && peer_takes((enum peer)peer, layer->dtype)) {
            contender[count++] = (struct gpu_contender){
                .name = peer_names[peer], .work = {launch_peer, forward}, .version = peer};
        }
    }
    if (status == STATUS_OK) {
        status = gpu_time(forward->gpu, contender, count, GPU_INPUTS_MAX,
                          forward->options->num_samples, 2.0);
    }
    struct bench_work work = bench_work_layer(layer, forward->tokens->load);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        struct bench_row row =
            gpu_row(forward->gpu, forward->options, forward->tokens, "forward", "layer");
        row.version = contender[i].name;
        row.flops = work.flops;
        row.bytes = work.bytes;
        status = gpu_write_row(forward->gpu, forward->csv, &row, &contender[i]);
    }
    gpu_contenders_free(contender, count);
    return status;
}

static enum status write_phases(struct forward *forward, double *sample_ns, int32_t count)
{
    enum status status = STATUS_OK;
    gpu_read_clocks(forward->gpu, &forward->csv->machine);
    for (int phase = 0; phase < DEV_PHASE_COUNT && status == STATUS_OK; phase++) {
        struct bench_work work =
            bench_work_of(&forward->options->layer, part_of_phase[phase], forward->tokens->load);
        struct bench_row row =
            gpu_row(forward->gpu, forward->options, forward->tokens, "forward", "layer");
        row.version = "graph";
        row.phase = dev_phase_name((enum dev_phase)phase);
        row.flops = work.flops;
        row.bytes = work.bytes;
        bench_row_samples(&row, &sample_ns[phase * count], count);
        status = bench_csv_row(forward->csv, &row);
    }
    return status;
}

static enum status launch_marked(void *context, cudaStream_t stream)
{
    struct forward *forward = context;
    return dev_layer_run(forward->layer, forward->tokens->out, forward->tokens->x[0],
                         forward->tokens->dev_expert, forward->tokens->dev_gate_weight,
                         forward->mark, stream);
}

static enum status time_phases(struct forward *forward)
{
    int32_t count = forward->options->num_samples;
    double *sample_ns = calloc((size_t)count * DEV_PHASE_COUNT, sizeof *sample_ns);
    enum status status = sample_ns == NULL
                             ? STATUS_NO_MEMORY
                             : bench_time_marks(forward->gpu, launch_marked, forward, forward->mark,
                                                DEV_PHASE_COUNT, count, sample_ns);
    if (status == STATUS_OK) {
        status = write_phases(forward, sample_ns, count);
    }
    free(sample_ns);
    return status;
}

/* For the other program: what the next turns are about. */
static void name_case(const struct forward *forward)
{
    printf("case %d %s", (int)forward->tokens->num_tokens, forward->tokens->routing);
    for (int32_t expert = 0; expert < forward->options->layer.gate.num_experts; expert++) {
        printf(" %d", (int)forward->tokens->expert_tokens[expert]);
    }
    putchar('\n');
    fflush(stdout);
}

static enum status run_ranks(struct forward *forward, int32_t num_tokens, const char *routing,
                             struct error *error)
{
    struct gpu_tokens tokens;
    enum status status =
        gpu_tokens_create(forward->gpu, forward->options, num_tokens, routing, &tokens, error);
    if (status == STATUS_OK) {
        status = bench_forward_ep(forward->gpu, forward->options, forward->csv, forward->weights,
                                  &tokens, error);
    }
    gpu_tokens_free(&tokens);
    return status;
}

static enum status run_case(struct forward *forward, int32_t num_tokens, const char *routing,
                            struct error *error)
{
    struct gpu_tokens tokens;
    struct dev_layer_options options = gpu_layer_options(forward->gpu, forward->options);
    enum status status =
        gpu_tokens_create(forward->gpu, forward->options, num_tokens, routing, &tokens, error);
    forward->tokens = &tokens;
    if (status == STATUS_OK) {
        status = dev_layer_create(&forward->layer, forward->weights, num_tokens, &options, error);
    }
    if (status == STATUS_OK && forward->options->turns) {
        name_case(forward);
    }
    status = status == STATUS_OK ? time_whole(forward) : status;
    status = status == STATUS_OK ? time_phases(forward) : status;
    for (int peer = 0; peer < PEER_COUNT; peer++) {
        peer_free(forward->gate_up[peer]);
        peer_free(forward->down[peer]);
        forward->gate_up[peer] = NULL;
        forward->down[peer] = NULL;
    }
    dev_memory_free(&forward->memory);
    dev_layer_free(forward->layer);
    forward->layer = NULL;
    gpu_tokens_free(&tokens);
    return status;
}

static void plan(const struct bench_options *options, FILE *table)
{
    for (int32_t t = 0; t < options->num_tokens_count; t++) {
        for (int32_t r = 0; r < options->num_routings; r++) {
            fprintf(table, "layer           %-16s %s %6d tokens, %s, %d rank%s%s%s\n",
                    options->layer.name, bench_dtype_name(options->layer.dtype),
                    (int)options->num_tokens[t], options->routing[r], (int)options->num_ranks,
                    options->num_ranks > 1 ? "s" : "",
                    options->ep == BENCH_EP_NCCL ? ", a GPU each, by NCCL" : "",
                    options->peers ? ", with peers" : "");
        }
    }
}

static enum status run_all(struct forward *forward, struct error *error)
{
    const struct bench_options *options = forward->options;
    double stop_s = bench_now_s() + (options->budget_s > 0.0 ? options->budget_s : 1e18);
    enum status status = STATUS_OK;
    for (int phase = 0; phase <= DEV_PHASE_COUNT && status == STATUS_OK; phase++) {
        status = cudaEventCreate(&forward->mark[phase]) == cudaSuccess ? STATUS_OK : STATUS_CUDA;
    }
    for (int32_t t = 0; t < options->num_tokens_count; t++) {
        for (int32_t r = 0; r < options->num_routings && status == STATUS_OK; r++) {
            if (options->num_tokens[t] > 0 && bench_now_s() < stop_s) {
                status = (options->num_ranks > 1 ? run_ranks : run_case)(
                    forward, options->num_tokens[t], options->routing[r], error);
            }
        }
    }
    for (int phase = 0; phase <= DEV_PHASE_COUNT; phase++) {
        if (forward->mark[phase] != NULL) {
            cudaEventDestroy(forward->mark[phase]);
        }
    }
    return status;
}

int bench_cuda_forward(const struct bench_options *options, struct bench_csv *csv)
{
    static struct error error;
    struct gpu gpu;
    if (options->dry_run) {
        plan(options, csv->table);
        return BENCH_OK;
    }
    if (options->ep == BENCH_EP_NCCL) {
        return bench_forward_nccl(options, csv);
    }
    int code = gpu_begin(&gpu, options, csv, &error);
    if (code != BENCH_OK) {
        return code;
    }
    struct gpu_weights weights = {0};
    struct forward forward = {
        .gpu = &gpu, .options = options, .csv = csv, .weights = &weights.weights};
    enum status status = gpu_ceilings(&gpu);
    if (status == STATUS_OK) {
        status = gpu_weights_create(&gpu, &options->layer, options->seed, &weights);
    }
    status = status == STATUS_OK ? run_all(&forward, &error) : status;
    gpu_weights_free(&weights);
    return gpu_end(&gpu, status, &error, 0);
}
