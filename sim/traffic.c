/*
 * traffic.c -- one pass over a dispatched route, one dense row of counters a source rank.
 *
 * Tokens are counted in blocks of 64, one bit each: a token sets its bit at every rank it goes to,
 * however often. The bits of a rank are then its distinct tokens, those of a node's ranks together
 * the node's.
 */
#include "traffic.h"

#include <assert.h>

#define BLOCK_TOKENS 64

/* Counters of the source rank at hand. */
struct rank_counter {
    uint64_t seen; /* which tokens of the block go there */
    int32_t copies;
    int32_t tokens; /* of the blocks before */
};

struct counters {
    struct rank_counter *rank; /* [num_ranks] */
    int32_t *node_tokens;      /* [num_nodes] */
};

/* Without an instruction for it (popcnt is not in x86-64's baseline) the compiler would call. */
static inline int32_t count_bits(uint64_t bits)
{
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
    bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (int32_t)(bits * UINT64_C(0x0101010101010101) >> 56);
}

/* The tokens first .. last - 1, at most a block. No branches on the counters: whether a token meets
 * a rank twice is a coin the processor cannot guess. */
static void count_block(struct rank_counter *restrict ranks, int32_t *restrict slot_tokens,
                        const struct route *route, const struct placement *placement, int32_t first,
                        int32_t last)
{
    const int32_t *restrict slot = &route->slot[(int64_t)first * route->top_k];
    const int32_t *restrict rank_of_slot = placement->rank_of_slot;
    const uint32_t num_slots = (uint32_t)placement->num_slots;
    const int32_t top_k = route->top_k;
    uint64_t bit = 1;
    for (int32_t token = first; token < last; token++, slot += top_k, bit <<= 1) {
        for (int32_t k = 0; k < top_k; k++) {
            if ((uint32_t)slot[k] >= num_slots) {
                assert(slot[k] == SLOT_DROPPED);
                continue;
            }
            struct rank_counter *rank = &ranks[rank_of_slot[slot[k]]];
            slot_tokens[slot[k]]++;
            rank->copies++;
            rank->seen |= bit;
        }
    }
}

/* Adds the block's bits up and clears them. */
static void fold_block(struct counters *counters, const struct traffic *traffic,
                       int32_t gpus_per_node)
{
    int32_t rank = 0;
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        int32_t end = rank + gpus_per_node;
        end = end < traffic->num_ranks ? end : traffic->num_ranks;
        uint64_t seen = 0;
        for (; rank < end; rank++) {
            struct rank_counter *counter = &counters->rank[rank];
            counter->tokens += count_bits(counter->seen);
            seen |= counter->seen;
            counter->seen = 0;
        }
        counters->node_tokens[node] += count_bits(seen);
    }
}

/* Moves the non-zero counters of one source to the ends of the lists and clears them. Without
 * branches: the lists have room for one more. */
static void flush_source(struct traffic *traffic, struct counters *counters, int32_t source)
{
    struct rank_flow *restrict rank_flow = traffic->rank_flow;
    int32_t *restrict back_begin = traffic->back_begin;
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        struct rank_counter *from = &counters->rank[rank];
        bool any = from->copies > 0;
        rank_flow[flow] = (struct rank_flow){rank, from->copies, from->tokens};
        flow += any;
        back_begin[rank + 1] += any;
        *from = (struct rank_counter){0};
    }
    traffic->rank_begin[source + 1] = flow;
    flow = traffic->node_begin[source];
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        traffic->node_flow[flow] = (struct node_flow){node, counters->node_tokens[node]};
        flow += counters->node_tokens[node] > 0;
        counters->node_tokens[node] = 0;
    }
    traffic->node_begin[source + 1] = flow;
}

/* Lists the flows by destination: a counting sort, stable, so sources ascend. back_begin comes as
 * how many of them each rank has. */
static void index_destinations(struct traffic *traffic)
{
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        traffic->back_begin[rank + 1] += traffic->back_begin[rank];
    }
    const struct rank_flow *restrict rank_flow = traffic->rank_flow;
    int32_t *restrict back_begin = traffic->back_begin;
    int32_t *restrict back_src = traffic->back_src;
    int32_t *restrict back_flow = traffic->back_flow;
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        const int32_t end = traffic->rank_begin[source + 1];
        for (int32_t flow = traffic->rank_begin[source]; flow < end; flow++) {
            /* back_begin of a destination serves as its write position and is put back below. */
            int32_t position = back_begin[rank_flow[flow].dst_rank]++;
            back_src[position] = source;
            back_flow[position] = flow;
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
    traffic->rank_flow = arena_take(arena, flows + 1, sizeof(struct rank_flow));
    traffic->node_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->node_flow = arena_take(arena, node_flows + 1, sizeof(struct node_flow));
    traffic->back_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->back_src = arena_take(arena, flows, sizeof(int32_t));
    traffic->back_flow = arena_take(arena, flows, sizeof(int32_t));
    traffic->slot_tokens = arena_alloc(arena, (size_t)num_slots, sizeof(int32_t));
    counters->rank = arena_alloc(arena, ranks, sizeof *counters->rank);
    counters->node_tokens = arena_alloc(arena, nodes, sizeof *counters->node_tokens);
    return traffic->rank_begin != NULL && traffic->rank_flow != NULL &&
           traffic->node_begin != NULL && traffic->node_flow != NULL &&
           traffic->back_begin != NULL && traffic->back_src != NULL && traffic->back_flow != NULL &&
           traffic->slot_tokens != NULL && counters->rank != NULL && counters->node_tokens != NULL;
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
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        const int32_t end = batch->rank_begin[source + 1];
        for (int32_t first = batch->rank_begin[source]; first < end; first += BLOCK_TOKENS) {
            int32_t last = end - first > BLOCK_TOKENS ? first + BLOCK_TOKENS : end;
            count_block(counters.rank, traffic->slot_tokens, route, placement, first, last);
            fold_block(&counters, traffic, cluster->gpus_per_node);
        }
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
