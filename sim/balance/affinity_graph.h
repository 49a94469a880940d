/*
 * affinity_graph.h -- parts the experts of all layers so that few ties lie between parts.
 */
#ifndef MOESIM_AFFINITY_GRAPH_H
#define MOESIM_AFFINITY_GRAPH_H

#include <stdint.h>

#include "balance/balance.h"
#include "status.h"

/* Where a layer's counts begin in input's pair_tokens, or those to the next in transition_tokens.
 */
static inline int64_t affinity_block(const struct balance_input *input, int32_t layer)
{
    return (int64_t)layer * input->num_experts * input->num_experts;
}

/* Parts are about equal over all layers, not within one; neighbouring parts are near. One part a
 * rank, all 0 where there are fewer experts than ranks.
 *   part_of  [num_layers][num_experts]  out
 * STATUS_NO_MEMORY; STATUS_INVALID for more pairs than METIS can count. */
MUST_CHECK enum status affinity_part(int32_t *part_of, const struct balance_input *input,
                                     struct error *error);

#endif
