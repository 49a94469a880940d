/*
 * dispatch_world.h -- a placement, and wishes typed in by hand, for the tests of replica dispatch.
 */
#ifndef MOESIM_DISPATCH_WORLD_H
#define MOESIM_DISPATCH_WORLD_H

#include "dispatch/dispatch.h"

#define WORLD_WISHES_MAX 4096

struct dispatch_world {
    struct arena arena;
    struct placement placement;
    struct dispatch_loans loans;    /* of the last world_assign */
    const struct placement *served; /* what slot names: placement, or loans.placement */
    int64_t step;                   /* this and the next three are told to the dispatch */
    int32_t layer;
    int32_t lane;
    uint64_t seed;
    int32_t expert[WORLD_WISHES_MAX]; /* [num_tokens][top_k] */
    bool dropped[WORLD_WISHES_MAX];
    int32_t slot[WORLD_WISHES_MAX];
    int32_t source_rank[WORLD_WISHES_MAX]; /* [num_tokens] */
};

/* Asserts that the placement is valid. Release with arena_free(&world->arena). */
void world_place(struct dispatch_world *world, int32_t num_experts, int32_t num_slots,
                 int32_t num_ranks, const int32_t *expert_of_slot);

void world_wish(struct dispatch_world *world, const int32_t *experts, int32_t count);

/* Dispatches the wishes; rank_begin deals their tokens to the ranks. */
void world_assign(struct dispatch_world *world, const char *dispatch, int32_t *rank_begin,
                  int32_t top_k, int32_t gpus_per_node);

void world_expect_slots(const struct dispatch_world *world, const int32_t *expected, int32_t count);

#endif
