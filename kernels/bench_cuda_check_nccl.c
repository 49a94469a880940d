/*
 * bench_cuda_check_nccl.c -- ranks that send by NCCL, a GPU each, against the same layer on one.
 *
 * As check ep: with the plain grouped GEMM and without a shared expert, equal bit for bit. As many
 * ranks as there are GPUs, up to three; one sends to itself.
 */
#include "bench_check.h"

#include <math.h>
#include <stdlib.h>

#include "bench_case.h"
#include "bench_host.h"
#include "bench_team.h"
#include "dev_ep_nccl.h"

#define TOKENS    23
#define RANKS_MAX 3

/* Ranks and their shares; slots are dealt to ranks in even parts. */
static const struct group {
    int32_t num_ranks;
    int32_t spare_slots; /* copies beyond one for each expert */
    int32_t token_begin[RANKS_MAX + 1];
} groups[] = {
    {1, 0, {0, TOKENS}},
    {2, 3, {0, 14, TOKENS}},
    {3, 5, {0, 0, 22, TOKENS}},
};

#define NUM_GROUPS (sizeof groups / sizeof groups[0])

static const enum grouped_gemm_version versions[] = {GROUPED_GEMM_PLAIN, GROUPED_GEMM_AUTOMATIC};

/* What a rank holds while a layer is checked; its thread's and its GPU's. */
struct held {
    struct gpu_weights weights;
    struct dev_memory memory;
    uint16_t *x; /* of all ranks' tokens: the same on each GPU */
    void *out;   /* of its own tokens */
    int32_t *expert;
    float *gate_weight;
};

/* The same for all ranks, but for what they write. */
struct nccl_case {
    const struct check *check;
    struct bench_team *team;
    const struct group *group;
    const struct bench_layer *layer;
    enum grouped_gemm_version version;
    const int32_t *expert; /* host [TOKENS][top_k] */
    const float *gate_weight;
    uint16_t *out; /* host [TOKENS][hidden_dim]: each rank its tokens */
    void *device_out;
    struct held held[RANKS_MAX];
};

static int64_t tokens_of(const struct nccl_case *run, int32_t rank)
{
    return run->group->token_begin[rank + 1] - run->group->token_begin[rank];
}

static enum status hold(struct bench_rank *rank, void *context)
{
    struct nccl_case *run = context;
    struct held *held = &run->held[rank->rank];
    const struct bench_layer *layer = run->layer;
    uint64_t seed = run->check->options->seed;
    int64_t hidden = layer->expert.hidden_dim;
    int64_t first = run->group->token_begin[rank->rank] * (int64_t)layer->gate.top_k;
    int64_t choices = tokens_of(run, rank->rank) * layer->gate.top_k;
    held->x = dev_alloc(&held->memory, TOKENS * hidden * 2);
    held->out = dev_alloc(&held->memory, tokens_of(run, rank->rank) * hidden * 2);
    held->expert = dev_alloc_copy(&held->memory, run->expert + first, choices * 4);
    held->gate_weight = dev_alloc_copy(&held->memory, run->gate_weight + first, choices * 4);
    enum status status = gpu_weights_create(&rank->gpu, layer, seed, &held->weights);
    if (status == STATUS_OK) {
        status = held->memory.failed ? STATUS_CUDA
                                     : gpu_fill(held->x, DTYPE_BF16, TOKENS * hidden, sqrtf(3.0f),
                                                seed + 7, rank->gpu.stream);
    }
    return status;
}

static enum status let_go(struct bench_rank *rank, void *context)
{
    struct nccl_case *run = context;
    dev_memory_free(&run->held[rank->rank].memory);
    gpu_weights_free(&run->held[rank->rank].weights);
    return STATUS_OK;
}

static enum status create_rank(struct bench_rank *rank, const struct nccl_case *run,
                               struct dev_ep_nccl **made)
{
    int32_t slot_begin[RANKS_MAX + 1] = {0};
    int32_t expert_of_slot[GATE_EXPERTS_MAX];
    int32_t experts = run->layer->expert.num_experts;
    int32_t slots = experts + run->group->spare_slots;
    for (int32_t slot = 0; slot < slots; slot++) {
        expert_of_slot[slot] = slot % experts;
    }
    for (int32_t r = 1; r <= run->group->num_ranks; r++) {
        slot_begin[r] = r * slots / run->group->num_ranks;
    }
    struct ep_placement placement = {run->group->num_ranks, slots, slot_begin, expert_of_slot};
    struct dev_layer_options options = gpu_layer_options(&rank->gpu, run->check->options);
    options.gate_up = options.down = run->version;
    return dev_ep_nccl_create(made, &rank->connection, &run->held[rank->rank].weights.weights,
                              &placement, run->group->token_begin, &options, &rank->error);
}

static enum status run_rank(struct bench_rank *rank, void *context)
{
    struct nccl_case *run = context;
    const struct held *held = &run->held[rank->rank];
    int64_t hidden = run->layer->expert.hidden_dim;
    int64_t first = run->group->token_begin[rank->rank];
    size_t bytes = (size_t)(tokens_of(run, rank->rank) * hidden * 2);
    cudaStream_t stream = rank->gpu.stream;
    struct dev_ep_nccl *ep = NULL;
    enum status status = create_rank(rank, run, &ep);
    if (status == STATUS_OK &&
        cudaMemsetAsync(held->out, CHECK_NAN, bytes, stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    status = bench_rank_agree(rank, status);
    if (status == STATUS_OK) {
        status = dev_ep_nccl_run(ep, held->out, held->x + first * hidden, held->expert,
                                 held->gate_weight, NULL, stream);
    }
    if (status == STATUS_OK && (cudaStreamSynchronize(stream) != cudaSuccess ||
                                cudaMemcpy(run->out + first * hidden, held->out, bytes,
                                           cudaMemcpyDeviceToHost) != cudaSuccess)) {
        status = STATUS_CUDA;
    }
    dev_ep_nccl_free(ep);
    return status;
}

static enum status launch_nccl(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct nccl_case *run = context;
    int64_t bytes = (int64_t)TOKENS * run->layer->expert.hidden_dim * 2;
    (void)input;
    run->version = versions[version];
    enum status status = bench_team_do(run->team, run_rank, run, run->check->error);
    /* To where the check looks for it, after the poison that it has put there. */
    return status == STATUS_OK && (cudaStreamSynchronize(stream) != cudaSuccess ||
                                   !dev_upload(run->device_out, run->out, bytes))
               ? STATUS_CUDA
               : status;
}

/* The result and choices of one GPU. */
static enum status run_single(struct check *check, const struct bench_layer *layer,
                              struct bench_host_memory *memory, void **expected, int32_t **expert,
                              float **gate_weight)
{
    int64_t count = (int64_t)TOKENS * layer->expert.hidden_dim;
    int64_t choices = (int64_t)TOKENS * layer->gate.top_k;
    cudaStream_t stream = check->gpu->stream;
    struct dev_layer_options options = {.gate_up = GROUPED_GEMM_PLAIN, .down = GROUPED_GEMM_PLAIN};
    struct gpu_weights weights = {0};
    struct dev_memory device = {0};
    struct dev_layer *single = NULL;
    void *x = dev_alloc(&device, count * 2);
    void *out = dev_alloc(&device, count * 2);
    enum status status = gpu_weights_create(check->gpu, layer, check->options->seed, &weights);
    if (status == STATUS_OK) {
        status = device.failed ? STATUS_CUDA
                               : gpu_fill(x, DTYPE_BF16, count, sqrtf(3.0f),
                                          check->options->seed + 7, stream);
    }
    if (status == STATUS_OK) {
        status = dev_layer_create(&single, &weights.weights, TOKENS, &options, check->error);
    }
    status = status == STATUS_OK ? dev_layer_run(single, out, x, NULL, NULL, NULL, stream) : status;
    if (status == STATUS_OK && cudaStreamSynchronize(stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK) {
        *expected = bench_download_bytes(memory, out, count * 2);
        *expert = bench_download_bytes(memory, dev_layer_route(single)->expert, choices * 4);
        *gate_weight =
            bench_download_bytes(memory, dev_layer_route(single)->gate_weight, choices * 4);
        status = memory->failed ? STATUS_NO_MEMORY : STATUS_OK;
    }
    dev_layer_free(single);
    dev_memory_free(&device);
    gpu_weights_free(&weights);
    return status;
}

static enum status check_layer_on(struct check *check, struct bench_team *team,
                                  const struct group *group, const struct bench_layer *layer)
{
    static const char *const names[] = {"plain", "automatic"};
    int64_t bytes = (int64_t)TOKENS * layer->expert.hidden_dim * 2;
    double tolerance = layer->dtype == DTYPE_FP8_E4M3 ? 3e-2 : 5e-3;
    struct bench_host_memory memory = {0};
    struct dev_memory device = {0};
    void *expected = NULL;
    int32_t *expert = NULL;
    float *gate_weight = NULL;
    struct nccl_case run = {.check = check, .team = team, .group = group, .layer = layer};
    struct bench_row row = {.kernel = "ep_nccl",
                            .layer = layer,
                            .num_tokens = TOKENS,
                            .routing = "gate",
                            .num_ranks = group->num_ranks};
    enum status status = run_single(check, layer, &memory, &expected, &expert, &gate_weight);
    run.out = malloc((size_t)bytes);
    run.device_out = dev_alloc(&device, bytes);
    run.expert = expert;
    run.gate_weight = gate_weight;
    if (status == STATUS_OK && (run.out == NULL || device.failed)) {
        status = STATUS_NO_MEMORY;
    }
    status = status == STATUS_OK ? bench_team_do(team, hold, &run, check->error) : status;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        bool exact = i == 0 && layer->shared_ffn_dim == 0;
        struct check_output output = {exact ? CHECK_BITS : CHECK_BF16,
                                      run.device_out,
                                      expected,
                                      bytes,
                                      exact ? 0.0 : tolerance,
                                      "out",
                                      (int64_t)layer->expert.hidden_dim * 2};
        status = check_versions(check, &row, names, i, i, (struct gpu_work){launch_nccl, &run},
                                &output, 1);
    }
    struct error ignored = {0};
    (void)!bench_team_do(team, let_go, &run, &ignored);
    free(run.out);
    dev_memory_free(&device);
    bench_host_memory_free(&memory);
    return status;
}

static enum status check_group(struct check *check, const struct group *group)
{
    struct bench_team *team = NULL;
    struct error error = {0};
    enum status status = bench_team_open(&team, group->num_ranks, &error);
    if (status == STATUS_INVALID) {
        fprintf(check->csv->table, "ep_nccl         %d ranks: skipped: %s", (int)group->num_ranks,
                error.text);
        check->num_skipped++;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_add(check->error, status, "%s", error.text);
    }
    for (int32_t i = 0; i < 2 * check_num_small_layers && status == STATUS_OK; i++) {
        struct bench_layer layer = check_small_layers[i / 2];
        layer.dtype = i % 2 == 0 ? DTYPE_BF16 : DTYPE_FP8_E4M3;
        bool wanted = !check->options->small || i / 2 == group - groups; /* small: one a group */
        if (wanted && check_goes_on(check)) {
            status = check_layer_on(check, team, group, &layer);
        }
    }
    bench_team_close(team);
    return status;
}

enum status check_ep_nccl(struct check *check)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NUM_GROUPS && status == STATUS_OK; i++) {
        if (check->options->dry_run) {
            fprintf(check->csv->table, "ep_nccl         small layers, %d tokens on %d GPU%s\n",
                    TOKENS, (int)groups[i].num_ranks, groups[i].num_ranks == 1 ? "" : "s");
        } else if (check_goes_on(check)) {
            status = check_group(check, &groups[i]);
        }
    }
    return status;
}
