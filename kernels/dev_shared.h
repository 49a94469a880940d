/*
 * dev_shared.h -- the shared expert, on a stream of its own beside the routed ones.
 *
 * bf16: two dense GEMMs by cuBLASLt and the activation between. fp8: the grouped kernels, as a
 * group of one.
 */
#ifndef MOESIM_DEV_SHARED_H
#define MOESIM_DEV_SHARED_H

#include <cuda_runtime_api.h>

#include "dev_memory.h"
#include "forward.h"
#include "lt_gemm.h"

/* Zero: there is no shared expert, and all of the below does nothing. */
struct dev_shared {
    const struct moe_layer *layer;
    int32_t num_tokens;
    cudaStream_t stream;
    cudaEvent_t fork;
    cudaEvent_t join;
    struct lt lt;
    struct lt_gemm gate_up_gemm;
    struct lt_gemm down_gemm;
    struct dev_memory memory;
    struct matrix gate_up; /* bf16: [num_tokens][gate_up_rows] fp32 */
    struct matrix x;       /* fp8: [num_tokens][hidden_dim] quantised */
    struct matrix h;       /* [num_tokens][ffn_dim] */
    struct matrix y;       /* [num_tokens][hidden_dim] bf16: the result */
    int32_t *row_of;       /* fp8: [num_tokens] each token's row is its own */
    int32_t *row_begin;    /* fp8: {0} */
    int32_t *num_rows;     /* fp8: {num_tokens} */
    void *workspace;       /* fp8: of the grouped GEMMs */
    int64_t workspace_bytes;
};

/* layer must outlive it. STATUS_CUDA: memory or a plan; STATUS_NO_MEMORY. */
MUST_CHECK enum status dev_shared_create(struct dev_shared *shared, const struct moe_layer *layer,
                                         int32_t num_tokens, int64_t workspace_bytes);
void dev_shared_free(struct dev_shared *shared);

/* Starts it beside the stream, after what the stream holds; num_sms as grouped_gemm_run. */
MUST_CHECK enum status dev_shared_fork(struct dev_shared *shared, struct matrix x, int32_t num_sms,
                                       uint32_t without, cudaStream_t stream);
/* Makes the stream wait for it. */
MUST_CHECK enum status dev_shared_join(struct dev_shared *shared, cudaStream_t stream);

#endif
