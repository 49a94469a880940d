/*
 * flow_counter.h -- adds up sets of tokens to traffic, source rank by source rank.
 *
 * The bits of a slot are its assignments, those of a rank's slots together the rank's distinct
 * tokens, those of a node's ranks together the node's.
 */
#ifndef MOESIM_FLOW_COUNTER_H
#define MOESIM_FLOW_COUNTER_H

#include "token_sets.h"
#include "traffic.h"

#define FLOW_FOLDS_MAX 2

struct flow_counter;

/* Adds the block's bits up. Returns how many slots had. */
typedef int32_t flow_fold(const struct flow_counter *counter);

struct flow_counter {
    flow_fold *fold; /* the fastest that this processor has */
    struct traffic *traffic;
    const struct placement *placement;
    int32_t gpus_per_node;
    struct token_sets sets; /* of the block at hand: whoever counts sets their bits */
    int32_t *set_of_slot;   /* [num_slots] each slot's set, another for each that has any bits */
    int32_t *rank_copies;   /* [num_ranks] of the source at hand, as are: */
    int32_t *rank_tokens;   /* [num_ranks] */
    int32_t *node_tokens;   /* [num_nodes] */
};

/* The ways to add bits up that this processor has, the fastest last: they differ in nothing else.
 * Returns how many. */
int32_t flow_counter_folds(flow_fold *fold[FLOW_FOLDS_MAX]);

/* Makes an empty traffic of up to kept assignments, and num_sets empty sets, of which slot s has
 * number s until the caller says otherwise. Memory is the arena's; STATUS_NO_MEMORY. */
MUST_CHECK enum status flow_counter_open(struct flow_counter *counter, struct traffic *traffic,
                                         const struct placement *placement,
                                         const struct cluster *cluster, int64_t kept,
                                         int32_t num_sets, struct arena *arena);

/* Adds the block's bits up and empties all sets. Returns how many bits slots had. */
int32_t flow_counter_fold(struct flow_counter *counter);

/* All blocks of this source are in; sources ascend, and none is left out. */
void flow_counter_end_source(struct flow_counter *counter, int32_t source);

/* All sources are in. */
void flow_counter_close(struct flow_counter *counter);

#endif
