/* bench_work.c -- see bench_work.h. */
#include "bench_work.h"

/* Bytes of a row of activations, scales included. */
static double row_bytes(enum dtype dtype, int32_t columns)
{
    double bytes = (double)columns * dtype_bytes(dtype);
    return dtype == DTYPE_FP8_E4M3 ? bytes + 4.0 * scale_blocks(columns) : bytes;
}

/* A dense product of rows x depth with columns x depth. */
static struct bench_work product(enum dtype dtype, double rows, double columns, int32_t depth,
                                 double matrices, double out_bytes)
{
    double weights = matrices * columns * (double)depth * dtype_bytes(dtype);
    return (struct bench_work){2.0 * rows * columns * (double)depth,
                               weights + rows * row_bytes(dtype, depth) + out_bytes};
}

static struct bench_work sum(struct bench_work a, struct bench_work b)
{
    return (struct bench_work){a.flops + b.flops, a.bytes + b.bytes};
}

struct bench_load bench_load_of(const int32_t *expert_tokens, int32_t num_experts,
                                int64_t num_tokens)
{
    struct bench_load load = {.num_tokens = num_tokens};
    for (int32_t expert = 0; expert < num_experts; expert++) {
        load.rows += expert_tokens[expert];
        load.active_experts += expert_tokens[expert] > 0;
    }
    return load;
}

struct bench_work bench_work_of(const struct bench_layer *layer, enum bench_part part,
                                struct bench_load load)
{
    enum dtype dtype = layer->dtype;
    enum dtype token = dtype == DTYPE_FP32 ? DTYPE_FP32 : DTYPE_BF16;
    int32_t hidden = layer->expert.hidden_dim;
    int32_t ffn = layer->expert.ffn_dim;
    double tokens = (double)load.num_tokens;
    double rows = (double)load.rows;
    double active = (double)load.active_experts;
    double experts = layer->gate.num_experts;
    double up = layer->expert.activation == ACTIVATION_GELU ? 1.0 : 2.0;
    double token_bytes = tokens * row_bytes(token, hidden);
    struct bench_work first;
    switch (part) {
    case BENCH_ROUTER:
        return product(token, tokens, experts, hidden, 1.0, 4.0 * tokens * experts);
    case BENCH_GATE:
        return (struct bench_work){0.0, tokens * (4.0 * experts + 8.0 * layer->gate.top_k)};
    case BENCH_PERMUTE:
        return (struct bench_work){0.0, 12.0 * tokens * layer->gate.top_k + 8.0 * experts};
    case BENCH_ROWS:
        return (struct bench_work){0.0, token_bytes + rows * row_bytes(dtype, hidden)};
    case BENCH_GATE_UP:
        return product(dtype, rows, up * ffn, hidden, active, rows * row_bytes(dtype, ffn));
    case BENCH_DOWN:
        return product(dtype, rows, hidden, ffn, active, rows * row_bytes(token, hidden));
    case BENCH_COMBINE:
        return (struct bench_work){2.0 * rows * hidden,
                                   rows * row_bytes(token, hidden) +
                                       token_bytes * (layer->shared_ffn_dim > 0 ? 2.0 : 1.0)};
    case BENCH_SHARED:
        if (layer->shared_ffn_dim == 0) {
            break;
        }
        first = product(dtype, tokens, up * layer->shared_ffn_dim, hidden, 1.0,
                        tokens * row_bytes(dtype, layer->shared_ffn_dim));
        return sum(first, product(dtype, tokens, hidden, layer->shared_ffn_dim, 1.0, token_bytes));
    case BENCH_PART_COUNT:
        break;
    }
    return (struct bench_work){0.0, 0.0};
}

struct bench_work bench_work_layer(const struct bench_layer *layer, struct bench_load load)
{
    struct bench_work all = {0.0, 0.0};
    for (int part = 0; part < BENCH_PART_COUNT; part++) {
        all = sum(all, bench_work_of(layer, (enum bench_part)part, load));
    }
    return all;
}
