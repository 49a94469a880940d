/* bench_cuda_check_permute.c -- permutation, rows and combine on routings even, skewed and dropped.
 */
#include "bench_check.h"

#include <stdlib.h>
#include <string.h>

#include "bench_routing.h"
#include "moe_kernels.h"
#include "quantize.h"

static const struct permute_case {
    struct permute_shape shape;
    int32_t hidden_dim;
    const char *routing;
    bool drops; /* every 7th choice goes nowhere */
    bool full;  /* not for sanitizers */
} cases[] = {
    {{1, 8, 256, 1}, 7168, "uniform", false, false},
    {{1, 1, 1, 64}, 64, "balanced", true, false},
    {{33, 4, 32, 16}, 2880, "lognormal", true, false},
    {{100, 2, 8, 128}, 4096, "one", false, false},
    {{7, 16, 1024, 64}, 520, "lognormal", false, false},
    {{65, 3, 5, 1}, 97, "uniform", true, false},
    {{0, 8, 64, 64}, 2048, "balanced", false, false},
    {{512, 8, 128, 1}, 2048, "lognormal", false, true},
    {{1024, 8, 256, 64}, 7168, "lognormal", true, true},
    {{1025, 8, 256, 1}, 7168, "one", false, true},
    {{4096, 8, 256, 64}, 7168, "lognormal", false, true},
    {{16384, 4, 32, 128}, 2880, "lognormal", false, true},
    {{65536, 8, 128, 1}, 256, "uniform", false, true},
};

#define NUM_CASES (sizeof cases / sizeof cases[0])

/* Everything that a case of any of the three kernels needs, host and device. */
struct prepared {
    const struct permute_case *from;
    struct combine_shape combine;
    struct dev_memory memory;
    int64_t choices;
    int64_t rows;    /* permute_rows_max */
    int32_t *expert; /* host */
    int32_t *num_rows;
    int32_t *row_begin;
    int32_t *row_of;
    int32_t *token_of;
    float *gate_weight;
    int32_t *dev_expert;
    int32_t *dev_num_rows;
    int32_t *dev_row_begin;
    int32_t *dev_row_of;
    int32_t *dev_token_of;
    float *dev_gate_weight;
    void *work;
};

static void release(struct prepared *made)
{
    dev_memory_free(&made->memory);
    free(made->expert);
    free(made->num_rows);
    free(made->row_begin);
    free(made->row_of);
    free(made->token_of);
    free(made->gate_weight);
    *made = (struct prepared){0};
}

static enum status prepare(struct check *check, const struct permute_case *from,
                           struct prepared *made)
{
    struct permute_shape shape = from->shape;
    int64_t choices = (int64_t)shape.num_tokens * shape.top_k;
    *made = (struct prepared){.from = from,
                              .choices = choices,
                              .rows = permute_rows_max(shape),
                              .combine = {shape.num_tokens, shape.top_k, from->hidden_dim}};
    made->expert = check_poison(CHECK_BITS, choices * 4);
    made->num_rows = check_poison(CHECK_BITS, shape.num_experts * 4);
    made->row_begin = check_poison(CHECK_BITS, (shape.num_experts + 1) * 4);
    made->row_of = check_poison(CHECK_BITS, choices * 4);
    made->token_of = check_poison(CHECK_BITS, made->rows * 4);
    made->gate_weight = check_poison(CHECK_FP32, choices * 4);
    if (made->expert == NULL || made->num_rows == NULL || made->row_begin == NULL ||
        made->row_of == NULL || made->token_of == NULL || made->gate_weight == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct bench_routing_request request = {
        from->routing, shape.num_tokens, shape.num_experts, shape.top_k, 1.0, check->options->seed};
    enum status status = bench_routing(request, made->expert, check->error);
    for (int64_t i = 0; i < choices && from->drops; i += 7) {
        made->expert[i] = EXPERT_NONE;
    }
    bench_gate_weights(shape.num_tokens, shape.top_k, check->options->seed, made->gate_weight);
    if (status == STATUS_OK) {
        status = ref_permute(shape, made->num_rows, made->row_begin, made->row_of, made->token_of,
                             made->expert);
    }
    struct dev_memory *memory = &made->memory;
    made->dev_expert = dev_alloc_copy(memory, made->expert, choices * 4);
    made->dev_num_rows = dev_alloc_copy(memory, made->num_rows, shape.num_experts * 4);
    made->dev_row_begin = dev_alloc_copy(memory, made->row_begin, (shape.num_experts + 1) * 4);
    made->dev_row_of = dev_alloc_copy(memory, made->row_of, choices * 4);
    made->dev_token_of = dev_alloc_copy(memory, made->token_of, made->rows * 4);
    made->dev_gate_weight = dev_alloc_copy(memory, made->gate_weight, choices * 4);
    made->work = dev_alloc(memory, dev_permute_work(shape));
    return status == STATUS_OK && memory->failed ? STATUS_CUDA : status;
}

static struct bench_layer layer_of(const struct permute_case *from, enum dtype dtype)
{
    struct bench_layer layer = {
        .dtype = dtype,
        .gate = {.num_experts = from->shape.num_experts, .top_k = from->shape.top_k},
        .expert = {.num_experts = from->shape.num_experts, .hidden_dim = from->hidden_dim}};
    snprintf(layer.name, sizeof layer.name, "align %d%s", (int)from->shape.row_align,
             from->drops ? " drops" : "");
    return layer;
}

/* ---- permute ---- */

static enum status launch_permute(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    const struct prepared *made = context;
    (void)input;
    return dev_permute_version(version, made->from->shape, made->dev_num_rows, made->dev_row_begin,
                               made->dev_row_of, made->dev_token_of, made->dev_expert, made->work,
                               stream);
}

static enum status permute_case(struct check *check, struct prepared *made)
{
    struct bench_layer layer = layer_of(made->from, DTYPE_BF16);
    struct bench_row row = {.kernel = "permute",
                            .layer = &layer,
                            .num_tokens = made->from->shape.num_tokens,
                            .routing = made->from->routing,
                            .expert_tokens = made->num_rows,
                            .num_expert_tokens = made->from->shape.num_experts};
    int64_t experts = made->from->shape.num_experts;
    struct check_output output[] = {
        {CHECK_BITS, made->dev_num_rows, made->num_rows, experts * 4, 0.0, "num_rows", 0},
        {CHECK_BITS, made->dev_row_begin, made->row_begin, (experts + 1) * 4, 0.0, "row_begin", 0},
        {CHECK_BITS, made->dev_row_of, made->row_of, made->choices * 4, 0.0, "row_of",
         made->from->shape.top_k * 4},
        {CHECK_BITS, made->dev_token_of, made->token_of, made->rows * 4, 0.0, "token_of", 0}};
    return check_versions(check, &row, check_version_names, 1, DEV_PERMUTE_VERSIONS,
                          (struct gpu_work){launch_permute, made}, output, 4);
}

/* ---- rows ---- */

struct rows_case {
    struct combine_shape shape;
    struct matrix out;
    struct matrix x;
    const int32_t *row_of;
    const float *gate_weight;
};

static enum status launch_rows(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    const struct rows_case *rows = context;
    (void)input;
    return dev_permute_rows_version(version, rows->shape, rows->out, rows->x, rows->row_of,
                                    rows->gate_weight, stream);
}

/* row_weight[row] of gate_weight[choice]. */
static float *weights_of_rows(const struct prepared *made)
{
    float *row_weight = check_poison(CHECK_FP32, made->rows * 4);
    for (int64_t i = 0; row_weight != NULL && i < made->choices; i++) {
        if (made->row_of[i] != ROW_DROPPED) {
            row_weight[made->row_of[i]] = made->gate_weight[i];
        }
    }
    return row_weight;
}

static void random_bf16(uint16_t *data, int64_t count, uint64_t seed)
{
    uint64_t state = bench_random_seed(seed, 77);
    for (int64_t i = 0; i < count; i++) {
        data[i] = bf16_from_float(bench_random_float(&state));
    }
}

static enum status rows_dtype(struct check *check, struct prepared *made, enum dtype dtype,
                              bool weighted)
{
    int32_t hidden = made->from->hidden_dim;
    int64_t x_count = (int64_t)made->from->shape.num_tokens * hidden;
    int64_t bytes = made->rows * hidden * dtype_bytes(dtype);
    struct dev_memory memory = {0};
    struct matrix out = dev_alloc_activations(&memory, dtype, made->rows, hidden);
    int64_t scale_bytes = out.scale_rows * scale_blocks(hidden) * 4; /* 0 unless fp8 */
    struct matrix expected = {.dtype = dtype, .scale_rows = out.scale_rows};
    struct matrix x = {.dtype = DTYPE_BF16, .data = malloc((size_t)(x_count + 1) * 2)};
    float *row_weight = weights_of_rows(made);
    enum status status = STATUS_NO_MEMORY;
    expected.data = check_poison(CHECK_BITS, bytes);
    expected.scale = check_poison(CHECK_BITS, scale_bytes);
    if (x.data == NULL || row_weight == NULL || expected.data == NULL || expected.scale == NULL) {
        goto done;
    }
    random_bf16(x.data, x_count, check->options->seed);
    status = ref_permute_rows((int32_t)made->rows, hidden, expected, x, made->token_of,
                              weighted ? row_weight : NULL);
    struct rows_case rows = {made->combine, out, x, made->dev_row_of,
                             weighted ? made->dev_gate_weight : NULL};
    rows.x.data = dev_alloc_copy(&memory, x.data, x_count * 2);
    if (status == STATUS_OK && memory.failed) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK) {
        struct bench_layer layer = layer_of(made->from, dtype);
        layer.weigh_input = weighted;
        struct bench_row row = {.kernel = "permute_rows",
                                .phase = NULL,
                                .layer = &layer,
                                .num_tokens = made->from->shape.num_tokens,
                                .routing = made->from->routing};
        struct check_output output[] = {
            {CHECK_BITS, out.data, expected.data, bytes, 0.0, "rows",
             (int64_t)hidden * dtype_bytes(dtype)},
            {CHECK_BITS, out.scale, expected.scale, scale_bytes, 0.0, "scale", out.scale_rows * 4}};
        status = check_versions(check, &row, check_version_names, 1, DEV_ROWS_VERSIONS,
                                (struct gpu_work){launch_rows, &rows}, output,
                                dtype == DTYPE_FP8_E4M3 ? 2 : 1);
    }
done:
    dev_memory_free(&memory);
    free(x.data);
    free(row_weight);
    free(expected.data);
    free(expected.scale);
    return status;
}

static enum status rows_case(struct check *check, struct prepared *made)
{
    enum status status = rows_dtype(check, made, DTYPE_BF16, false);
    status = status == STATUS_OK ? rows_dtype(check, made, DTYPE_BF16, true) : status;
    status = status == STATUS_OK ? rows_dtype(check, made, DTYPE_FP8_E4M3, false) : status;
    return status == STATUS_OK ? rows_dtype(check, made, DTYPE_FP8_E4M3, true) : status;
}

/* ---- combine ---- */

struct combine_check {
    struct combine_shape shape;
    struct matrix out;
    struct matrix expert_out;
    struct matrix shared;
    const int32_t *row_of;
    const float *gate_weight;
};

static enum status launch_combine(void *context, int32_t version, int32_t input,
                                  cudaStream_t stream)
{
    const struct combine_check *combine = context;
    (void)input;
    return dev_combine_version(version, combine->shape, combine->out, combine->expert_out,
                               combine->row_of, combine->gate_weight, combine->shared, stream);
}

static void random_numbers(struct matrix matrix, int64_t count, uint64_t seed)
{
    uint64_t state = bench_random_seed(seed, 78);
    for (int64_t i = 0; i < count; i++) {
        matrix_set(matrix, i, bench_random_float(&state));
    }
}

static enum status combine_dtype(struct check *check, struct prepared *made, enum dtype dtype,
                                 bool plain)
{
    int64_t outputs = (int64_t)made->from->shape.num_tokens * made->from->hidden_dim;
    int64_t inputs = made->rows * made->from->hidden_dim;
    int64_t width = dtype_bytes(dtype);
    struct dev_memory memory = {0};
    struct matrix out = {.dtype = dtype, .data = check_poison(CHECK_BITS, outputs * width)};
    struct matrix in = {.dtype = dtype, .data = malloc((size_t)(inputs * width + 1))};
    struct matrix shared = {.dtype = dtype, .data = malloc((size_t)(outputs * width + 1))};
    enum status status = STATUS_NO_MEMORY;
    if (out.data == NULL || in.data == NULL || shared.data == NULL) {
        goto done;
    }
    random_numbers(in, inputs, check->options->seed);
    random_numbers(shared, outputs, check->options->seed + 1);
    struct matrix none = {.dtype = dtype};
    status = ref_combine_shared(made->combine, out, in, made->row_of,
                                plain ? NULL : made->gate_weight, plain ? none : shared);
    struct combine_check combine = {made->combine,
                                    out,
                                    in,
                                    plain ? none : shared,
                                    made->dev_row_of,
                                    plain ? NULL : made->dev_gate_weight};
    combine.out.data = dev_alloc(&memory, outputs * width);
    combine.expert_out.data = dev_alloc_copy(&memory, in.data, inputs * width);
    if (!plain) {
        combine.shared.data = dev_alloc_copy(&memory, shared.data, outputs * width);
    }
    if (status == STATUS_OK && memory.failed) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK) {
        struct bench_layer layer = layer_of(made->from, dtype);
        layer.shared_ffn_dim = plain ? 0 : 1;
        struct bench_row row = {.kernel = "combine",
                                .layer = &layer,
                                .num_tokens = made->from->shape.num_tokens,
                                .routing = made->from->routing};
        struct check_output output = {CHECK_BITS,
                                      combine.out.data,
                                      out.data,
                                      outputs * width,
                                      0.0,
                                      "out",
                                      made->from->hidden_dim * width};
        status = check_versions(check, &row, check_version_names, 1, DEV_COMBINE_VERSIONS,
                                (struct gpu_work){launch_combine, &combine}, &output, 1);
    }
done:
    dev_memory_free(&memory);
    free(out.data);
    free(in.data);
    free(shared.data);
    return status;
}

static enum status combine_case(struct check *check, struct prepared *made)
{
    enum status status = combine_dtype(check, made, DTYPE_BF16, false);
    status = status == STATUS_OK ? combine_dtype(check, made, DTYPE_BF16, true) : status;
    return status == STATUS_OK && !made->from->full ? combine_dtype(check, made, DTYPE_FP32, false)
                                                    : status;
}

static enum status run_cases(struct check *check, const char *kernel, int32_t num_versions,
                             enum status (*run)(struct check *check, struct prepared *made))
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NUM_CASES && status == STATUS_OK; i++) {
        const struct permute_case *from = &cases[i];
        if ((from->full && check->options->small) || !check_goes_on(check)) {
            continue;
        }
        if (check->options->dry_run) {
            char what[128];
            snprintf(what, sizeof what, "%d tokens, top-%d of %d, hidden %d, align %d, %s%s",
                     (int)from->shape.num_tokens, (int)from->shape.top_k,
                     (int)from->shape.num_experts, (int)from->hidden_dim,
                     (int)from->shape.row_align, from->routing, from->drops ? ", drops" : "");
            check_plan(check, kernel, what, num_versions);
            continue;
        }
        struct prepared made;
        status = prepare(check, from, &made);
        status = status == STATUS_OK ? run(check, &made) : status;
        release(&made);
    }
    return status;
}

enum status check_permute(struct check *check)
{
    return run_cases(check, "permute", DEV_PERMUTE_VERSIONS, permute_case);
}

enum status check_permute_rows(struct check *check)
{
    return run_cases(check, "permute_rows", DEV_ROWS_VERSIONS, rows_case);
}

enum status check_combine(struct check *check)
{
    return run_cases(check, "combine", DEV_COMBINE_VERSIONS, combine_case);
}
