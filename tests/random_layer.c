/* random_layer.c -- layers for tests. */
#include "random_layer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "quantize.h"

/* Roughly normal, of variance 1: twelve uniform numbers. */
static float random_normal(void)
{
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) {
        sum += (float)rand() / (float)RAND_MAX;
    }
    return sum;
}

static float *random_floats(int64_t count, float spread, struct arena *arena)
{
    float *value = arena_take(arena, (size_t)count, sizeof *value);
    cr_assert_not_null(value);
    for (int64_t i = 0; i < count; i++) {
        value[i] = random_normal() * spread;
    }
    return value;
}

static struct matrix weights(enum dtype dtype, int32_t num_experts, int32_t rows, int32_t columns,
                             const float *in, const int32_t *row_block, int32_t num_blocks,
                             struct arena *arena)
{
    int64_t all_rows = (int64_t)num_experts * rows;
    struct matrix out = matrix_take(arena, dtype, all_rows, columns);
    if (dtype == DTYPE_FP8_E4M3) {
        size_t expert_scales = (size_t)num_blocks * (size_t)scale_blocks(columns);
        out.scale = arena_take(arena, (size_t)num_experts, expert_scales * sizeof(float));
    }
    cr_assert(out.data != NULL);
    cr_assert_eq(ref_quantize_weights(num_experts, rows, columns, out, in, row_block, num_blocks),
                 STATUS_OK);
    return out;
}

/* gate, up and down as a checkpoint has them -> the layer's layout and dtype. */
static void set_experts(enum dtype dtype, struct expert_shape shape, struct matrix *gate_up,
                        struct matrix *down, const float *gate, const float *up,
                        const float *down_in, struct arena *arena)
{
    int32_t rows = gate_up_rows(shape);
    int64_t count = (int64_t)shape.num_experts * rows * shape.hidden_dim;
    float *joined = arena_take(arena, (size_t)count, sizeof *joined);
    int32_t *row_block = arena_take(arena, (size_t)rows, sizeof *row_block);
    cr_assert(joined != NULL && row_block != NULL);
    ref_interleave_gate_up(shape, joined, gate, up);
    gate_up_row_blocks(shape, row_block);
    *gate_up = weights(dtype, shape.num_experts, rows, shape.hidden_dim, joined, row_block,
                       gate_up_blocks(shape), arena);
    *down = weights(dtype, shape.num_experts, shape.hidden_dim, shape.ffn_dim, down_in, NULL,
                    scale_blocks(shape.hidden_dim), arena);
}

static void random_experts(enum dtype dtype, struct expert_shape shape, struct matrix *gate_up,
                           struct matrix *down, struct arena *arena)
{
    int64_t count = (int64_t)shape.num_experts * shape.ffn_dim * shape.hidden_dim;
    float *gate = random_floats(count, 0.2f, arena);
    float *up = random_floats(count, 0.2f, arena);
    set_experts(dtype, shape, gate_up, down, gate, up, random_floats(count, 0.2f, arena), arena);
}

void fill_random_layer(struct moe_layer *layer, bool biases, struct arena *arena)
{
    struct expert_shape shape = layer->expert;
    layer->router = random_floats((int64_t)shape.num_experts * shape.hidden_dim, 0.3f, arena);
    if (layer->gate.score == GATE_SIGMOID) {
        layer->choice_bias = random_floats(shape.num_experts, 0.1f, arena);
    }
    random_experts(layer->dtype, shape, &layer->gate_up, &layer->down, arena);
    if (layer->shared_ffn_dim > 0) {
        random_experts(layer->dtype, layer_shared_shape(layer), &layer->shared_gate_up,
                       &layer->shared_down, arena);
    }
    if (biases) {
        int64_t rows = (int64_t)shape.num_experts * gate_up_rows(shape);
        layer->router_bias = random_floats(shape.num_experts, 0.1f, arena);
        layer->gate_up_bias = random_floats(rows, 0.1f, arena);
        layer->down_bias =
            random_floats((int64_t)shape.num_experts * shape.hidden_dim, 0.1f, arena);
    }
}

void fill_golden_layer(struct moe_layer *layer, const char *name, struct arena *arena)
{
    struct npy gate = golden(name, "gate");
    struct expert_shape *shape = &layer->expert;
    shape->num_experts = (int32_t)gate.dim[0];
    shape->ffn_dim = (int32_t)gate.dim[1];
    shape->hidden_dim = (int32_t)gate.dim[2];
    layer->gate.num_experts = shape->num_experts;
    layer->router = golden(name, "router").data;
    layer->router_bias = golden_optional(name, "router_bias").data;
    layer->choice_bias = golden_optional(name, "choice_bias").data;
    layer->down_bias = golden_optional(name, "down_bias").data;
    set_experts(layer->dtype, *shape, &layer->gate_up, &layer->down, gate.data,
                golden(name, "up").data, golden(name, "down").data, arena);
    struct npy shared = golden_optional(name, "shared_gate");
    if (shared.data != NULL) {
        layer->shared_ffn_dim = (int32_t)shared.dim[0];
        set_experts(layer->dtype, layer_shared_shape(layer), &layer->shared_gate_up,
                    &layer->shared_down, shared.data, golden(name, "shared_up").data,
                    golden(name, "shared_down").data, arena);
    }
    struct npy bias = golden_optional(name, "gate_bias");
    if (bias.data != NULL) {
        struct expert_shape one_column = *shape;
        one_column.hidden_dim = 1;
        int64_t rows = (int64_t)shape->num_experts * gate_up_rows(*shape);
        float *joined = arena_take(arena, (size_t)rows, sizeof *joined);
        cr_assert_not_null(joined);
        ref_interleave_gate_up(one_column, joined, bias.data, golden(name, "up_bias").data);
        layer->gate_up_bias = joined;
    }
}

struct matrix random_tokens(enum dtype dtype, int64_t rows, int32_t columns, struct arena *arena)
{
    struct matrix tokens = matrix_take(arena, dtype, rows, columns);
    cr_assert(tokens.data != NULL);
    for (int64_t i = 0; i < rows * columns; i++) {
        matrix_set(tokens, i, random_normal());
    }
    return tokens;
}
