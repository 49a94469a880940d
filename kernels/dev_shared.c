/* dev_shared.c -- see dev_shared.h. */
#include "dev_shared.h"

#include <stdlib.h>

#include "dev_grouped_gemm.h"
#include "moe_kernels.h"

static void take(struct dev_shared *shared)
{
    struct expert_shape shape = layer_shared_shape(shared->layer);
    struct dev_memory *memory = &shared->memory;
    int64_t tokens = shared->num_tokens;
    enum dtype dtype = shared->layer->dtype;
    shared->h = dev_alloc_activations(memory, dtype, tokens, shape.ffn_dim);
    shared->y = dev_alloc_activations(memory, DTYPE_BF16, tokens, shape.hidden_dim);
    if (dtype == DTYPE_BF16) {
        shared->gate_up = dev_alloc_activations(memory, DTYPE_FP32, tokens, gate_up_rows(shape));
    } else {
        shared->x = dev_alloc_activations(memory, dtype, tokens, shape.hidden_dim);
        shared->row_of = dev_alloc(memory, tokens * 4);
        shared->row_begin = dev_alloc(memory, 4);
        shared->num_rows = dev_alloc(memory, 4);
        shared->workspace = dev_alloc(memory, shared->workspace_bytes);
    }
}

/* What the grouped kernels need for one group, tokens in their own rows. */
static enum status fill_group(struct dev_shared *shared)
{
    int32_t *row_of = malloc(((size_t)shared->num_tokens + 1) * sizeof *row_of);
    if (row_of == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t token = 0; token < shared->num_tokens; token++) {
        row_of[token] = token;
    }
    int32_t zero = 0;
    int64_t bytes = (int64_t)shared->num_tokens * 4;
    bool ok = dev_upload(shared->row_of, row_of, bytes) &&
              dev_upload(shared->row_begin, &zero, 4) &&
              dev_upload(shared->num_rows, &shared->num_tokens, 4);
    free(row_of);
    return ok ? dev_grouped_gemm_workspace_init(shared->workspace, shared->workspace_bytes, NULL)
              : STATUS_CUDA;
}

static enum status plan(struct dev_shared *shared)
{
    struct expert_shape shape = layer_shared_shape(shared->layer);
    /* fp32: the activation is of unrounded sums, as in the grouped GEMMs' epilogue */
    struct lt_shape gate_up = {shared->num_tokens, gate_up_rows(shape), shape.hidden_dim,
                               DTYPE_FP32, false};
    struct lt_shape down = {shared->num_tokens, shape.hidden_dim, shape.ffn_dim, DTYPE_BF16, false};
    enum status status = lt_open(&shared->lt);
    if (status == STATUS_OK) {
        status = lt_gemm_plan(&shared->gate_up_gemm, &shared->lt, gate_up, NULL);
    }
    return status == STATUS_OK ? lt_gemm_plan(&shared->down_gemm, &shared->lt, down, NULL) : status;
}

enum status dev_shared_create(struct dev_shared *shared, const struct moe_layer *layer,
                              int32_t num_tokens, int64_t workspace_bytes)
{
    *shared = (struct dev_shared){0};
    if (layer->shared_ffn_dim == 0) {
        return STATUS_OK;
    }
    shared->layer = layer;
    shared->num_tokens = num_tokens;
    shared->workspace_bytes = workspace_bytes;
    take(shared);
    if (shared->memory.failed ||
        cudaStreamCreateWithFlags(&shared->stream, cudaStreamNonBlocking) != cudaSuccess ||
        cudaEventCreateWithFlags(&shared->fork, cudaEventDisableTiming) != cudaSuccess ||
        cudaEventCreateWithFlags(&shared->join, cudaEventDisableTiming) != cudaSuccess) {
        return STATUS_CUDA;
    }
    return layer->dtype == DTYPE_BF16 ? plan(shared) : fill_group(shared);
}

void dev_shared_free(struct dev_shared *shared)
{
    lt_gemm_free(&shared->gate_up_gemm);
    lt_gemm_free(&shared->down_gemm);
    lt_close(&shared->lt);
    if (shared->stream != NULL) {
        cudaStreamDestroy(shared->stream);
    }
    if (shared->fork != NULL) {
        cudaEventDestroy(shared->fork);
    }
    if (shared->join != NULL) {
        cudaEventDestroy(shared->join);
    }
    dev_memory_free(&shared->memory);
    *shared = (struct dev_shared){0};
}

static enum status run_fp8(struct dev_shared *shared, struct matrix x, int32_t num_sms,
                           uint32_t without)
{
    struct expert_shape shape = layer_shared_shape(shared->layer);
    struct combine_shape rows = {shared->num_tokens, 1, shape.hidden_dim};
    struct grouped_gemm_run run = {.version = GROUPED_GEMM_AUTOMATIC,
                                   .num_sms = num_sms,
                                   .rows = shared->num_tokens,
                                   .without = without,
                                   .workspace = shared->workspace,
                                   .workspace_bytes = shared->workspace_bytes};
    enum status status = dev_permute_rows(rows, shared->x, x, shared->row_of, NULL, shared->stream);
    if (status == STATUS_OK) {
        status =
            dev_grouped_gate_up(shape, shared->h, shared->x, shared->row_begin, shared->num_rows,
                                shared->layer->shared_gate_up, NULL, &run, shared->stream);
    }
    return status == STATUS_OK
               ? dev_grouped_down(shape, shared->y, shared->h, shared->row_begin, shared->num_rows,
                                  shared->layer->shared_down, NULL, &run, shared->stream)
               : status;
}

static enum status run_bf16(struct dev_shared *shared, struct matrix x)
{
    enum status status = lt_gemm_run(&shared->gate_up_gemm, &shared->lt, shared->gate_up.data,
                                     x.data, shared->layer->shared_gate_up.data, shared->stream);
    if (status == STATUS_OK) {
        status = dev_activate(layer_shared_shape(shared->layer), shared->num_tokens, shared->h.data,
                              shared->gate_up, shared->stream);
    }
    return status == STATUS_OK
               ? lt_gemm_run(&shared->down_gemm, &shared->lt, shared->y.data, shared->h.data,
                             shared->layer->shared_down.data, shared->stream)
               : status;
}

enum status dev_shared_fork(struct dev_shared *shared, struct matrix x, int32_t num_sms,
                            uint32_t without, cudaStream_t stream)
{
    if (shared->layer == NULL) {
        return STATUS_OK;
    }
    if (cudaEventRecord(shared->fork, stream) != cudaSuccess ||
        cudaStreamWaitEvent(shared->stream, shared->fork, 0) != cudaSuccess) {
        return STATUS_CUDA;
    }
    enum status status = shared->layer->dtype == DTYPE_BF16 ? run_bf16(shared, x)
                                                            : run_fp8(shared, x, num_sms, without);
    return status == STATUS_OK && cudaEventRecord(shared->join, shared->stream) != cudaSuccess
               ? STATUS_CUDA
               : status;
}

enum status dev_shared_join(struct dev_shared *shared, cudaStream_t stream)
{
    return shared->layer == NULL || cudaStreamWaitEvent(stream, shared->join, 0) == cudaSuccess
               ? STATUS_OK
               : STATUS_CUDA;
}
