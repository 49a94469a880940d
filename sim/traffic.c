/* traffic.c -- one pass over a dispatched route, one dense row of counters a source rank. */
#include "traffic.h"

#include <assert.h>

/* Counters of the source rank at hand. last_* hold the token that touched an entry last, plus one,
 * so a token counts once a rank and once a node. */
struct counters {
    int32_t *copies;          /* [num_ranks] */
    int32_t *tokens;          /* [num_ranks] */
    int32_t *rank_last_token; /* [num_ranks] */
    int32_t *node_tokens;     /* [num_nodes] */
    int32_t *node_last_token; /* [num_nodes] */
    int32_t *node_of_rank;    /* [num_ranks] a table: a division a token is dear */
};

static void count_token(const struct counters *counters, const struct route *route,
                        const struct placement *placement, int32_t token)
{
    const int32_t *slot = &route->slot[(int64_t)token * route->top_k];
    for (int32_t k = 0; k < route->top_k; k++) {
        if (slot[k] == SLOT_DROPPED) {
            continue;
        }
        assert(slot[k] >= 0 && slot[k] < placement->num_slots);
        int32_t rank = placement->rank_of_slot[slot[k]];
        int32_t node = counters->node_of_rank[rank];
        counters->copies[rank]++;
        /* No branches: whether a token meets a rank twice is a coin the processor cannot guess. */
        counters->tokens[rank] += counters->rank_last_token[rank] != token + 1;
        counters->rank_last_token[rank] = token + 1;
        counters->node_tokens[node] += counters->node_last_token[node] != token + 1;
        counters->node_last_token[node] = token + 1;
    }
}

/* Moves the non-zero counters of one source to the ends of the lists and clears them. */
static void flush_source(struct traffic *traffic, struct counters *counters, int32_t source)
{
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        if (counters->copies[rank] > 0) {
            traffic->rank_flow[flow++] =
                (struct rank_flow){rank, counters->copies[rank], counters->tokens[rank]};
            counters->copies[rank] = 0;
            counters->tokens[rank] = 0;
        }
    }
    traffic->rank_begin[source + 1] = flow;
    flow = traffic->node_begin[source];
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        if (counters->node_tokens[node] > 0) {
            traffic->node_flow[flow++] = (struct node_flow){node, counters->node_tokens[node]};
            counters->node_tokens[node] = 0;
        }
    }
    traffic->node_begin[source + 1] = flow;
}

/* Lists the flows by destination: a counting sort, stable, so sources ascend. */
static void index_destinations(struct traffic *traffic)
{
    int32_t num_flows = traffic->rank_begin[traffic->num_ranks];
    for (int32_t flow = 0; flow < num_flows; flow++) {
        traffic->back_begin[traffic->rank_flow[flow].dst_rank + 1]++;
    }
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        traffic->back_begin[rank + 1] += traffic->back_begin[rank];
    }
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        for (int32_t flow = traffic->rank_begin[source]; flow < traffic->rank_begin[source + 1];
             flow++) {
            /* back_begin of a destination serves as its write position and is put back below. */
            int32_t position = traffic->back_begin[traffic->rank_flow[flow].dst_rank]++;
            traffic->back_src[position] = source;
            traffic->back_flow[position] = flow;
        }
    }
    for (int32_t rank = traffic->num_ranks; rank > 0; rank--) {
        traffic->back_begin[rank] = traffic->back_begin[rank - 1];
    }
    traffic->back_begin[0] = 0;
}

static bool allocate(struct traffic *traffic, struct counters *counters, int64_t assignments,
                     struct arena *arena)
{
    size_t ranks = (size_t)traffic->num_ranks;
    size_t nodes = (size_t)traffic->num_nodes;
    size_t kept = (size_t)assignments;
    size_t flows = kept < ranks * ranks ? kept : ranks * ranks;
    size_t node_flows = kept < ranks * nodes ? kept : ranks * nodes;
    traffic->rank_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->rank_flow = arena_take(arena, flows, sizeof(struct rank_flow));
    traffic->node_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->node_flow = arena_take(arena, node_flows, sizeof(struct node_flow));
    traffic->back_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->back_src = arena_take(arena, flows, sizeof(int32_t));
    traffic->back_flow = arena_take(arena, flows, sizeof(int32_t));
    counters->copies = arena_alloc(arena, ranks, sizeof(int32_t));
    counters->tokens = arena_alloc(arena, ranks, sizeof(int32_t));
    counters->rank_last_token = arena_alloc(arena, ranks, sizeof(int32_t));
    counters->node_tokens = arena_alloc(arena, nodes, sizeof(int32_t));
    counters->node_last_token = arena_alloc(arena, nodes, sizeof(int32_t));
    counters->node_of_rank = arena_take(arena, ranks, sizeof(int32_t));
    return traffic->rank_begin != NULL && traffic->rank_flow != NULL &&
           traffic->node_begin != NULL && traffic->node_flow != NULL &&
           traffic->back_begin != NULL && traffic->back_src != NULL && traffic->back_flow != NULL &&
           counters->copies != NULL && counters->tokens != NULL &&
           counters->rank_last_token != NULL && counters->node_tokens != NULL &&
           counters->node_last_token != NULL && counters->node_of_rank != NULL;
}

enum status traffic_count(struct traffic *traffic, const struct route *route,
                          const struct placement *placement, const struct trace_batch *batch,
                          const struct cluster *cluster, struct arena *arena)
{
    traffic->num_ranks = placement->num_ranks;
    traffic->num_nodes = cluster_node(cluster, placement->num_ranks - 1) + 1;
    struct counters counters;
    if (!allocate(traffic, &counters, route->assignments - route->dropped_assignments, arena)) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        counters.node_of_rank[rank] = cluster_node(cluster, rank);
    }
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        for (int32_t token = batch->rank_begin[source]; token < batch->rank_begin[source + 1];
             token++) {
            count_token(&counters, route, placement, token);
        }
        flush_source(traffic, &counters, source);
    }
    index_destinations(traffic);
    return STATUS_OK;
}
