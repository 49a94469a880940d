/*
 * bench_cuda_check_gemm.c -- the grouped GEMMs, every version that takes the shape, every row.
 *
 * down starts from the reference's h, so that each GEMM answers for its own errors only.
 */
#include "bench_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "bench_host.h"
#include "permute.h"

static const struct gemm_case {
    const char *name;
    struct expert_shape shape;
    int32_t rows_max; /* an expert has 0 to rows_max rows, every fifth none */
    int32_t row_align;
    bool biases;
    bool full; /* not for sanitizers */
} cases[] = {
    {"few rows", {16, 512, 256, ACTIVATION_SWIGLU}, 9, 1, false, false},
    {"one row", {8, 256, 128, ACTIVATION_SWIGLU}, 1, 1, true, false},
    {"ragged", {5, 576, 320, ACTIVATION_SWIGLU_CLAMPED}, 150, 1, true, false},
    {"aligned", {4, 384, 192, ACTIVATION_SWIGLU}, 200, 64, false, false},
    {"gelu", {3, 256, 512, ACTIVATION_GELU}, 70, 1, true, false},
    {"odd", {3, 97, 33, ACTIVATION_SWIGLU}, 40, 1, true, false},
    {"many rows", {3, 1024, 512, ACTIVATION_SWIGLU}, 700, 1, false, true},
    {"many experts", {256, 512, 128, ACTIVATION_SWIGLU}, 20, 1, false, true},
    {"gpt-oss-20b", {32, 2880, 2880, ACTIVATION_SWIGLU_CLAMPED}, 4, 1, true, true},
};

#define NUM_CASES (sizeof cases / sizeof cases[0])

struct gemm {
    struct expert_shape shape;
    struct matrix x;
    struct matrix h;
    struct matrix y;
    const int32_t *row_begin;
    const int32_t *num_rows;
    struct matrix gate_up;
    struct matrix down;
    const float *gate_up_bias;
    const float *down_bias;
    struct grouped_gemm_run run;
};

static enum status launch_gate_up(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    struct gemm *gemm = context;
    (void)input;
    gemm->run.version = (enum grouped_gemm_version)version;
    return dev_grouped_gate_up(gemm->shape, gemm->h, gemm->x, gemm->row_begin, gemm->num_rows,
                               gemm->gate_up, gemm->gate_up_bias, &gemm->run, stream);
}

static enum status launch_down(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    struct gemm *gemm = context;
    (void)input;
    gemm->run.version = (enum grouped_gemm_version)version;
    return dev_grouped_down(gemm->shape, gemm->y, gemm->h, gemm->row_begin, gemm->num_rows,
                            gemm->down, gemm->down_bias, &gemm->run, stream);
}

/* Loads of a case: num_rows[num_experts], row_begin[num_experts + 1]. */
static void make_loads(const struct gemm_case *from, uint64_t seed, int32_t *num_rows,
                       int32_t *row_begin)
{
    uint64_t state = bench_random_seed(seed, 5);
    for (int32_t expert = 0; expert < from->shape.num_experts; expert++) {
        uint64_t dice = bench_random(&state) % ((uint64_t)from->rows_max + 1);
        num_rows[expert] = expert % 5 == 4 ? 0 : (int32_t)dice;
    }
    num_rows[0] = from->rows_max;
    ref_row_begin(from->shape.num_experts, from->row_align, row_begin, num_rows);
}

/* Each version that takes the shape, one row of the CSV each. */
static enum status run_versions(struct check *check, struct bench_row *row, struct gemm *gemm,
                                struct gpu_work work, const struct check_output *output,
                                int32_t num_outputs)
{
    const char *names[NUM_GROUPED_GEMM_VERSIONS];
    enum status status = STATUS_OK;
    for (int version = GROUPED_GEMM_AUTOMATIC; version < NUM_GROUPED_GEMM_VERSIONS; version++) {
        names[version] = grouped_gemm_version_name((enum grouped_gemm_version)version);
        if (status == STATUS_OK &&
            grouped_gemm_takes((enum grouped_gemm_version)version, gemm->shape, gemm->x.dtype)) {
            status = check_versions(check, row, names, version, version, work, output, num_outputs);
        }
    }
    return status;
}

static enum status check_both(struct check *check, struct bench_layer *layer, struct gemm *gemm,
                              const struct gemm *host, int64_t rows, const int32_t *num_rows)
{
    bool fp8 = layer->dtype == DTYPE_FP8_E4M3;
    double tolerance = fp8 ? 3e-2 : 5e-3;
    int64_t h_count = rows * layer->expert.ffn_dim;
    int64_t scale_bytes = gemm->h.scale_rows * scale_blocks(layer->expert.ffn_dim) * 4;
    struct bench_row row = {.kernel = "grouped_gate_up",
                            .layer = layer,
                            .routing = "ragged",
                            .num_tokens = (int32_t)rows,
                            .expert_tokens = num_rows,
                            .num_expert_tokens = layer->expert.num_experts};
    struct check_output up[] = {{fp8 ? CHECK_FP8 : CHECK_BF16, gemm->h.data, host->h.data,
                                 h_count * dtype_bytes(layer->dtype), tolerance, "h",
                                 (int64_t)layer->expert.ffn_dim * dtype_bytes(layer->dtype)},
                                {CHECK_FP32, gemm->h.scale, host->h.scale, scale_bytes, 1e-2,
                                 "h.scale", gemm->h.scale_rows * 4}};
    struct check_output down = {CHECK_BF16,
                                gemm->y.data,
                                host->y.data,
                                rows * layer->expert.hidden_dim * 2,
                                tolerance,
                                "y",
                                (int64_t)layer->expert.hidden_dim * 2};
    enum status status = ref_grouped_gate_up(host->shape, host->h, host->x, host->row_begin,
                                             host->num_rows, host->gate_up, host->gate_up_bias);
    if (status == STATUS_OK) {
        status = run_versions(check, &row, gemm, (struct gpu_work){launch_gate_up, gemm}, up,
                              fp8 ? 2 : 1);
    }
    if (status == STATUS_OK) {
        status = ref_grouped_down(host->shape, host->y, host->h, host->row_begin, host->num_rows,
                                  host->down, host->down_bias);
    }
    if (status == STATUS_OK) {
        status = bench_upload(gemm->h, host->h, h_count, scale_bytes / 4);
    }
    row.kernel = "grouped_down";
    return status == STATUS_OK
               ? run_versions(check, &row, gemm, (struct gpu_work){launch_down, gemm}, &down, 1)
               : status;
}

static enum status run_case(struct check *check, const struct gemm_case *from, enum dtype dtype)
{
    struct gpu *gpu = check->gpu;
    struct bench_layer layer = {.dtype = dtype,
                                .expert = from->shape,
                                .gate = {.num_experts = from->shape.num_experts},
                                .biases = from->biases};
    snprintf(layer.name, sizeof layer.name, "%s", from->name);
    int32_t num_rows[GATE_EXPERTS_MAX];
    int32_t row_begin[GATE_EXPERTS_MAX + 1];
    make_loads(from, check->options->seed, num_rows, row_begin);
    int32_t experts = from->shape.num_experts;
    int64_t rows = row_begin[experts];
    struct gpu_weights weights = {0};
    struct dev_memory memory = {0};
    struct bench_host_memory host_memory = {0};
    enum status status = gpu_weights_create(gpu, &layer, check->options->seed, &weights);
    const struct moe_layer *made = &weights.weights.layer;
    struct gemm gemm = {
        .shape = from->shape,
        .x = dev_alloc_activations(&memory, dtype, rows, from->shape.hidden_dim),
        .h = dev_alloc_activations(&memory, dtype, rows, from->shape.ffn_dim),
        .y = dev_alloc_activations(&memory, DTYPE_BF16, rows, from->shape.hidden_dim),
        .row_begin = dev_alloc_copy(&memory, row_begin, (experts + 1) * 4),
        .num_rows = dev_alloc_copy(&memory, num_rows, experts * 4),
        .gate_up = made->gate_up,
        .down = made->down,
        .gate_up_bias = made->gate_up_bias,
        .down_bias = made->down_bias};
    gemm.run = (struct grouped_gemm_run){.rows = rows,
                                         .without = gpu_layer_options(gpu, check->options).without,
                                         .workspace_bytes = dev_grouped_gemm_workspace_bytes()};
    gemm.run.workspace = dev_alloc(&memory, gemm.run.workspace_bytes);
    int64_t x_scales = gemm.x.scale_rows * scale_blocks(from->shape.hidden_dim);
    if (status == STATUS_OK) {
        status = memory.failed
                     ? STATUS_CUDA
                     : gpu_fill_matrix(gemm.x, rows * from->shape.hidden_dim, x_scales, sqrtf(3.0f),
                                       check->options->seed + 7, gpu->stream);
    }
    if (status == STATUS_OK) {
        status = dev_grouped_gemm_workspace_init(gemm.run.workspace, gemm.run.workspace_bytes,
                                                 gpu->stream);
    }
    if (status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    struct gemm host = gemm;
    host.x = bench_download(&host_memory, gemm.x, rows * from->shape.hidden_dim, x_scales);
    host.h = bench_poisoned(&host_memory, gemm.h, rows, from->shape.ffn_dim);
    host.y = bench_poisoned(&host_memory, gemm.y, rows, from->shape.hidden_dim);
    host.row_begin = row_begin;
    host.num_rows = num_rows;
    bench_download_experts(&host_memory, made, &host.gate_up, &host.down, &host.gate_up_bias,
                           &host.down_bias);
    if (status == STATUS_OK && host_memory.failed) {
        status = STATUS_NO_MEMORY;
    }
    status = status == STATUS_OK ? check_both(check, &layer, &gemm, &host, rows, num_rows) : status;
    bench_host_memory_free(&host_memory);
    dev_memory_free(&memory);
    gpu_weights_free(&weights);
    return status;
}

enum status check_grouped_gemm(struct check *check)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NUM_CASES && status == STATUS_OK; i++) {
        const struct gemm_case *from = &cases[i];
        for (int dtype = DTYPE_BF16; dtype <= DTYPE_FP8_E4M3 && status == STATUS_OK; dtype++) {
            if ((from->full && check->options->small) || !check_goes_on(check)) {
                continue;
            }
            if (check->options->dry_run) {
                char what[128];
                snprintf(what, sizeof what, "%s %s, %d experts, %d x %d, up to %d rows", from->name,
                         bench_dtype_name((enum dtype)dtype), (int)from->shape.num_experts,
                         (int)from->shape.hidden_dim, (int)from->shape.ffn_dim,
                         (int)from->rows_max);
                check_plan(check, "grouped_gemm", what, NUM_GROUPED_GEMM_VERSIONS - 1);
            } else {
                status = run_case(check, from, (enum dtype)dtype);
            }
        }
    }
    return status;
}
