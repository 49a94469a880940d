/* bench_cuda_case.c -- see bench_case.h. */
#include "bench_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_routing.h"
#include "permute.h"

/* Uniform in [-a, a) has variance a^2 / 3: with a = sqrt(3 / depth) a product of depth terms of
 * variance 1 has variance 1. */
static float amplitude(int32_t depth)
{
    return sqrtf(3.0f / (float)depth);
}

static enum status fill_weights(struct gpu *gpu, struct dev_memory *memory, struct matrix *matrix,
                                enum dtype dtype, struct expert_shape shape, bool down,
                                uint64_t seed)
{
    int64_t rows = down ? shape.hidden_dim : gate_up_rows(shape);
    int32_t columns = down ? shape.ffn_dim : shape.hidden_dim;
    int32_t blocks = down ? scale_blocks(shape.hidden_dim) : gate_up_blocks(shape);
    *matrix = dev_alloc_weights(memory, dtype, shape.num_experts, rows, columns, blocks);
    return memory->failed
               ? STATUS_CUDA
               : gpu_fill_matrix(*matrix, shape.num_experts * rows * columns,
                                 (int64_t)shape.num_experts * blocks * scale_blocks(columns),
                                 amplitude(columns), seed, gpu->stream);
}

static enum status fill_floats(struct gpu *gpu, struct dev_memory *memory, const float **data,
                               int64_t count, float size, uint64_t seed)
{
    float *made = dev_alloc(memory, count * 4);
    *data = made;
    return memory->failed ? STATUS_CUDA
                          : gpu_fill(made, DTYPE_FP32, count, size, seed, gpu->stream);
}

static enum status fill_biases(struct gpu *gpu, const struct bench_layer *layer, uint64_t seed,
                               struct gpu_weights *made)
{
    struct moe_layer *to = &made->weights.layer;
    struct dev_memory *memory = &made->memory;
    int64_t experts = layer->expert.num_experts;
    enum status status = STATUS_OK;
    if (layer->choice_bias) {
        status = fill_floats(gpu, memory, &to->choice_bias, experts, 0.05f, seed);
    }
    if (layer->biases && status == STATUS_OK) {
        status = fill_floats(gpu, memory, &to->router_bias, experts, 0.1f, seed + 1);
    }
    if (layer->biases && status == STATUS_OK) {
        status = fill_floats(gpu, memory, &to->gate_up_bias, experts * gate_up_rows(layer->expert),
                             0.1f, seed + 2);
    }
    if (layer->biases && status == STATUS_OK) {
        status = fill_floats(gpu, memory, &to->down_bias, experts * layer->expert.hidden_dim, 0.1f,
                             seed + 3);
    }
    return status;
}

enum status gpu_weights_create(struct gpu *gpu, const struct bench_layer *layer, uint64_t seed,
                               struct gpu_weights *made)
{
    *made = (struct gpu_weights){0};
    struct moe_layer *to = &made->weights.layer;
    *to = (struct moe_layer){.dtype = layer->dtype,
                             .gate = layer->gate,
                             .expert = layer->expert,
                             .shared_ffn_dim = layer->shared_ffn_dim,
                             .weigh_input = layer->weigh_input};
    struct dev_memory *memory = &made->memory;
    int64_t router = (int64_t)layer->expert.num_experts * layer->expert.hidden_dim;
    uint16_t *router_data = dev_alloc(memory, router * 2);
    made->weights.router = router_data;
    enum status status =
        memory->failed ? STATUS_CUDA
                       : gpu_fill(router_data, DTYPE_BF16, router,
                                  amplitude(layer->expert.hidden_dim), seed + 10, gpu->stream);
    if (status == STATUS_OK) {
        status =
            fill_weights(gpu, memory, &to->gate_up, layer->dtype, layer->expert, false, seed + 20);
    }
    if (status == STATUS_OK) {
        status = fill_weights(gpu, memory, &to->down, layer->dtype, layer->expert, true, seed + 30);
    }
    if (status == STATUS_OK && layer->shared_ffn_dim > 0) {
        status = fill_weights(gpu, memory, &to->shared_gate_up, layer->dtype,
                              layer_shared_shape(to), false, seed + 40);
    }
    if (status == STATUS_OK && layer->shared_ffn_dim > 0) {
        status = fill_weights(gpu, memory, &to->shared_down, layer->dtype, layer_shared_shape(to),
                              true, seed + 50);
    }
    status = status == STATUS_OK ? fill_biases(gpu, layer, seed + 60, made) : status;
    /* Whoever copies from them need not know by which stream they were made. */
    return status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess ? STATUS_CUDA
                                                                                    : status;
}

void gpu_weights_free(struct gpu_weights *made)
{
    dev_memory_free(&made->memory);
    *made = (struct gpu_weights){0};
}

enum status gpu_tokens_create(struct gpu *gpu, const struct bench_options *options,
                              int32_t num_tokens, const char *routing, struct gpu_tokens *made,
                              struct error *error)
{
    const struct bench_layer *layer = &options->layer;
    int32_t top_k = layer->gate.top_k;
    int64_t choices = (int64_t)num_tokens * top_k;
    int64_t x_count = (int64_t)num_tokens * layer->expert.hidden_dim;
    *made = (struct gpu_tokens){.num_tokens = num_tokens, .routing = bench_routing_label(routing)};
    made->expert = malloc((size_t)(choices + 1) * sizeof *made->expert);
    made->gate_weight = malloc((size_t)(choices + 1) * sizeof *made->gate_weight);
    made->expert_tokens = calloc((size_t)layer->gate.num_experts, sizeof *made->expert_tokens);
    if (made->expert == NULL || made->gate_weight == NULL || made->expert_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct bench_routing_request request = {routing, num_tokens,     layer->gate.num_experts,
                                            top_k,   options->sigma, options->seed};
    enum status status = bench_routing(request, made->expert, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int64_t i = 0; i < choices; i++) {
        if (made->expert[i] != EXPERT_NONE) {
            made->expert_tokens[made->expert[i]]++;
        }
    }
    made->load = bench_load_of(made->expert_tokens, layer->gate.num_experts, num_tokens);
    bench_gate_weights(num_tokens, top_k, options->seed, made->gate_weight);
    struct dev_memory *memory = &made->memory;
    made->dev_expert = dev_alloc_copy(memory, made->expert, choices * 4);
    made->dev_gate_weight = dev_alloc_copy(memory, made->gate_weight, choices * 4);
    made->out = dev_alloc(memory, x_count * 2);
    for (int32_t input = 0; input < GPU_INPUTS_MAX && status == STATUS_OK; input++) {
        made->x[input] = dev_alloc(memory, x_count * 2);
        status = memory->failed ? STATUS_CUDA
                                : gpu_fill(made->x[input], DTYPE_BF16, x_count, sqrtf(3.0f),
                                           options->seed + 100 + (uint64_t)input, gpu->stream);
    }
    return status;
}

void gpu_tokens_free(struct gpu_tokens *made)
{
    free(made->expert);
    free(made->gate_weight);
    free(made->expert_tokens);
    dev_memory_free(&made->memory);
    *made = (struct gpu_tokens){0};
}

struct dev_layer_options gpu_layer_options(const struct gpu *gpu,
                                           const struct bench_options *options)
{
    int32_t left = gpu->machine.num_sms - options->comm_sms;
    struct dev_layer_options made = {.num_sms = left > 0 ? left : 1}; /* 0 would be all */
    for (int version = GROUPED_GEMM_MMA; version < NUM_GROUPED_GEMM_VERSIONS; version++) {
        const char *name = grouped_gemm_version_name((enum grouped_gemm_version)version);
        if (bench_list_has(options->without, name)) {
            made.without |= 1u << version;
        }
    }
    return made;
}

struct bench_row gpu_row(const struct gpu *gpu, const struct bench_options *options,
                         const struct gpu_tokens *tokens, const char *command, const char *kernel)
{
    bool bf16 = options->layer.dtype == DTYPE_BF16;
    return (struct bench_row){.command = command,
                              .kernel = kernel,
                              .layer = &options->layer,
                              .num_tokens = tokens->num_tokens,
                              .routing = tokens->routing,
                              .expert_tokens = tokens->expert_tokens,
                              .num_expert_tokens = options->layer.gate.num_experts,
                              .copy_bytes_per_s = gpu->copy_bytes_per_s,
                              .gemm_flops_per_s = bf16 ? gpu->bf16_flops_per_s : 0.0,
                              .relative_error = -1.0,
                              .status = "ok"};
}

enum status gpu_write_row(struct gpu *gpu, struct bench_csv *csv, struct bench_row *row,
                          struct gpu_contender *contender)
{
    gpu_read_clocks(gpu, &csv->machine);
    if (contender != NULL && contender->num_samples > 0) {
        bench_row_samples(row, contender->sample_ns, contender->num_samples);
        row->status = contender->direct ? "ok without graph" : "ok";
    } else if (contender != NULL) {
        row->num_samples = 0;
        row->status = contender->status == STATUS_INVALID ? "refused" : "failed";
    }
    return bench_csv_row(csv, row);
}

int gpu_begin(struct gpu *gpu, const struct bench_options *options, struct bench_csv *csv,
              struct error *error)
{
    *gpu = (struct gpu){0};
    if (options->dry_run) {
        return BENCH_OK;
    }
    enum status status = gpu_count(error) == 0 ? STATUS_INVALID : gpu_open(gpu, 0, error);
    if (status != STATUS_OK) {
        printf("moe-bench: %s%s", status == STATUS_INVALID ? "skipped: " : "", error->text);
        return status == STATUS_INVALID ? BENCH_SKIPPED : BENCH_FAILED;
    }
    if (options->comm_sms >= gpu->machine.num_sms) {
        fprintf(stderr, "moe-bench: --comm-sms %d: %s has %d multiprocessors\n",
                (int)options->comm_sms, gpu->machine.device, (int)gpu->machine.num_sms);
        gpu_close(gpu);
        return BENCH_FAILED;
    }
    gpu->turns = options->turns;
    csv->machine = gpu->machine;
    return BENCH_OK;
}

int gpu_end(struct gpu *gpu, enum status status, const struct error *error, int32_t num_failed)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "moe-bench: %s",
                error->num_problems > 0      ? error->text
                : status == STATUS_NO_MEMORY ? "out of memory\n"
                : status == STATUS_IO        ? "rows cannot be written\n"
                                             : "");
        if (status == STATUS_CUDA && error->num_problems == 0) {
            fprintf(stderr, "a CUDA call failed: %s\n", cudaGetErrorString(cudaGetLastError()));
        }
    }
    gpu_close(gpu);
    return status == STATUS_OK && num_failed == 0 ? BENCH_OK : BENCH_FAILED;
}
