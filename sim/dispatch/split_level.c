/*
 * split_level.c -- the split of tokens over replicas that leaves the busiest rank the fewest.
 *
 *     minimise M  such that  sum over slots of e: x = tokens_e,  sum over slots of g: x <= M
 *
 * From even shares, what a rank has above M flows along shortest paths to ranks with room: over an
 * expert that both hold, or over several. M starts at the least that could do: the mean over all
 * ranks and the largest load that has no choice. Where a rank is above M and no rank that it
 * reaches has room, all experts with tokens on these ranks have all their slots there, so M must be
 * their mean at least; it rises to that, what has flowed stays, and it goes on. Every rise is
 * forced, so the last M is the least whole number that does: the linear program's optimum, rounded
 * up, because a flow between whole numbers is one of whole numbers. Of all splits with that M this
 * one stays near the even one.
 */
#include "dispatch/split.h"

#include <assert.h>

#define NOT_REACHED (-1)

struct level {
    const struct placement *placement;
    struct split *split;
    int64_t tokens_max; /* M */
    int32_t *via_slot;  /* [num_ranks] whose tokens would come here, or NOT_REACHED */
    int32_t *from_slot; /* [num_ranks] that they would leave */
    int32_t *reached;   /* [num_ranks] in the order of the search, the overloaded one first */
};

/* Shares out the tokens of every expert that has a choice; what is left over goes to its first
 * slots. Sets M to the least that could do. */
static void start_evenly(struct level *level)
{
    const struct placement *placement = level->placement;
    struct split *split = level->split;
    int64_t sum = 0;
    int64_t most = 0; /* of what has no choice */
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        sum += split->rank_tokens[rank];
        most = split->rank_tokens[rank] > most ? split->rank_tokens[rank] : most;
    }
    for (int32_t i = 0; i < split->num_choices; i++) {
        int32_t expert = split->choice[i];
        int32_t begin = placement->slot_begin[expert];
        int32_t replicas = placement_num_replicas(placement, expert);
        for (int32_t j = 0; j < replicas; j++) {
            int32_t slot = placement->slot_of[begin + j];
            int32_t share =
                split->tokens[expert] / replicas + (j < split->tokens[expert] % replicas);
            split->quota[slot] = share;
            split->rank_tokens[placement->rank_of_slot[slot]] += share;
        }
        sum += split->tokens[expert];
    }
    int64_t mean = (sum + placement->num_ranks - 1) / placement->num_ranks;
    level->tokens_max = mean > most ? mean : most;
}

/* Adds the ranks that could take tokens of a slot. */
static int32_t reach(struct level *level, int32_t from, int32_t num_reached)
{
    const struct placement *placement = level->placement;
    int32_t expert = placement->expert_of_slot[from];
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        int32_t rank = placement->rank_of_slot[slot];
        if (level->via_slot[rank] == NOT_REACHED && rank != level->reached[0]) {
            level->via_slot[rank] = slot;
            level->from_slot[rank] = from;
            level->reached[num_reached++] = rank;
        }
    }
    return num_reached;
}

/* Searches breadth first from an overloaded rank for one with room. Returns it, or NOT_REACHED
 * with every rank that was reached listed. */
static int32_t search(struct level *level, int32_t overloaded, int32_t *num_reached)
{
    const struct placement *placement = level->placement;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        level->via_slot[rank] = NOT_REACHED;
    }
    level->reached[0] = overloaded;
    *num_reached = 1;
    for (int32_t i = 0; i < *num_reached; i++) {
        int32_t rank = level->reached[i];
        if (level->split->rank_tokens[rank] < level->tokens_max) {
            return rank;
        }
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            if (level->split->quota[slot] > 0) {
                *num_reached = reach(level, slot, *num_reached);
            }
        }
    }
    return NOT_REACHED;
}

/* Moves what fits from the overloaded rank along the path that ends at rank. */
static void push(struct level *level, int32_t overloaded, int32_t rank)
{
    const struct placement *placement = level->placement;
    struct split *split = level->split;
    int64_t room = level->tokens_max - split->rank_tokens[rank];
    int64_t excess = split->rank_tokens[overloaded] - level->tokens_max;
    int64_t pushed = excess < room ? excess : room;
    for (int32_t at = rank; at != overloaded;) { /* at most once a rank */
        int32_t from = level->from_slot[at];
        pushed = split->quota[from] < pushed ? split->quota[from] : pushed;
        at = placement->rank_of_slot[from];
    }
    assert(pushed > 0);
    for (int32_t at = rank; at != overloaded;) {
        int32_t from = level->from_slot[at];
        split->quota[level->via_slot[at]] += (int32_t)pushed;
        split->quota[from] -= (int32_t)pushed;
        at = placement->rank_of_slot[from];
    }
    split->rank_tokens[rank] += (int32_t)pushed;
    split->rank_tokens[overloaded] -= (int32_t)pushed;
}

/* The least M at which the ranks that were reached can hold what is there. */
static int64_t raise(const struct level *level, int32_t num_reached)
{
    int64_t sum = 0;
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
        .via_slot = arena_take(scratch, ranks, sizeof(int32_t)),
        .from_slot = arena_take(scratch, ranks, sizeof(int32_t)),
        .reached = arena_take(scratch, ranks, sizeof(int32_t)),
    };
    if (level.via_slot == NULL || level.from_slot == NULL || level.reached == NULL) {
        return STATUS_NO_MEMORY;
    }
    start_evenly(&level);
    for (int32_t rank = 0; rank < split->placement->num_ranks; rank++) {
        while (split->rank_tokens[rank] > level.tokens_max) { /* each turn pushes or raises */
            int32_t num_reached = 0;
            int32_t with_room = search(&level, rank, &num_reached);
            if (with_room == NOT_REACHED) {
                level.tokens_max = raise(&level, num_reached);
            } else {
                push(&level, rank, with_room);
            }
        }
    }
    return STATUS_OK;
}
