/* emulated_cublas.c -- the libraries that a layer and its peers call, on host memory. */
#include <cublas_v2.h>
#include <stdbool.h>
#include <stdlib.h>

#include "lt_gemm.h"
#include "quantize.h"

/* ---- cuBLASLt, as lt_gemm.h uses it: the shape is kept where the handle would be ---- */

struct plan {
    struct lt_shape shape;
    const float *bias;
};

enum status lt_open(struct lt *lt)
{
    *lt = (struct lt){0};
    return STATUS_OK;
}

void lt_close(struct lt *lt)
{
    *lt = (struct lt){0};
}

enum status lt_gemm_plan(struct lt_gemm *gemm, const struct lt *lt, struct lt_shape shape,
                         const void *bias)
{
    (void)lt;
    struct plan *plan = malloc(sizeof *plan);
    *gemm = (struct lt_gemm){.operation = (cublasLtMatmulDesc_t)(void *)plan};
    if (plan == NULL) {
        return STATUS_NO_MEMORY;
    }
    *plan = (struct plan){shape, bias};
    return STATUS_OK;
}

enum status lt_gemm_run(const struct lt_gemm *gemm, const struct lt *lt, void *out, const void *x,
                        const void *weights, void *stream)
{
    const struct plan *plan = (const void *)gemm->operation;
    const uint16_t *row = x;
    const uint16_t *column = weights;
    struct matrix to = {.dtype = plan->shape.out_dtype, .data = out};
    (void)lt;
    (void)stream;
    for (int64_t t = 0; t < plan->shape.num_tokens; t++) {
        for (int64_t n = 0; n < plan->shape.columns; n++) {
            float sum = 0.0f;
            for (int64_t k = 0; k < plan->shape.depth; k++) {
                sum += bf16_to_float(row[t * plan->shape.depth + k]) *
                       bf16_to_float(column[n * plan->shape.depth + k]);
            }
            matrix_set(to, t * plan->shape.columns + n,
                       plan->bias == NULL ? sum : sum + plan->bias[n]);
        }
    }
    return STATUS_OK;
}

enum status lt_gemm_set_scales(struct lt_gemm *gemm, struct lt_scales scales)
{
    (void)gemm;
    (void)scales;
    return STATUS_CUDA; /* bf16 only */
}

void lt_gemm_free(struct lt_gemm *gemm)
{
    free((void *)gemm->operation);
    *gemm = (struct lt_gemm){0};
}

/* ---- cuBLAS, as a peer: its product is not looked at ---- */

static const int opened = 1; /* a handle is not NULL */

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    *handle = (cublasHandle_t)(void *)(uintptr_t)&opened;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    return handle != NULL ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    (void)stream;
    return cublasDestroy_v2(handle);
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    return workspace != NULL && bytes > 0 ? cublasDestroy_v2(handle) : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasGemmGroupedBatchedEx(cublasHandle_t handle, const cublasOperation_t *transposed_a,
                           const cublasOperation_t *transposed_b, const int *m, const int *n,
                           const int *k, const void *alpha, const void *const *a,
                           cudaDataType_t a_type, const int *lda, const void *const *b,
                           cudaDataType_t b_type, const int *ldb, const void *beta, void *const *c,
                           cudaDataType_t c_type, const int *ldc, int group_count,
                           const int *group_size, cublasComputeType_t compute)
{
    bool good = compute == CUBLAS_COMPUTE_32F && a_type == CUDA_R_16BF && b_type == CUDA_R_16BF &&
                c_type == CUDA_R_16BF && *(const float *)beta == 0.0f;
    for (int group = 0; group < group_count && good; group++) {
        good = group_size[group] == 1 && transposed_a[group] == CUBLAS_OP_T &&
               transposed_b[group] == CUBLAS_OP_N && m[group] > 0 && n[group] > 0 &&
               lda[group] >= k[group] && ldb[group] >= k[group] && ldc[group] >= m[group] &&
               ((const float *)alpha)[group] == 1.0f && a[group] != NULL && b[group] != NULL &&
               c[group] != NULL;
    }
    return good ? cublasDestroy_v2(handle) : CUBLAS_STATUS_INVALID_VALUE;
}
