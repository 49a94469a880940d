/*
 * moe_kernels.h -- the CUDA kernels behind a C interface. Pointers are device memory; stream is a
 * cudaStream_t. Each has a twin in reference/, which fixes the meaning of its arguments.
 */
#ifndef MOESIM_MOE_KERNELS_H
#define MOESIM_MOE_KERNELS_H

#include "combine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As ref_combine. STATUS_CUDA when the launch fails. */
MUST_CHECK enum status dev_combine(struct combine_shape shape, float *out, const float *expert_out,
                                   const int32_t *row_of, const float *gate_weight, void *stream);

#ifdef __cplusplus
}
#endif

#endif
