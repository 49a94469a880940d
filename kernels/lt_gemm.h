/*
 * lt_gemm.h -- dense GEMMs by cuBLASLt, the ones that are not worth writing: the router, shared
 * experts, and the yardstick that grouped GEMMs are held against.
 *
 *     out[t][n] = sum over k of x[t][k] * weights[n][k]  (+ bias[n])
 */
#ifndef MOESIM_LT_GEMM_H
#define MOESIM_LT_GEMM_H

#include <cublasLt.h>
#include <stdint.h>

#include "matrix.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A library handle and a workspace that calls on one stream share. */
struct lt {
    cublasLtHandle_t handle;
    void *workspace;
    int64_t workspace_bytes;
};

MUST_CHECK enum status lt_open(struct lt *lt); /* STATUS_CUDA: no device, no memory */
void lt_close(struct lt *lt);                  /* safe on zero and twice */

struct lt_gemm {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t weights;
    cublasLtMatrixLayout_t x;
    cublasLtMatrixLayout_t out;
    cublasLtMatmulAlgo_t algorithm;
};

struct lt_shape {
    int64_t num_tokens;   /* t */
    int64_t columns;      /* n */
    int64_t depth;        /* k */
    enum dtype out_dtype; /* fp32 or bf16; weights and x are bf16 */
};

/* Plans a product of a shape: the algorithm is cuBLASLt's first choice, so one plan is one sequence
 * of kernels. bias [columns] of out_dtype in device memory, or NULL. STATUS_CUDA: none fits. */
MUST_CHECK enum status lt_gemm_plan(struct lt_gemm *gemm, const struct lt *lt,
                                    struct lt_shape shape, const void *bias);
MUST_CHECK enum status lt_gemm_run(const struct lt_gemm *gemm, const struct lt *lt, void *out,
                                   const void *x, const void *weights, void *stream);
void lt_gemm_free(struct lt_gemm *gemm); /* safe on zero and twice */

#ifdef __cplusplus
}
#endif

#endif
