/*
 * bound.c -- bounds on the busiest rank: counting arguments, and a parametric maximum flow.
 *
 * Best split: M tokens a rank suffice if and only if every set S of ranks can serve the experts
 * that live on S alone, so the answer is the greatest  load(experts within S) / |S|  (min-max
 * flow). Newton's method finds it: start at the mean; a maximum flow from experts to ranks of
 * capacity M either places every token, then M is the answer, or its minimum cut is a set S that
 * needs more, and M becomes that set's ratio. M rises each time and takes values of a finite set,
 * so it ends; three or four rounds are usual. With M = p / q all loads are multiplied by q, so
 * whole numbers decide everything.
 */
#include "bound.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#define TOKENS_MAX 9007199254740992 /* 2^53: whole numbers in a double */

/* Products of a load and a number of replicas or ranks have to stay whole. */
static enum status check_loads(int64_t *total_tokens, const int64_t *load_tokens,
                               int32_t num_experts, int32_t num_slots, struct error *error)
{
    enum status status = STATUS_OK;
    *total_tokens = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int64_t tokens = load_tokens[expert];
        if (tokens < 0) {
            status = error_add(error, STATUS_INVALID, "bound: expert %d has %lld tokens",
                               (int)expert, (long long)tokens);
        } else if (tokens > TOKENS_MAX / num_slots - *total_tokens) {
            return error_add(error, STATUS_INVALID,
                             "bound: experts 0 to %d have more than 2^53 tokens / %d slots",
                             (int)expert, (int)num_slots);
        } else {
            *total_tokens += tokens;
        }
    }
    return status;
}

/* Any placement */

static int heavier_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Restores a heap, the largest load a replica on top, after its top got one replica more. */
static void sink_top(int32_t *heap, int32_t count, const int64_t *load, const int32_t *replicas)
{
    int32_t at = 0;
    for (int32_t child = 1; child < count; child = 2 * at + 1) {
        int32_t right = child + 1;
        if (right < count &&
            load[heap[right]] * replicas[heap[child]] > load[heap[child]] * replicas[heap[right]]) {
            child = right;
        }
        int32_t top = heap[at];
        if (load[top] * replicas[heap[child]] >= load[heap[child]] * replicas[top]) {
            return;
        }
        heap[at] = heap[child];
        heap[child] = top;
        at = child;
    }
}

/* Each spare slot to the expert with the most tokens a replica: that makes the greatest share as
 * small as it can be. Ends early where the shares are below enough_tokens.
 *   load      [num_experts]  in, heaviest first
 *   replicas  [num_experts]  scratch
 *   heap      [num_experts]  scratch */
static double least_share(const int64_t *load, int32_t num_experts, int32_t num_spare,
                          double enough_tokens, int32_t *replicas, int32_t *heap)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        replicas[expert] = 1;
        heap[expert] = expert; /* sorted, so a heap */
    }
    for (int32_t spare = 0; spare < num_spare; spare++) {
        int32_t top = heap[0];
        if ((double)load[top] <= enough_tokens * replicas[top]) {
            break;
        }
        replicas[top]++;
        sink_top(heap, num_experts, load, replicas);
    }
    return (double)load[heap[0]] / replicas[heap[0]];
}

/* Of num_ranks * j + 1 whole experts some rank has j + 1, at least the j + 1 lightest of them.
 *   load  [count]  whole experts, heaviest first */
static int64_t most_crowded(const int64_t *load, int32_t count, int32_t num_ranks)
{
    int64_t most_tokens = 0;
    for (int32_t j = 0; (int64_t)num_ranks * j < count; j++) {
        int64_t tokens = 0;
        for (int32_t i = num_ranks * j - j; i <= num_ranks * j; i++) {
            tokens += load[i];
        }
        most_tokens = tokens > most_tokens ? tokens : most_tokens;
    }
    return most_tokens;
}

enum status bound_any_placement(double *busiest_tokens, const int64_t *load_tokens,
                                int32_t num_experts, int32_t num_slots, int32_t num_ranks,
                                struct arena *scratch, struct error *error)
{
    if (num_experts < 1 || num_slots < num_experts || num_ranks < 1) {
        return error_add(error, STATUS_INVALID,
                         "bound: %d experts on %d slots of %d ranks are no placement",
                         (int)num_experts, (int)num_slots, (int)num_ranks);
    }
    int64_t total_tokens;
    enum status status = check_loads(&total_tokens, load_tokens, num_experts, num_slots, error);
    size_t experts = (size_t)num_experts;
    int64_t *load = arena_take(scratch, experts, sizeof *load);
    int32_t *replicas = arena_take(scratch, experts, sizeof *replicas);
    int32_t *heap = arena_take(scratch, experts, sizeof *heap);
    if (load == NULL || replicas == NULL || heap == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "bound: no memory for %d experts",
                         (int)num_experts);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        load[expert] = load_tokens[expert];
    }
    qsort(load, experts, sizeof *load, heavier_first);
    int32_t num_spare = num_slots - num_experts;
    int32_t num_whole = num_experts > num_spare ? num_experts - num_spare : 0;
    double mean = (double)total_tokens / num_ranks;
    double share = least_share(load, num_experts, num_spare, mean, replicas, heap);
    double crowded = (double)most_crowded(load + num_experts - num_whole, num_whole, num_ranks);
    *busiest_tokens = share > mean ? share : mean;
    *busiest_tokens = crowded > *busiest_tokens ? crowded : *busiest_tokens;
    return STATUS_OK;
}

/* Any split */

/* A flow from experts to the ranks that hold them. */
struct flow {
    const struct placement *placement;
    int64_t *left;          /* [num_experts] tokens not yet placed */
    int64_t *room;          /* [num_ranks] tokens a rank can still take */
    int64_t *flow;          /* [num_slots] tokens of the slot's expert on its rank */
    int32_t *from_slot;     /* [num_ranks] slot by which the search came to a rank; -1: not there */
    int32_t *expert_from;   /* [num_experts] slot by which it came, SOURCE or UNSEEN */
    int32_t *queue;         /* [num_ranks] ranks reached, in order */
    int32_t *expert_queue;  /* [num_experts] experts reached, in order */
    int32_t num_ranks_seen; /* entries of queue */
    int32_t num_experts_seen;
};

enum { SOURCE = -1, UNSEEN = -2 };

static void see_expert(struct flow *flow, int32_t expert, int32_t from)
{
    if (flow->expert_from[expert] == UNSEEN) {
        flow->expert_from[expert] = from;
        flow->expert_queue[flow->num_experts_seen++] = expert;
    }
}

static void see_holders(struct flow *flow, int32_t expert)
{
    const struct placement *placement = flow->placement;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        int32_t rank = placement->rank_of_slot[slot];
        if (flow->from_slot[rank] < 0) {
            flow->from_slot[rank] = slot;
            flow->queue[flow->num_ranks_seen++] = rank;
        }
    }
}

/* Everything that experts with tokens left can reach, breadth first: from an expert to its ranks,
 * from a rank to the experts that it could give back. */
static void search(struct flow *flow)
{
    const struct placement *placement = flow->placement;
    flow->num_ranks_seen = 0;
    flow->num_experts_seen = 0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        flow->from_slot[rank] = -1;
    }
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        flow->expert_from[expert] = UNSEEN;
    }
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        if (flow->left[expert] > 0) {
            see_expert(flow, expert, SOURCE);
        }
    }
    int32_t ranks_done = 0;
    for (int32_t done = 0; done < flow->num_experts_seen; done++) {
        see_holders(flow, flow->expert_queue[done]);
        for (; ranks_done < flow->num_ranks_seen; ranks_done++) {
            int32_t rank = flow->queue[ranks_done];
            for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
                 slot++) {
                if (flow->flow[slot] > 0) {
                    see_expert(flow, placement->expert_of_slot[slot], slot);
                }
            }
        }
    }
}

/* Sends what fits on the way by which the search came to rank. Other ways of the same search may
 * have used it up: then nothing. */
static int64_t augment(struct flow *flow, int32_t rank)
{
    const struct placement *placement = flow->placement;
    int64_t tokens = flow->room[rank];
    int32_t expert = placement->expert_of_slot[flow->from_slot[rank]];
    while (flow->expert_from[expert] != SOURCE) {
        int32_t back = flow->expert_from[expert];
        tokens = flow->flow[back] < tokens ? flow->flow[back] : tokens;
        expert = placement->expert_of_slot[flow->from_slot[placement->rank_of_slot[back]]];
    }
    tokens = flow->left[expert] < tokens ? flow->left[expert] : tokens;
    flow->left[expert] -= tokens;
    flow->room[rank] -= tokens;
    int32_t slot = flow->from_slot[rank];
    flow->flow[slot] += tokens;
    expert = placement->expert_of_slot[slot];
    while (flow->expert_from[expert] != SOURCE) {
        int32_t back = flow->expert_from[expert];
        flow->flow[back] -= tokens;
        slot = flow->from_slot[placement->rank_of_slot[back]];
        flow->flow[slot] += tokens;
        expert = placement->expert_of_slot[slot];
    }
    return tokens;
}

/* A maximum flow; the last search, which found no way on, is its minimum cut. */
static void send_all(struct flow *flow)
{
    int64_t sent = 1;
    while (sent > 0) { /* each round shortens what is left by a shortest way or more */
        sent = 0;
        search(flow);
        for (int32_t i = 0; i < flow->num_ranks_seen; i++) {
            int32_t rank = flow->queue[i];
            sent += flow->room[rank] > 0 ? augment(flow, rank) : 0;
        }
    }
}

static bool open_flow(struct flow *flow, const struct placement *placement, struct arena *scratch)
{
    size_t experts = (size_t)placement->num_experts;
    size_t ranks = (size_t)placement->num_ranks;
    *flow = (struct flow){
        .placement = placement,
        .left = arena_take(scratch, experts, sizeof *flow->left),
        .room = arena_take(scratch, ranks, sizeof *flow->room),
        .flow = arena_take(scratch, (size_t)placement->num_slots, sizeof *flow->flow),
        .from_slot = arena_take(scratch, ranks, sizeof *flow->from_slot),
        .expert_from = arena_take(scratch, experts, sizeof *flow->expert_from),
        .queue = arena_take(scratch, ranks, sizeof *flow->queue),
        .expert_queue = arena_take(scratch, experts, sizeof *flow->expert_queue),
    };
    return flow->left != NULL && flow->room != NULL && flow->flow != NULL &&
           flow->from_slot != NULL && flow->expert_from != NULL && flow->queue != NULL &&
           flow->expert_queue != NULL;
}

enum status bound_any_split(double *busiest_tokens, const int64_t *load_tokens,
                            const struct placement *placement, struct arena *scratch,
                            struct error *error)
{
    struct flow flow;
    int64_t numerator;
    enum status status =
        check_loads(&numerator, load_tokens, placement->num_experts, placement->num_ranks, error);
    if (!open_flow(&flow, placement, scratch)) {
        return error_add(error, STATUS_NO_MEMORY, "bound: no memory for %d slots",
                         (int)placement->num_slots);
    }
    int64_t denominator = 0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        denominator += placement->rank_begin[rank + 1] > placement->rank_begin[rank];
    }
    bool enough = status != STATUS_OK;
    while (!enough) {
        for (int32_t expert = 0; expert < placement->num_experts; expert++) {
            flow.left[expert] = load_tokens[expert] * denominator;
        }
        for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
            flow.room[rank] = numerator;
        }
        for (int32_t slot = 0; slot < placement->num_slots; slot++) {
            flow.flow[slot] = 0;
        }
        send_all(&flow);
        enough = flow.num_experts_seen == 0;
        if (!enough) { /* the ranks that were reached serve the experts that were, and no others */
            int64_t tokens = 0;
            for (int32_t i = 0; i < flow.num_experts_seen; i++) {
                tokens += load_tokens[flow.expert_queue[i]];
            }
            assert(tokens * denominator > numerator * flow.num_ranks_seen);
            numerator = tokens;
            denominator = flow.num_ranks_seen;
        }
    }
    *busiest_tokens = status == STATUS_OK ? (double)numerator / (double)denominator : 0.0;
    return status;
}
