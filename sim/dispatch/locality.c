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

static enum status assign_nearest(void *state, const struct dispatch_input *input,
                                  struct route *route)
{
    (void)state; /* turns start anew every layer: a step does not depend on those before it */
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct choice *choices = first_choices(input);
    if (choices == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wish = 0; /* into [num_tokens][top_k] */
    for (int32_t token = 0; token < route->num_tokens; token++) {
        int32_t source_rank = input->batch->source_rank[token]; /* they ascend */
        for (int32_t k = 0; k < route->top_k; k++, wish++) {
            int32_t expert = route->expert[wish];
            if (expert == EXPERT_NOT_ROUTED || route->dropped[wish]) {
                route->slot[wish] = SLOT_DROPPED;
                continue;
            }
            struct choice *choice = &choices[expert];
            if (choice->owner < source_rank) {
                *choice = choose(input, source_rank, expert);
            }
            /* No branch on replicas: whether a wish is for a hot expert cannot be guessed. */
            int32_t turn = choice->next;
            route->slot[wish] = placement->slot_of[choice->begin + turn];
            choice->next = turn + 1 == choice->count ? 0 : turn + 1;
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
