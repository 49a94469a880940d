/*
 * combine.h -- bring each token's expert outputs home and add them up, weighted by the gate.
 *
 *     out[t][h] = sum over k, in order, of gate_weight[t][k] * expert_out[row_of[t][k]][h]
 *
 * The twin of dev_combine() in kernels/moe_kernels.h: the same arguments, less the stream.
 */
#ifndef MOESIM_COMBINE_H
#define MOESIM_COMBINE_H

#include <stdint.h>

#include "matrix.h"
#include "status.h"

#define ROW_DROPPED (-1) /* this choice of the token was computed nowhere */

struct combine_shape {
    int32_t num_tokens;
    int32_t top_k;
    int32_t hidden_dim;
};

/*   out          [num_tokens][hidden_dim] out
 *   expert_out   [rows][hidden_dim]
 *   row_of       [num_tokens][top_k] row of expert_out, or ROW_DROPPED
 *   gate_weight  [num_tokens][top_k]
 * float32 throughout. STATUS_INVALID for a negative count or a dimension below 1. */
MUST_CHECK enum status ref_combine(struct combine_shape shape, float *out, const float *expert_out,
                                   const int32_t *row_of, const float *gate_weight);

/* The same for rows and outputs in fp32 or bf16, with what the shared expert made of the token:
 *
 *     out[t][h] = round(sum over k as above, in float32, + shared[t][h])
 *
 *   shared       [num_tokens][hidden_dim], or data NULL: none
 *   gate_weight  as above, or NULL: 1 for every choice (Llama-4 weighs what goes in)
 * STATUS_INVALID as above, and for fp8. */
MUST_CHECK enum status ref_combine_shared(struct combine_shape shape, struct matrix out,
                                          struct matrix expert_out, const int32_t *row_of,
                                          const float *gate_weight, struct matrix shared);

#endif
