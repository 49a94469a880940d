/* drop.c -- by position: count along; by weight: sort all choices, then count along. */
#include "drop.h"

#include <string.h>

#include "radix_sort.h"

static bool keeps(const int32_t *expert, int64_t choice, uint64_t *taken, int32_t capacity)
{
    return expert[choice] == EXPERT_NONE || taken[expert[choice]]++ < (uint64_t)capacity;
}

/* Non-negative floats order as their bits do; complemented, the largest comes first. */
static const uint64_t *by_weight(const float *gate_weight, int32_t count, uint64_t *work)
{
    for (int32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &gate_weight[i], sizeof bits);
        work[i] = (uint64_t)~bits << 32 | (uint32_t)i;
    }
    return radix_sort(work, work + count, count);
}

int64_t ref_drop(struct permute_shape shape, int32_t capacity, enum drop_order order,
                 int32_t *expert, const float *gate_weight, uint64_t *work)
{
    if (!permute_shape_valid(shape) || capacity < 0) {
        return -1;
    }
    int32_t count = shape.num_tokens * shape.top_k; /* fits: permute_rows_max does */
    for (int32_t i = 0; i < count; i++) {
        if (expert[i] < EXPERT_NONE || expert[i] >= shape.num_experts) {
            return -1;
        }
    }
    uint64_t *taken = work;
    const uint64_t *sorted =
        order == DROP_GATE_WEIGHT ? by_weight(gate_weight, count, work + shape.num_experts) : NULL;
    memset(taken, 0, (size_t)shape.num_experts * sizeof *taken);
    int64_t dropped = 0;
    for (int32_t i = 0; i < count; i++) {
        int64_t choice = sorted == NULL ? i : (int64_t)(sorted[i] & UINT32_MAX);
        if (!keeps(expert, choice, taken, capacity)) {
            expert[choice] = EXPERT_NONE;
            dropped++;
        }
    }
    return dropped;
}
