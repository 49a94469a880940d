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

#define OWNER_ANY  INT32_MAX /* an expert with one slot: nothing to choose */
#define OWNER_NONE (-1)

/* Where one source rank's wishes for an expert go. Slots of an expert ascend, so those of a rank or
 * a node are neighbours in slot_of: the nearest replicas are a range of it. */
struct choice {
    int32_t owner; /* source rank for which this holds, or OWNER_ANY; a later rank finds it stale */
    int32_t begin; /* into slot_of */
    int32_t count;
    int32_t next; /* < count: whose turn it is */
};

static int32_t distance(const struct dispatch_input *input, int32_t source_rank, int32_t slot)
{
    int32_t rank = input->placement->rank_of_slot[slot];
    if (rank == source_rank) {
        return 0;
    }
    return cluster_tier(input->cluster, rank, source_rank) == TIER_SCALE_UP ? 1 : 2;
}

static struct choice choose(const struct dispatch_input *input, int32_t source_rank, int32_t expert)
{
    const struct placement *placement = input->placement;
    struct choice choice = {.owner = source_rank};
    int32_t nearest = INT32_MAX;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t here = distance(input, source_rank, placement->slot_of[i]);
        if (here < nearest) {
            nearest = here;
            choice.begin = i;
            choice.count = 0;
        }
        choice.count += here == nearest;
    }
    assert(choice.count >= 1);
    choice.next = source_rank % choice.count;
    return choice;
}

static struct choice *first_choices(const struct dispatch_input *input)
{
    const struct placement *placement = input->placement;
    struct choice *choices =
        arena_take(input->scratch, (size_t)placement->num_experts, sizeof *choices);
    for (int32_t expert = 0; expert < placement->num_experts && choices != NULL; expert++) {
        bool is_only = placement_num_replicas(placement, expert) == 1;
        choices[expert] = (struct choice){.owner = is_only ? OWNER_ANY : OWNER_NONE,
                                          .begin = placement->slot_begin[expert],
                                          .count = 1};
    }
    return choices;
}

/* The wishes first .. last of one source rank. all: none is dropped and none was not routed. */
static inline void assign_source(const struct dispatch_input *input, struct route *route,
                                 struct choice *restrict choices, int32_t source_rank,
                                 int64_t first, int64_t last, bool all)
{
    const int32_t *restrict wished = route->expert;
    const int32_t *restrict slot_of = input->placement->slot_of;
    int32_t *restrict slot = route->slot;
    for (int64_t wish = first; wish < last; wish++) {
        int32_t expert = wished[wish];
        if (!all && (expert == EXPERT_NOT_ROUTED || route->dropped[wish])) {
            slot[wish] = SLOT_DROPPED;
            continue;
        }
        struct choice *choice = &choices[expert];
        if (choice->owner < source_rank) {
            *choice = choose(input, source_rank, expert);
        }
        /* No branch on replicas: whether a wish is for a hot expert cannot be guessed. */
        int32_t turn = choice->next;
        slot[wish] = slot_of[choice->begin + turn];
        choice->next = turn + 1 == choice->count ? 0 : turn + 1;
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
    struct choice *choices = first_choices(input);
    if (choices == NULL) {
        return STATUS_NO_MEMORY;
    }
    bool all = route->dropped_assignments == 0 &&
               route->assignments == (int64_t)route->num_tokens * route->top_k;
    for (int32_t source = 0; source < placement->num_ranks; source++) {
        int64_t first = (int64_t)rank_begin[source] * route->top_k;
        int64_t last = (int64_t)rank_begin[source + 1] * route->top_k;
        if (all) {
            assign_source(input, route, choices, source, first, last, true);
        } else {
            assign_source(input, route, choices, source, first, last, false);
        }
    }
    return STATUS_OK;
}

const struct replica_dispatch dispatch_locality = {
    .name = "locality",
    .summary = "a replica on the same GPU, else the same node, else in turn among all",
    .source = "SGLang expert_location.py @ b47eaa9, static dispatch; turns instead of dice",
    .assign = assign_nearest,
};
