/* test_balance_peers.c -- known answers of elasticity_aware, trtllm_cooccurrence, omni, shadow. */
#include <criterion/criterion.h>
#include <string.h>

#include "balance/balance.h"
#include "balance/eplb.h"

static struct arena arena;
static struct error error;
static struct placement placement[1];
static int32_t map[12];

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(elasticity_aware, .fini = stop);
TestSuite(trtllm_cooccurrence, .fini = stop);
TestSuite(omni, .fini = stop);
TestSuite(shadow, .fini = stop);

/* in_force [num_layers][num_slots], or NULL: slot s holds expert s mod num_experts. */
static void put_in_force(const struct balance_input *input, const int32_t *in_force)
{
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        cr_assert_eq(placement_init(&placement[layer], &arena, input->num_experts, input->num_slots,
                                    input->num_ranks, &error),
                     STATUS_OK);
        if (in_force != NULL) {
            cr_assert_eq(
                placement_set(&placement[layer], in_force + layer * input->num_slots, &error),
                STATUS_OK);
        }
        memcpy(map + layer * input->num_slots, placement[layer].expert_of_slot,
               (size_t)input->num_slots * sizeof *map);
    }
}

static void *state_of(const char *name, const struct balance_input *input)
{
    return arena_alloc(
        &arena, balance_state_bytes(balance_find(name), input->num_layers, input->num_experts), 1);
}

static enum status plan(const char *name, void *state, struct balance_input input)
{
    input.placement = placement;
    input.scratch = &arena;
    return balance_find(name)->plan(state, &input, map, &error);
}

static void expect_map(const int32_t *expected, int32_t count)
{
    for (int32_t slot = 0; slot < count; slot++) {
        cr_expect_eq(map[slot], expected[slot], "slot %d: %d, expected %d", slot, map[slot],
                     expected[slot]);
    }
}

static struct balance_input elastic_input(const int64_t *load_tokens)
{
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = 6,
                                  .num_slots = 12,
                                  .num_ranks = 4,
                                  .num_nodes = 2,
                                  .num_groups = 2,
                                  .load_tokens = load_tokens,
                                  .num_steps = 1};
}

static const int64_t elastic_load[] = {90, 132, 40, 61, 104, 165};

Test(elasticity_aware, is_eplb_while_all_ranks_live)
{
    static const bool none[4] = {false};
    struct balance_input input = elastic_input(elastic_load);
    int32_t expected[12];
    put_in_force(&input, NULL);
    cr_assert_eq(plan("eplb", NULL, input), STATUS_OK);
    memcpy(expected, map, sizeof expected);
    put_in_force(&input, NULL);
    input.rank_is_lost = none;

    cr_assert_eq(plan("elasticity_aware", NULL, input), STATUS_OK);

    expect_map(expected, 12);
}

/* Rank 1 is gone: EPLB's global policy places six experts on nine slots of three ranks; rank 1
 * keeps what it held. */
Test(elasticity_aware, places_all_experts_on_the_ranks_that_are_left)
{
    static const bool lost[4] = {false, true, false, false};
    static const struct eplb_shape left = {6, 9, 1, 1, 3};
    struct balance_input input = elastic_input(elastic_load);
    int32_t live[9];
    put_in_force(&input, NULL);
    cr_assert_eq(eplb_layer(live, elastic_load, &left, &arena), STATUS_OK);
    input.rank_is_lost = lost;

    cr_assert_eq(plan("elasticity_aware", NULL, input), STATUS_OK);

    expect_map((int32_t[]){live[0], live[1], live[2], 3, 4, 5, live[3], live[4], live[5], live[6],
                           live[7], live[8]},
               12);
}

Test(elasticity_aware, refuses_too_few_slots)
{
    static const bool lost[4] = {true, true, true, false};
    struct balance_input input = elastic_input(elastic_load);
    put_in_force(&input, NULL);
    input.rank_is_lost = lost;

    cr_expect_eq(plan("elasticity_aware", NULL, input), STATUS_INVALID);
    cr_expect_str_eq(error.text, "elasticity_aware: the 1 ranks left have 3 slots for 6 experts\n");
}

static const int64_t pair_load[] = {90, 40, 70, 30, 60, 20, 50, 80};

static void set_pair(int32_t (*pairs)[8], int32_t a, int32_t b, int32_t tokens)
{
    pairs[a][b] = tokens;
    pairs[b][a] = tokens;
}

static struct balance_input pair_input(int32_t num_slots, int32_t (*pairs)[8])
{
    set_pair(pairs, 0, 3, 25);
    set_pair(pairs, 0, 5, 12);
    set_pair(pairs, 3, 5, 9);
    set_pair(pairs, 7, 1, 22);
    set_pair(pairs, 7, 6, 8);
    set_pair(pairs, 1, 6, 14);
    set_pair(pairs, 2, 4, 30);
    set_pair(pairs, 0, 7, 5);
    set_pair(pairs, 2, 6, 6);
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = 8,
                                  .num_slots = num_slots,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .load_tokens = pair_load,
                                  .num_steps = 1,
                                  .pair_tokens = &pairs[0][0]};
}

/* Three of four slots and 176 of 220 tokens: rank 0 takes the heaviest, 0 (90), then 3 (25 times
 * with it), then 5 (12 + 9 times): 140. Rank 1 takes 7 (80), 1 (22), 6 (8 + 14): 170. Left are 2
 * (70), for the lighter rank 0, and 4. */
Test(trtllm_cooccurrence, fills_ranks_with_what_is_chosen_together)
{
    static int32_t pairs[8][8];
    struct balance_input input = pair_input(8, pairs);
    put_in_force(&input, NULL);

    cr_assert_eq(plan("trtllm_cooccurrence", NULL, input), STATUS_OK);

    expect_map((int32_t[]){0, 3, 5, 2, 7, 1, 6, 4}, 8);
}

/* Two spare slots: 0 (90), then 7 (80), have two replicas of 45 and 40. Rank 0 begins with 2 (70),
 * takes 4 (30 times with it, 130) and would take 6 (6 times), but 180 is above 176. Rank 1 begins
 * with 6 (50), takes 1 (14, 90) and 7 (8 + 22, 130); 0 (5, 175) fits, then its four slots of five
 * are given out. Left: 0 (45) and 7 (40) for rank 0, 3 and 5. As do_placement_with_cooccurrence. */
Test(trtllm_cooccurrence, stops_at_its_share_of_load_or_slots)
{
    static int32_t pairs[8][8];
    struct balance_input input = pair_input(10, pairs);
    put_in_force(&input, NULL);

    cr_assert_eq(plan("trtllm_cooccurrence", NULL, input), STATUS_OK);

    expect_map((int32_t[]){2, 4, 0, 7, 5, 6, 1, 7, 0, 3}, 10);
}

static const int32_t omni_in_force[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 3};

static struct balance_input omni_input(const int64_t *load_tokens)
{
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = 10,
                                  .num_slots = 12,
                                  .num_ranks = 4,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .load_tokens = load_tokens,
                                  .num_steps = 1};
}

/* What the source answers (c8bc2bb, run on these counts): 3 and 7, then 3 and 0, then 7 and 2
 * change places; max / min falls from 1.97 to 1.19 and no change lowers it further. */
Test(omni, exchanges_as_its_source_does)
{
    static const int64_t load[] = {900, 150, 120, 800, 100, 90, 300, 110, 60, 70};
    struct balance_input input = omni_input(load);
    put_in_force(&input, omni_in_force);

    cr_assert_eq(plan("omni", state_of("omni", &input), input), STATUS_OK);

    expect_map((int32_t[]){3, 1, 7, 0, 4, 5, 6, 3, 8, 9, 0, 2}, 12);
}

/* The second window is remembered at 0.4 beside 0.6 of the first: expert 3 counts 560 tokens, of
 * which only 200 are new. The source empties slots 7 (3) and 3 (0), copies 1 into slot 3 and
 * exchanges 9 with 5. Slot 7 stays empty there; here it takes 9, the coldest that its rank lacks.
 */
Test(omni, remembers_the_windows_before_as_its_source_does)
{
    static const int64_t first[] = {900, 150, 120, 800, 100, 90, 300, 110, 60, 70};
    static const int64_t second[] = {100, 150, 120, 200, 700, 90, 800, 110, 60, 70};
    struct balance_input input = omni_input(first);
    void *state = state_of("omni", &input);
    put_in_force(&input, omni_in_force);
    cr_assert_eq(plan("omni", state, input), STATUS_OK);
    int32_t in_force[12];
    memcpy(in_force, map, sizeof in_force);
    put_in_force(&input, in_force);
    input.load_tokens = second;

    cr_assert_eq(plan("omni", state, input), STATUS_OK);

    expect_map((int32_t[]){3, 1, 7, 1, 4, 9, 6, 9, 8, 5, 0, 2}, 12);
}

static struct balance_input shadow_input(const int64_t *load_tokens)
{
    return (struct balance_input){.num_layers = 1,
                                  .num_experts = 6,
                                  .num_slots = 8,
                                  .num_ranks = 2,
                                  .num_nodes = 1,
                                  .num_groups = 1,
                                  .load_tokens = load_tokens,
                                  .num_steps = 2,
                                  .interval_steps = 2,
                                  .near_move_ns = 40.0,
                                  .far_move_ns = 400.0,
                                  .token_ns = 2.0};
}

static const int64_t shadow_load[] = {10, 10, 100, 10, 10, 10};

/* t(B_0) is 100 tokens; with a shadow of expert 2, which costs 20, it is 10 + 20. Ranks had 0 1 2 3
 * and 4 5 0 1: rank 0 is home to 0, 1 and 2 and keeps 3; rank 1 gets 3 and the shadow. */
Test(shadow, puts_the_hottest_expert_everywhere)
{
    struct balance_input input = shadow_input(shadow_load);
    put_in_force(&input, NULL);

    cr_assert_eq(plan("shadow", NULL, input), STATUS_OK);

    expect_map((int32_t[]){0, 1, 2, 3, 4, 5, 3, 2}, 8);
}

/* 95 tokens and the 10 of the next hottest are more than the 100 that a shadow would take away.
 * From another node a move takes ten times as long: 200 tokens. */
Test(shadow, leaves_what_does_not_pay_for_its_weights)
{
    struct balance_input input = shadow_input(shadow_load);
    put_in_force(&input, NULL);
    input.near_move_ns = 190.0;
    cr_assert_eq(plan("shadow", NULL, input), STATUS_OK);
    expect_map(placement[0].expert_of_slot, 8);

    input.near_move_ns = 40.0;
    input.num_nodes = 2;
    cr_assert_eq(plan("shadow", NULL, input), STATUS_OK);
    expect_map(placement[0].expert_of_slot, 8);
}

/* Twenty steps are to come, the window has two: a move of 95 tokens costs 9.5 of the window's. */
Test(shadow, counts_all_steps_to_come)
{
    struct balance_input input = shadow_input(shadow_load);
    put_in_force(&input, NULL);
    input.near_move_ns = 190.0;
    input.interval_steps = 20;

    cr_assert_eq(plan("shadow", NULL, input), STATUS_OK);

    expect_map((int32_t[]){0, 1, 2, 3, 4, 5, 3, 2}, 8);
}
