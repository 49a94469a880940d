/* bench_cuda_peers.c -- see bench_peers.h. */
#include "bench_peers.h"

#include <cublas_v2.h>
#include <stdlib.h>

#include "lt_gemm.h"
#include "moe_kernels.h"

const char *const peer_names[] = {"cublaslt_loop", "cublas_grouped"};

/* One active expert. */
struct group {
    const char *x;
    const char *weights;
    char *out;
    int32_t expert;
    int32_t rows;
    int32_t plan;            /* of the loop */
    struct lt_scales scales; /* fp8 */
};

struct peer_gemm {
    enum peer peer;
    struct peer_shape shape;
    struct group *group; /* [num_groups] */
    int32_t num_groups;
    struct lt lt; /* the loop: a plan for each number of rows that occurs */
    struct lt_gemm *plan;
    int32_t *plan_rows;
    int32_t num_plans;
    cublasHandle_t handle; /* the grouped call: arrays by group */
    struct dev_memory memory;
    void *workspace;
    cublasOperation_t *transposed;
    cublasOperation_t *plain;
    int *columns;
    int *rows;
    int *depth;
    int *ones;
    float *alpha;
    float *beta;
    const void **dev_weights;
    const void **dev_x;
    void **dev_out;
};

bool peer_takes(enum peer peer, enum dtype dtype)
{
    return dtype == DTYPE_BF16 || (dtype == DTYPE_FP8_E4M3 && peer == PEER_CUBLASLT_LOOP);
}

static enum status list_groups(struct peer_gemm *gemm, char *out, const char *x,
                               const char *weights)
{
    const struct peer_shape *shape = &gemm->shape;
    int64_t row = 0;
    int64_t row_bytes = (int64_t)shape->depth * dtype_bytes(shape->dtype);
    gemm->group = calloc((size_t)shape->num_experts, sizeof *gemm->group);
    if (gemm->group == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t expert = 0; expert < shape->num_experts; expert++) {
        int32_t rows = shape->expert_tokens[expert];
        if (rows > 0) {
            gemm->group[gemm->num_groups++] =
                (struct group){.x = x + row * row_bytes,
                               .weights = weights + expert * shape->columns * row_bytes,
                               .out = out + row * shape->columns * 2,
                               .expert = expert,
                               .rows = rows};
        }
        row += rows;
    }
    return STATUS_OK;
}

static int32_t find_plan(const struct peer_gemm *gemm, int32_t rows)
{
    int32_t plan = 0;
    while (plan < gemm->num_plans && gemm->plan_rows[plan] != rows) {
        plan++;
    }
    return plan;
}

static int64_t up_to_four(int64_t count)
{
    return (count + 3) / 4 * 4;
}

/* Scales of all experts and of all groups' rows. */
static enum status make_scales(struct peer_gemm *gemm)
{
    int64_t depth_blocks = scale_blocks(gemm->shape.depth);
    int64_t of_expert = scale_blocks(gemm->shape.columns) * up_to_four(depth_blocks);
    int64_t of_rows = 0;
    for (int32_t i = 0; i < gemm->num_groups; i++) {
        of_rows += depth_blocks * up_to_four(gemm->group[i].rows);
    }
    int64_t of_weights = of_expert * gemm->shape.num_experts;
    float *scale = dev_alloc(&gemm->memory, (of_weights + of_rows) * 4);
    if (scale == NULL ||
        cudaMemset(scale, 0x3c, (size_t)(of_weights + of_rows) * 4) != cudaSuccess ||
        cudaStreamSynchronize(NULL) != cudaSuccess) { /* 0x3c3c3c3c is 0.0115 */
        return STATUS_CUDA;
    }
    float *of_group = scale + of_weights;
    for (int32_t i = 0; i < gemm->num_groups; i++) {
        struct group *group = &gemm->group[i];
        group->scales = (struct lt_scales){scale + of_expert * group->expert, of_group};
        of_group += depth_blocks * up_to_four(group->rows);
    }
    return STATUS_OK;
}

static enum status plan_loop(struct peer_gemm *gemm)
{
    bool fp8 = gemm->shape.dtype == DTYPE_FP8_E4M3;
    enum status status = lt_open(&gemm->lt);
    if (status == STATUS_OK && fp8) {
        status = make_scales(gemm);
    }
    gemm->plan = calloc((size_t)gemm->num_groups + 1, sizeof *gemm->plan);
    gemm->plan_rows = calloc((size_t)gemm->num_groups + 1, sizeof *gemm->plan_rows);
    if (gemm->plan == NULL || gemm->plan_rows == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < gemm->num_groups && status == STATUS_OK; i++) {
        struct group *group = &gemm->group[i];
        group->plan = find_plan(gemm, group->rows);
        if (group->plan == gemm->num_plans) {
            struct lt_shape shape = {group->rows, gemm->shape.columns, gemm->shape.depth,
                                     DTYPE_BF16, fp8};
            status = lt_gemm_plan(&gemm->plan[group->plan], &gemm->lt, shape, NULL);
            gemm->plan_rows[group->plan] = group->rows;
            gemm->num_plans++;
        }
    }
    return status;
}

static bool take_arrays(struct peer_gemm *gemm)
{
    size_t groups = (size_t)gemm->num_groups + 1;
    gemm->transposed = calloc(groups, sizeof *gemm->transposed);
    gemm->plain = calloc(groups, sizeof *gemm->plain);
    gemm->columns = calloc(groups, sizeof *gemm->columns);
    gemm->rows = calloc(groups, sizeof *gemm->rows);
    gemm->depth = calloc(groups, sizeof *gemm->depth);
    gemm->ones = calloc(groups, sizeof *gemm->ones);
    gemm->alpha = calloc(groups, sizeof *gemm->alpha);
    gemm->beta = calloc(groups, sizeof *gemm->beta);
    return gemm->transposed != NULL && gemm->plain != NULL && gemm->columns != NULL &&
           gemm->rows != NULL && gemm->depth != NULL && gemm->ones != NULL && gemm->alpha != NULL &&
           gemm->beta != NULL;
}

/* Row-major is column-major transposed: out^T[columns][rows] = weights x^T. */
static enum status plan_grouped(struct peer_gemm *gemm)
{
    const int64_t workspace_bytes = (int64_t)32 << 20;
    size_t bytes = (size_t)gemm->num_groups * sizeof(void *);
    const void **pointer = malloc(3 * bytes + 1);
    if (pointer == NULL || !take_arrays(gemm)) {
        free(pointer);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < gemm->num_groups; i++) {
        gemm->transposed[i] = CUBLAS_OP_T;
        gemm->plain[i] = CUBLAS_OP_N;
        gemm->columns[i] = gemm->shape.columns;
        gemm->rows[i] = gemm->group[i].rows;
        gemm->depth[i] = gemm->shape.depth;
        gemm->ones[i] = 1;
        gemm->alpha[i] = 1.0f;
        pointer[i] = gemm->group[i].weights;
        pointer[gemm->num_groups + i] = gemm->group[i].x;
        pointer[2 * gemm->num_groups + i] = gemm->group[i].out;
    }
    gemm->dev_weights = dev_alloc_copy(&gemm->memory, pointer, (int64_t)(3 * bytes));
    gemm->workspace = dev_alloc(&gemm->memory, workspace_bytes);
    free(pointer);
    if (gemm->memory.failed || cublasCreate(&gemm->handle) != CUBLAS_STATUS_SUCCESS ||
        cublasSetWorkspace(gemm->handle, gemm->workspace, (size_t)workspace_bytes) !=
            CUBLAS_STATUS_SUCCESS) {
        return STATUS_CUDA;
    }
    gemm->dev_x = &gemm->dev_weights[gemm->num_groups];
    gemm->dev_out = (void **)(uintptr_t)&gemm->dev_weights[2 * gemm->num_groups];
    return STATUS_OK;
}

enum status peer_create(struct peer_gemm **made, enum peer peer, struct peer_shape shape, void *out,
                        const void *x, const void *weights)
{
    struct peer_gemm *gemm = calloc(1, sizeof *gemm);
    *made = NULL;
    if (gemm == NULL) {
        return STATUS_NO_MEMORY;
    }
    gemm->peer = peer;
    gemm->shape = shape;
    enum status status = list_groups(gemm, out, x, weights);
    if (status == STATUS_OK) {
        status = peer == PEER_CUBLASLT_LOOP ? plan_loop(gemm) : plan_grouped(gemm);
    }
    if (status != STATUS_OK) {
        (void)cudaGetLastError(); /* told; must not be found by ours */
        peer_free(gemm);
        return status;
    }
    *made = gemm;
    return STATUS_OK;
}

static enum status run_loop(struct peer_gemm *gemm, cudaStream_t stream)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < gemm->num_groups && status == STATUS_OK; i++) {
        const struct group *group = &gemm->group[i];
        struct lt_gemm *plan = &gemm->plan[group->plan];
        if (gemm->shape.dtype == DTYPE_FP8_E4M3) {
            status = lt_gemm_set_scales(plan, group->scales);
        }
        if (status == STATUS_OK) {
            status = lt_gemm_run(plan, &gemm->lt, group->out, group->x, group->weights, stream);
        }
    }
    return status;
}

enum status peer_run(struct peer_gemm *gemm, cudaStream_t stream)
{
    if (gemm == NULL) {
        return STATUS_CUDA;
    }
    if (gemm->peer == PEER_CUBLASLT_LOOP) {
        return run_loop(gemm, stream);
    }
    if (gemm->num_groups == 0) {
        return STATUS_OK;
    }
    return cublasSetStream(gemm->handle, stream) == CUBLAS_STATUS_SUCCESS &&
                   cublasSetWorkspace(gemm->handle, gemm->workspace, (size_t)32 << 20) ==
                       CUBLAS_STATUS_SUCCESS &&
                   cublasGemmGroupedBatchedEx(
                       gemm->handle, gemm->transposed, gemm->plain, gemm->columns, gemm->rows,
                       gemm->depth, gemm->alpha, gemm->dev_weights, CUDA_R_16BF, gemm->depth,
                       gemm->dev_x, CUDA_R_16BF, gemm->depth, gemm->beta, gemm->dev_out,
                       CUDA_R_16BF, gemm->columns, gemm->num_groups, gemm->ones,
                       CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_SUCCESS
               ? STATUS_OK
               : STATUS_CUDA;
}

void peer_free(struct peer_gemm *gemm)
{
    if (gemm == NULL) {
        return;
    }
    for (int32_t plan = 0; plan < gemm->num_plans; plan++) {
        lt_gemm_free(&gemm->plan[plan]);
    }
    lt_close(&gemm->lt);
    if (gemm->handle != NULL) {
        cublasDestroy(gemm->handle);
    }
    dev_memory_free(&gemm->memory);
    free(gemm->group);
    free(gemm->plan);
    free(gemm->plan_rows);
    free(gemm->transposed);
    free(gemm->plain);
    free(gemm->columns);
    free(gemm->rows);
    free(gemm->depth);
    free(gemm->ones);
    free(gemm->alpha);
    free(gemm->beta);
    free(gemm);
}

enum status peer_activation_create(struct peer_activation *made, struct dev_memory *memory,
                                   struct expert_shape shape, int64_t rows, struct matrix h)
{
    *made = (struct peer_activation){.shape = shape, .rows = rows, .h = h};
    made->gate_up = dev_alloc(memory, rows * gate_up_rows(shape) * 2);
    if (h.dtype == DTYPE_BF16) {
        return memory->failed ? STATUS_CUDA : STATUS_OK;
    }
    int32_t *row_of = malloc(((size_t)rows + 1) * sizeof *row_of);
    if (row_of == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t row = 0; row < rows; row++) {
        row_of[row] = row;
    }
    made->row_of = dev_alloc_copy(memory, row_of, rows * 4);
    made->h_bf16 = dev_alloc(memory, rows * shape.ffn_dim * 2);
    free(row_of);
    return memory->failed ? STATUS_CUDA : STATUS_OK;
}

enum status peer_activate(const struct peer_activation *activation, cudaStream_t stream)
{
    bool fp8 = activation->h.dtype == DTYPE_FP8_E4M3;
    struct matrix gate_up = {.dtype = DTYPE_BF16, .data = activation->gate_up};
    struct matrix h = {.dtype = DTYPE_BF16, .data = activation->h_bf16};
    struct combine_shape rows = {(int32_t)activation->rows, 1, activation->shape.ffn_dim};
    enum status status =
        dev_activate(activation->shape, activation->rows,
                     fp8 ? activation->h_bf16 : activation->h.data, gate_up, stream);
    return status == STATUS_OK && fp8
               ? dev_permute_rows(rows, activation->h, h, activation->row_of, NULL, stream)
               : status;
}
