/*
 * bench_cuda_check_ep.c -- virtual ranks against the same layer on one: uneven tokens, copies of
 * experts, ranks without tokens or experts.
 *
 * Both replay the single rank's choices, and with the plain grouped GEMM, whose rows do not depend
 * on each other, results without a shared expert are equal bit for bit. (cuBLASLt plans the shared
 * expert by its number of tokens.)
 */
#include "bench_check.h"

#include <math.h>
#include <stdlib.h>

#include "bench_case.h"
#include "bench_host.h"
#include "dev_ep.h"

#define TOKENS 23

/* Ranks and their shares; slots are dealt to ranks in even parts, the rest to the first. */
static const struct group {
    int32_t num_ranks;
    int32_t spare_slots; /* copies beyond one for each expert */
    int32_t token_begin[5];
} groups[] = {
    {1, 0, {0, TOKENS}},
    {2, 0, {0, 14, TOKENS}},
    {3, 5, {0, 0, 22, TOKENS}},
    {4, 8, {0, 6, 12, 17, TOKENS}},
};

#define NUM_GROUPS (sizeof groups / sizeof groups[0])

static const enum grouped_gemm_version versions[] = {GROUPED_GEMM_PLAIN, GROUPED_GEMM_AUTOMATIC};

struct ep_case {
    struct dev_ep *ep[2]; /* by version */
    void *out;
    const void *x;
    const int32_t *expert;
    const float *gate_weight;
};

static enum status launch_ep(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct ep_case *run = context;
    (void)input;
    return dev_ep_run(run->ep[version], run->out, run->x, run->expert, run->gate_weight, NULL,
                      stream);
}

static enum status create_groups(const struct check *check, struct ep_case *run,
                                 const struct group *group, const struct gpu_weights *weights)
{
    int32_t slot_begin[5] = {0};
    int32_t expert_of_slot[GATE_EXPERTS_MAX];
    int32_t experts = weights->weights.layer.expert.num_experts;
    int32_t slots = experts + group->spare_slots;
    for (int32_t slot = 0; slot < slots; slot++) {
        expert_of_slot[slot] = slot % experts; /* the first experts have the copies */
    }
    for (int32_t rank = 1; rank <= group->num_ranks; rank++) {
        slot_begin[rank] = rank * slots / group->num_ranks;
    }
    struct ep_placement placement = {group->num_ranks, slots, slot_begin, expert_of_slot};
    enum status status = STATUS_OK;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        struct dev_layer_options options = gpu_layer_options(check->gpu, check->options);
        options.gate_up = options.down = versions[i];
        status = dev_ep_create(&run->ep[i], &weights->weights, &placement, group->token_begin,
                               &options, check->error);
    }
    return status;
}

/* The single rank's result; its choices stay in the layer. */
static enum status run_single(struct gpu *gpu, struct dev_layer **layer,
                              const struct gpu_weights *weights, void *out, const void *x,
                              struct error *error)
{
    struct dev_layer_options options = {.gate_up = GROUPED_GEMM_PLAIN, .down = GROUPED_GEMM_PLAIN};
    enum status status = dev_layer_create(layer, &weights->weights, TOKENS, &options, error);
    if (status == STATUS_OK) {
        status = dev_layer_run(*layer, out, x, NULL, NULL, NULL, gpu->stream);
    }
    return status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess ? STATUS_CUDA
                                                                                    : status;
}

static enum status check_group(struct check *check, const struct group *group,
                               const struct bench_layer *layer, struct ep_case *run,
                               const struct gpu_weights *weights, void *expected)
{
    static const char *const names[] = {"plain", "automatic"};
    int64_t bytes = (int64_t)TOKENS * layer->expert.hidden_dim * 2;
    double tolerance = layer->dtype == DTYPE_FP8_E4M3 ? 3e-2 : 5e-3;
    struct bench_row row = {.kernel = "ep",
                            .layer = layer,
                            .num_tokens = TOKENS,
                            .routing = "gate",
                            .num_ranks = group->num_ranks};
    enum status status = create_groups(check, run, group, weights);
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        bool exact = i == 0 && layer->shared_ffn_dim == 0;
        struct check_output output = {exact ? CHECK_BITS : CHECK_BF16,
                                      run->out,
                                      expected,
                                      bytes,
                                      exact ? 0.0 : tolerance,
                                      "out",
                                      (int64_t)layer->expert.hidden_dim * 2};
        status =
            check_versions(check, &row, names, i, i, (struct gpu_work){launch_ep, run}, &output, 1);
    }
    for (int i = 0; i < 2; i++) {
        dev_ep_free(run->ep[i]);
        run->ep[i] = NULL;
    }
    return status;
}

static enum status run_layer(struct check *check, struct bench_layer layer, enum dtype dtype)
{
    struct gpu *gpu = check->gpu;
    layer.dtype = dtype;
    int64_t count = (int64_t)TOKENS * layer.expert.hidden_dim;
    struct gpu_weights weights = {0};
    struct dev_memory memory = {0};
    struct bench_host_memory host_memory = {0};
    struct dev_layer *single = NULL;
    void *single_out = dev_alloc(&memory, count * 2);
    void *x = dev_alloc(&memory, count * 2);
    struct ep_case run = {.out = dev_alloc(&memory, count * 2), .x = x};
    enum status status = gpu_weights_create(gpu, &layer, check->options->seed, &weights);
    if (status == STATUS_OK) {
        status = memory.failed ? STATUS_CUDA
                               : gpu_fill(x, DTYPE_BF16, count, sqrtf(3.0f),
                                          check->options->seed + 7, gpu->stream);
    }
    if (status == STATUS_OK) {
        status = run_single(gpu, &single, &weights, single_out, x, check->error);
    }
    void *expected =
        status == STATUS_OK ? bench_download_bytes(&host_memory, single_out, count * 2) : NULL;
    if (status == STATUS_OK) {
        run.expert = dev_layer_route(single)->expert;
        run.gate_weight = dev_layer_route(single)->gate_weight;
        status = host_memory.failed ? STATUS_NO_MEMORY : STATUS_OK;
    }
    for (size_t i = 0; i < NUM_GROUPS && status == STATUS_OK; i++) {
        status = check_group(check, &groups[i], &layer, &run, &weights, expected);
    }
    bench_host_memory_free(&host_memory);
    dev_layer_free(single);
    dev_memory_free(&memory);
    gpu_weights_free(&weights);
    return status;
}

enum status check_ep(struct check *check)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < check_num_small_layers && status == STATUS_OK; i++) {
        for (int dtype = DTYPE_BF16; dtype <= DTYPE_FP8_E4M3 && status == STATUS_OK; dtype++) {
            const struct bench_layer *layer = &check_small_layers[i];
            if (check->options->dry_run) {
                fprintf(check->csv->table, "ep              %s %s, %d tokens on 1 to 4 ranks\n",
                        layer->name, bench_dtype_name((enum dtype)dtype), TOKENS);
            } else if (check_goes_on(check)) {
                status = run_layer(check, *layer, (enum dtype)dtype);
            }
        }
    }
    return status;
}
