/*
 * emulated_gemm.c -- the CUDA grouped GEMMs, run by the emulator, against reference/.
 *
 * Usage: emulated_gemm [VERSION ...]
 *
 * Every version x dtype x activation that goes together, on groups that are empty, of one row, of
 * tiles filled and not, that touch and that leave gaps; sizes that end within a tile and within a
 * stage. Outputs are poisoned; rows of no group have to stay so. Each case runs twice, threads
 * taking turns differently, and has to give the same bits. Exits with 1 if a case differs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev_grouped_gemm.h"
#include "emulated_memory.h"
#include "quantize.h"

#define POISON      0xa5
#define EXPERTS_MAX 70
#define NUM_LOADS   5
#define MANY_LOAD   3 /* a warp looks at 32 experts at a time: here at three such */

/* Rows of each expert, and rows left free behind them. */
struct load {
    int32_t num_experts;
    int32_t rows[EXPERTS_MAX];
    int32_t gap[EXPERTS_MAX];
};

struct shape_of_case {
    int32_t hidden_dim;
    int32_t ffn_dim;
};

struct buffers {
    struct expert_shape shape;
    int64_t rows;
    int32_t row_begin[EXPERTS_MAX];
    int32_t num_rows[EXPERTS_MAX];
    struct matrix x, h, gate_up, down; /* inputs; h as the reference computes it */
    struct matrix expected_y, out[2];  /* out: of the version, two runs */
    float *gate_up_bias, *down_bias;
    void *workspace;
    int64_t workspace_bytes;
};

static uint32_t random_state = 1;

static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) * 0x1p-23f - 1.0f;
}

/* Poisoned. */
static void *allocate(int64_t bytes)
{
    void *memory = emulated_memory_take((size_t)bytes);
    if (memory == NULL) {
        abort();
    }
    memset(memory, POISON, (size_t)bytes);
    return memory;
}

static struct matrix make_matrix(enum dtype dtype, int64_t rows, int32_t columns,
                                 int64_t num_scales)
{
    struct matrix matrix = {.dtype = dtype, .scale_rows = (rows + 3) / 4 * 4};
    matrix.data = allocate(rows * columns * dtype_bytes(dtype));
    if (dtype == DTYPE_FP8_E4M3) {
        int64_t scales = num_scales > 0 ? num_scales : scale_blocks(columns) * matrix.scale_rows;
        matrix.scale = allocate(scales * 4);
    }
    return matrix;
}

static void free_matrix(struct matrix matrix)
{
    emulated_memory_free(matrix.data);
    emulated_memory_free(matrix.scale);
}

static void must(enum status status)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "emulated_gemm: status %d\n", (int)status);
        abort();
    }
}

static float *random_values(int64_t count, float size)
{
    float *value = allocate(count * 4);
    for (int64_t i = 0; i < count; i++) {
        value[i] = size * random_value();
    }
    return value;
}

static void fill_weights(struct buffers *to, enum dtype dtype)
{
    struct expert_shape shape = to->shape;
    int64_t experts = shape.num_experts;
    int32_t rows = gate_up_rows(shape);
    int64_t count = experts * rows * shape.hidden_dim;
    int32_t *row_block = allocate(rows * 4);
    gate_up_row_blocks(shape, row_block);
    float *value = random_values(count, 0.3f);
    to->gate_up = make_matrix(dtype, experts * rows, shape.hidden_dim,
                              experts * gate_up_blocks(shape) * scale_blocks(shape.hidden_dim));
    must(ref_quantize_weights(shape.num_experts, rows, shape.hidden_dim, to->gate_up, value,
                              row_block, gate_up_blocks(shape)));
    emulated_memory_free(value);
    emulated_memory_free(row_block);
    value = random_values(experts * shape.hidden_dim * shape.ffn_dim, 0.3f);
    to->down = make_matrix(dtype, experts * shape.hidden_dim, shape.ffn_dim,
                           experts * scale_blocks(shape.hidden_dim) * scale_blocks(shape.ffn_dim));
    must(ref_quantize_weights(shape.num_experts, shape.hidden_dim, shape.ffn_dim, to->down, value,
                              NULL, scale_blocks(shape.hidden_dim)));
    emulated_memory_free(value);
    to->gate_up_bias = random_values(experts * rows, 0.5f);
    to->down_bias = random_values(experts * shape.hidden_dim, 0.5f);
}

static void fill(struct buffers *to, struct expert_shape shape, enum dtype dtype,
                 const struct load *load)
{
    *to = (struct buffers){.shape = shape};
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        to->row_begin[expert] = (int32_t)to->rows;
        to->num_rows[expert] = load->rows[expert];
        to->rows += load->rows[expert] + load->gap[expert];
    }
    enum dtype out = dtype == DTYPE_FP32 ? DTYPE_FP32 : DTYPE_BF16;
    float *value = random_values(to->rows * shape.hidden_dim, 1.0f);
    struct matrix plain = {.dtype = DTYPE_FP32, .data = value};
    to->x = make_matrix(dtype, to->rows, shape.hidden_dim, 0);
    must(ref_quantize_activations(to->rows, shape.hidden_dim, to->x, plain));
    emulated_memory_free(value);
    fill_weights(to, dtype);
    to->h = make_matrix(dtype, to->rows, shape.ffn_dim, 0);
    memset(to->h.data, 0, (size_t)(to->rows * shape.ffn_dim * dtype_bytes(dtype)));
    to->expected_y = make_matrix(out, to->rows, shape.hidden_dim, 0);
    must(ref_grouped_gate_up(shape, to->h, to->x, to->row_begin, to->num_rows, to->gate_up,
                             to->gate_up_bias));
    must(ref_grouped_down(shape, to->expected_y, to->h, to->row_begin, to->num_rows, to->down,
                          to->down_bias));
    to->workspace_bytes = dev_grouped_gemm_workspace_bytes();
    to->workspace = allocate(to->workspace_bytes);
    must(dev_grouped_gemm_workspace_init(to->workspace, to->workspace_bytes, NULL));
}

static void release(struct buffers *of)
{
    free_matrix(of->x);
    free_matrix(of->h);
    free_matrix(of->gate_up);
    free_matrix(of->down);
    free_matrix(of->expected_y);
    emulated_memory_free(of->gate_up_bias);
    emulated_memory_free(of->down_bias);
    emulated_memory_free(of->workspace);
}

/* Relative Frobenius error of out's rows that belong to an expert. */
static double error_of(const struct buffers *of, struct matrix out, struct matrix expected,
                       int32_t columns)
{
    double difference = 0.0;
    double size = 0.0;
    float *left = allocate(columns * 4);
    float *right = allocate(columns * 4);
    for (int32_t expert = 0; expert < of->shape.num_experts; expert++) {
        for (int64_t row = 0; row < of->num_rows[expert]; row++) {
            matrix_get_row(out, of->row_begin[expert] + row, columns, left);
            matrix_get_row(expected, of->row_begin[expert] + row, columns, right);
            for (int32_t i = 0; i < columns; i++) {
                difference += ((double)left[i] - right[i]) * ((double)left[i] - right[i]);
                size += (double)right[i] * right[i];
            }
        }
    }
    emulated_memory_free(left);
    emulated_memory_free(right);
    /* NaN where an output is: it compares false below */
    return size == 0.0 ? difference : sqrt(difference / size);
}

/* Whether all bytes of rows of no expert are poison still. */
static int others_untouched(const struct buffers *of, struct matrix out, int32_t columns)
{
    int64_t row_bytes = (int64_t)columns * dtype_bytes(out.dtype);
    for (int32_t expert = 0; expert < of->shape.num_experts; expert++) {
        int64_t first = of->row_begin[expert] + of->num_rows[expert];
        int64_t end = expert + 1 < of->shape.num_experts ? of->row_begin[expert + 1] : of->rows;
        for (int64_t byte = first * row_bytes; byte < end * row_bytes; byte++) {
            if (((const uint8_t *)out.data)[byte] != POISON) {
                return 0;
            }
        }
    }
    return 1;
}

static double tolerance_of(enum dtype dtype)
{
    return dtype == DTYPE_FP32 ? 1e-5 : dtype == DTYPE_BF16 ? 5e-3 : 3e-2;
}

/* One of the two GEMMs, twice. 0: right. */
static int run_gemm(struct buffers *of, enum grouped_gemm_version version, int down,
                    const char *name)
{
    struct expert_shape shape = of->shape;
    struct grouped_gemm_run run = {.version = version,
                                   .rows = of->rows,
                                   .workspace = of->workspace,
                                   .workspace_bytes = of->workspace_bytes};
    int32_t columns = down ? shape.hidden_dim : shape.ffn_dim;
    struct matrix expected = down ? of->expected_y : of->h;
    for (int i = 0; i < 2; i++) {
        of->out[i] = make_matrix(expected.dtype, of->rows, columns, 0);
        must(down ? dev_grouped_down(shape, of->out[i], of->h, of->row_begin, of->num_rows,
                                     of->down, of->down_bias, &run, NULL)
                  : dev_grouped_gate_up(shape, of->out[i], of->x, of->row_begin, of->num_rows,
                                        of->gate_up, of->gate_up_bias, &run, NULL));
    }
    double error = error_of(of, of->out[0], expected, columns);
    int untouched = others_untouched(of, of->out[0], columns);
    int64_t bytes = of->rows * columns * dtype_bytes(expected.dtype);
    int same = memcmp(of->out[0].data, of->out[1].data, (size_t)bytes) == 0;
    int right = error < tolerance_of(of->x.dtype) && untouched && same;
    printf("%-10s %-34s %-7s error %.2e%s%s  %s\n", grouped_gemm_version_name(version), name,
           down ? "down" : "gate_up", error, untouched ? "" : "  OTHER ROWS WRITTEN",
           same ? "" : "  TWO RUNS DIFFER", right ? "ok" : "WRONG");
    fflush(stdout);
    free_matrix(of->out[0]);
    free_matrix(of->out[1]);
    return !right;
}

/* Versions whose blocks are many run on few rows, each size with one activation; the others on many
 * rows, the first size with all; all of them once on many experts and once on nothing. */
static int wanted(int count, char **names, enum grouped_gemm_version version, int load, int size,
                  enum activation activation)
{
    int any = count < 2;
    for (int i = 1; i < count; i++) {
        any |= strcmp(names[i], grouped_gemm_version_name(version)) == 0;
    }
    if (load >= MANY_LOAD) {
        return any && size == 1 && activation == ACTIVATION_SWIGLU;
    }
    if (version <= GROUPED_GEMM_WGMMA) {
        return any && load == 1 && size % 3 == (int)activation;
    }
    return any && load != 1 && (size == 0 || activation == ACTIVATION_SWIGLU);
}

int main(int count, char **names)
{
    static const struct load loads[NUM_LOADS] = {
        {6, {0, 1, 130, 128, 0, 200}, {0, 0, 0, 3, 0, 5}},
        {6, {3, 0, 9, 33, 0, 20}, {0, 2, 0, 0, 0, 0}},
        {6, {3, 0, 0, 17, 0, 1}, {7, 0, 0, 0, 0, 2}},
        {EXPERTS_MAX, /* none of the second 32 has a row */
         {[0] = 1, [5] = 2, [6] = 9, [31] = 3, [64] = 1, [66] = 130, [69] = 5},
         {[0] = 1, [63] = 2, [69] = 1}},
        {6, {0}, {[2] = 3, [5] = 130}}, /* as of a rank to which no token comes */
    };
    static const struct shape_of_case sizes[] = {{208, 336}, {64, 64}, {320, 128}, {100, 37}};
    static const char *const dtypes[] = {"fp32", "bf16", "fp8"};
    static const char *const activations[] = {"swiglu", "swiglu_clamped", "gelu"};
    int wrong = 0;
    for (int c = 0; c < NUM_LOADS * 4 * 3 * 3; c++) { /* load x size x dtype x activation */
        int load = c / 36;
        struct shape_of_case size = sizes[c / 9 % 4];
        enum dtype dtype = (enum dtype)(c / 3 % 3);
        struct expert_shape shape = {loads[load].num_experts, size.hidden_dim, size.ffn_dim,
                                     (enum activation)(c % 3)};
        char name[64];
        snprintf(name, sizeof name, "%dx%d load %d %s %s", (int)size.hidden_dim, (int)size.ffn_dim,
                 load, dtypes[dtype], activations[c % 3]);
        struct buffers buffers;
        fill(&buffers, shape, dtype, &loads[load]);
        for (int v = GROUPED_GEMM_PLAIN; v < NUM_GROUPED_GEMM_VERSIONS; v++) {
            enum grouped_gemm_version version = (enum grouped_gemm_version)v;
            if (wanted(count, names, version, load, c / 9 % 4, shape.activation) &&
                grouped_gemm_takes(version, shape, dtype)) {
                wrong += run_gemm(&buffers, version, 0, name);
                wrong += run_gemm(&buffers, version, 1, name);
            }
        }
        release(&buffers);
    }
    printf("%d wrong\n", wrong);
    return wrong == 0 ? 0 : 1;
}
