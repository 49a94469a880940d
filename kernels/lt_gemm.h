/*
 * lt_gemm.h -- dense GEMMs by cuBLASLt, the ones that are not worth writing: the router, shared
 * experts, and the yardstick that grouped GEMMs are held against.
 *
 *     out[t][n] = sum over k of x[t][k] * weights[n][k]  (+ bias[n])
 */
#ifndef MOESIM_LT_GEMM_H
#define MOESIM_LT_GEMM_H

#include <cublasLt.h>
#include <stdbool.h>
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
    enum dtype out_dtype; /* fp32 or bf16 */
    bool fp8;             /* weights and x: e4m3 with block scales; else bf16 */
};

/* Scales of fp8 in cuBLASLt's own order, device memory. Weights: a float32 for 128 x 128, [ceil(n /
 * 128)][ceil(k / 128) up to a multiple of four]; x: for 1 x 128, [ceil(k / 128)][t up to a multiple
 * of four]. */
struct lt_scales {
    const float *weights;
    const float *x;
};

/* Plans a product of a shape: the algorithm is cuBLASLt's first choice, so one plan is one sequence
 * of kernels. bias [columns] of out_dtype in device memory, or NULL. Operands may begin at any of
 * their rows. STATUS_CUDA: none fits; fp8 needs CUDA 12.9. */
MUST_CHECK enum status lt_gemm_plan(struct lt_gemm *gemm, const struct lt *lt,
                                    struct lt_shape shape, const void *bias);
MUST_CHECK enum status lt_gemm_run(const struct lt_gemm *gemm, const struct lt *lt, void *out,
                                   const void *x, const void *weights, void *stream);
/* For the runs from here on; fp8 only. */
MUST_CHECK enum status lt_gemm_set_scales(struct lt_gemm *gemm, struct lt_scales scales);
void lt_gemm_free(struct lt_gemm *gemm); /* safe on zero and twice */

#ifdef __cplusplus
}
#endif

#endif
