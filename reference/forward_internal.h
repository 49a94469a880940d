/*
 * forward_internal.h -- the parts of a layer that one rank and many have in common.
 */
#ifndef MOESIM_FORWARD_INTERNAL_H
#define MOESIM_FORWARD_INTERNAL_H

#include "forward.h"
#include "permute.h"

/* Tokens as rows, by expert or slot; memory of the arena that was given. */
struct permutation {
    int32_t *num_rows;  /* [groups] */
    int32_t *row_begin; /* [groups + 1] */
    int32_t *row_of;    /* [num_tokens][top_k] */
    struct matrix x;    /* [rows][hidden_dim], the layer's dtype */
};

/* Router and gate. */
enum status layer_route(const struct moe_layer *layer, int32_t num_tokens, int32_t *expert,
                        float *gate_weight, struct matrix x, struct arena *scratch);

/* Sorts x by expert (or slot: shape.num_experts counts them), weighs and rounds it. */
enum status layer_permute(const struct moe_layer *layer, struct permute_shape shape,
                          struct permutation *made, const int32_t *expert, const float *gate_weight,
                          struct matrix x, struct arena *scratch);

/* y [rows][hidden_dim] of the layer's experts for x [rows][hidden_dim]. */
enum status layer_experts(const struct moe_layer *layer, int32_t rows, struct matrix *y,
                          struct matrix x, const int32_t *row_begin, const int32_t *num_rows,
                          struct arena *scratch);

/* out = weighted sum of y and what the shared experts make of x. */
enum status layer_combine(const struct moe_layer *layer, int32_t num_tokens, struct matrix out,
                          struct matrix y, const int32_t *row_of, const float *gate_weight,
                          struct matrix x, struct arena *scratch);

#endif
