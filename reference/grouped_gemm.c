/* grouped_gemm.c -- row by row; slow, and as close to the exact result as doubles come. */
#include "grouped_gemm.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "gate_math.h"
#include "quantize.h"

void gate_up_row_blocks(struct expert_shape shape, int32_t *row_block)
{
    int32_t up_count = shape.activation == ACTIVATION_GELU ? 1 : 2;
    for (int32_t up = 0; up < up_count; up++) {
        for (int32_t column = 0; column < shape.ffn_dim; column++) {
            row_block[gate_up_row(shape, column, up)] =
                up * scale_blocks(shape.ffn_dim) + column / SCALE_BLOCK;
        }
    }
}

static void interleave(struct expert_shape shape, int32_t up, float *out, const float *in)
{
    for (int64_t expert = 0; expert < shape.num_experts; expert++) {
        for (int32_t column = 0; column < shape.ffn_dim; column++) {
            int64_t to = expert * gate_up_rows(shape) + gate_up_row(shape, column, up);
            int64_t from = expert * shape.ffn_dim + column;
            for (int64_t h = 0; h < shape.hidden_dim; h++) {
                out[to * shape.hidden_dim + h] = in[from * shape.hidden_dim + h];
            }
        }
    }
}

void ref_interleave_gate_up(struct expert_shape shape, float *out, const float *gate,
                            const float *up)
{
    interleave(shape, 0, out, gate);
    if (shape.activation != ACTIVATION_GELU) {
        interleave(shape, 1, out, up);
    }
}

/* x[row] . weight[weight_row], both of count columns. block_scale: of weight_row, a block of 128
 * columns each; read for fp8 alone. Partial sums by column modulo four: a fixed order that lets
 * four additions run at a time. */
static double dot(struct matrix x, int64_t row, struct matrix weight, int64_t weight_row,
                  const float *block_scale, int32_t count)
{
    double total = 0.0;
    for (int32_t first = 0; first < count; first += SCALE_BLOCK) {
        double left[SCALE_BLOCK];
        double right[SCALE_BLOCK];
        double sum[4] = {0.0};
        int32_t columns = block_columns(count, first);
        matrix_read(x, row * count + first, columns, left);
        matrix_read(weight, weight_row * count + first, columns, right);
        for (int32_t i = 0; i < columns; i++) {
            sum[i % 4] += left[i] * right[i];
        }
        double block = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        if (x.dtype == DTYPE_FP8_E4M3) {
            int32_t index = first / SCALE_BLOCK;
            block *= (double)x.scale[index * x.scale_rows + row] * (double)block_scale[index];
        }
        total += block;
    }
    return total;
}

static double activate(enum activation activation, double gate, double up)
{
    switch (activation) {
    case ACTIVATION_SWIGLU:
        return gate / (1.0 + gate_exp(-gate)) * up;
    case ACTIVATION_SWIGLU_CLAMPED:
        gate = gate > (double)SWIGLU_LIMIT ? (double)SWIGLU_LIMIT : gate;
        up = up > (double)SWIGLU_LIMIT ? (double)SWIGLU_LIMIT : up;
        up = up < -(double)SWIGLU_LIMIT ? -(double)SWIGLU_LIMIT : up;
        return (up + 1.0) * gate / (1.0 + gate_exp(-(double)SWIGLU_ALPHA * gate));
    case ACTIVATION_GELU:
        return 0.5 * gate * (1.0 + erf(gate * 0.70710678118654752)); /* 1 / sqrt 2 */
    }
    return 0.0;
}

/* Everything that one of the two GEMMs reads, so that both run through the same loops. */
struct gemm {
    struct expert_shape shape;
    bool down;
    struct matrix in;
    struct matrix weight;
    const float *bias;
};

static double product(const struct gemm *gemm, int64_t row, int32_t expert, int32_t weight_row,
                      int32_t scale_block)
{
    struct expert_shape shape = gemm->shape;
    int32_t depth = gemm->down ? shape.ffn_dim : shape.hidden_dim;
    int64_t rows = gemm->down ? shape.hidden_dim : gate_up_rows(shape);
    int64_t blocks = gemm->down ? scale_blocks(shape.hidden_dim) : gate_up_blocks(shape);
    const float *scale =
        gemm->weight.scale == NULL
            ? NULL
            : &gemm->weight.scale[(expert * blocks + scale_block) * scale_blocks(depth)];
    int64_t index = expert * rows + weight_row;
    double sum = dot(gemm->in, row, gemm->weight, index, scale, depth);
    return gemm->bias == NULL ? sum : sum + (double)gemm->bias[index];
}

/* One column of one row, not yet rounded to the output's dtype. */
static float column_of(const struct gemm *gemm, int64_t row, int32_t expert, int32_t column)
{
    struct expert_shape shape = gemm->shape;
    int32_t block = column / SCALE_BLOCK;
    if (gemm->down) {
        return (float)product(gemm, row, expert, column, block);
    }
    double gate = product(gemm, row, expert, gate_up_row(shape, column, 0), block);
    double up = 0.0;
    if (shape.activation != ACTIVATION_GELU) {
        block += scale_blocks(shape.ffn_dim);
        up = product(gemm, row, expert, gate_up_row(shape, column, 1), block);
    }
    return (float)activate(shape.activation, gate, up);
}

static void compute_row(const struct gemm *gemm, struct matrix out, int64_t row, int32_t expert)
{
    int32_t columns = gemm->down ? gemm->shape.hidden_dim : gemm->shape.ffn_dim;
    for (int32_t first = 0; first < columns; first += SCALE_BLOCK) {
        float value[SCALE_BLOCK];
        int32_t count = block_columns(columns, first);
        for (int32_t i = 0; i < count; i++) {
            value[i] = column_of(gemm, row, expert, first + i);
        }
        matrix_set_block(out, row, columns, first, count, value);
    }
}

static enum status compute_groups(const struct gemm *gemm, struct matrix out,
                                  const int32_t *row_begin, const int32_t *num_rows)
{
    struct expert_shape shape = gemm->shape;
    if (shape.num_experts < 1 || shape.hidden_dim < 1 || shape.ffn_dim < 1 ||
        gemm->in.dtype != gemm->weight.dtype) {
        return STATUS_INVALID;
    }
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        if (num_rows[expert] < 0 || row_begin[expert] < 0) {
            return STATUS_INVALID;
        }
    }
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        for (int64_t i = 0; i < num_rows[expert]; i++) {
            compute_row(gemm, out, row_begin[expert] + i, expert);
        }
    }
    return STATUS_OK;
}

enum status ref_grouped_gate_up(struct expert_shape shape, struct matrix h, struct matrix x,
                                const int32_t *row_begin, const int32_t *num_rows,
                                struct matrix gate_up, const float *bias)
{
    struct gemm gemm = {shape, false, x, gate_up, bias};
    return compute_groups(&gemm, h, row_begin, num_rows);
}

enum status ref_grouped_down(struct expert_shape shape, struct matrix y, struct matrix h,
                             const int32_t *row_begin, const int32_t *num_rows, struct matrix down,
                             const float *bias)
{
    struct gemm gemm = {shape, true, h, down, bias};
    return y.dtype == DTYPE_FP8_E4M3 ? STATUS_INVALID
                                     : compute_groups(&gemm, y, row_begin, num_rows);
}

void ref_gate_up_row(struct expert_shape shape, float *h, struct matrix x, int64_t row,
                     struct matrix gate_up, int32_t expert, const float *bias)
{
    struct gemm gemm = {shape, false, x, gate_up, bias};
    for (int32_t column = 0; column < shape.ffn_dim; column++) {
        h[column] = column_of(&gemm, row, expert, column);
    }
}

void ref_down_row(struct expert_shape shape, float *y, struct matrix h, int64_t row,
                  struct matrix down, int32_t expert, const float *bias)
{
    struct gemm gemm = {shape, true, h, down, bias};
    for (int32_t column = 0; column < shape.hidden_dim; column++) {
        y[column] = column_of(&gemm, row, expert, column);
    }
}
