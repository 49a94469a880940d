/*
 * locality -- a replica on the token's own GPU, else on its node, else anywhere.
 *
 * Source: SGLang @ b47eaa9, expert_location.py, static dispatch: same GPU, else the first on the
 * same node, else a fair random one. Ours takes turns wherever several are equally near: the i-th
 * wish of a source rank for an expert goes to candidate (source rank + i) mod n. That is as fair,
 * needs no dice, can be computed by each rank alone, and the rank in the sum keeps small batches
 * from all starting at the same replica.
 */
#include "dispatch/dispatch.h"

#include <assert.h>

/* Slots of an expert ascend, so those of a rank or a node are neighbours in slot_of: the nearest
 * replicas are a range of it. */
struct range {
    int32_t begin; /* into slot_of */
    int32_t count;
};

#define NO_SOURCE (-1)

/* Whose turn it is, and whose then. Candidates of an expert are linked in a ring, so taking turns
 * needs neither a count nor a branch. */
struct turns {
    const struct placement *placement;
    const struct cluster *cluster;
    int32_t *next;         /* [num_experts] the slot that the next wish gets */
    int32_t *after;        /* [num_slots] the slot behind it in its ring */
    int32_t *replicated;   /* [num_replicated] experts with a choice, ascending */
    struct range *on_node; /* [num_experts] theirs, as near as the node at hand has them */
    int32_t num_replicated;
    int32_t source; /* the rank at hand, or NO_SOURCE */
};

static void link_ring(struct turns *turns, struct range range)
{
    const int32_t *slot_of = turns->placement->slot_of;
    int32_t last = range.begin + range.count - 1;
    for (int32_t i = range.begin; i < last; i++) {
        turns->after[slot_of[i]] = slot_of[i + 1];
    }
    turns->after[slot_of[last]] = slot_of[range.begin];
}

static void start_ring(struct turns *turns, int32_t expert, struct range range, int32_t source_rank)
{
    turns->next[expert] = turns->placement->slot_of[range.begin + source_rank % range.count];
}

/* The slots of the expert on ranks first .. end - 1; count 0: none. */
static struct range slots_on(const struct placement *placement, int32_t expert, int32_t first,
                             int32_t end)
{
    struct range range = {0};
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t rank = placement->rank_of_slot[placement->slot_of[i]];
        if (rank >= first && rank < end) {
            range.begin = range.count > 0 ? range.begin : i;
            range.count++;
        }
    }
    return range;
}

static bool turns_open(struct turns *turns, const struct dispatch_input *input)
{
    const struct placement *placement = input->placement;
    size_t experts = (size_t)placement->num_experts;
    *turns = (struct turns){
        .placement = placement,
        .cluster = input->cluster,
        .next = arena_take(input->scratch, experts, sizeof(int32_t)),
        .after = arena_take(input->scratch, (size_t)placement->num_slots, sizeof(int32_t)),
        .replicated = arena_take(input->scratch, experts, sizeof(int32_t)),
        .on_node = arena_take(input->scratch, experts, sizeof(struct range)),
        .source = NO_SOURCE,
    };
    if (turns->next == NULL || turns->after == NULL || turns->replicated == NULL ||
        turns->on_node == NULL) {
        return false;
    }
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        if (placement_num_replicas(placement, expert) > 1) {
            turns->replicated[turns->num_replicated++] = expert;
            continue;
        }
        struct range only = {placement->slot_begin[expert], 1};
        link_ring(turns, only);
        start_ring(turns, expert, only, 0);
    }
    return true;
}

/* Links what is nearest for ranks that have no slot of the expert: those of the node, else all. */
static void enter_node(struct turns *turns, int32_t node)
{
    const struct placement *placement = turns->placement;
    int32_t first = node * turns->cluster->gpus_per_node;
    for (int32_t i = 0; i < turns->num_replicated; i++) {
        int32_t expert = turns->replicated[i];
        struct range range =
            slots_on(placement, expert, first, first + turns->cluster->gpus_per_node);
        if (range.count == 0) {
            range.begin = placement->slot_begin[expert];
            range.count = placement_num_replicas(placement, expert);
        }
        turns->on_node[expert] = range;
        link_ring(turns, range);
    }
}

/* Links the rank's own slots of experts that have others too. */
static void enter_rank(struct turns *turns, int32_t rank)
{
    const struct placement *placement = turns->placement;
    for (int32_t i = 0; i < turns->num_replicated; i++) {
        start_ring(turns, turns->replicated[i], turns->on_node[turns->replicated[i]], rank);
    }
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        if (placement_num_replicas(placement, expert) > 1) {
            struct range own = slots_on(placement, expert, rank, rank + 1);
            link_ring(turns, own);
            start_ring(turns, expert, own, rank);
        }
    }
}

/* Gives back to the node what enter_rank has linked. */
static void leave_rank(struct turns *turns, int32_t rank)
{
    const struct placement *placement = turns->placement;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        if (placement_num_replicas(placement, expert) > 1) {
            link_ring(turns, turns->on_node[expert]);
        }
    }
}

/* Goes on to a source rank, from one before it. */
static void enter_source(struct turns *turns, int32_t source)
{
    int32_t node = cluster_node(turns->cluster, source);
    if (turns->source != NO_SOURCE) {
        leave_rank(turns, turns->source);
    }
    if (turns->source == NO_SOURCE || cluster_node(turns->cluster, turns->source) != node) {
        enter_node(turns, node);
    }
    enter_rank(turns, source);
    turns->source = source;
}

/* The wishes first .. last of one source rank. all: none is dropped and none was not routed. */
static inline void assign_source(struct turns *turns, struct route *route, int64_t first,
                                 int64_t last, bool all)
{
    const int32_t *restrict wished = route->expert;
    const int32_t *restrict after = turns->after;
    int32_t *restrict next = turns->next;
    int32_t *restrict slot = route->slot;
#pragma GCC unroll 8
    for (int64_t wish = first; wish < last; wish++) {
        int32_t expert = wished[wish];
        if (!all && (expert == EXPERT_NOT_ROUTED || route->dropped[wish])) {
            slot[wish] = SLOT_DROPPED;
            continue;
        }
        int32_t taken = next[expert];
        slot[wish] = taken;
        next[expert] = after[taken];
    }
}

static enum status assign_nearest(void *state, const struct dispatch_input *input,
                                  struct route *route)
{
    (void)state; /* turns start anew every layer: a step does not depend on those before it */
    const struct placement *placement = input->placement;
    const int32_t *rank_begin = input->batch->rank_begin;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct turns turns;
    if (!turns_open(&turns, input)) {
        return STATUS_NO_MEMORY;
    }
    bool all = route->dropped_assignments == 0 &&
               route->assignments == (int64_t)route->num_tokens * route->top_k;
    for (int32_t source = 0; source < placement->num_ranks; source++) {
        int64_t first = (int64_t)rank_begin[source] * route->top_k;
        int64_t last = (int64_t)rank_begin[source + 1] * route->top_k;
        enter_source(&turns, source);
        if (all) {
            assign_source(&turns, route, first, last, true);
        } else {
            assign_source(&turns, route, first, last, false);
        }
    }
    return STATUS_OK;
}

static void *deal_open(const struct dispatch_input *input)
{
    struct turns *turns = arena_take(input->scratch, 1, sizeof *turns);
    return turns != NULL && turns_open(turns, input) ? turns : NULL;
}

/* Bit i: whether bits 0 .. i are odd in number. */
static uint64_t running_parity(uint64_t bits)
{
#pragma GCC unroll 6
    for (int32_t shift = 1; shift < 64; shift *= 2) {
        bits ^= bits << shift;
    }
    return bits;
}

/* Deals a word of an expert's tokens round its ring: to one or two slots every other token without
 * a loop, to more one by one. */
static void deal_word(struct turns *turns, int32_t expert, uint64_t bits, uint64_t *of_slot)
{
    int32_t slot = turns->next[expert];
    int32_t second = turns->after[slot];
    if (turns->after[second] == slot) {
        uint64_t odd = bits & running_parity(bits);
        of_slot[slot] |= odd;
        of_slot[second] |= bits ^ odd;
        turns->next[expert] = __builtin_parityll(bits) ? second : slot;
        return;
    }
    for (; bits != 0; bits &= bits - 1) {
        of_slot[slot] |= bits & -bits;
        slot = turns->after[slot];
    }
    turns->next[expert] = slot;
}

static void deal(void *dealer, int32_t source_rank, const struct token_sets *sets)
{
    struct turns *turns = dealer;
    if (source_rank != turns->source) {
        enter_source(turns, source_rank);
    }
    for (int32_t word = 0; word < SET_WORDS; word++) {
        const uint64_t *of_expert = token_sets_word(sets, word);
        uint64_t *of_slot = token_sets_word(sets, word) + turns->placement->num_experts;
        for (int32_t i = 0; i < turns->num_replicated; i++) {
            int32_t expert = turns->replicated[i];
            deal_word(turns, expert, of_expert[expert], of_slot);
        }
    }
}

const struct replica_dispatch dispatch_locality = {
    .name = "locality",
    .summary = "a replica on the same GPU, else the same node, else in turn among all",
    .source = "SGLang expert_location.py @ b47eaa9, static dispatch; turns instead of dice",
    .assign = assign_nearest,
    .deal_open = deal_open,
    .deal = deal,
};
