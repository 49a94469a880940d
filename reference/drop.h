/*
 * drop.h -- an expert of limited capacity, and who loses when more want it.
 *
 *     capacity = ceil(num_tokens * top_k * capacity_factor / num_experts)
 *
 * Sources: Megatron-LM, moe_utils.py @ d98e8a6, policies "position" and "probs".
 */
#ifndef MOESIM_DROP_H
#define MOESIM_DROP_H

#include <stdint.h>

#include "permute.h"

enum drop_order {
    DROP_POSITION,    /* the earliest choices, by (token, k), keep their expert */
    DROP_GATE_WEIGHT, /* the largest gate weights do; of equals the earlier token */
};

/* Sets expert to EXPERT_NONE for what is beyond the capacity of its expert.
 *   expert       [num_tokens][top_k] in and out
 *   gate_weight  [num_tokens][top_k], not negative; read by DROP_GATE_WEIGHT alone
 *   work         [num_experts] for DROP_POSITION; [num_experts + 2 * num_tokens * top_k] otherwise
 * Returns the dropped choices; -1 for a shape as ref_permute refuses it, or capacity < 0. */
int64_t ref_drop(struct permute_shape shape, int32_t capacity, enum drop_order order,
                 int32_t *expert, const float *gate_weight, uint64_t *work);

#endif
