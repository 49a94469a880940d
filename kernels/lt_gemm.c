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

/* Of TN products alone, which ours are. The library may look at the pointers when it chooses: until
 * lt_gemm_set_scales they are some device memory, aligned as scales are. */
static int describe_scales(struct lt_gemm *gemm, const struct lt *lt)
{
#if CUBLAS_VERSION >= 120900
    int32_t weights = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
    int32_t x = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    return set(gemm->operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &weights, sizeof weights) &&
           set(gemm->operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &x, sizeof x) &&
           lt_gemm_set_scales(gemm, (struct lt_scales){lt->workspace, lt->workspace}) == STATUS_OK;
#else
    (void)gemm;
    (void)lt;
    return 0;
#endif
}

static int describe(struct lt_gemm *gemm, const struct lt *lt, struct lt_shape shape,
                    const void *bias)
{
    cudaDataType_t in = shape.fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
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
    ok = ok && (!shape.fp8 || describe_scales(gemm, lt));
    return ok &&
           cublasLtMatrixLayoutCreate(&gemm->weights, in, depth, columns, shape.depth) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&gemm->x, in, depth, tokens, shape.depth) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&gemm->out, out, columns, tokens, shape.columns) ==
               CUBLAS_STATUS_SUCCESS;
}

/* What every row of so many bytes begins at a multiple of, of whatever cudaMalloc aligns to. The
 * preference's default, 256, does not hold where operands begin at a row. */
static uint32_t row_alignment(int64_t row_bytes)
{
    return row_bytes % 256 == 0 ? 256 : (uint32_t)(row_bytes & -row_bytes);
}

static int prefer(cublasLtMatmulPreference_t preference, const struct lt *lt, struct lt_shape shape)
{
    size_t bytes = (size_t)lt->workspace_bytes;
    uint32_t in = row_alignment(shape.depth * (shape.fp8 ? 1 : 2));
    uint32_t out = row_alignment(shape.columns * dtype_bytes(shape.out_dtype));
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &in, sizeof in},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &in, sizeof in},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out, sizeof out},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out, sizeof out},
    };
    int ok = 1;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        ok = ok &&
             cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].attribute, wishes[i].value,
                                                  wishes[i].bytes) == CUBLAS_STATUS_SUCCESS;
    }
    return ok;
}

static int choose(struct lt_gemm *gemm, const struct lt *lt, struct lt_shape shape)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    int ok = cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
             prefer(preference, lt, shape) &&
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
    if (!describe(gemm, lt, shape, bias) || !choose(gemm, lt, shape)) {
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

enum status lt_gemm_set_scales(struct lt_gemm *gemm, struct lt_scales scales)
{
    return set(gemm->operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &scales.weights,
               sizeof scales.weights) &&
                   set(gemm->operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &scales.x,
                       sizeof scales.x)
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
