/* flow_counter.c -- bits become flows. */
#include "flow_counter.h"

#include <assert.h>
#include <string.h>

__attribute__((always_inline)) static inline int32_t fold_bits(const struct flow_counter *counter)
{
    const struct placement *placement = counter->placement;
    const uint64_t *restrict low = token_sets_word(&counter->sets, 0);
    const uint64_t *restrict high = token_sets_word(&counter->sets, 1);
    const int32_t *restrict set_of_slot = counter->set_of_slot;
    const int32_t *restrict rank_begin = placement->rank_begin;
    int32_t *restrict slot_tokens = counter->traffic->slot_tokens;
    int32_t *restrict rank_copies = counter->rank_copies;
    int32_t *restrict rank_tokens = counter->rank_tokens;
    int32_t sum = 0;
    int32_t slot = 0;
    static_assert(SET_WORDS == 2, "a low and a high word");
    for (int32_t rank = 0, node = 0; rank < placement->num_ranks; node++) {
        int32_t end = rank + counter->gpus_per_node;
        end = end < placement->num_ranks ? end : placement->num_ranks;
        uint64_t node_low = 0;
        uint64_t node_high = 0;
        for (; rank < end; rank++) {
            uint64_t rank_low = 0;
            uint64_t rank_high = 0;
            int32_t copies = 0;
            for (; slot < rank_begin[rank + 1]; slot++) {
                uint64_t slot_low = low[set_of_slot[slot]];
                uint64_t slot_high = high[set_of_slot[slot]];
                int32_t tokens = __builtin_popcountll(slot_low) + __builtin_popcountll(slot_high);
                rank_low |= slot_low;
                rank_high |= slot_high;
                slot_tokens[slot] += tokens;
                copies += tokens;
            }
            rank_copies[rank] += copies;
            rank_tokens[rank] += __builtin_popcountll(rank_low) + __builtin_popcountll(rank_high);
            sum += copies;
            node_low |= rank_low;
            node_high |= rank_high;
        }
        counter->node_tokens[node] +=
            __builtin_popcountll(node_low) + __builtin_popcountll(node_high);
    }
    return sum;
}

static int32_t fold_anywhere(const struct flow_counter *counter)
{
    return fold_bits(counter);
}

#ifdef __x86_64__ /* whose baseline counts bits by a call */
__attribute__((target("popcnt"))) static int32_t fold_popcnt(const struct flow_counter *counter)
{
    return fold_bits(counter);
}
#endif

int32_t flow_counter_folds(flow_fold *fold[FLOW_FOLDS_MAX])
{
    int32_t count = 0;
    fold[count++] = fold_anywhere;
#ifdef __x86_64__
    if (__builtin_cpu_supports("popcnt")) {
        fold[count++] = fold_popcnt;
    }
#endif
    return count;
}

int32_t flow_counter_fold(struct flow_counter *counter)
{
    int32_t sum = counter->fold(counter);
    memset(counter->sets.word, 0,
           SET_WORDS * (size_t)counter->sets.num_sets * sizeof *counter->sets.word);
    return sum;
}

/* Moves the non-zero counters of one source to the ends of the lists and clears them. Without
 * branches: the lists have room for one more. */
void flow_counter_end_source(struct flow_counter *counter, int32_t source)
{
    struct traffic *traffic = counter->traffic;
    struct rank_flow *restrict rank_flow = traffic->rank_flow;
    int32_t *restrict back_begin = traffic->back_begin;
    int32_t *restrict received_tokens = traffic->received_tokens;
    int32_t *restrict copies = counter->rank_copies;
    int32_t *restrict tokens = counter->rank_tokens;
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        bool any = copies[rank] > 0;
        rank_flow[flow] = (struct rank_flow){rank, copies[rank], tokens[rank]};
        flow += any;
        back_begin[rank + 1] += any;
        received_tokens[rank] += tokens[rank];
        copies[rank] = 0;
        tokens[rank] = 0;
    }
    traffic->rank_begin[source + 1] = flow;
    flow = traffic->node_begin[source];
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        traffic->node_flow[flow] = (struct node_flow){node, counter->node_tokens[node]};
        flow += counter->node_tokens[node] > 0;
        counter->node_tokens[node] = 0;
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

static bool allocate(struct flow_counter *counter, int64_t kept, struct arena *arena)
{
    struct traffic *traffic = counter->traffic;
    size_t slots = (size_t)counter->placement->num_slots;
    size_t ranks = (size_t)traffic->num_ranks;
    size_t nodes = (size_t)traffic->num_nodes;
    size_t flows = (size_t)kept < ranks * ranks ? (size_t)kept : ranks * ranks;
    size_t node_flows = (size_t)kept < ranks * nodes ? (size_t)kept : ranks * nodes;
    traffic->rank_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->rank_flow = arena_take(arena, flows + 1, sizeof(struct rank_flow));
    traffic->node_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->node_flow = arena_take(arena, node_flows + 1, sizeof(struct node_flow));
    traffic->back_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->back_flow = arena_take(arena, flows, sizeof(struct rank_flow));
    traffic->slot_tokens = arena_alloc(arena, slots, sizeof(int32_t));
    traffic->received_tokens = arena_alloc(arena, ranks, sizeof(int32_t));
    size_t words = SET_WORDS * (size_t)counter->sets.num_sets;
    counter->sets.word = arena_alloc(arena, words, sizeof *counter->sets.word);
    counter->set_of_slot = arena_take(arena, slots, sizeof *counter->set_of_slot);
    counter->rank_copies = arena_alloc(arena, ranks, sizeof *counter->rank_copies);
    counter->rank_tokens = arena_alloc(arena, ranks, sizeof *counter->rank_tokens);
    counter->node_tokens = arena_alloc(arena, nodes, sizeof *counter->node_tokens);
    return traffic->rank_begin != NULL && traffic->rank_flow != NULL &&
           traffic->node_begin != NULL && traffic->node_flow != NULL &&
           traffic->back_begin != NULL && traffic->back_flow != NULL &&
           traffic->slot_tokens != NULL && traffic->received_tokens != NULL &&
           counter->sets.word != NULL && counter->set_of_slot != NULL &&
           counter->rank_copies != NULL && counter->rank_tokens != NULL &&
           counter->node_tokens != NULL;
}

enum status flow_counter_open(struct flow_counter *counter, struct traffic *traffic,
                              const struct placement *placement, const struct cluster *cluster,
                              int64_t kept, int32_t num_sets, struct arena *arena)
{
    traffic->num_ranks = placement->num_ranks;
    traffic->has_empty_flows = false;
    traffic->num_nodes = cluster_node(cluster, placement->num_ranks - 1) + 1;
    flow_fold *fold[FLOW_FOLDS_MAX];
    *counter = (struct flow_counter){.fold = fold[flow_counter_folds(fold) - 1],
                                     .traffic = traffic,
                                     .placement = placement,
                                     .gpus_per_node = cluster->gpus_per_node,
                                     .sets = {.num_sets = num_sets}};
    if (!allocate(counter, kept, arena)) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        counter->set_of_slot[slot] = slot;
    }
    return STATUS_OK;
}

static int64_t sum_counts(const int32_t *count, int32_t num_counts)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < num_counts; i++) {
        sum += count[i];
    }
    return sum;
}

void flow_counter_close(struct flow_counter *counter)
{
    struct traffic *traffic = counter->traffic;
    traffic->copies = sum_counts(traffic->slot_tokens, counter->placement->num_slots);
    traffic->tokens = sum_counts(traffic->received_tokens, traffic->num_ranks);
    index_destinations(traffic);
}
