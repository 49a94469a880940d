/* test_bound.c -- bounds on the busiest rank: by hand, against GLPK, over all small placements. */
#include <criterion/criterion.h>
#include <glpk.h>
#include <string.h>

#include "bound.h"
#include "rng.h"

static struct arena arena;
static struct error error;

static void stop(void)
{
    arena_free(&arena);
    glp_free_env();
}

TestSuite(bound, .fini = stop);

static double any_placement(const int64_t *load, int32_t experts, int32_t slots, int32_t ranks)
{
    double busiest = -1.0;
    cr_assert_eq(bound_any_placement(&busiest, load, experts, slots, ranks, &arena, &error),
                 STATUS_OK, "%s", error.text);
    return busiest;
}

static double any_split(const int64_t *load, const struct placement *placement)
{
    double busiest = -1.0;
    cr_assert_eq(bound_any_split(&busiest, load, placement, &arena, &error), STATUS_OK, "%s",
                 error.text);
    return busiest;
}

static void set(struct placement *placement, const int32_t *map, int32_t experts, int32_t slots,
                int32_t ranks)
{
    cr_assert_eq(placement_init(placement, &arena, experts, slots, ranks, &error), STATUS_OK);
    cr_assert_eq(placement_set(placement, map, &error), STATUS_OK, "%s", error.text);
}

Test(bound, the_mean_where_nothing_else_binds)
{
    const int64_t load[4] = {5, 5, 5, 5};
    cr_expect_eq(any_placement(load, 4, 4, 2), 10.0);
}

/* 90 tokens on 4 ranks are 22.5 each, but two slots serve 60 of them. */
Test(bound, few_replicas_of_a_hot_expert)
{
    const int64_t load[4] = {60, 10, 10, 10};
    cr_expect_eq(any_placement(load, 4, 5, 4), 30.0);
    cr_expect_eq(any_placement(load, 4, 6, 4), 22.5);
}

/* Three experts of 10 on two ranks, no slot to spare: two of them meet. With one to spare they
 * share 30 tokens as they like. */
Test(bound, whole_experts_that_must_meet)
{
    const int64_t load[4] = {10, 10, 10, 0};
    cr_expect_eq(any_placement(load, 4, 4, 2), 20.0);
    cr_expect_eq(any_placement(load, 4, 5, 2), 15.0);
}

/* Ranks {0 1} {0 2} {3 3}: 3 is alone with 12 on rank 2; ranks 0 and 1 share 10 + 4 + 6 evenly. */
Test(bound, split_by_hand)
{
    const int32_t map[6] = {0, 1, 0, 2, 3, 3};
    const int64_t mild[4] = {10, 4, 6, 7};
    const int64_t hot[4] = {10, 4, 6, 12};
    const int64_t uneven[4] = {1, 4, 9, 0};
    struct placement placement;
    set(&placement, map, 4, 6, 3);

    cr_expect_eq(any_split(mild, &placement), 10.0);
    cr_expect_eq(any_split(hot, &placement), 12.0);
    cr_expect_eq(any_split(uneven, &placement), 9.0);
}

/* The least M by a linear program: columns are tokens of each slot, and M. */
static double split_by_glpk(const int64_t *load, const struct placement *placement)
{
    int32_t slots = placement->num_slots;
    int32_t experts = placement->num_experts;
    glp_prob *program = glp_create_prob();
    glp_set_obj_dir(program, GLP_MIN);
    glp_add_cols(program, slots + 1);
    glp_add_rows(program, experts + placement->num_ranks);
    for (int32_t column = 1; column <= slots + 1; column++) {
        glp_set_col_bnds(program, column, GLP_LO, 0.0, 0.0);
    }
    glp_set_obj_coef(program, slots + 1, 1.0);
    for (int32_t expert = 0; expert < experts; expert++) {
        double tokens = (double)load[expert];
        glp_set_row_bnds(program, expert + 1, GLP_FX, tokens, tokens);
    }
    const double ones[3] = {0.0, 1.0, 1.0};
    for (int32_t slot = 0; slot < slots; slot++) {
        int32_t rows[3] = {0, placement->expert_of_slot[slot] + 1,
                           experts + placement->rank_of_slot[slot] + 1};
        glp_set_mat_col(program, slot + 1, 2, rows, ones);
    }
    int32_t *rank_rows = arena_alloc(&arena, (size_t)placement->num_ranks + 1, sizeof(int32_t));
    double *coefficients = arena_alloc(&arena, (size_t)placement->num_ranks + 1, sizeof(double));
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        glp_set_row_bnds(program, experts + rank + 1, GLP_UP, 0.0, 0.0);
        rank_rows[rank + 1] = experts + rank + 1;
        coefficients[rank + 1] = -1.0;
    }
    glp_set_mat_col(program, slots + 1, placement->num_ranks, rank_rows, coefficients);
    glp_smcp options;
    glp_init_smcp(&options);
    options.msg_lev = GLP_MSG_OFF;
    cr_assert_eq(glp_simplex(program, &options), 0);
    double least = glp_get_obj_val(program);
    glp_delete_prob(program);
    return least;
}

static int32_t below(gsl_rng *rng, int32_t limit)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)limit);
}

/* Heavy tails, and now and then no tokens at all. */
static int64_t draw_load(gsl_rng *rng)
{
    int64_t tokens = 1 + below(rng, 20);
    return below(rng, 8) == 0 ? 0 : tokens * tokens * tokens / 8;
}

Test(bound, split_equals_a_linear_program)
{
    gsl_rng *rng = rng_stream(1, "test_bound", 0);
    cr_assert_not_null(rng);
    for (int32_t round = 0; round < 300; round++) {
        int32_t ranks = 1 + below(rng, 8);
        int32_t slots = ranks * (1 + below(rng, 6));
        int32_t experts = 1 + below(rng, slots);
        int32_t map[48];
        int64_t load[48];
        struct placement placement;
        for (int32_t slot = 0; slot < slots; slot++) {
            map[slot] = slot < experts ? slot : below(rng, experts);
        }
        for (int32_t slot = slots - 1; slot > 0; slot--) {
            int32_t other = below(rng, slot + 1);
            int32_t expert = map[slot];
            map[slot] = map[other];
            map[other] = expert;
        }
        for (int32_t expert = 0; expert < experts; expert++) {
            load[expert] = draw_load(rng);
        }
        set(&placement, map, experts, slots, ranks);

        cr_expect_float_eq(any_split(load, &placement), split_by_glpk(load, &placement), 1e-6,
                           "round %d", (int)round);

        arena_reset(&arena);
    }
    gsl_rng_free(rng);
}

/* Counts in base num_experts; false after the last. */
static bool next_map(int32_t *map, int32_t slots, int32_t experts)
{
    for (int32_t slot = 0; slot < slots; slot++) {
        if (++map[slot] < experts) {
            return true;
        }
        map[slot] = 0;
    }
    return false;
}

static bool names_all(const int32_t *map, int32_t slots, int32_t experts)
{
    uint32_t named = 0;
    for (int32_t slot = 0; slot < slots; slot++) {
        named |= 1u << map[slot];
    }
    return named == (1u << experts) - 1;
}

/* All 4^6 or 3^6 placements of a layer: none is below the bound. It need not be reached, for it
 * does not know how many slots each rank has; half of the time it is. */
Test(bound, no_placement_of_a_small_layer_is_better)
{
    gsl_rng *rng = rng_stream(1, "test_bound", 1);
    cr_assert_not_null(rng);
    const int32_t slots = 6;
    int32_t met = 0;
    for (int32_t round = 0; round < 12; round++) {
        int32_t experts = 3 + round % 2;
        int32_t ranks = round % 3 == 0 ? 2 : 3;
        int64_t load[4];
        int32_t map[6] = {0};
        double best = 1e300;
        for (int32_t expert = 0; expert < experts; expert++) {
            load[expert] = draw_load(rng);
        }
        while (next_map(map, slots, experts)) {
            if (names_all(map, slots, experts)) {
                struct placement placement;
                set(&placement, map, experts, slots, ranks);
                double busiest = any_split(load, &placement);
                best = busiest < best ? busiest : best;
                arena_reset(&arena);
            }
        }
        double bound = any_placement(load, experts, slots, ranks);
        cr_expect_leq(bound, best + 1e-9, "round %d", (int)round);
        met += best <= bound + 1e-9;
        arena_reset(&arena);
    }
    gsl_rng_free(rng);
    cr_expect_geq(met, 6, "%d of 12 bounds are reached", (int)met);
}

Test(bound, says_what_is_wrong_with_loads)
{
    const int64_t negative[3] = {-1, 5, -7};
    const int64_t huge[3] = {INT64_MAX, INT64_MAX, 1};
    double busiest;

    cr_expect_eq(bound_any_placement(&busiest, negative, 3, 3, 3, &arena, &error), STATUS_INVALID);
    cr_expect_str_eq(error.text, "bound: expert 0 has -1 tokens\nbound: expert 2 has -7 tokens\n");
    cr_expect_eq(bound_any_placement(&busiest, huge, 3, 3, 3, &arena, &error), STATUS_INVALID);
    cr_expect_eq(bound_any_placement(&busiest, huge, 3, 2, 1, &arena, &error), STATUS_INVALID);
}
