/* cpu_forward_layer.c -- a layer's random weights, each rank's own experts. */
#include "cpu_forward.h"

#include <math.h>
#include <stddef.h>

enum stream { STREAM_ROUTER = 1, STREAM_SHARED, STREAM_EXPERT = 1000 };

const char *cpu_phase_name(enum cpu_phase phase)
{
    static const char *const names[CPU_PHASES] = {"gate", "permute", "dispatch", "gate_up",
                                                  "down", "return",  "shared",   "combine"};
    return names[phase];
}

/* Uniform numbers of variance 1 / depth, so that a layer keeps the size of its input. */
static void fill(float *value, int64_t count, int32_t depth, uint64_t seed, uint64_t stream)
{
    uint64_t state = bench_random_seed(seed, stream);
    float spread = sqrtf(3.0f / (float)depth);
    for (int64_t i = 0; i < count; i++) {
        value[i] = bench_random_float(&state) * spread;
    }
}

/* count blocks of size elements, each filled from a stream of its own. */
static float *make(struct cpu_layer *cpu, int32_t count, int64_t size, int32_t depth, uint64_t seed,
                   uint64_t stream)
{
    float *value = arena_take(&cpu->weights, (size_t)count, (size_t)size * sizeof *value);
    for (int32_t i = 0; value != NULL && i < count; i++) {
        fill(&value[i * size], size, depth, seed, stream + (uint64_t)i);
    }
    return value;
}

static bool transpose_router(struct cpu_layer *cpu)
{
    int64_t hidden_dim = cpu->layer.expert.hidden_dim;
    size_t column_bytes = (size_t)cpu->num_experts * sizeof(float);
    cpu->router_columns = arena_take(&cpu->weights, (size_t)hidden_dim, column_bytes);
    if (cpu->router_columns == NULL || cpu->layer.router == NULL) {
        return false;
    }
    for (int64_t expert = 0; expert < cpu->num_experts; expert++) {
        for (int64_t h = 0; h < hidden_dim; h++) {
            cpu->router_columns[h * cpu->num_experts + expert] =
                cpu->layer.router[expert * hidden_dim + h];
        }
    }
    return true;
}

static enum status make_weights(struct cpu_layer *cpu, const struct bench_layer *shape,
                                uint64_t seed)
{
    struct moe_layer *layer = &cpu->layer;
    struct expert_shape expert = layer->expert;
    struct expert_shape shared = layer_shared_shape(layer);
    int32_t hidden = expert.hidden_dim;
    int32_t rows = gate_up_rows(expert);
    /* A stream a matrix of an expert of the group, whichever rank makes it. */
    uint64_t first = STREAM_EXPERT + (uint64_t)cpu->first_expert;
    const uint64_t step = UINT64_C(1) << 20;
    bool failed = false;
    layer->router = make(cpu, 1, (int64_t)cpu->num_experts * hidden, hidden, seed, STREAM_ROUTER);
    layer->gate_up.data =
        make(cpu, expert.num_experts, (int64_t)rows * hidden, hidden, seed, first + step);
    layer->down.data = make(cpu, expert.num_experts, (int64_t)hidden * expert.ffn_dim,
                            expert.ffn_dim, seed, first + 2 * step);
    if (shape->biases) {
        layer->router_bias = make(cpu, 1, cpu->num_experts, 100, seed, STREAM_ROUTER + 3 * step);
        layer->gate_up_bias = make(cpu, expert.num_experts, rows, 100, seed, first + 4 * step);
        layer->down_bias = make(cpu, expert.num_experts, hidden, 100, seed, first + 5 * step);
        failed =
            layer->router_bias == NULL || layer->gate_up_bias == NULL || layer->down_bias == NULL;
    }
    if (shape->choice_bias) {
        layer->choice_bias = make(cpu, 1, cpu->num_experts, 100, seed, STREAM_ROUTER + 6 * step);
        failed |= layer->choice_bias == NULL;
    }
    if (layer->shared_ffn_dim > 0) {
        layer->shared_gate_up.data = make(cpu, 1, (int64_t)gate_up_rows(shared) * hidden, hidden,
                                          seed, STREAM_SHARED + 7 * step);
        layer->shared_down.data = make(cpu, 1, (int64_t)hidden * shared.ffn_dim, shared.ffn_dim,
                                       seed, STREAM_SHARED + 8 * step);
        failed |= layer->shared_gate_up.data == NULL || layer->shared_down.data == NULL;
    }
    failed |= !transpose_router(cpu) || layer->gate_up.data == NULL || layer->down.data == NULL;
    return failed ? STATUS_NO_MEMORY : STATUS_OK;
}

enum status cpu_layer_make(struct cpu_layer *cpu, const struct bench_layer *shape,
                           int32_t num_threads, int32_t rank, int32_t num_ranks, uint64_t seed)
{
    *cpu = (struct cpu_layer){.num_experts = shape->expert.num_experts,
                              .num_threads = num_threads,
                              .num_ranks = num_ranks};
    cpu->layer = (struct moe_layer){.dtype = DTYPE_FP32,
                                    .gate = shape->gate,
                                    .expert = shape->expert,
                                    .shared_ffn_dim = shape->shared_ffn_dim,
                                    .weigh_input = shape->weigh_input};
    int64_t tile = (int64_t)CPU_TASK_ROWS * CPU_TASK_COLUMNS;
    cpu->thread_floats = tile; /* more than the logits of CPU_GATE_TOKENS take */
    cpu->thread_work =
        arena_take(&cpu->weights, (size_t)num_threads, (size_t)cpu->thread_floats * sizeof(float));
    cpu->expert_begin = arena_take(&cpu->weights, (size_t)num_ranks + 1, sizeof *cpu->expert_begin);
    enum status status = STATUS_NO_MEMORY;
    if (cpu->thread_work != NULL && cpu->expert_begin != NULL) {
        for (int64_t r = 0; r <= num_ranks; r++) {
            cpu->expert_begin[r] = (int32_t)(r * cpu->num_experts / num_ranks);
        }
        cpu->first_expert = cpu->expert_begin[rank];
        cpu->layer.expert.num_experts = cpu->expert_begin[rank + 1] - cpu->first_expert;
        status = make_weights(cpu, shape, seed);
    }
    if (status != STATUS_OK) {
        cpu_layer_free(cpu);
    }
    return status;
}

void cpu_layer_free(struct cpu_layer *cpu)
{
    arena_free(&cpu->weights);
    arena_free(&cpu->scratch);
    *cpu = (struct cpu_layer){0};
}
