/*
 * grouped_gemm.h -- the experts' feed-forward network on permuted rows.
 *
 *     gate, up = x[row] gate_up[e]^T (+ bias)    e: the expert of the row
 *     h[row]   = activation(gate, up)
 *     y[row]   = h[row] down[e]^T (+ bias)
 *
 *   swiglu          h = gate * sigmoid(gate) * up
 *   swiglu_clamped  gate = min(gate, 7), up = clamp(up, -7, 7),
 *                   h = (up + 1) * gate * sigmoid(1.702 gate)     GPT-OSS
 *   gelu            h = gelu(gate), exact (by erf); there is no up: the two-layer expert that
 *                   introductions to MoE print
 *
 * Layout. gate_up is [num_experts][gate_up_rows][hidden_dim], its rows in granules: eight columns
 * of gate, then the same eight of up, and so on (gate_up_row). A tensor core's accumulator fragment
 * holds rows r and r + 8, or columns of two 8-wide tiles, in one thread: gate and up of a column
 * meet there, whichever of the two matrices the weights are. down is [num_experts][hidden_dim]
 * [ffn_dim]. fp8 scales of gate_up are [num_experts][2][ceil(ffn_dim / 128)][ceil(hidden_dim /
 * 128)], gate's before up's, so that a checkpoint's scales carry over as they are.
 *
 * Numbers. Products of bf16 or fp8 are exact, sums run in double, fp8 is scaled a block of 128
 * columns at a time; the activation is computed in double; each result is rounded once, to its
 * dtype (fp8 h: 1 x 128 scales from h in float32).
 */
#ifndef MOESIM_GROUPED_GEMM_H
#define MOESIM_GROUPED_GEMM_H

#include <stdint.h>

#include "matrix.h"
#include "status.h"

#define GATE_UP_GRANULE 8
#define SWIGLU_ALPHA    1.702f /* gpt_oss, swiglu_alpha */
#define SWIGLU_LIMIT    7.0f   /* gpt_oss, swiglu_limit */

enum activation {
    ACTIVATION_SWIGLU,
    ACTIVATION_SWIGLU_CLAMPED,
    ACTIVATION_GELU,
};

struct expert_shape {
    int32_t num_experts;
    int32_t hidden_dim;
    int32_t ffn_dim; /* intermediate size of one expert: columns of gate, of up, of h */
    enum activation activation;
};

/* Rows of gate_up: 2 * ffn_dim, or ffn_dim for gelu. */
static inline int32_t gate_up_rows(struct expert_shape shape)
{
    return shape.activation == ACTIVATION_GELU ? shape.ffn_dim : 2 * shape.ffn_dim;
}

/* The row of gate_up that makes column of gate (up 0) or up (up 1). The last granule is narrower
 * when ffn_dim is no multiple of eight. */
static inline int32_t gate_up_row(struct expert_shape shape, int32_t column, int32_t up)
{
    if (shape.activation == ACTIVATION_GELU) {
        return column;
    }
    int32_t first = column - column % GATE_UP_GRANULE;
    int32_t width =
        shape.ffn_dim - first < GATE_UP_GRANULE ? shape.ffn_dim - first : GATE_UP_GRANULE;
    return 2 * first + up * width + column % GATE_UP_GRANULE;
}

/* Blocks of rows that have scales of their own in gate_up. */
static inline int32_t gate_up_blocks(struct expert_shape shape)
{
    return (shape.activation == ACTIVATION_GELU ? 1 : 2) * scale_blocks(shape.ffn_dim);
}

/* Writes row_block[gate_up_rows] as ref_quantize_weights takes it. */
void gate_up_row_blocks(struct expert_shape shape, int32_t *row_block);

/* From a checkpoint's matrices to gate_up, all experts:
 *   out   [num_experts][gate_up_rows][hidden_dim]
 *   gate  [num_experts][ffn_dim][hidden_dim]
 *   up    the same; NULL for gelu
 * Biases: with hidden_dim 1. */
void ref_interleave_gate_up(struct expert_shape shape, float *out, const float *gate,
                            const float *up);

/*   h          [rows][ffn_dim] out; rows that belong to no expert stay as they are
 *   x          [rows][hidden_dim]
 *   row_begin  [num_experts] first row of each expert
 *   num_rows   [num_experts] its rows; 0: the expert's weights are not read
 *   gate_up    weights; dtype as x
 *   bias       [num_experts][gate_up_rows], rows as gate_up's, or NULL
 * STATUS_INVALID: a dimension below 1, a negative number of rows, x and gate_up of different dtype.
 */
MUST_CHECK enum status ref_grouped_gate_up(struct expert_shape shape, struct matrix h,
                                           struct matrix x, const int32_t *row_begin,
                                           const int32_t *num_rows, struct matrix gate_up,
                                           const float *bias);

/*   y     [rows][hidden_dim] out, fp32 or bf16
 *   h     [rows][ffn_dim]
 *   down  weights; dtype as h
 *   bias  [num_experts][hidden_dim] or NULL
 * Otherwise as above. */
MUST_CHECK enum status ref_grouped_down(struct expert_shape shape, struct matrix y, struct matrix h,
                                        const int32_t *row_begin, const int32_t *num_rows,
                                        struct matrix down, const float *bias);

/* One row of either, before it is rounded: for spot checks of sizes that take the reference too
 * long. h [ffn_dim] out; y [hidden_dim] out. */
void ref_gate_up_row(struct expert_shape shape, float *h, struct matrix x, int64_t row,
                     struct matrix gate_up, int32_t expert, const float *bias);
void ref_down_row(struct expert_shape shape, float *y, struct matrix h, int64_t row,
                  struct matrix down, int32_t expert, const float *bias);

#endif
