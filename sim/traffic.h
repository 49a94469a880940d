/*
 * traffic.h -- who sends how many tokens to whom in one layer of one step.
 *
 * Compressed by source rank: at 4,096 ranks a token still reaches at most top_k of them. Three
 * counts serve every collective: copies (one a chosen slot), tokens (one a destination rank) and,
 * a destination node, tokens without duplicates.
 */
#ifndef MOESIM_TRAFFIC_H
#define MOESIM_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "cluster.h"
#include "placement.h"
#include "route/route.h"
#include "status.h"

struct rank_flow {
    int32_t rank;   /* at the other end */
    int32_t copies; /* assignments */
    int32_t tokens; /* distinct tokens: <= copies */
};

struct node_flow {
    int32_t dst_node;
    int32_t tokens; /* distinct tokens with at least one slot on the node */
};

struct traffic {
    int32_t num_ranks;
    int32_t num_nodes;
    int32_t *rank_begin;         /* [num_ranks + 1] into rank_flow */
    struct rank_flow *rank_flow; /* by source, then destination ascending; its own included */
    int32_t *node_begin;         /* [num_ranks + 1] into node_flow */
    struct node_flow *node_flow; /* by source, then dst_node ascending; own node included */
    int32_t *back_begin;         /* [num_ranks + 1] into back_flow */
    struct rank_flow *back_flow; /* the same by destination, then source ascending */
    int32_t *slot_tokens;        /* [num_slots] assignments that each slot computes */
    int32_t *received_tokens;    /* [num_ranks] distinct tokens that each computes, once a source */
    int64_t copies;              /* of all rank flows */
    int64_t tokens;              /* the same */
    bool has_empty_flows;        /* there may be rank flows of no copies or no tokens */
};

/* Counts a dispatched route (slots set). Memory is the arena's. */
MUST_CHECK enum status traffic_count(struct traffic *traffic, const struct route *route,
                                     const struct placement *placement,
                                     const struct trace_batch *batch, const struct cluster *cluster,
                                     struct arena *arena);

#endif
