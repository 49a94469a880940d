/*
 * eplb.h -- DeepSeek's expert parallelism load balancer for one layer, for strategies and tests.
 */
#ifndef MOESIM_EPLB_H
#define MOESIM_EPLB_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

struct eplb_shape {
    int32_t num_experts;
    int32_t num_slots; /* a multiple of num_ranks; slots are dealt evenly */
    int32_t num_groups;
    int32_t num_nodes;
    int32_t num_ranks;
};

/* STATUS_INVALID, with every reason, when EPLB cannot serve the shape: num_ranks must divide
 * num_slots >= num_experts and, when num_nodes divides num_groups (the hierarchical policy),
 * num_groups must divide num_experts and num_nodes num_ranks. */
MUST_CHECK enum status eplb_check(const struct eplb_shape *shape, struct error *error);

/* Places and replicates the experts of one layer. A bad shape is a bug: eplb_check tells before.
 *   expert_of_slot  [num_slots]    out
 *   load_tokens     [num_experts]  >= 0
 * STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status eplb_layer(int32_t *expert_of_slot, const int64_t *load_tokens,
                                  const struct eplb_shape *shape, struct arena *scratch);

#endif
