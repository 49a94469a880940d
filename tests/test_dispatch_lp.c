/* test_dispatch_lp.c -- the split over replicas that leaves the busiest rank the fewest tokens. */
#include <criterion/criterion.h>
#include <glpk.h>
#include <gsl/gsl_randist.h>
#include <math.h>

#include "dispatch_world.h"
#include "rng.h"

#define NUM_EXPERTS_MAX 48
#define NUM_SLOTS_MAX   80
#define NUM_RANKS_MAX   16

static struct dispatch_world world;

static void stop(void)
{
    arena_free(&world.arena);
}

TestSuite(lp, .fini = stop);
TestSuite(lp_fixed, .fini = stop);
TestSuite(micro_ep, .fini = stop);

static int32_t slot_tokens(int32_t slot, int32_t num_wishes)
{
    int32_t tokens = 0;
    for (int32_t i = 0; i < num_wishes; i++) {
        tokens += world.slot[i] == slot;
    }
    return tokens;
}

static int32_t busiest_rank(int32_t num_wishes)
{
    int32_t tokens[NUM_RANKS_MAX] = {0};
    int32_t most = 0;
    for (int32_t i = 0; i < num_wishes; i++) {
        if (world.slot[i] != SLOT_DROPPED) {
            int32_t here = ++tokens[world.placement.rank_of_slot[world.slot[i]]];
            most = here > most ? here : most;
        }
    }
    return most;
}

/* Ranks 0 1 | 0 2 | 2 3 and eight, two, one and four tokens: fifteen, five a rank. Rank 0 has two
 * of expert 1, so it takes three of expert 0 and rank 1 five; expert 2 is left to rank 2. */
Test(lp, levels_three_ranks)
{
    world_place(&world, 4, 6, 3, (int32_t[]){0, 1, 0, 2, 2, 3});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3}, 15);

    world_assign(&world, "lp", (int32_t[]){0, 5, 10, 15}, 1, 3);

    static const int32_t expected[] = {3, 2, 5, 0, 1, 4};
    for (int32_t slot = 0; slot < 6; slot++) {
        cr_expect_eq(slot_tokens(slot, 15), expected[slot], "slot %d", slot);
    }
}

/* Ranks 0 1 | 1 2 | 2 3, fifteen tokens: five a rank would do, but the six of expert 0 have no
 * choice and fill rank 0, so all six of expert 1 go to rank 1. */
Test(lp, gives_no_more_to_a_rank_whose_own_fill_it)
{
    world_place(&world, 4, 6, 3, (int32_t[]){0, 1, 1, 2, 2, 3});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2}, 15);

    world_assign(&world, "lp", (int32_t[]){0, 5, 10, 15}, 1, 3);

    cr_expect_eq(slot_tokens(0, 15), 6);
    cr_expect_eq(slot_tokens(1, 15), 0);
    cr_expect_eq(slot_tokens(2, 15), 6);
    cr_expect_eq(busiest_rank(15), 6);
}

/* Rank 1 has two tokens of expert 1 and rank 0 none: four of expert 0 for slot 0, two for slot 3.
 * Each wish goes to the slot that lags furthest behind its 4/6 or 2/6 of the wishes so far. */
Test(lp, mixes_the_replicas_of_an_expert)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 0, 1, 0});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0, 1, 1}, 8);

    world_assign(&world, "lp", (int32_t[]){0, 4, 8}, 1, 2);

    int32_t far = 0;
    for (int32_t i = 0; i < 3; i++) {
        far += world.slot[i] == 3;
    }
    cr_expect_eq(slot_tokens(3, 8), 2);
    cr_expect_eq(far, 1, "one of the first three wishes, one of the last");
}

/* Two GPUs with both experts: any split of four tokens is level at two each. Each keeps its own. */
Test(micro_ep, keeps_tokens_on_their_gpu)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 1, 0, 1});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0, 0, 0}, 8);

    world_assign(&world, "micro_ep", (int32_t[]){0, 4, 8}, 1, 1);

    world_expect_slots(&world, (int32_t[]){0, 0, 0, 0, 2, 2, 2, 2}, 8);
}

/* Nodes {0, 1} and {2, 3}; expert 0 is on ranks 0, 1 and 2, two tokens each. Rank 3 has them all:
 * those for rank 2, on its node, are given out first, the others in the order of room. */
Test(micro_ep, prefers_the_own_node)
{
    world_place(&world, 2, 4, 4, (int32_t[]){0, 0, 0, 1});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0}, 6);

    world_assign(&world, "micro_ep", (int32_t[]){0, 0, 0, 0, 6}, 1, 2);

    world_expect_slots(&world, (int32_t[]){2, 2, 0, 1, 0, 1}, 6);
}

static int32_t draw(gsl_rng *rng, int32_t count)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)count);
}

/* Wishes lean to low experts; some are dropped. Each expert has a slot, spare ones hold any. */
static int32_t draw_world(gsl_rng *rng, int32_t *rank_begin, int32_t *num_ranks)
{
    *num_ranks = 2 + draw(rng, NUM_RANKS_MAX - 1);
    int32_t slots_per_rank = 1 + draw(rng, NUM_SLOTS_MAX / NUM_RANKS_MAX);
    int32_t num_slots = *num_ranks * slots_per_rank;
    int32_t num_experts = 1 + draw(rng, num_slots < NUM_EXPERTS_MAX ? num_slots : NUM_EXPERTS_MAX);
    int32_t num_wishes = draw(rng, 600);
    int32_t expert_of_slot[NUM_SLOTS_MAX];
    for (int32_t slot = 0; slot < num_slots; slot++) {
        expert_of_slot[slot] = slot < num_experts ? slot : draw(rng, 1 + draw(rng, num_experts));
    }
    gsl_ran_shuffle(rng, expert_of_slot, (size_t)num_slots, sizeof expert_of_slot[0]);
    arena_reset(&world.arena);
    world_place(&world, num_experts, num_slots, *num_ranks, expert_of_slot);
    for (int32_t i = 0; i < num_wishes; i++) {
        world.expert[i] = draw(rng, 1 + draw(rng, num_experts));
        world.dropped[i] = draw(rng, 8) == 0;
    }
    for (int32_t rank = 0; rank <= *num_ranks; rank++) {
        rank_begin[rank] = num_wishes * rank / *num_ranks;
    }
    return num_wishes;
}

/* The linear program by GLPK's exact simplex: columns are slots, then M; rows experts, ranks. */
static double optimum(int32_t num_wishes)
{
    const struct placement *placement = &world.placement;
    int32_t tokens[NUM_EXPERTS_MAX] = {0};
    for (int32_t i = 0; i < num_wishes; i++) {
        tokens[world.expert[i]] += !world.dropped[i];
    }
    int most = placement->num_slots + 1;
    glp_term_out(GLP_OFF);
    glp_prob *problem = glp_create_prob();
    glp_add_cols(problem, most);
    glp_add_rows(problem, placement->num_experts + placement->num_ranks);
    for (int column = 1; column <= most; column++) {
        glp_set_col_bnds(problem, column, GLP_LO, 0.0, 0.0);
        glp_set_obj_coef(problem, column, column == most ? 1.0 : 0.0);
    }
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        glp_set_row_bnds(problem, expert + 1, GLP_FX, tokens[expert], tokens[expert]);
    }
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        glp_set_row_bnds(problem, placement->num_experts + rank + 1, GLP_UP, 0.0, 0.0);
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        int row[] = {0, placement->expert_of_slot[slot] + 1,
                     placement->num_experts + placement->rank_of_slot[slot] + 1};
        glp_set_mat_col(problem, slot + 1, 2, row, (double[]){0.0, 1.0, 1.0});
    }
    int row[NUM_RANKS_MAX + 1];
    double value[NUM_RANKS_MAX + 1];
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        row[rank + 1] = placement->num_experts + rank + 1;
        value[rank + 1] = -1.0;
    }
    glp_set_mat_col(problem, most, placement->num_ranks, row, value);
    cr_assert_eq(glp_simplex(problem, NULL), 0);
    cr_assert_eq(glp_get_status(problem), GLP_OPT);
    double objective = glp_get_obj_val(problem);
    glp_delete_prob(problem);
    return objective;
}

/* Whole tokens: the least M is the program's, rounded up, because a flow between whole numbers is
 * one of whole numbers. */
Test(lp, reaches_the_optimum_of_glpk_in_every_random_world)
{
    gsl_rng *rng = rng_stream(1, "test.lp", 0);
    int32_t num_tight = 0;
    for (int32_t round = 0; round < 1000; round++) {
        int32_t rank_begin[NUM_RANKS_MAX + 1];
        int32_t num_ranks = 0;
        int32_t num_wishes = draw_world(rng, rank_begin, &num_ranks);

        world_assign(&world, "lp", rank_begin, 1, num_ranks);

        double least = optimum(num_wishes);
        int32_t sent = 0;
        for (int32_t i = 0; i < num_wishes; i++) {
            sent += !world.dropped[i];
        }
        cr_assert_eq(busiest_rank(num_wishes), (int32_t)ceil(least - 1e-6),
                     "round %d: %d, GLPK %.9g", round, busiest_rank(num_wishes), least);
        num_tight += least > (double)sent / num_ranks + 0.5; /* more than the mean is forced */
        world_assign(&world, "micro_ep", rank_begin, 1, num_ranks);
        cr_assert_eq(busiest_rank(num_wishes), (int32_t)ceil(least - 1e-6), "round %d", round);
    }
    cr_expect(num_tight > 100 && num_tight < 1000, "%d", num_tight);
    gsl_rng_free(rng);
}

/* Five steps come near: of what an even split is above the optimum, most is gone. */
Test(lp_fixed, comes_near_the_optimum)
{
    gsl_rng *rng = rng_stream(1, "test.lp_fixed", 0);
    double even_sum = 0.0;
    double fixed_sum = 0.0;
    double least_sum = 0.0;
    for (int32_t round = 0; round < 300; round++) {
        int32_t rank_begin[NUM_RANKS_MAX + 1];
        int32_t num_ranks = 0;
        int32_t num_wishes = draw_world(rng, rank_begin, &num_ranks);
        world_assign(&world, "round_robin", rank_begin, 1, num_ranks);
        even_sum += busiest_rank(num_wishes);
        world_assign(&world, "lp", rank_begin, 1, num_ranks);
        int32_t least = busiest_rank(num_wishes);
        least_sum += least;

        world_assign(&world, "lp_fixed", rank_begin, 1, num_ranks);

        int32_t fixed = busiest_rank(num_wishes);
        fixed_sum += fixed;
        cr_assert_geq(fixed, least);
    }
    cr_log_info("even %.0f, fixed %.0f, least %.0f", even_sum, fixed_sum, least_sum);
    cr_expect_lt(fixed_sum - least_sum, 0.1 * (even_sum - least_sum));
    gsl_rng_free(rng);
}

/* Ranks 0 1 | 0 2: expert 0 has six tokens, 1 four, 2 two. The optimum is six a rank: two of expert
 * 0 for rank 0, four for rank 1. Five steps from three and three end within a token of it. */
Test(lp_fixed, levels_two_ranks)
{
    world_place(&world, 3, 4, 2, (int32_t[]){0, 1, 0, 2});
    world_wish(&world, (int32_t[]){0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2}, 12);

    world_assign(&world, "lp_fixed", (int32_t[]){0, 6, 12}, 1, 2);

    cr_expect_eq(slot_tokens(0, 12), 2);
    cr_expect_eq(slot_tokens(2, 12), 4);
}
