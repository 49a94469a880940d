/* split.c -- counts a batch, and deals its wishes out by quotas. */
#include "dispatch/split.h"

#include <assert.h>
#include <gsl/gsl_heapsort.h>
#include <string.h>

static int heavier_first(const void *left, const void *right)
{
    const int32_t *a = left; /* tokens, expert */
    const int32_t *b = right;
    if (a[0] != b[0]) {
        return a[0] > b[0] ? -1 : 1;
    }
    return (a[1] > b[1]) - (a[1] < b[1]);
}

/* Fills the quotas that leave no choice, lines the other experts up. */
static void line_up(struct split *split, int32_t (*pair)[2])
{
    const struct placement *placement = split->placement;
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        int32_t tokens = split->tokens[expert];
        if (tokens > 0 && placement_num_replicas(placement, expert) > 1) {
            pair[split->num_choices][0] = tokens;
            pair[split->num_choices++][1] = expert;
        } else if (tokens > 0) {
            int32_t slot = placement->slot_of[placement->slot_begin[expert]];
            split->quota[slot] = tokens;
            split->rank_tokens[placement->rank_of_slot[slot]] += tokens;
        }
    }
    gsl_heapsort(pair, (size_t)split->num_choices, sizeof *pair, heavier_first);
    for (int32_t i = 0; i < split->num_choices; i++) {
        split->choice[i] = pair[i][1];
    }
}

enum status split_open(struct split *split, const struct dispatch_input *input,
                       const struct route *route)
{
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct arena *scratch = input->scratch;
    size_t experts = (size_t)placement->num_experts;
    *split = (struct split){
        .placement = placement,
        .tokens = arena_alloc(scratch, experts, sizeof(int32_t)),
        .quota = arena_alloc(scratch, (size_t)placement->num_slots, sizeof(int32_t)),
        .rank_tokens = arena_alloc(scratch, (size_t)placement->num_ranks, sizeof(int32_t)),
        .choice = arena_take(scratch, experts, sizeof(int32_t)),
    };
    int32_t(*pair)[2] = arena_take(scratch, experts, sizeof *pair);
    if (split->tokens == NULL || split->quota == NULL || split->rank_tokens == NULL ||
        split->choice == NULL || pair == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        if (split_is_kept(route, wish)) {
            split->tokens[route->expert[wish]]++;
        }
    }
    line_up(split, pair);
    return STATUS_OK;
}

/* The slot that lags furthest behind its share of the wishes so far; of equals, the first. */
static int32_t slot_behind(const struct split *split, const int32_t *left, int32_t expert,
                           int64_t wish)
{
    const struct placement *placement = split->placement;
    int32_t furthest = -1;
    int64_t most = INT64_MIN;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        int64_t quota = split->quota[slot];
        int64_t behind = quota * (wish + 1) - (quota - left[slot]) * split->tokens[expert];
        if (left[slot] > 0 && behind > most) {
            most = behind;
            furthest = slot;
        }
    }
    assert(furthest >= 0); /* quotas sum to the expert's tokens */
    return furthest;
}

enum status split_deal_mixed(const struct split *split, struct route *route, struct arena *scratch)
{
    const struct placement *placement = split->placement;
    int32_t *left = arena_take(scratch, (size_t)placement->num_slots, sizeof *left);
    int32_t *seen = arena_alloc(scratch, (size_t)placement->num_experts, sizeof *seen);
    if (left == NULL || seen == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(left, split->quota, (size_t)placement->num_slots * sizeof *left);
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        int32_t expert = route->expert[wish];
        if (!split_is_kept(route, wish)) {
            route->slot[wish] = SLOT_DROPPED;
        } else if (placement_num_replicas(placement, expert) == 1) {
            route->slot[wish] = placement->slot_of[placement->slot_begin[expert]];
        } else {
            int32_t slot = slot_behind(split, left, expert, seen[expert]++);
            route->slot[wish] = slot;
            left[slot]--;
        }
    }
    return STATUS_OK;
}

/* What split_deal_nearest keeps beside the quotas. */
struct nearest {
    const struct placement *placement;
    int32_t *left;         /* [num_slots] of the quotas */
    int32_t *node_of_slot; /* [num_slots] */
    int32_t *own_slot; /* [num_experts] of the source rank at hand: one with the expert, or -1 */
    int64_t *open;     /* [num_open] wishes without a slot yet */
    int64_t num_open;
};

static bool nearest_open(struct nearest *nearest, const struct split *split,
                         const struct dispatch_input *input, int64_t wishes)
{
    const struct placement *placement = split->placement;
    size_t slots = (size_t)placement->num_slots;
    *nearest = (struct nearest){
        .placement = placement,
        .left = arena_take(input->scratch, slots, sizeof(int32_t)),
        .node_of_slot = arena_take(input->scratch, slots, sizeof(int32_t)),
        .own_slot = arena_take(input->scratch, (size_t)placement->num_experts, sizeof(int32_t)),
        .open = arena_take(input->scratch, (size_t)wishes, sizeof(int64_t)),
    };
    if (nearest->left == NULL || nearest->node_of_slot == NULL || nearest->own_slot == NULL ||
        nearest->open == NULL) {
        return false;
    }
    memcpy(nearest->left, split->quota, slots * sizeof *nearest->left);
    memset(nearest->own_slot, 0xff, (size_t)placement->num_experts * sizeof *nearest->own_slot);
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        int32_t node = cluster_node(input->cluster, rank);
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            nearest->node_of_slot[slot] = node;
        }
    }
    return true;
}

/* Notes (or forgets) which experts the rank holds. */
static void note_own(struct nearest *nearest, int32_t rank, bool forget)
{
    const struct placement *placement = nearest->placement;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        bool is_better = nearest->own_slot[expert] < 0 ||
                         nearest->left[slot] > nearest->left[nearest->own_slot[expert]];
        nearest->own_slot[expert] = forget ? -1 : is_better ? slot : nearest->own_slot[expert];
    }
}

/* Wishes that have no choice, or room on their own GPU; lists the others. */
static void deal_own(struct nearest *nearest, const struct dispatch_input *input,
                     struct route *route)
{
    const struct placement *placement = nearest->placement;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        int64_t end = (int64_t)input->batch->rank_begin[rank + 1] * route->top_k;
        note_own(nearest, rank, false);
        for (int64_t wish = (int64_t)input->batch->rank_begin[rank] * route->top_k; wish < end;
             wish++) {
            int32_t expert = route->expert[wish];
            if (!split_is_kept(route, wish)) {
                route->slot[wish] = SLOT_DROPPED;
                continue;
            }
            int32_t own = nearest->own_slot[expert];
            if (placement_num_replicas(placement, expert) == 1) {
                route->slot[wish] = placement->slot_of[placement->slot_begin[expert]];
            } else if (own >= 0 && nearest->left[own] > 0) {
                route->slot[wish] = own;
                nearest->left[own]--;
            } else {
                nearest->open[nearest->num_open++] = wish;
            }
        }
        note_own(nearest, rank, true);
    }
}

/* Of the expert's slots with room, on the node (or any: -1), the one with the most left; of
 * equals, the first; else SLOT_DROPPED. */
static int32_t slot_with_room(const struct nearest *nearest, int32_t expert, int32_t node)
{
    const struct placement *placement = nearest->placement;
    int32_t best = SLOT_DROPPED;
    int32_t most = 0;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        if (nearest->left[slot] > most && (node < 0 || nearest->node_of_slot[slot] == node)) {
            best = slot;
            most = nearest->left[slot];
        }
    }
    return best;
}

enum status split_deal_nearest(const struct split *split, const struct dispatch_input *input,
                               struct route *route)
{
    struct nearest nearest;
    if (!nearest_open(&nearest, split, input, (int64_t)route->num_tokens * route->top_k)) {
        return STATUS_NO_MEMORY;
    }
    deal_own(&nearest, input, route);
    int64_t still_open = 0;
    for (int64_t i = 0; i < nearest.num_open; i++) {
        int64_t wish = nearest.open[i];
        int32_t source_rank = input->batch->source_rank[wish / route->top_k];
        int32_t slot = slot_with_room(&nearest, route->expert[wish],
                                      cluster_node(input->cluster, source_rank));
        if (slot == SLOT_DROPPED) {
            nearest.open[still_open++] = wish;
        } else {
            route->slot[wish] = slot;
            nearest.left[slot]--;
        }
    }
    for (int64_t i = 0; i < still_open; i++) {
        int64_t wish = nearest.open[i];
        int32_t slot = slot_with_room(&nearest, route->expert[wish], -1);
        assert(slot != SLOT_DROPPED); /* quotas sum to the experts' tokens */
        route->slot[wish] = slot;
        nearest.left[slot]--;
    }
    return STATUS_OK;
}
