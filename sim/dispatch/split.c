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

enum distance { SAME_GPU, SAME_NODE, ANYWHERE };

static bool within(const struct dispatch_input *input, int32_t source_rank, int32_t slot,
                   enum distance distance)
{
    int32_t rank = input->placement->rank_of_slot[slot];
    return distance == ANYWHERE ||
           (distance == SAME_GPU
                ? rank == source_rank
                : cluster_tier(input->cluster, rank, source_rank) == TIER_SCALE_UP);
}

/* The slot within the distance with the most quota left; of equals, the first; else
 * SLOT_DROPPED. */
static int32_t slot_within(const struct dispatch_input *input, const int32_t *left, int32_t expert,
                           int32_t source_rank, enum distance distance)
{
    const struct placement *placement = input->placement;
    int32_t best = SLOT_DROPPED;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        if (left[slot] > (best == SLOT_DROPPED ? 0 : left[best]) &&
            within(input, source_rank, slot, distance)) {
            best = slot;
        }
    }
    return best;
}

enum status split_deal_nearest(const struct split *split, const struct dispatch_input *input,
                               struct route *route)
{
    const struct placement *placement = split->placement;
    size_t slots = (size_t)placement->num_slots;
    int32_t *left = arena_take(input->scratch, slots, sizeof *left);
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    int64_t *open = arena_take(input->scratch, (size_t)wishes, sizeof *open); /* no slot yet */
    if (left == NULL || open == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(left, split->quota, slots * sizeof *left);
    int64_t num_open = 0;
    for (int64_t wish = 0; wish < wishes; wish++) {
        bool is_kept = split_is_kept(route, wish);
        int32_t expert = route->expert[wish];
        if (is_kept && placement_num_replicas(placement, expert) > 1) {
            open[num_open++] = wish;
        } else {
            route->slot[wish] =
                is_kept ? placement->slot_of[placement->slot_begin[expert]] : SLOT_DROPPED;
        }
    }
    for (enum distance distance = SAME_GPU; distance <= ANYWHERE; distance++) {
        int64_t still_open = 0;
        for (int64_t i = 0; i < num_open; i++) {
            int64_t wish = open[i];
            int32_t source_rank = input->batch->source_rank[wish / route->top_k];
            int32_t slot = slot_within(input, left, route->expert[wish], source_rank, distance);
            route->slot[wish] = slot;
            if (slot == SLOT_DROPPED) {
                open[still_open++] = wish;
            } else {
                left[slot]--;
            }
        }
        num_open = still_open;
    }
    assert(num_open == 0); /* quotas sum to the experts' tokens */
    return STATUS_OK;
}
