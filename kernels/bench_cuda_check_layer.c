/*
 * bench_cuda_check_layer.c -- the whole layer: small ones against ref_forward_routed, real sizes on
 * sampled rows of the two grouped GEMMs.
 *
 * The gate may decide between two logits that differ by rounding, so the layer is held against the
 * reference with the gate's own choices; the gate's choices from the layer's own logits must be the
 * reference's; and the logits are held against the reference's.
 */
#include "bench_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "bench_host.h"
#include "permute.h"
#include "quantize.h"

#define SAMPLES     12
#define SAMPLES_MIN 3 /* beyond its time a case ends with so many: a first, a last, one between */

const struct bench_layer check_small_layers[] = {
    {.name = "plain",
     .expert = {8, 256, 128, ACTIVATION_SWIGLU},
     .gate = {GATE_SOFTMAX, 8, 2, true, 1, 1, GATE_GROUP_MAX, 1.0f}},
    {.name = "as deepseek-v3",
     .expert = {32, 384, 128, ACTIVATION_SWIGLU},
     .gate = {GATE_SIGMOID, 32, 4, true, 8, 4, GATE_GROUP_TOP2, 2.5f},
     .choice_bias = true,
     .shared_ffn_dim = 256},
    {.name = "as gpt-oss",
     .expert = {16, 320, 192, ACTIVATION_SWIGLU_CLAMPED},
     .gate = {GATE_CHOSEN_SOFTMAX, 16, 4, false, 1, 1, GATE_GROUP_MAX, 1.0f},
     .biases = true},
    {.name = "as llama-4",
     .expert = {16, 256, 256, ACTIVATION_SWIGLU},
     .gate = {GATE_CHOSEN_SIGMOID, 16, 1, false, 1, 1, GATE_GROUP_MAX, 1.0f},
     .weigh_input = true,
     .shared_ffn_dim = 256},
};

const int32_t check_num_small_layers =
    (int32_t)(sizeof check_small_layers / sizeof check_small_layers[0]);

struct layer_case {
    struct dev_layer *layer;
    void *out;
    const void *x;
};

static enum status launch_layer(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct layer_case *run = context;
    (void)version;
    (void)input;
    return dev_layer_run(run->layer, run->out, run->x, NULL, NULL, NULL, stream);
}

/* The layer's weights on the host, router as floats. */
static struct moe_layer download_layer(struct bench_host_memory *memory,
                                       const struct dev_weights *weights, float **router)
{
    struct moe_layer host = weights->layer;
    struct expert_shape shared = layer_shared_shape(&host);
    int64_t count = (int64_t)host.expert.num_experts * host.expert.hidden_dim;
    uint16_t *bits = bench_download_bytes(memory, weights->router, count * 2);
    *router = malloc((size_t)count * sizeof **router);
    for (int64_t i = 0; i < count && bits != NULL && *router != NULL; i++) {
        (*router)[i] = bf16_to_float(bits[i]);
    }
    memory->failed = memory->failed || *router == NULL;
    host.router = *router;
    host.router_bias = bench_download_bytes(memory, host.router_bias, host.expert.num_experts * 4);
    host.choice_bias = bench_download_bytes(memory, host.choice_bias, host.expert.num_experts * 4);
    bench_download_experts(memory, &weights->layer, &host.gate_up, &host.down, &host.gate_up_bias,
                           &host.down_bias);
    if (host.shared_ffn_dim > 0) {
        host.shared_gate_up = bench_download(
            memory, host.shared_gate_up, (int64_t)gate_up_rows(shared) * shared.hidden_dim,
            (int64_t)gate_up_blocks(shared) * scale_blocks(shared.hidden_dim));
        host.shared_down =
            bench_download(memory, host.shared_down, (int64_t)shared.hidden_dim * shared.ffn_dim,
                           (int64_t)scale_blocks(shared.hidden_dim) * scale_blocks(shared.ffn_dim));
    }
    return host;
}

/* What the layer decided on its way, against the references: gate on its own logits. */
static enum status expect(const struct moe_layer *host, const struct dev_layer *layer,
                          int32_t num_tokens, struct matrix x, struct bench_host_memory *memory,
                          struct check_output output[4], struct arena *arena)
{
    const struct dev_layer_route *route = dev_layer_route(layer);
    int64_t choices = (int64_t)num_tokens * host->gate.top_k;
    int64_t logits = (int64_t)num_tokens * host->expert.num_experts;
    float *own_logits = bench_download_bytes(memory, route->logits, logits * 4);
    float *expected_logits = bench_download_bytes(memory, route->logits, logits * 4);
    int32_t *expert = bench_download_bytes(memory, route->expert, choices * 4);
    float *gate_weight = bench_download_bytes(memory, route->gate_weight, choices * 4);
    struct matrix out = bench_poisoned(memory, (struct matrix){.dtype = DTYPE_BF16}, num_tokens,
                                       host->expert.hidden_dim);
    if (memory->failed) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_forward_routed(host, num_tokens, out, expert, gate_weight, x, arena);
    if (status == STATUS_OK) {
        status = ref_router_logits(num_tokens, host->expert.num_experts, host->expert.hidden_dim,
                                   expected_logits, x, host->router, host->router_bias);
    }
    if (status == STATUS_OK) {
        status =
            ref_gate(host->gate, num_tokens, expert, gate_weight, own_logits, host->choice_bias);
    }
    double tolerance = host->dtype == DTYPE_FP8_E4M3 ? 3e-2 : 5e-3;
    output[0].expected = out.data;
    output[0].tolerance = tolerance;
    output[1] = (struct check_output){CHECK_FP32,
                                      route->logits,
                                      expected_logits,
                                      logits * 4,
                                      1e-5,
                                      "logits",
                                      host->expert.num_experts * 4};
    output[2] = (struct check_output){CHECK_BITS, route->expert,       expert, choices * 4, 0.0,
                                      "expert",   host->gate.top_k * 4};
    output[3] =
        (struct check_output){CHECK_FP32, route->gate_weight, gate_weight,         choices * 4,
                              1e-5,       "gate_weight",      host->gate.top_k * 4};
    return status;
}

static enum status run_small(struct check *check, struct bench_layer layer, enum dtype dtype,
                             int32_t num_tokens)
{
    static const char *const names[] = {"layer"};
    struct gpu *gpu = check->gpu;
    layer.dtype = dtype;
    int64_t count = (int64_t)num_tokens * layer.expert.hidden_dim;
    struct gpu_weights weights = {0};
    struct dev_memory memory = {0};
    struct bench_host_memory host_memory = {0};
    struct arena arena = {0};
    float *router = NULL;
    struct dev_layer_options options = gpu_layer_options(check->gpu, check->options);
    struct matrix x = {.dtype = DTYPE_BF16, .data = dev_alloc(&memory, count * 2)};
    struct layer_case run = {.out = dev_alloc(&memory, count * 2), .x = x.data};
    enum status status = gpu_weights_create(gpu, &layer, check->options->seed, &weights);
    if (status == STATUS_OK) {
        status = memory.failed ? STATUS_CUDA
                               : gpu_fill_matrix(x, count, 0, sqrtf(3.0f), check->options->seed + 7,
                                                 gpu->stream);
    }
    if (status == STATUS_OK) {
        status = dev_layer_create(&run.layer, &weights.weights, num_tokens, &options, check->error);
    }
    status = status == STATUS_OK ? launch_layer(&run, 0, 0, gpu->stream) : status;
    if (status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK) {
        struct moe_layer host = download_layer(&host_memory, &weights.weights, &router);
        struct matrix host_x = bench_download(&host_memory, x, count, 0);
        struct check_output output[4] = {
            {CHECK_BF16, run.out, NULL, count * 2, 0.0, "out", layer.expert.hidden_dim * 2}};
        struct bench_row row = {
            .kernel = "layer", .layer = &layer, .num_tokens = num_tokens, .routing = "gate"};
        status = expect(&host, run.layer, num_tokens, host_x, &host_memory, output, &arena);
        if (status == STATUS_OK) {
            status = check_versions(check, &row, names, 0, 0, (struct gpu_work){launch_layer, &run},
                                    output, 4);
        }
    }
    free(router);
    arena_free(&arena);
    bench_host_memory_free(&host_memory);
    dev_layer_free(run.layer);
    dev_memory_free(&memory);
    gpu_weights_free(&weights);
    return status;
}

/* ---- sampled rows of real sizes ---- */

struct sampled {
    const struct dev_weights *weights;
    const struct dev_layer_route *route;
    double difference[2]; /* squared sums: gate_up, down */
    double norm[2];
};

/* Row of an activation matrix, as a matrix of that row alone. */
static struct matrix download_row(struct bench_host_memory *memory, struct matrix device,
                                  int64_t row, int32_t columns)
{
    int64_t bytes = (int64_t)columns * dtype_bytes(device.dtype);
    struct matrix host = {.dtype = device.dtype, .scale_rows = 1};
    host.data = bench_download_bytes(memory, (const char *)device.data + row * bytes, bytes);
    if (device.scale != NULL) {
        host.scale = bench_download_bytes(memory, device.scale, scale_blocks(columns) * 4);
        if (host.scale != NULL &&
            cudaMemcpy2D(host.scale, 4, device.scale + row, (size_t)device.scale_rows * 4, 4,
                         (size_t)scale_blocks(columns), cudaMemcpyDeviceToHost) != cudaSuccess) {
            memory->failed = true;
        }
    }
    return host;
}

/* One expert's weights, as those of a layer with one expert. */
static struct matrix download_expert(struct bench_host_memory *memory, struct matrix device,
                                     int32_t expert, int64_t count, int64_t scales)
{
    struct matrix slice = device;
    slice.data = (char *)device.data + expert * count * dtype_bytes(device.dtype);
    slice.scale = device.scale == NULL ? NULL : device.scale + expert * scales;
    return bench_download(memory, slice, count, scales);
}

static void add_error(struct sampled *sampled, int which, struct matrix got, int32_t columns,
                      const float *expected)
{
    for (int32_t i = 0; i < columns; i++) {
        float value = matrix_get(got, i);
        value *= got.scale == NULL ? 1.0f : got.scale[i / SCALE_BLOCK];
        double difference = (double)value - (double)expected[i];
        sampled->difference[which] += difference * difference;
        sampled->norm[which] += (double)expected[i] * (double)expected[i];
    }
}

static enum status sample_row(struct sampled *sampled, int32_t expert, int64_t row)
{
    const struct moe_layer *layer = &sampled->weights->layer;
    struct expert_shape shape = layer->expert;
    struct bench_host_memory memory = {0};
    int64_t up_count = (int64_t)gate_up_rows(shape) * shape.hidden_dim;
    int64_t down_count = (int64_t)shape.hidden_dim * shape.ffn_dim;
    struct matrix x = download_row(&memory, sampled->route->x, row, shape.hidden_dim);
    struct matrix h = download_row(&memory, sampled->route->h, row, shape.ffn_dim);
    struct matrix y = download_row(&memory, sampled->route->y, row, shape.hidden_dim);
    struct matrix gate_up =
        download_expert(&memory, layer->gate_up, expert, up_count,
                        (int64_t)gate_up_blocks(shape) * scale_blocks(shape.hidden_dim));
    struct matrix down =
        download_expert(&memory, layer->down, expert, down_count,
                        (int64_t)scale_blocks(shape.hidden_dim) * scale_blocks(shape.ffn_dim));
    const float *up_bias =
        layer->gate_up_bias == NULL
            ? NULL
            : bench_download_bytes(&memory,
                                   layer->gate_up_bias + (int64_t)expert * gate_up_rows(shape),
                                   gate_up_rows(shape) * 4);
    const float *down_bias =
        layer->down_bias == NULL
            ? NULL
            : bench_download_bytes(&memory, layer->down_bias + (int64_t)expert * shape.hidden_dim,
                                   shape.hidden_dim * 4);
    float *expected = malloc((size_t)(shape.hidden_dim + shape.ffn_dim) * sizeof *expected);
    shape.num_experts = 1;
    if (!memory.failed && expected != NULL) {
        ref_gate_up_row(shape, expected, x, 0, gate_up, 0, up_bias);
        add_error(sampled, 0, h, shape.ffn_dim, expected);
        ref_down_row(shape, expected, h, 0, down, 0, down_bias);
        add_error(sampled, 1, y, shape.hidden_dim, expected);
    }
    enum status status = memory.failed || expected == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    free(expected);
    bench_host_memory_free(&memory);
    return status;
}

/* Experts from all over the ids; of each the first, the last or a row between. */
static enum status sample_rows(const struct check *check, struct sampled *sampled,
                               const struct gpu_tokens *tokens)
{
    int32_t num_experts = check->options->layer.gate.num_experts;
    uint64_t state = bench_random_seed(check->options->seed, 11);
    enum status status = STATUS_OK;
    for (int32_t sample = 0;
         sample < SAMPLES && status == STATUS_OK && (sample < SAMPLES_MIN || check_goes_on(check));
         sample++) {
        int32_t expert = (int32_t)(bench_random(&state) % (uint64_t)num_experts);
        while (tokens->expert_tokens[expert] == 0) {
            expert = (expert + 1) % num_experts; /* some expert has rows */
        }
        int64_t rows = tokens->expert_tokens[expert];
        int64_t row = sample % 3 == 0   ? 0
                      : sample % 3 == 1 ? rows - 1
                                        : (int64_t)(bench_random(&state) % (uint64_t)rows);
        for (int32_t before = 0; before < expert; before++) {
            row += tokens->expert_tokens[before];
        }
        status = sample_row(sampled, expert, row);
    }
    return status;
}

static enum status write_sampled(struct check *check, const struct sampled *sampled,
                                 const struct gpu_tokens *tokens)
{
    static const char *const kernels[] = {"grouped_gate_up", "grouped_down"};
    double tolerance = check->options->layer.dtype == DTYPE_FP8_E4M3 ? 3e-2 : 5e-3;
    enum status status = STATUS_OK;
    for (int which = 0; which < 2 && status == STATUS_OK; which++) {
        struct bench_row row = gpu_row(check->gpu, check->options, tokens, "check", kernels[which]);
        row.version = "sampled rows";
        row.relative_error = sqrt(sampled->difference[which] / sampled->norm[which]);
        row.status = row.relative_error <= tolerance ? "ok" : "differs"; /* NaN differs */
        check->num_checked++;
        check->num_failed += strcmp(row.status, "ok") != 0;
        status = bench_csv_row(check->csv, &row);
    }
    return status;
}

static enum status run_sampled(struct check *check, const struct gpu_weights *weights,
                               int32_t num_tokens, const char *routing)
{
    struct gpu *gpu = check->gpu;
    struct gpu_tokens tokens;
    struct dev_layer *layer = NULL;
    struct dev_layer_options options = gpu_layer_options(check->gpu, check->options);
    enum status status =
        gpu_tokens_create(gpu, check->options, num_tokens, routing, &tokens, check->error);
    if (status == STATUS_OK) {
        status = dev_layer_create(&layer, &weights->weights, num_tokens, &options, check->error);
    }
    if (status == STATUS_OK) {
        status = dev_layer_run(layer, tokens.out, tokens.x[0], tokens.dev_expert,
                               tokens.dev_gate_weight, NULL, gpu->stream);
    }
    if (status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK && tokens.load.rows > 0) {
        struct sampled sampled = {.weights = &weights->weights, .route = dev_layer_route(layer)};
        status = sample_rows(check, &sampled, &tokens);
        status = status == STATUS_OK ? write_sampled(check, &sampled, &tokens) : status;
    }
    dev_layer_free(layer);
    gpu_tokens_free(&tokens);
    return status;
}

enum status check_layer(struct check *check)
{
    static const int32_t tokens[] = {1, 67};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < check_num_small_layers * 4 && status == STATUS_OK; i++) {
        const struct bench_layer *layer = &check_small_layers[i / 4];
        enum dtype dtype = i % 2 == 0 ? DTYPE_BF16 : DTYPE_FP8_E4M3;
        int32_t num_tokens = tokens[i / 2 % 2];
        if (check->options->dry_run) {
            fprintf(check->csv->table, "layer           %s %s, %d tokens\n", layer->name,
                    bench_dtype_name(dtype), (int)num_tokens);
        } else if (check_goes_on(check)) {
            status = run_small(check, *layer, dtype, num_tokens);
        }
    }
    return status;
}

enum status check_model(struct check *check)
{
    const struct bench_options *options = check->options;
    struct gpu_weights weights = {0};
    enum status status = STATUS_OK;
    if (!options->dry_run && !options->small) {
        status = gpu_weights_create(check->gpu, &options->layer, options->seed, &weights);
    }
    for (int32_t t = 0; t < options->num_tokens_count && !options->small; t++) {
        for (int32_t r = 0; r < options->num_routings && status == STATUS_OK; r++) {
            if (options->dry_run) {
                fprintf(check->csv->table, "model           %s %s, %d tokens, %s, %d rows\n",
                        options->layer.name, bench_dtype_name(options->layer.dtype),
                        (int)options->num_tokens[t], options->routing[r], SAMPLES);
            } else if (check_goes_on(check) && options->num_tokens[t] > 0) {
                status = run_sampled(check, &weights, options->num_tokens[t], options->routing[r]);
            }
        }
    }
    gpu_weights_free(&weights);
    return status;
}
