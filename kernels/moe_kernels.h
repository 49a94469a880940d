/*
 * moe_kernels.h -- the CUDA kernels behind a C interface. Pointers are device memory; stream is a
 * cudaStream_t. Each has a twin in reference/, which fixes the meaning of its arguments.
 */
#ifndef MOESIM_MOE_KERNELS_H
#define MOESIM_MOE_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "combine.h"
#include "gate.h"
#include "grouped_gemm.h"
#include "permute.h"

/* A ladder's versions: 1 is the plain kernel, the last the fast one, which the function without a
 * version takes. STATUS_INVALID: no such version, or what the twin refuses; STATUS_CUDA: a launch
 * fails. What kernels cannot see without waiting (an expert out of range) is undefined. */
#define DEV_GATE_VERSIONS    3
#define DEV_PERMUTE_VERSIONS 3
#define DEV_ROWS_VERSIONS    2
#define DEV_COMBINE_VERSIONS 2

/* As ref_gate: choices equal, weights within float32 rounding. */
MUST_CHECK enum status dev_gate(struct gate_rule rule, int32_t num_tokens, int32_t *expert,
                                float *gate_weight, const float *logits, const float *choice_bias,
                                void *stream);
MUST_CHECK enum status dev_gate_version(int32_t version, struct gate_rule rule, int32_t num_tokens,
                                        int32_t *expert, float *gate_weight, const float *logits,
                                        const float *choice_bias, void *stream);

/* As ref_permute, bit for bit.
 *   work  [dev_permute_work(shape)] bytes; contents arbitrary */
MUST_CHECK enum status dev_permute(struct permute_shape shape, int32_t *num_rows,
                                   int32_t *row_begin, int32_t *row_of, int32_t *token_of,
                                   const int32_t *expert, void *work, void *stream);
MUST_CHECK enum status dev_permute_version(int32_t version, struct permute_shape shape,
                                           int32_t *num_rows, int32_t *row_begin, int32_t *row_of,
                                           int32_t *token_of, const int32_t *expert, void *work,
                                           void *stream);
int64_t dev_permute_work(struct permute_shape shape);

/* As ref_permute_rows, bit for bit, but from the side of the tokens: each is read once and written
 * to its rows.
 *   out          [rows][hidden_dim] bf16 or fp8; rows of no token stay as they are
 *   x            [num_tokens][hidden_dim] bf16
 *   row_of       [num_tokens][top_k], ROW_DROPPED: nowhere
 *   gate_weight  [num_tokens][top_k] what a copy is multiplied by before rounding, or NULL
 * STATUS_INVALID also for fp32. */
MUST_CHECK enum status dev_permute_rows(struct combine_shape shape, struct matrix out,
                                        struct matrix x, const int32_t *row_of,
                                        const float *gate_weight, void *stream);
MUST_CHECK enum status dev_permute_rows_version(int32_t version, struct combine_shape shape,
                                                struct matrix out, struct matrix x,
                                                const int32_t *row_of, const float *gate_weight,
                                                void *stream);

/* As ref_combine_shared, bit for bit: fp32 or bf16. */
MUST_CHECK enum status dev_combine(struct combine_shape shape, struct matrix out,
                                   struct matrix expert_out, const int32_t *row_of,
                                   const float *gate_weight, struct matrix shared, void *stream);
MUST_CHECK enum status dev_combine_version(int32_t version, struct combine_shape shape,
                                           struct matrix out, struct matrix expert_out,
                                           const int32_t *row_of, const float *gate_weight,
                                           struct matrix shared, void *stream);

/* h[num_rows][ffn_dim] bf16 = activation of gate_up[num_rows][gate_up_rows], fp32 or bf16, laid out
 * as reference/grouped_gemm.h has its rows. */
MUST_CHECK enum status dev_activate(struct expert_shape shape, int64_t num_rows, uint16_t *h,
                                    struct matrix gate_up, void *stream);

#ifdef __cplusplus
}
#endif

#endif
