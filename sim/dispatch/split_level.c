/*
 * split_level.c -- the split of tokens over replicas that leaves the busiest rank the fewest.
 *
 *     minimise M  such that  sum over slots of e: x = tokens_e,  sum over slots of g: x <= M
 *
 * For a given M this is a maximum flow from experts over their slots to ranks with room M - base,
 * base being what has no choice. M starts at the least that could do: the mean over all ranks and
 * the largest base. Flow is pushed along shortest paths; where an expert has tokens left that no
 * path takes, the ranks R that it reaches, and all experts on them whose slots lie in R alone, need
 * sum over R of M >= the tokens there, so M rises to that, what flows stays, and pushing goes on.
 * Every rise is forced, so the last M is the least whole number that does: the linear program's
 * optimum, rounded up.
 */
#include "dispatch/split.h"

#include <assert.h>

#define NOT_REACHED (-1)

struct level {
    const struct placement *placement;
    struct split *split;
    int64_t tokens_max; /* M */
    int32_t *via_slot;  /* [num_ranks] whose expert would come here, or NOT_REACHED */
    int32_t *from_slot; /* [num_ranks] that it would leave, or NOT_REACHED: from nowhere */
    int32_t *reached;   /* [num_ranks] in the order of the search */
};

static int64_t floor_of(const struct split *split)
{
    int64_t sum = 0;
    int64_t most = 0;
    int32_t num_ranks = split->placement->num_ranks;
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        sum += split->rank_tokens[rank];
        most = split->rank_tokens[rank] > most ? split->rank_tokens[rank] : most;
    }
    for (int32_t i = 0; i < split->num_choices; i++) {
        sum += split->tokens[split->choice[i]];
    }
    int64_t mean = (sum + num_ranks - 1) / num_ranks;
    return mean > most ? mean : most;
}

/* Adds the ranks that an expert leads to; from is the slot that its tokens would leave. */
static int32_t reach(struct level *level, int32_t expert, int32_t from, int32_t num_reached)
{
    const struct placement *placement = level->placement;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        int32_t rank = placement->rank_of_slot[slot];
        if (level->via_slot[rank] == NOT_REACHED) {
            level->via_slot[rank] = slot;
            level->from_slot[rank] = from;
            level->reached[num_reached++] = rank;
        }
    }
    return num_reached;
}

/* Searches breadth first for a rank with room. Returns it, or NOT_REACHED with every rank that was
 * reached listed. */
static int32_t search(struct level *level, int32_t expert, int32_t *num_reached)
{
    const struct placement *placement = level->placement;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        level->via_slot[rank] = NOT_REACHED;
    }
    *num_reached = reach(level, expert, NOT_REACHED, 0);
    for (int32_t i = 0; i < *num_reached; i++) {
        int32_t rank = level->reached[i];
        if (level->split->rank_tokens[rank] < level->tokens_max) {
            return rank;
        }
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            int32_t resident = placement->expert_of_slot[slot];
            if (level->split->quota[slot] > 0 && placement_num_replicas(placement, resident) > 1) {
                *num_reached = reach(level, resident, slot, *num_reached);
            }
        }
    }
    return NOT_REACHED;
}

/* Pushes up to tokens along the path that ends at rank. Returns how many went. */
static int32_t push(struct level *level, int32_t rank, int32_t tokens)
{
    const struct placement *placement = level->placement;
    struct split *split = level->split;
    int64_t room = level->tokens_max - split->rank_tokens[rank];
    int32_t pushed = tokens < room ? tokens : (int32_t)room;
    for (int32_t at = rank; level->from_slot[at] != NOT_REACHED;) { /* at most once a rank */
        int32_t from = level->from_slot[at];
        pushed = split->quota[from] < pushed ? split->quota[from] : pushed;
        at = placement->rank_of_slot[from];
    }
    split->rank_tokens[rank] += pushed;
    for (int32_t at = rank;;) {
        split->quota[level->via_slot[at]] += pushed;
        int32_t from = level->from_slot[at];
        if (from == NOT_REACHED) {
            return pushed;
        }
        split->quota[from] -= pushed;
        at = placement->rank_of_slot[from];
    }
}

/* The least M at which the ranks that were reached, full now, could take the tokens too. */
static int64_t raise(const struct level *level, int32_t num_reached, int32_t tokens)
{
    int64_t sum = tokens;
    for (int32_t i = 0; i < num_reached; i++) {
        sum += level->split->rank_tokens[level->reached[i]];
    }
    return (sum + num_reached - 1) / num_reached;
}

enum status split_level(struct split *split, struct arena *scratch)
{
    size_t ranks = (size_t)split->placement->num_ranks;
    struct level level = {
        .placement = split->placement,
        .split = split,
        .tokens_max = floor_of(split),
        .via_slot = arena_take(scratch, ranks, sizeof(int32_t)),
        .from_slot = arena_take(scratch, ranks, sizeof(int32_t)),
        .reached = arena_take(scratch, ranks, sizeof(int32_t)),
    };
    if (level.via_slot == NULL || level.from_slot == NULL || level.reached == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < split->num_choices; i++) {
        int32_t expert = split->choice[i];
        for (int32_t left = split->tokens[expert]; left > 0;) { /* each turn pushes or raises */
            int32_t num_reached = 0;
            int32_t rank = search(&level, expert, &num_reached);
            if (rank == NOT_REACHED) {
                level.tokens_max = raise(&level, num_reached, left);
            } else {
                left -= push(&level, rank, left);
            }
        }
    }
    return STATUS_OK;
}
