/* lt_gemm.c -- row-major matrices are cuBLAS's column-major ones transposed: out^T = weights x^T.
 */
#include "lt_gemm.h"

#include <cuda_runtime_api.h>
#include <string.h>

/* 32 MiB: what cuBLAS itself takes on Hopper. */
#define WORKSPACE_BYTES ((int64_t)32 << 20)

enum status lt_open(struct lt *lt)
{
    *lt = (struct lt){.workspace_bytes = WORKSPACE_BYTES};
    if (cublasLtCreate(&lt->handle) != CUBLAS_STATUS_SUCCESS) {
        lt->handle = NULL;
        return STATUS_CUDA;
    }
    if (cudaMalloc(&lt->workspace, (size_t)lt->workspace_bytes) != cudaSuccess) {
        lt->workspace = NULL;
        lt_close(lt);
        return STATUS_CUDA;
    }
    return STATUS_OK;
}

void lt_close(struct lt *lt)
{
    if (lt->handle != NULL) {
        cublasLtDestroy(lt->handle);
    }
    cudaFree(lt->workspace);
    *lt = (struct lt){0};
}

static int set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
               const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(operation, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

static int describe(struct lt_gemm *gemm, struct lt_shape shape, const void *bias)
{
    cudaDataType_t out = shape.out_dtype == DTYPE_FP32 ? CUDA_R_32F : CUDA_R_16BF;
    uint64_t tokens = (uint64_t)shape.num_tokens;
    uint64_t columns = (uint64_t)shape.columns;
    uint64_t depth = (uint64_t)shape.depth;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    int ok = cublasLtMatmulDescCreate(&gemm->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
             CUBLAS_STATUS_SUCCESS;
    ok = ok && set(gemm->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (ok && bias != NULL) {
        ok = set(gemm->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
             set(gemm->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias) &&
             set(gemm->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out);
    }
    return ok &&
           cublasLtMatrixLayoutCreate(&gemm->weights, CUDA_R_16BF, depth, columns, shape.depth) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&gemm->x, CUDA_R_16BF, depth, tokens, shape.depth) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&gemm->out, out, columns, tokens, shape.columns) ==
               CUBLAS_STATUS_SUCCESS;
}

static int choose(struct lt_gemm *gemm, const struct lt *lt)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    size_t bytes = (size_t)lt->workspace_bytes;
    int ok =
        cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &bytes, sizeof bytes) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulAlgoGetHeuristic(lt->handle, gemm->operation, gemm->weights, gemm->x,
                                       gemm->out, gemm->out, preference, 1, &result,
                                       &found) == CUBLAS_STATUS_SUCCESS &&
        found == 1;
    if (ok) {
        gemm->algorithm = result.algo;
    }
    if (preference != NULL) {
        cublasLtMatmulPreferenceDestroy(preference);
    }
    return ok;
}

enum status lt_gemm_plan(struct lt_gemm *gemm, const struct lt *lt, struct lt_shape shape,
                         const void *bias)
{
    *gemm = (struct lt_gemm){0};
    if (!describe(gemm, shape, bias) || !choose(gemm, lt)) {
        lt_gemm_free(gemm);
        return STATUS_CUDA;
    }
    return STATUS_OK;
}

enum status lt_gemm_run(const struct lt_gemm *gemm, const struct lt *lt, void *out, const void *x,
                        const void *weights, void *stream)
{
    const float one = 1.0f;
    const float zero = 0.0f;
    return cublasLtMatmul(lt->handle, gemm->operation, &one, weights, gemm->weights, x, gemm->x,
                          &zero, out, gemm->out, out, gemm->out, &gemm->algorithm, lt->workspace,
                          (size_t)lt->workspace_bytes,
                          (cudaStream_t)stream) == CUBLAS_STATUS_SUCCESS
               ? STATUS_OK
               : STATUS_CUDA;
}

void lt_gemm_free(struct lt_gemm *gemm)
{
    if (gemm->operation != NULL) {
        cublasLtMatmulDescDestroy(gemm->operation);
    }
    if (gemm->weights != NULL) {
        cublasLtMatrixLayoutDestroy(gemm->weights);
    }
    if (gemm->x != NULL) {
        cublasLtMatrixLayoutDestroy(gemm->x);
    }
    if (gemm->out != NULL) {
        cublasLtMatrixLayoutDestroy(gemm->out);
    }
    *gemm = (struct lt_gemm){0};
}
