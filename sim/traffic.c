/* traffic.c -- one pass over a dispatched route, one dense row of counters a source rank. */
#include "traffic.h"

#include <assert.h>

/* Counters of the source rank at hand. last_token is the token that touched an entry last, plus
 * one, so a token counts once a rank and once a node. Two counts share a word: one update for both,
 * and neither reaches 2^32, for both are of one source's wishes. */
struct rank_counter {
    uint64_t counts; /* copies, and tokens above bit 32 */
    int32_t last_token;
    int32_t node; /* of the rank: a division a wish is dear */
};

struct node_counter {
    int32_t tokens;
    int32_t last_token;
};

struct counters {
    struct rank_counter *rank; /* [num_ranks] */
    struct node_counter *node; /* [num_nodes] */
};

/* The tokens first .. last - 1 of one source rank. No branches on the counters: whether a token
 * meets a rank twice is a coin the processor cannot guess. */
static void count_source(const struct counters *counters, int32_t *restrict slot_tokens,
                         const struct route *route, const struct placement *placement,
                         int32_t first, int32_t last)
{
    const int32_t *restrict slot = &route->slot[(int64_t)first * route->top_k];
    const int32_t *restrict rank_of_slot = placement->rank_of_slot;
    struct rank_counter *restrict ranks = counters->rank;
    struct node_counter *restrict nodes = counters->node;
    const uint32_t num_slots = (uint32_t)placement->num_slots;
    const int32_t top_k = route->top_k;
    for (int32_t mark = first + 1; mark <= last; mark++, slot += top_k) {
        for (int32_t k = 0; k < top_k; k++) {
            if (slot[k] == SLOT_DROPPED) {
                continue;
            }
            assert((uint32_t)slot[k] < num_slots);
            (void)num_slots;
            struct rank_counter *rank = &ranks[rank_of_slot[slot[k]]];
            struct node_counter *node = &nodes[rank->node];
            slot_tokens[slot[k]]++;
            rank->counts += 1 + ((uint64_t)(rank->last_token != mark) << 32);
            rank->last_token = mark;
            node->tokens += node->last_token != mark;
            node->last_token = mark;
        }
    }
}

/* Moves the non-zero counters of one source to the ends of the lists and clears them. */
static void flush_source(struct traffic *traffic, struct counters *counters, int32_t source)
{
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        struct rank_counter *from = &counters->rank[rank];
        if (from->counts > 0) {
            traffic->rank_flow[flow++] = (struct rank_flow){rank, (int32_t)(uint32_t)from->counts,
                                                            (int32_t)(from->counts >> 32)};
            from->counts = 0;
        }
    }
    traffic->rank_begin[source + 1] = flow;
    flow = traffic->node_begin[source];
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        struct node_counter *from = &counters->node[node];
        if (from->tokens > 0) {
            traffic->node_flow[flow++] = (struct node_flow){node, from->tokens};
            from->tokens = 0;
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
                     int32_t num_slots, struct arena *arena)
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
    traffic->slot_tokens = arena_alloc(arena, (size_t)num_slots, sizeof(int32_t));
    counters->rank = arena_alloc(arena, ranks, sizeof *counters->rank);
    counters->node = arena_alloc(arena, nodes, sizeof *counters->node);
    return traffic->rank_begin != NULL && traffic->rank_flow != NULL &&
           traffic->node_begin != NULL && traffic->node_flow != NULL &&
           traffic->back_begin != NULL && traffic->back_src != NULL && traffic->back_flow != NULL &&
           traffic->slot_tokens != NULL && counters->rank != NULL && counters->node != NULL;
}

enum status traffic_count(struct traffic *traffic, const struct route *route,
                          const struct placement *placement, const struct trace_batch *batch,
                          const struct cluster *cluster, struct arena *arena)
{
    traffic->num_ranks = placement->num_ranks;
    traffic->num_nodes = cluster_node(cluster, placement->num_ranks - 1) + 1;
    struct counters counters;
    const int64_t kept = route->assignments - route->dropped_assignments;
    if (!allocate(traffic, &counters, kept, placement->num_slots, arena)) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        counters.rank[rank].node = cluster_node(cluster, rank);
    }
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        count_source(&counters, traffic->slot_tokens, route, placement, batch->rank_begin[source],
                     batch->rank_begin[source + 1]);
        flush_source(traffic, &counters, source);
    }
    int64_t computed = 0;
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        computed += traffic->slot_tokens[slot];
    }
    assert(computed == kept); /* computed + dropped = all */
    index_destinations(traffic);
    return STATUS_OK;
}
