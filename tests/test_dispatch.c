/* test_dispatch.c -- every kept wish gets a replica of its expert, by each dispatch's own rule. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stddef.h>

#include "digest.h"
#include "dispatch/dispatch.h"

#define NUM_WISHES_MAX 4096
#define NOT_ROUTED     EXPERT_NOT_ROUTED

static struct arena arena;
static struct placement placement;
static int32_t expert[NUM_WISHES_MAX];
static bool dropped[NUM_WISHES_MAX];
static int32_t slot[NUM_WISHES_MAX];
static int32_t source_rank[NUM_WISHES_MAX];

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(round_robin, .fini = stop);
TestSuite(locality, .fini = stop);

static void place(int32_t num_experts, int32_t num_slots, int32_t num_ranks,
                  const int32_t *expert_of_slot)
{
    cr_assert_eq(placement_init(&placement, &arena, num_experts, num_slots, num_ranks, NULL),
                 STATUS_OK);
    cr_assert_eq(placement_set(&placement, expert_of_slot, NULL), STATUS_OK);
}

/* Dispatches the wishes in expert[]; rank_begin deals their tokens to the ranks. */
static void assign(const struct replica_dispatch *dispatch, int32_t *rank_begin, int32_t top_k,
                   int32_t gpus_per_node)
{
    struct cluster cluster = {.num_nodes = placement.num_ranks / gpus_per_node,
                              .gpus_per_node = gpus_per_node};
    struct trace_batch batch = {.num_tokens = rank_begin[placement.num_ranks],
                                .source_rank = source_rank,
                                .rank_begin = rank_begin};
    for (int32_t rank = 0; rank < placement.num_ranks; rank++) {
        for (int32_t token = rank_begin[rank]; token < rank_begin[rank + 1]; token++) {
            source_rank[token] = rank;
        }
    }
    struct dispatch_input input = {
        .placement = &placement, .batch = &batch, .cluster = &cluster, .scratch = &arena};
    struct route route = {.num_tokens = batch.num_tokens,
                          .top_k = top_k,
                          .num_experts = placement.num_experts,
                          .expert = expert,
                          .dropped = dropped,
                          .slot = slot};
    _Alignas(max_align_t) unsigned char state[256] = {0};
    cr_assert_leq(dispatch->state_bytes, sizeof state);
    cr_assert_eq(dispatch->assign(state, &input, &route), STATUS_OK);
}

static void wish(const int32_t *experts, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        expert[i] = experts[i];
        dropped[i] = false;
    }
}

static void expect_slots(const int32_t *expected, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(slot[i], expected[i], "wish %d: slot %d, expected %d", i, slot[i],
                     expected[i]);
    }
}

/* Experts 0 and 1 alternate over four slots of two ranks. A rank's wish i takes replica i mod 2:
 * token 0 has wishes 0 and 1, token 1 has 2 and 3; the second rank starts at 0 again. */
Test(round_robin, counts_wishes_within_the_source_rank)
{
    place(2, 4, 2, (int32_t[]){0, 1, 0, 1});
    wish((int32_t[]){0, 1, 1, 0, 0, 1, 0, 0, 1, 1}, 10);

    assign(dispatch_find("round_robin"), (int32_t[]){0, 3, 5}, 2, 2);

    expect_slots((int32_t[]){0, 3, 1, 2, 0, 3, 0, 2, 1, 3}, 10);
}

/* vLLM counts positions, not assignments: a dropped wish uses up its turn. */
Test(round_robin, skips_the_turn_of_what_is_not_sent)
{
    place(2, 4, 2, (int32_t[]){0, 1, 0, 1});
    wish((int32_t[]){0, 0, NOT_ROUTED, 0, 0}, 5);
    dropped[1] = true;

    assign(dispatch_find("round_robin"), (int32_t[]){0, 5, 5}, 1, 2);

    expect_slots((int32_t[]){0, SLOT_DROPPED, SLOT_DROPPED, 2, 0}, 5);
}

/* Two nodes of two GPUs with two slots each: node 0 holds 0 1 | 0 2, node 1 holds 2 1 | 1 1. */
static const int32_t two_nodes[] = {0, 1, 0, 2, 2, 1, 1, 1};

Test(locality, stays_on_the_gpu_that_holds_the_expert)
{
    place(3, 8, 4, two_nodes);
    wish((int32_t[]){0, 0, 0, 1, 1, 1}, 6);

    assign(dispatch_find("locality"), (int32_t[]){0, 3, 3, 3, 6}, 1, 2);

    /* Rank 0 has expert 0 in slot 0. Rank 3 has expert 1 in slots 6 and 7 and starts at 3 mod 2. */
    expect_slots((int32_t[]){0, 0, 0, 7, 6, 7}, 6);
}

Test(locality, prefers_the_own_node)
{
    place(3, 8, 4, two_nodes);
    wish((int32_t[]){2, 2, 1, 1, 2, 2}, 6);

    assign(dispatch_find("locality"), (int32_t[]){0, 2, 4, 4, 6}, 1, 2);

    /* Rank 0: expert 2 in slot 3 of rank 1, not 4 of node 1. Rank 1: expert 1 on rank 0 alone.
     * Rank 3: expert 2 in slot 4 of rank 2. */
    expect_slots((int32_t[]){3, 3, 1, 1, 4, 4}, 6);
}

Test(locality, takes_turns_among_equals_and_starts_by_rank)
{
    place(3, 8, 4, two_nodes);
    wish((int32_t[]){0, 0, 0, 0, 0}, 5);

    assign(dispatch_find("locality"), (int32_t[]){0, 0, 0, 3, 5}, 1, 2);

    /* Node 1 has no expert 0: slots 0 and 2 in turn, rank 2 from 2 mod 2, rank 3 from 3 mod 2. */
    expect_slots((int32_t[]){0, 2, 0, 2, 0}, 5);
}

Test(locality, takes_turns_among_replicas_of_the_node)
{
    place(4, 6, 6, (int32_t[]){0, 0, 1, 0, 2, 3}); /* two nodes of three GPUs */
    wish((int32_t[]){0, 0, 0}, 3);

    assign(dispatch_find("locality"), (int32_t[]){0, 0, 0, 3, 3, 3, 3}, 1, 3);

    expect_slots((int32_t[]){0, 1, 0}, 3); /* rank 2: never slot 3, which is on the other node */
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
    place(NUM_EXPERTS, NUM_SLOTS, NUM_RANKS, expert_of_slot);
    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        draw = draw * UINT32_C(1664525) + UINT32_C(1013904223);
        expert[i] = (draw >> 8) % 16 == 0 ? NOT_ROUTED : (int32_t)((draw >> 12) % NUM_EXPERTS);
        dropped[i] = expert[i] != NOT_ROUTED && (draw >> 24) % 8 == 0;
        slot[i] = 12345;
    }
    for (int32_t rank = 0; rank <= NUM_RANKS; rank++) {
        law_rank_begin[rank] = rank * rank * NUM_TOKENS / (NUM_RANKS * NUM_RANKS);
    }
    law_rank_begin[5] = law_rank_begin[4];
}

static struct criterion_test_params dispatch_indices(void)
{
    static size_t cases[] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t count;
    dispatch_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
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

    assign(dispatch, law_rank_begin, TOP_K, 4);

    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        if (expert[i] == NOT_ROUTED || dropped[i]) {
            cr_assert_eq(slot[i], SLOT_DROPPED, "%s", dispatch->name);
        } else {
            cr_assert(slot[i] >= 0 && slot[i] < NUM_SLOTS, "%s", dispatch->name);
            cr_assert_eq(placement.expert_of_slot[slot[i]], expert[i], "%s", dispatch->name);
        }
    }
    arena_free(&arena);
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
        assign(dispatch, law_rank_begin, TOP_K, 4);
        for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
            digest[run] = digest_u64(digest[run], (uint64_t)slot[i]);
        }
    }
    cr_expect_eq(digest[0], digest[1], "%s", dispatch->name);
    arena_free(&arena);
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
    cr_assert_eq(placement_init(&placement, &arena, 48, 48, NUM_RANKS, NULL), STATUS_OK);

    assign(dispatch, law_rank_begin, TOP_K, 4);

    for (int32_t i = 0; i < NUM_TOKENS * TOP_K; i++) {
        bool sent = expert[i] != NOT_ROUTED && !dropped[i];
        cr_assert_eq(slot[i], sent ? expert[i] : SLOT_DROPPED, "%s", dispatch->name);
    }
    arena_free(&arena);
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

    assign(dispatch, rank_begin, TOP_K, 4);

    arena_free(&arena);
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
