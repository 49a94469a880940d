/* dev_ep_weights.c -- see dev_ep_weights.h. */
#include "dev_ep_weights.h"

#include <cuda_runtime_api.h>

struct slots {
    const int32_t *expert; /* [count] */
    int32_t count;
    bool in_place;
};

/* The slots' parts of in, bytes for each expert; NULL stays NULL. */
static void *hold(const void *in, int64_t bytes, struct slots slots, struct dev_memory *memory)
{
    const char *from = in;
    if (in == NULL || slots.count == 0) {
        return NULL;
    }
    if (slots.in_place) { /* nothing writes weights: const is only lost in struct matrix */
        return (void *)(uintptr_t)(from + slots.expert[0] * bytes);
    }
    char *copy = dev_alloc(memory, slots.count * bytes);
    for (int32_t slot = 0; copy != NULL && slot < slots.count; slot++) {
        if (cudaMemcpy(copy + slot * bytes, from + slots.expert[slot] * bytes, (size_t)bytes,
                       cudaMemcpyDeviceToDevice) != cudaSuccess) {
            memory->failed = true;
        }
    }
    return copy;
}

static struct matrix hold_matrix(struct matrix in, int64_t count, int64_t scales,
                                 struct slots slots, struct dev_memory *memory)
{
    struct matrix held = in;
    held.data = hold(in.data, count * dtype_bytes(in.dtype), slots, memory);
    held.scale = hold(in.scale, scales * 4, slots, memory);
    return held;
}

enum status dev_ep_hold_slots(struct moe_layer *local, const struct moe_layer *layer,
                              const int32_t *expert_of_slot, int32_t first, int32_t count,
                              struct dev_memory *memory)
{
    struct expert_shape shape = layer->expert;
    struct slots slots = {&expert_of_slot[first], count, true};
    for (int32_t slot = 1; slot < count; slot++) {
        slots.in_place = slots.in_place && slots.expert[slot] == slots.expert[0] + slot;
    }
    int64_t up_rows = gate_up_rows(shape);
    int64_t hidden_blocks = scale_blocks(shape.hidden_dim);
    *local = *layer;
    local->expert.num_experts = count;
    local->gate_up = hold_matrix(layer->gate_up, up_rows * shape.hidden_dim,
                                 gate_up_blocks(shape) * hidden_blocks, slots, memory);
    local->down = hold_matrix(layer->down, (int64_t)shape.hidden_dim * shape.ffn_dim,
                              hidden_blocks * scale_blocks(shape.ffn_dim), slots, memory);
    local->gate_up_bias = hold(layer->gate_up_bias, up_rows * 4, slots, memory);
    local->down_bias = hold(layer->down_bias, (int64_t)shape.hidden_dim * 4, slots, memory);
    return memory->failed ? STATUS_CUDA : STATUS_OK;
}
