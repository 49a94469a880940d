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

/* Where one source rank's wishes for an expert go. Slots of an expert ascend, so those of a rank or
 * a node are neighbours in slot_of: the nearest replicas are a range of it. */
struct choice {
    int32_t owner; /* source rank + 1 for which this holds: a new rank makes all choices stale */
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
    struct choice choice = {.owner = source_rank + 1};
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

static enum status assign_nearest(void *state, const struct dispatch_input *input,
                                  struct route *route)
{
    (void)state; /* turns start anew every layer: a step does not depend on those before it */
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct choice *choices =
        arena_alloc(input->scratch, (size_t)route->num_experts, sizeof *choices);
    if (choices == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wish = 0; /* into [num_tokens][top_k] */
    for (int32_t token = 0; token < route->num_tokens; token++) {
        int32_t source_rank = input->batch->source_rank[token];
        for (int32_t k = 0; k < route->top_k; k++, wish++) {
            int32_t expert = route->expert[wish];
            if (expert == EXPERT_NOT_ROUTED || route->dropped[wish]) {
                route->slot[wish] = SLOT_DROPPED;
                continue;
            }
            if (placement_num_replicas(placement, expert) == 1) {
                route->slot[wish] = placement->slot_of[placement->slot_begin[expert]];
                continue;
            }
            struct choice *choice = &choices[expert];
            if (choice->owner != source_rank + 1) {
                *choice = choose(input, source_rank, expert);
            }
            route->slot[wish] = placement->slot_of[choice->begin + choice->next];
            choice->next = choice->next + 1 == choice->count ? 0 : choice->next + 1;
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
