/*
 * dev_layer.h -- a whole MoE layer on the GPU: kernels of this folder and cuBLASLt, one CUDA graph.
 *
 *     router (cuBLASLt) -> gate -> permute -> rows -> gate_up -> down -> combine
 *     shared expert     -------------------------------------->  (second stream) ^
 *
 * The twin of ref_forward and ref_forward_routed. Nothing waits for the GPU between the first and
 * the last kernel, so dev_layer_run can be captured. The shared expert needs x alone: it starts
 * with the router and ends before combine. In bf16 it is two dense GEMMs by cuBLASLt; in fp8 the
 * grouped kernels do it as a group of one, because cuBLASLt knows no scales of gate and up in
 * turns.
 *
 * Numbers: router weights are bf16 (as checkpoints have them), logits float32.
 */
#ifndef MOESIM_DEV_LAYER_H
#define MOESIM_DEV_LAYER_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "dev_grouped_gemm.h"
#include "forward.h"
#include "status.h"

enum dev_phase {
    DEV_PHASE_ROUTER,
    DEV_PHASE_GATE,
    DEV_PHASE_PERMUTE,
    DEV_PHASE_ROWS,
    DEV_PHASE_GATE_UP,
    DEV_PHASE_DOWN,
    DEV_PHASE_COMBINE, /* with the wait for the shared expert */
    DEV_PHASE_COUNT,
};

const char *dev_phase_name(enum dev_phase phase);

/* Device memory, the caller's. layer.router is not read: router is. dtype bf16 or fp8. */
struct dev_weights {
    struct moe_layer layer;
    const uint16_t *router; /* [num_experts][hidden_dim] bf16 */
};

struct dev_layer_options {
    enum grouped_gemm_version gate_up;
    enum grouped_gemm_version down;
    int32_t num_sms;   /* for the grouped GEMMs; 0: all */
    int32_t row_align; /* 0: 1 */
    uint32_t without;  /* versions that automatic passes over: bit 1 << version */
};

/* What the gate chose and where rows went; device memory, the layer's. */
struct dev_layer_route {
    float *logits;      /* [num_tokens][num_experts] */
    int32_t *expert;    /* [num_tokens][top_k] */
    float *gate_weight; /* [num_tokens][top_k] */
    int32_t *num_rows;  /* [num_experts] */
    int32_t *row_begin; /* [num_experts + 1] */
    int32_t *row_of;    /* [num_tokens][top_k] */
    int32_t *token_of;  /* [permute_rows_max] */
    struct matrix x;    /* [permute_rows_max][hidden_dim] of the weights' dtype */
    struct matrix h;    /* [permute_rows_max][ffn_dim] */
    struct matrix y;    /* [permute_rows_max][hidden_dim] bf16 */
};

struct dev_layer;

/* All memory for a number of tokens, on the current device. STATUS_CUDA: a call failed, often for
 * want of memory; STATUS_INVALID: a shape or dtype that the kernels do not take; STATUS_NO_MEMORY:
 * of the host's. */
MUST_CHECK enum status dev_layer_create(struct dev_layer **layer, const struct dev_weights *weights,
                                        int32_t num_tokens, const struct dev_layer_options *options,
                                        struct error *error);
void dev_layer_free(struct dev_layer *layer); /* NULL: does nothing */

const struct dev_layer_route *dev_layer_route(const struct dev_layer *layer);
int64_t dev_layer_bytes(const struct dev_layer *layer); /* of device memory */

/* Enqueues the layer.
 *   out     [num_tokens][hidden_dim] bf16
 *   x       [num_tokens][hidden_dim] bf16
 *   expert, gate_weight  [num_tokens][top_k] to replay instead of the gate's, which still runs; or
 *           NULL
 *   mark    [DEV_PHASE_COUNT + 1] events recorded before the first phase and after each; or NULL.
 *           In a capture they become nodes of the graph. */
MUST_CHECK enum status dev_layer_run(struct dev_layer *layer, void *out, const void *x,
                                     const int32_t *expert, const float *gate_weight,
                                     const cudaEvent_t *mark, cudaStream_t stream);

/* The router's GEMM alone, into route.logits. */
MUST_CHECK enum status dev_layer_run_router(struct dev_layer *layer, const void *x,
                                            cudaStream_t stream);

/* Makes dev_layer_run call run for the phases gate_up and down, instead of the grouped GEMMs: so
 * that others' can be tried in the same layer. NULL: ours again. */
void dev_layer_replace_experts(struct dev_layer *layer,
                               enum status (*run)(void *context, enum dev_phase phase,
                                                  cudaStream_t stream),
                               void *context);

#endif
