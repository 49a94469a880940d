/* dispatch_world.c -- builds what a dispatch is asked about, and asks it. */
#include "dispatch_world.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>

void world_place(struct dispatch_world *world, int32_t num_experts, int32_t num_slots,
                 int32_t num_ranks, const int32_t *expert_of_slot)
{
    cr_assert_eq(
        placement_init(&world->placement, &world->arena, num_experts, num_slots, num_ranks, NULL),
        STATUS_OK);
    cr_assert_eq(placement_set(&world->placement, expert_of_slot, NULL), STATUS_OK);
}

void world_wish(struct dispatch_world *world, const int32_t *experts, int32_t count)
{
    memcpy(world->expert, experts, (size_t)count * sizeof *experts);
    memset(world->dropped, 0, (size_t)count * sizeof *world->dropped);
}

void world_assign(struct dispatch_world *world, const char *dispatch, int32_t *rank_begin,
                  int32_t top_k, int32_t gpus_per_node)
{
    struct cluster cluster = {.num_nodes = world->placement.num_ranks / gpus_per_node,
                              .gpus_per_node = gpus_per_node};
    struct trace_batch batch = {.step = world->step,
                                .num_tokens = rank_begin[world->placement.num_ranks],
                                .source_rank = world->source_rank,
                                .rank_begin = rank_begin};
    for (int32_t rank = 0; rank < world->placement.num_ranks; rank++) {
        for (int32_t token = rank_begin[rank]; token < rank_begin[rank + 1]; token++) {
            world->source_rank[token] = rank;
        }
    }
    world->loans = (struct dispatch_loans){0};
    struct dispatch_input input = {.placement = &world->placement,
                                   .batch = &batch,
                                   .cluster = &cluster,
                                   .layer = world->layer,
                                   .scratch = &world->arena,
                                   .seed = world->seed,
                                   .lane = world->lane,
                                   .loans = &world->loans};
    struct route route = {.num_tokens = batch.num_tokens,
                          .top_k = top_k,
                          .num_experts = world->placement.num_experts,
                          .expert = world->expert,
                          .dropped = world->dropped,
                          .slot = world->slot};
    const struct replica_dispatch *plug_in = dispatch_find(dispatch);
    cr_assert_not_null(plug_in, "%s", dispatch);
    _Alignas(max_align_t) unsigned char state[256] = {0};
    cr_assert_leq(plug_in->state_bytes, sizeof state);
    cr_assert_eq(plug_in->assign(state, &input, &route), STATUS_OK);
    cr_assert(plug_in->lends || world->loans.num_moves == 0, "%s", dispatch);
    world->served = world->loans.num_moves > 0 ? &world->loans.placement : &world->placement;
}

void world_expect_slots(const struct dispatch_world *world, const int32_t *expected, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(world->slot[i], expected[i], "wish %d: slot %d, expected %d", i,
                     world->slot[i], expected[i]);
    }
}
