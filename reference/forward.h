/*
 * forward.h -- a whole MoE layer: gate, permute, experts, combine, shared experts.
 *
 *     out[t] = sum over k of gate_weight[t][k] * expert[t][k](x[t])  +  shared(x[t])
 *
 * One dtype says how everything is stored on the way:
 *
 *   fp32   all of it
 *   bf16   x, weights, h, expert outputs, out
 *   fp8    weights and what goes into a GEMM (quantised 1 x 128); x, expert outputs, out bf16
 *
 * The router and the gate are float32 always.
 */
#ifndef MOESIM_FORWARD_H
#define MOESIM_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "gate.h"
#include "grouped_gemm.h"
#include "matrix.h"
#include "status.h"

/* A layer's shape and weights; the caller's memory. */
struct moe_layer {
    enum dtype dtype; /* of the experts' weights, shared ones included */
    struct gate_rule gate;
    struct expert_shape expert;   /* num_experts as the gate's */
    int32_t shared_ffn_dim;       /* of all shared experts together; 0: none */
    bool weigh_input;             /* Llama-4: gate weights multiply what goes into an expert */
    const float *router;          /* [num_experts][hidden_dim] */
    const float *router_bias;     /* [num_experts] added to logits, or NULL */
    const float *choice_bias;     /* [num_experts] as gate.h, or NULL */
    struct matrix gate_up;        /* [num_experts][gate_up_rows][hidden_dim] as grouped_gemm.h */
    struct matrix down;           /* [num_experts][hidden_dim][ffn_dim] */
    const float *gate_up_bias;    /* [num_experts][gate_up_rows] or NULL */
    const float *down_bias;       /* [num_experts][hidden_dim] or NULL */
    struct matrix shared_gate_up; /* as one expert of shared_ffn_dim */
    struct matrix shared_down;
};

/* The dtype of x, expert outputs and out: fp32 for an fp32 layer, else bf16. */
static inline enum dtype layer_token_dtype(const struct moe_layer *layer)
{
    return layer->dtype == DTYPE_FP32 ? DTYPE_FP32 : DTYPE_BF16;
}

/* The shared experts as one expert. */
struct expert_shape layer_shared_shape(const struct moe_layer *layer);

/*   out          [num_tokens][hidden_dim] out, layer_token_dtype
 *   expert       [num_tokens][top_k] out
 *   gate_weight  [num_tokens][top_k] out
 *   x            [num_tokens][hidden_dim] layer_token_dtype
 * Scratch is not reset. STATUS_INVALID: sizes that the operations refuse, x or out of another
 * dtype; STATUS_NO_MEMORY. */
MUST_CHECK enum status ref_forward(const struct moe_layer *layer, int32_t num_tokens,
                                   struct matrix out, int32_t *expert, float *gate_weight,
                                   struct matrix x, struct arena *scratch);

/* The same with choices that are given (a trace's, or a gate's after drops) and no gate:
 *   expert  [num_tokens][top_k], EXPERT_NONE: the choice adds nothing */
MUST_CHECK enum status ref_forward_routed(const struct moe_layer *layer, int32_t num_tokens,
                                          struct matrix out, const int32_t *expert,
                                          const float *gate_weight, struct matrix x,
                                          struct arena *scratch);

#endif
