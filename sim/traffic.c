/*
 * traffic.c -- one pass over a dispatched route.
 *
 * Tokens of a source rank are counted in blocks of twice 64, one bit each: a token sets its bit at
 * every slot that it goes to. The bits of a slot are then its assignments, those of a rank's slots
 * together the rank's distinct tokens, those of a node's ranks together the node's. Only a token
 * that goes to one slot twice has to be looked for.
 */
#include "traffic.h"

#include <assert.h>

#define WORD_TOKENS  64
#define BLOCK_WORDS  2
#define BLOCK_TOKENS (WORD_TOKENS * BLOCK_WORDS)

/* Of the source rank at hand. */
struct rank_counter {
    int32_t copies;
    int32_t tokens;
};

struct counters {
    const struct placement *placement;
    int32_t gpus_per_node;
    uint64_t *seen;            /* [BLOCK_WORDS][num_slots] which tokens of the block go there */
    int32_t *slot_tokens;      /* [num_slots] of all sources */
    struct rank_counter *rank; /* [num_ranks] */
    int32_t *node_tokens;      /* [num_nodes] */
};

/* Sets the bits of tokens first .. last - 1, at most a word. Returns their assignments. */
static int32_t see_word(uint64_t *restrict seen, const struct route *route, uint32_t num_slots,
                        int32_t first, int32_t last)
{
    const int32_t *restrict slot = &route->slot[(int64_t)first * route->top_k];
    const int32_t top_k = route->top_k;
    int32_t dropped = 0;
    uint64_t bit = 1;
    for (int32_t token = first; token < last; token++, slot += top_k, bit <<= 1) {
#pragma GCC unroll 8
        for (int32_t k = 0; k < top_k; k++) {
            if ((uint32_t)slot[k] >= num_slots) {
                assert(slot[k] == SLOT_DROPPED);
                dropped++;
                continue;
            }
            seen[slot[k]] |= bit;
        }
    }
    return (last - first) * top_k - dropped;
}

/* Adds what bits do not tell: that a token goes to a slot once more. */
static void count_repeats(const struct counters *counters, const struct route *route, int32_t first,
                          int32_t last)
{
    for (int32_t token = first; token < last; token++) {
        const int32_t *slot = &route->slot[(int64_t)token * route->top_k];
        for (int32_t k = 1; k < route->top_k; k++) {
            int32_t before = 0;
            while (before < k && slot[before] != slot[k]) {
                before++;
            }
            if (before < k && slot[k] != SLOT_DROPPED) {
                counters->slot_tokens[slot[k]]++;
                counters->rank[counters->placement->rank_of_slot[slot[k]]].copies++;
            }
        }
    }
}

/* Adds the block's bits up and clears them. Returns how many they were. */
static inline int32_t fold_bits(const struct counters *counters)
{
    const struct placement *placement = counters->placement;
    uint64_t *restrict seen = counters->seen;
    uint64_t *restrict more = counters->seen + placement->num_slots;
    int32_t *restrict slot_tokens = counters->slot_tokens;
    int32_t sum = 0;
    int32_t slot = 0;
    for (int32_t first = 0, node = 0; first < placement->num_ranks; node++) {
        int32_t end = first + counters->gpus_per_node;
        end = end < placement->num_ranks ? end : placement->num_ranks;
        uint64_t of_node[BLOCK_WORDS] = {0};
        for (; first < end; first++) {
            uint64_t of_rank[BLOCK_WORDS] = {0};
            int32_t copies = 0;
            for (; slot < placement->rank_begin[first + 1]; slot++) {
                of_rank[0] |= seen[slot];
                of_rank[1] |= more[slot];
                int32_t tokens =
                    __builtin_popcountll(seen[slot]) + __builtin_popcountll(more[slot]);
                seen[slot] = 0;
                more[slot] = 0;
                slot_tokens[slot] += tokens;
                copies += tokens;
            }
            counters->rank[first].copies += copies;
            counters->rank[first].tokens +=
                __builtin_popcountll(of_rank[0]) + __builtin_popcountll(of_rank[1]);
            sum += copies;
            of_node[0] |= of_rank[0];
            of_node[1] |= of_rank[1];
        }
        counters->node_tokens[node] +=
            __builtin_popcountll(of_node[0]) + __builtin_popcountll(of_node[1]);
    }
    return sum;
}

typedef int32_t fold_block(const struct counters *counters);

static int32_t fold_block_anywhere(const struct counters *counters)
{
    return fold_bits(counters);
}

#ifdef __x86_64__ /* whose baseline counts bits by a call */
__attribute__((target("popcnt"))) static int32_t fold_block_popcnt(const struct counters *counters)
{
    return fold_bits(counters);
}
#endif

static fold_block *best_fold(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("popcnt")) {
        return fold_block_popcnt;
    }
#endif
    return fold_block_anywhere;
}

/* Moves the non-zero counters of one source to the ends of the lists and clears them. Without
 * branches: the lists have room for one more. */
static void flush_source(struct traffic *traffic, struct counters *counters, int32_t source)
{
    struct rank_flow *restrict rank_flow = traffic->rank_flow;
    int32_t *restrict back_begin = traffic->back_begin;
    int32_t *restrict received_tokens = traffic->received_tokens;
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        struct rank_counter *from = &counters->rank[rank];
        bool any = from->copies > 0;
        rank_flow[flow] = (struct rank_flow){rank, from->copies, from->tokens};
        flow += any;
        back_begin[rank + 1] += any;
        received_tokens[rank] += from->tokens;
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
    struct rank_flow *restrict back_flow = traffic->back_flow;
    int32_t *restrict back_begin = traffic->back_begin;
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        const int32_t end = traffic->rank_begin[source + 1];
        for (int32_t flow = traffic->rank_begin[source]; flow < end; flow++) {
            /* back_begin of a destination serves as its write position and is put back below. */
            struct rank_flow back = rank_flow[flow];
            int32_t position = back_begin[back.rank]++;
            back.rank = source;
            back_flow[position] = back;
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
    traffic->back_flow = arena_take(arena, flows, sizeof(struct rank_flow));
    traffic->slot_tokens = arena_alloc(arena, (size_t)num_slots, sizeof(int32_t));
    traffic->received_tokens = arena_alloc(arena, ranks, sizeof(int32_t));
    counters->seen = arena_alloc(arena, BLOCK_WORDS * (size_t)num_slots, sizeof *counters->seen);
    counters->slot_tokens = traffic->slot_tokens;
    counters->rank = arena_alloc(arena, ranks, sizeof *counters->rank);
    counters->node_tokens = arena_alloc(arena, nodes, sizeof *counters->node_tokens);
    return traffic->rank_begin != NULL && traffic->rank_flow != NULL &&
           traffic->node_begin != NULL && traffic->node_flow != NULL &&
           traffic->back_begin != NULL && traffic->back_flow != NULL &&
           traffic->slot_tokens != NULL && traffic->received_tokens != NULL &&
           counters->seen != NULL && counters->rank != NULL && counters->node_tokens != NULL;
}

static int64_t sum_counts(const int32_t *count, int32_t num_counts)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < num_counts; i++) {
        sum += count[i];
    }
    return sum;
}

enum status traffic_count(struct traffic *traffic, const struct route *route,
                          const struct placement *placement, const struct trace_batch *batch,
                          const struct cluster *cluster, struct arena *arena)
{
    traffic->num_ranks = placement->num_ranks;
    traffic->num_nodes = cluster_node(cluster, placement->num_ranks - 1) + 1;
    struct counters counters = {.placement = placement, .gpus_per_node = cluster->gpus_per_node};
    const int64_t kept = route->assignments - route->dropped_assignments;
    if (!allocate(traffic, &counters, kept, placement->num_slots, arena)) {
        return STATUS_NO_MEMORY;
    }
    fold_block *fold = best_fold();
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        const int32_t end = batch->rank_begin[source + 1];
        for (int32_t first = batch->rank_begin[source]; first < end; first += BLOCK_TOKENS) {
            int32_t last = end - first > BLOCK_TOKENS ? first + BLOCK_TOKENS : end;
            int32_t middle = last - first > WORD_TOKENS ? first + WORD_TOKENS : last;
            uint32_t num_slots = (uint32_t)placement->num_slots;
            int32_t assignments =
                see_word(counters.seen, route, num_slots, first, middle) +
                see_word(counters.seen + num_slots, route, num_slots, middle, last);
            if (fold(&counters) != assignments) {
                count_repeats(&counters, route, first, last);
            }
        }
        flush_source(traffic, &counters, source);
    }
    traffic->copies = sum_counts(traffic->slot_tokens, placement->num_slots);
    traffic->tokens = sum_counts(traffic->received_tokens, traffic->num_ranks);
    assert(traffic->copies == kept); /* computed + dropped = all */
    index_destinations(traffic);
    return STATUS_OK;
}
