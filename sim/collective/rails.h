/*
 * rails.h -- who stands for whom on another node, shared by the collectives that go by rails.
 *
 * Rank r has rail r % gpus_per_node. On a node that is shorter (the last one may be) rails wrap
 * round.
 */
#ifndef MOESIM_RAILS_H
#define MOESIM_RAILS_H

#include "collective/collective.h"

static inline int32_t rails_node_begin(const struct collective_input *input, int32_t node)
{
    int32_t begin = node * input->cluster->gpus_per_node;
    return begin < input->traffic->num_ranks ? begin : input->traffic->num_ranks;
}

/* The rank of the node on the rail of the given rank. */
static inline int32_t rails_partner(const struct collective_input *input, int32_t node,
                                    int32_t rank)
{
    int32_t begin = rails_node_begin(input, node);
    int32_t ranks_there = rails_node_begin(input, node + 1) - begin;
    return begin + rank % input->cluster->gpus_per_node % ranks_there;
}

#endif
