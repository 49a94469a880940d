/* test_dispatch.c -- every kept wish gets a replica of its expert, by each dispatch's own rule. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "dispatch_world.h"

#define NOT_ROUTED EXPERT_NOT_ROUTED

static struct dispatch_world world;

static void stop(void)
{
    arena_free(&world.arena);
}

TestSuite(round_robin, .fini = stop);
TestSuite(locality, .fini = stop);
TestSuite(random, .fini = stop);

/* Experts 0 and 1 alternate over four slots of two ranks. A rank's wish i takes replica i mod 2:
 * token 0 has wishes 0 and 1, token 1 has 2 and 3; the second rank starts at 0 again. */
Test(round_robin, counts_wishes_within_the_source_rank)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 1, 0, 1});
    world_wish(&world, (int32_t[]){0, 1, 1, 0, 0, 1, 0, 0, 1, 1}, 10);

    world_assign(&world, "round_robin", (int32_t[]){0, 3, 5}, 2, 2);

    world_expect_slots(&world, (int32_t[]){0, 3, 1, 2, 0, 3, 0, 2, 1, 3}, 10);
}

/* vLLM counts positions, not assignments: a dropped wish uses up its turn. */
Test(round_robin, skips_the_turn_of_what_is_not_sent)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 1, 0, 1});
    world_wish(&world, (int32_t[]){0, 0, NOT_ROUTED, 0, 0}, 5);
    world.dropped[1] = true;

    world_assign(&world, "round_robin", (int32_t[]){0, 5, 5}, 1, 2);

    world_expect_slots(&world, (int32_t[]){0, SLOT_DROPPED, SLOT_DROPPED, 2, 0}, 5);
}

/* Two nodes of two GPUs with two slots each: node 0 holds 0 1 | 0 2, node 1 holds 2 1 | 1 1. */
static const int32_t two_nodes[] = {0, 1, 0, 2, 2, 1, 1, 1};

Test(locality, stays_on_the_gpu_that_holds_the_expert)
{
    world_place(&world, 3, 8, 4, two_nodes);
    world_wish(&world, (int32_t[]){0, 0, 0, 1, 1, 1}, 6);

    world_assign(&world, "locality", (int32_t[]){0, 3, 3, 3, 6}, 1, 2);

    /* Rank 0 has expert 0 in slot 0. Rank 3 has expert 1 in slots 6 and 7 and starts at 3 mod 2. */
    world_expect_slots(&world, (int32_t[]){0, 0, 0, 7, 6, 7}, 6);
}

Test(locality, prefers_the_own_node)
{
    world_place(&world, 3, 8, 4, two_nodes);
    world_wish(&world, (int32_t[]){2, 2, 1, 1, 2, 2}, 6);

    world_assign(&world, "locality", (int32_t[]){0, 2, 4, 4, 6}, 1, 2);

    /* Rank 0: expert 2 in slot 3 of rank 1, not 4 of node 1. Rank 1: expert 1 on rank 0 alone.
     * Rank 3: expert 2 in slot 4 of rank 2. */
    world_expect_slots(&world, (int32_t[]){3, 3, 1, 1, 4, 4}, 6);
}

Test(locality, takes_turns_among_equals_and_starts_by_rank)
{
    world_place(&world, 3, 8, 4, two_nodes);
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0}, 5);

    world_assign(&world, "locality", (int32_t[]){0, 0, 0, 3, 5}, 1, 2);

    /* Node 1 has no expert 0: slots 0 and 2 in turn, rank 2 from 2 mod 2, rank 3 from 3 mod 2. */
    world_expect_slots(&world, (int32_t[]){0, 2, 0, 2, 0}, 5);
}

Test(locality, takes_turns_among_replicas_of_the_node)
{
    world_place(&world, 4, 6, 6, (int32_t[]){0, 0, 1, 0, 2, 3}); /* two nodes of three GPUs */
    world_wish(&world, (int32_t[]){0, 0, 0}, 3);

    world_assign(&world, "locality", (int32_t[]){0, 0, 0, 3, 3, 3, 3}, 1, 3);

    world_expect_slots(&world, (int32_t[]){0, 1, 0},
                       3); /* rank 2: never slot 3, which is on the other node */
}

/* 3 sigma of 3,000 draws among three is 77; a fixed seed either passes for ever or never. */
Test(random, serves_an_expert_evenly_by_its_replicas)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 0, 1, 0});
    for (int32_t i = 0; i < 4000; i++) {
        world.expert[i] = i % 4 == 3;
    }
    int32_t count[4] = {0};

    world_assign(&world, "random", (int32_t[]){0, 1000, 2000}, 2, 2);

    for (int32_t i = 0; i < 4000; i++) {
        count[world.slot[i]]++;
    }
    cr_expect_eq(count[2], 1000);
    for (int32_t slot = 0; slot < 4; slot++) {
        cr_expect(abs(count[slot] - 1000) <= 77, "slot %d: %d", slot, count[slot]);
    }
}

/* Which replicas 64 wishes drew, one bit each. */
static uint64_t drawn(int64_t step, int32_t layer, int32_t lane, uint64_t seed)
{
    world.step = step;
    world.layer = layer;
    world.lane = lane;
    world.seed = seed;
    world_assign(&world, "random", (int32_t[]){0, 64, 64}, 1, 2);
    uint64_t bits = 0;
    for (int32_t i = 0; i < 64; i++) {
        bits = bits << 1 | (uint64_t)world.slot[i];
    }
    return bits;
}

Test(random, draws_anew_for_every_step_layer_lane_and_seed)
{
    world_place(&world, 1, 2, 2, (int32_t[]){0, 0});
    memset(world.expert, 0, sizeof world.expert);
    const uint64_t draws[] = {drawn(0, 0, 0, 1), drawn(1, 0, 0, 1), drawn(0, 1, 0, 1),
                              drawn(0, 0, 1, 1), drawn(0, 0, 0, 2)};

    for (int32_t i = 0; i < 5; i++) {
        for (int32_t j = 0; j < i; j++) {
            cr_expect_neq(draws[i], draws[j], "%d and %d", i, j);
        }
    }
    cr_expect_eq(drawn(0, 0, 0, 1), draws[0], "others draw in between");
}

/* Drops and experts of one replica leave the draws of all other wishes as they are. */
Test(random, draws_only_where_there_is_a_choice)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 0, 0, 1});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0}, 6);
    world_assign(&world, "random", (int32_t[]){0, 3, 6}, 1, 2);
    int32_t alone[6];
    memcpy(alone, world.slot, sizeof alone);

    world_wish(&world, (int32_t[]){1, 0, NOT_ROUTED, 0, 0, 0, 0, 1, 0, 0}, 10);
    world.dropped[4] = true;
    world_assign(&world, "random", (int32_t[]){0, 5, 10}, 1, 2);

    world_expect_slots(&world,
                       (int32_t[]){3, alone[0], SLOT_DROPPED, alone[1], SLOT_DROPPED, alone[2],
                                   alone[3], 3, alone[4], alone[5]},
                       10);
}

/* Laws, over every dispatch. */

#define NUM_EXPERTS 40
#define NUM_SLOTS   64
#define NUM_RANKS   16
#define TOP_K       4
#define NUM_TOKENS  1000

static int32_t law_rank_begin[NUM_RANKS + 1];

/* Uneven ranks (one idle), replicas here and there, drops and gaps. */
static void set_law_up(void)
{
    uint32_t draw = 99;
    int32_t expert_of_slot[NUM_SLOTS];
    for (int32_t i = 0; i < NUM_SLOTS; i++) {
        expert_of_slot[(i * 37) % NUM_SLOTS] = i < NUM_EXPERTS ? i : (i * i) % 7;
    }
    world_place(&world, NUM_EXPERTS, NUM_SLOTS, NUM_RANKS, expert_of_slot);
    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        draw = draw * UINT32_C(1664525) + UINT32_C(1013904223);
        world.expert[i] =
            (draw >> 8) % 16 == 0 ? NOT_ROUTED : (int32_t)((draw >> 12) % NUM_EXPERTS);
        world.dropped[i] = world.expert[i] != NOT_ROUTED && (draw >> 24) % 8 == 0;
        world.slot[i] = 12345;
    }
    for (int32_t rank = 0; rank <= NUM_RANKS; rank++) {
        law_rank_begin[rank] = rank * rank * NUM_TOKENS / (NUM_RANKS * NUM_RANKS);
    }
    law_rank_begin[5] = law_rank_begin[4];
}

static struct criterion_test_params dispatch_indices(void)
{
    static size_t cases[16];
    int32_t count;
    dispatch_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
    for (size_t i = 0; i < (size_t)count; i++) {
        cases[i] = i;
    }
    return cr_make_param_array(size_t, cases, (size_t)count);
}

ParameterizedTestParameters(dispatch_law, serves_every_kept_wish_with_its_expert)
{
    return dispatch_indices();
}

ParameterizedTest(size_t *index, dispatch_law, serves_every_kept_wish_with_its_expert)
{
    int32_t count;
    const struct replica_dispatch *dispatch = dispatch_all(&count)[*index];
    set_law_up();

    world_assign(&world, dispatch->name, law_rank_begin, TOP_K, 4);

    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        if (world.expert[i] == NOT_ROUTED || world.dropped[i]) {
            cr_assert_eq(world.slot[i], SLOT_DROPPED, "%s", dispatch->name);
        } else {
            cr_assert(world.slot[i] >= 0 && world.slot[i] < world.served->num_slots, "%s",
                      dispatch->name);
            cr_assert_eq(world.served->expert_of_slot[world.slot[i]], world.expert[i], "%s",
                         dispatch->name);
        }
    }
    arena_free(&world.arena);
}

ParameterizedTestParameters(dispatch_law, repeats_itself)
{
    return dispatch_indices();
}

ParameterizedTest(size_t *index, dispatch_law, repeats_itself)
{
    int32_t count;
    const struct replica_dispatch *dispatch = dispatch_all(&count)[*index];
    uint64_t digest[2] = {DIGEST_START, DIGEST_START};
    for (int32_t run = 0; run < 2; run++) {
        set_law_up();
        world_assign(&world, dispatch->name, law_rank_begin, TOP_K, 4);
        for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
            digest[run] = digest_u64(digest[run], (uint64_t)world.slot[i]);
        }
    }
    cr_expect_eq(digest[0], digest[1], "%s", dispatch->name);
    arena_free(&world.arena);
}

ParameterizedTestParameters(dispatch_law, has_no_choice_with_one_replica_each)
{
    return dispatch_indices();
}

ParameterizedTest(size_t *index, dispatch_law, has_no_choice_with_one_replica_each)
{
    int32_t count;
    const struct replica_dispatch *dispatch = dispatch_all(&count)[*index];
    set_law_up();
    cr_assert_eq(placement_init(&world.placement, &world.arena, 48, 48, NUM_RANKS, NULL),
                 STATUS_OK);

    world_assign(&world, dispatch->name, law_rank_begin, TOP_K, 4);

    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        bool sent = world.expert[i] != NOT_ROUTED && !world.dropped[i];
        cr_assert(dispatch->lends || world.slot[i] == (sent ? world.expert[i] : SLOT_DROPPED), "%s",
                  dispatch->name);
    }
    arena_free(&world.arena);
}

ParameterizedTestParameters(dispatch_law, accepts_an_empty_step)
{
    return dispatch_indices();
}

ParameterizedTest(size_t *index, dispatch_law, accepts_an_empty_step)
{
    int32_t count;
    const struct replica_dispatch *dispatch = dispatch_all(&count)[*index];
    set_law_up();
    int32_t rank_begin[NUM_RANKS + 1] = {0};

    world_assign(&world, dispatch->name, rank_begin, TOP_K, 4);

    arena_free(&world.arena);
}

Test(registry, finds_every_name_and_nothing_else)
{
    int32_t count;
    const struct replica_dispatch *const *all = dispatch_all(&count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(dispatch_find(all[i]->name), all[i]);
    }
    cr_expect_null(dispatch_find("no such"));
}
