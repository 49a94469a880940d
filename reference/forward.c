/* forward.c -- the operations of a layer, one after the other. */
#include "forward_internal.h"

#include <stddef.h>

#include "combine.h"
#include "quantize.h"

struct expert_shape layer_shared_shape(const struct moe_layer *layer)
{
    struct expert_shape shape = layer->expert;
    shape.num_experts = 1;
    shape.ffn_dim = layer->shared_ffn_dim;
    return shape;
}

enum status layer_route(const struct moe_layer *layer, int32_t num_tokens, int32_t *expert,
                        float *gate_weight, struct matrix x, struct arena *scratch)
{
    if (num_tokens < 0 || !gate_rule_valid(&layer->gate) ||
        layer->gate.num_experts != layer->expert.num_experts) {
        return STATUS_INVALID;
    }
    int32_t num_experts = layer->gate.num_experts;
    float *logits = arena_take(scratch, (size_t)num_tokens, (size_t)num_experts * sizeof *logits);
    if (logits == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_router_logits(num_tokens, num_experts, layer->expert.hidden_dim,
                                           logits, x, layer->router, layer->router_bias);
    return status != STATUS_OK
               ? status
               : ref_gate(layer->gate, num_tokens, expert, gate_weight, logits, layer->choice_bias);
}

enum status layer_experts(const struct moe_layer *layer, int32_t rows, struct matrix *y,
                          struct matrix x, const int32_t *row_begin, const int32_t *num_rows,
                          struct arena *scratch)
{
    struct matrix h = matrix_take(scratch, layer->dtype, rows, layer->expert.ffn_dim);
    *y = matrix_take(scratch, layer_token_dtype(layer), rows, layer->expert.hidden_dim);
    if (h.data == NULL || y->data == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_grouped_gate_up(layer->expert, h, x, row_begin, num_rows,
                                             layer->gate_up, layer->gate_up_bias);
    return status != STATUS_OK ? status
                               : ref_grouped_down(layer->expert, *y, h, row_begin, num_rows,
                                                  layer->down, layer->down_bias);
}

/* The shared experts see every token, in its own row: one expert of a layer without gate. */
static enum status run_shared(const struct moe_layer *layer, int32_t num_tokens, struct matrix *out,
                              struct matrix x, struct arena *scratch)
{
    *out = (struct matrix){0};
    if (layer->shared_ffn_dim == 0) {
        return STATUS_OK;
    }
    struct moe_layer shared = {.dtype = layer->dtype,
                               .expert = layer_shared_shape(layer),
                               .gate_up = layer->shared_gate_up,
                               .down = layer->shared_down};
    int32_t hidden_dim = layer->expert.hidden_dim;
    struct matrix in = matrix_take(scratch, layer->dtype, num_tokens, hidden_dim);
    if (in.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_quantize_activations(num_tokens, hidden_dim, in, x);
    const int32_t row_begin = 0;
    return status != STATUS_OK
               ? status
               : layer_experts(&shared, num_tokens, out, in, &row_begin, &num_tokens, scratch);
}

enum status layer_combine(const struct moe_layer *layer, int32_t num_tokens, struct matrix out,
                          struct matrix y, const int32_t *row_of, const float *gate_weight,
                          struct matrix x, struct arena *scratch)
{
    struct combine_shape shape = {num_tokens, layer->gate.top_k, layer->expert.hidden_dim};
    struct matrix shared;
    enum status status = run_shared(layer, num_tokens, &shared, x, scratch);
    return status != STATUS_OK
               ? status
               : ref_combine_shared(shape, out, y, row_of, layer->weigh_input ? NULL : gate_weight,
                                    shared);
}

enum status layer_permute(const struct moe_layer *layer, struct permute_shape shape,
                          struct permutation *made, const int32_t *expert, const float *gate_weight,
                          struct matrix x, struct arena *scratch)
{
    if (!permute_shape_valid(shape)) {
        return STATUS_INVALID;
    }
    size_t choices = (size_t)shape.num_tokens * (size_t)shape.top_k;
    size_t rows_max = (size_t)permute_rows_max(shape);
    int32_t hidden_dim = layer->expert.hidden_dim;
    made->num_rows = arena_take(scratch, (size_t)shape.num_experts, sizeof(int32_t));
    made->row_begin = arena_take(scratch, (size_t)shape.num_experts + 1, sizeof(int32_t));
    made->row_of = arena_take(scratch, choices, sizeof(int32_t));
    int32_t *token_of = arena_take(scratch, rows_max, sizeof *token_of);
    float *row_weight = arena_take(scratch, rows_max, sizeof *row_weight);
    made->x = matrix_take(scratch, layer->dtype, (int64_t)rows_max, hidden_dim);
    if (made->num_rows == NULL || made->row_begin == NULL || made->row_of == NULL ||
        token_of == NULL || row_weight == NULL || made->x.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status =
        ref_permute(shape, made->num_rows, made->row_begin, made->row_of, token_of, expert);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < choices; i++) {
        if (made->row_of[i] != ROW_DROPPED) {
            row_weight[made->row_of[i]] = gate_weight[i];
        }
    }
    return ref_permute_rows(made->row_begin[shape.num_experts], hidden_dim, made->x, x, token_of,
                            layer->weigh_input ? row_weight : NULL);
}

enum status ref_forward_routed(const struct moe_layer *layer, int32_t num_tokens, struct matrix out,
                               const int32_t *expert, const float *gate_weight, struct matrix x,
                               struct arena *scratch)
{
    struct permute_shape shape = {num_tokens, layer->gate.top_k, layer->expert.num_experts, 1};
    struct permutation made;
    struct matrix y;
    if (x.dtype != layer_token_dtype(layer) || out.dtype != layer_token_dtype(layer)) {
        return STATUS_INVALID;
    }
    enum status status = layer_permute(layer, shape, &made, expert, gate_weight, x, scratch);
    if (status == STATUS_OK) {
        status = layer_experts(layer, made.row_begin[shape.num_experts], &y, made.x, made.row_begin,
                               made.num_rows, scratch);
    }
    if (status == STATUS_OK) {
        status = layer_combine(layer, num_tokens, out, y, made.row_of, gate_weight, x, scratch);
    }
    return status;
}

enum status ref_forward(const struct moe_layer *layer, int32_t num_tokens, struct matrix out,
                        int32_t *expert, float *gate_weight, struct matrix x, struct arena *scratch)
{
    enum status status = layer_route(layer, num_tokens, expert, gate_weight, x, scratch);
    return status != STATUS_OK
               ? status
               : ref_forward_routed(layer, num_tokens, out, expert, gate_weight, x, scratch);
}
