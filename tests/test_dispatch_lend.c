/* test_dispatch_lend.c -- tokens that leave overloaded ranks, and the experts that are lent. */
#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>
#include <string.h>

#include "dispatch_world.h"
#include "rng.h"

#define NUM_RANKS_MAX 16

static struct dispatch_world world;

static void stop(void)
{
    arena_free(&world.arena);
}

TestSuite(placement_extend, .fini = stop);
TestSuite(llep, .fini = stop);
TestSuite(harmoeny, .fini = stop);
TestSuite(lend, .fini = stop);

Test(placement_extend, puts_moves_behind_the_slots_of_their_ranks)
{
    static const struct expert_move move[] = {{0, 2, 1, 0}, {0, 0, 0, 1}, {0, 1, 0, 1}};
    struct placement extended;
    world_place(&world, 3, 4, 2, (int32_t[]){0, 1, 2, 2});

    cr_assert_eq(placement_extend(&extended, &world.placement, move, 3, &world.arena), STATUS_OK);

    static const int32_t experts[] = {0, 1, 2, 2, 2, 0, 1};
    static const int32_t ranks[] = {0, 0, 0, 1, 1, 1, 1};
    static const int32_t slot_of[] = {0, 5, 1, 6, 2, 3, 4};
    cr_expect_eq(extended.num_slots, 7);
    cr_expect_arr_eq(extended.expert_of_slot, experts, sizeof experts);
    cr_expect_arr_eq(extended.rank_of_slot, ranks, sizeof ranks);
    cr_expect_arr_eq(extended.slot_of, slot_of, sizeof slot_of);
    cr_expect_arr_eq(extended.rank_begin, ((int32_t[]){0, 3, 7}), 3 * sizeof(int32_t));
    cr_expect_arr_eq(extended.slot_begin, ((int32_t[]){0, 2, 4, 7}), 4 * sizeof(int32_t));
}

/* tokens[sender][expert] wishes, expert by expert within a sender; two experts a rank. */
static void dispatch_counts(const char *name, int32_t num_ranks, int32_t num_experts,
                            const int32_t *tokens)
{
    int32_t rank_begin[NUM_RANKS_MAX + 1] = {0};
    int32_t expert_of_slot[64];
    int32_t count = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        expert_of_slot[expert] = expert;
    }
    world_place(&world, num_experts, num_experts, num_ranks, expert_of_slot);
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        for (int32_t expert = 0; expert < num_experts; expert++) {
            for (int32_t i = 0; i < tokens[rank * num_experts + expert]; i++) {
                cr_assert_lt(count, WORLD_WISHES_MAX);
                world.expert[count] = expert;
                world.dropped[count++] = false;
            }
        }
        rank_begin[rank + 1] = count;
    }
    world_assign(&world, name, rank_begin, 1, num_ranks);
}

/* Tokens of the expert that the rank computes, from one sender or from all (-1). */
static int32_t served(int32_t expert, int32_t rank, int32_t sender)
{
    int32_t tokens = 0;
    for (int32_t i = 0; i < WORLD_WISHES_MAX && world.slot[i] >= 0; i++) {
        tokens += world.expert[i] == expert && world.served->rank_of_slot[world.slot[i]] == rank &&
                  (sender < 0 || world.source_rank[i] == sender);
    }
    return tokens;
}

static void expect_loans(const struct expert_move *expected, int32_t count)
{
    cr_assert_eq(world.loans.num_moves, count, "%d", (int)world.loans.num_moves);
    for (int32_t i = 0; i < count; i++) {
        const struct expert_move *move = &world.loans.move[i];
        cr_expect(move->expert == expected[i].expert && move->from_rank == expected[i].from_rank &&
                      move->to_rank == expected[i].to_rank,
                  "loan %d: expert %d from %d to %d", i, move->expert, move->from_rank,
                  move->to_rank);
    }
}

static void clear_slots(void)
{
    memset(world.slot, 0xff, sizeof world.slot);
}

/* Expected numbers of this and the next two: what compute_llep_lpt_plan answers (0349746). */
Test(llep, spills_where_its_source_does)
{
    clear_slots();
    dispatch_counts("llep", 4, 8, (int32_t[32]){3000, 0, 40, 56, 0, 1000, 0, 0});

    cr_expect_eq(served(0, 0, -1), 1126);
    cr_expect_eq(served(0, 3, -1), 1126);
    cr_expect_eq(served(0, 1, -1), 748);
    cr_expect_eq(served(5, 2, -1), 1000);
    cr_expect_eq(served(3, 1, -1), 56);
    expect_loans((struct expert_move[]){{0, 0, 0, 1}, {0, 0, 0, 3}}, 2);
}

/* No helper has room for 1674 tokens or a chunk of 1024: all go to the least loaded. */
Test(llep, overfills_the_least_loaded_as_its_source_does)
{
    clear_slots();
    dispatch_counts("llep", 4, 8, (int32_t[32]){2600, 200, 100, 96, 300, 100, 400, 300});

    cr_expect_eq(served(0, 0, -1), 926);
    cr_expect_eq(served(0, 1, -1), 1674);
    cr_expect_eq(served(2, 2, -1), 100);
    cr_expect_eq(served(3, 2, -1), 96);
    expect_loans((struct expert_move[]){{0, 0, 0, 1}, {0, 2, 1, 2}, {0, 3, 1, 2}}, 3);
}

Test(llep, parts_two_hot_experts_of_one_rank_as_its_source_does)
{
    clear_slots();
    dispatch_counts("llep", 4, 8, (int32_t[32]){1500, 1500, 48, 48, 300, 300, 200, 200});

    cr_expect_eq(served(0, 1, -1), 1030);
    cr_expect_eq(served(0, 3, -1), 470);
    cr_expect_eq(served(1, 0, -1), 1126);
    cr_expect_eq(served(1, 2, -1), 374);
    expect_loans((struct expert_move[]){{0, 0, 0, 1}, {0, 1, 0, 2}, {0, 0, 0, 3}}, 3);
}

/* 1396 of 4096 tokens on four ranks: 1.36 of the mean, so it acts; with 1300 it is 1.27. */
Test(llep, does_nothing_below_its_threshold)
{
    clear_slots();
    dispatch_counts("llep", 4, 8, (int32_t[32]){600, 500, 700, 696, 400, 500, 300, 400});
    expect_loans((struct expert_move[]){{0, 2, 1, 3}}, 1);
    cr_expect_eq(served(2, 3, -1), 270);

    dispatch_counts("llep", 4, 8, (int32_t[32]){600, 500, 650, 650, 496, 500, 300, 400});
    cr_expect_eq(world.loans.num_moves, 0);
}

/* Ranks 0 1 | 2 0 with 3000, 0 and 2000 tokens: half of expert 0's are at home on each rank. Rank 1
 * has too much, and rank 0 holds expert 0, so its surplus needs no weights. */
Test(llep, borrows_nothing_that_is_there)
{
    clear_slots();
    world_place(&world, 3, 4, 2, (int32_t[]){0, 1, 2, 0});
    for (int32_t i = 0; i < 4000; i++) {
        world.expert[i] = i < 2000 ? 0 : 2;
        world.dropped[i] = false;
    }

    world_assign(&world, "llep", (int32_t[]){0, 2000, 4000}, 1, 2);

    /* At home: rank 0 1000, rank 1 1000 + 2000; no more than 2200. Expert 2 first: beside 1000 to
     * come rank 1 has room for 1200, 800 go to rank 0. Then 1000 fit everywhere but for rank 1,
     * which is at 1200 and has room for 1000. */
    cr_expect_eq(served(2, 1, -1), 1200);
    cr_expect_eq(served(2, 0, -1), 800);
    expect_loans((struct expert_move[]){{0, 2, 1, 0}}, 1);
}

/* What schedule_harmony (563b5a6) does with these counts, in its order: of expert 0, 445 tokens of
 * sender 1 to rank 2, 405 of sender 3 to rank 3, 275 of sender 0 to rank 1; all ranks have 525. */
Test(harmoeny, moves_what_its_source_moves)
{
    clear_slots();
    dispatch_counts(
        "harmoeny", 4, 4,
        (int32_t[]){400, 100, 20, 30, 500, 50, 10, 40, 300, 60, 30, 30, 450, 40, 20, 20});

    cr_expect_eq(served(0, 0, -1), 525);
    cr_expect_eq(served(0, 2, 1), 445);
    cr_expect_eq(served(0, 3, 3), 405);
    cr_expect_eq(served(0, 1, 0), 275);
    cr_expect_eq(served(0, 0, 0), 125);
    expect_loans((struct expert_move[]){{0, 0, 0, 1}, {0, 0, 0, 2}, {0, 0, 0, 3}}, 3);
}

/* The same source on eight experts: two of one rank's are lent, one of them to two ranks. */
Test(harmoeny, moves_several_experts_as_its_source_does)
{
    clear_slots();
    dispatch_counts("harmoeny", 4, 8, (int32_t[]){700, 300, 20, 30,  10, 10,  5,   25, 100, 400, 10,
                                                  40,  10,  10, 0,   30, 300, 160, 30, 30,  0,   20,
                                                  10,  10,  50, 340, 20, 20,  30,  20, 20,  10});

    cr_expect_eq(served(1, 2, 1), 400);
    cr_expect_eq(served(1, 2, 3), 182);
    cr_expect_eq(served(0, 3, 0), 582);
    cr_expect_eq(served(1, 1, 0), 300);
    cr_expect_eq(served(1, 1, 2), 160);
    cr_expect_eq(served(1, 1, 3), 32);
    expect_loans((struct expert_move[]){{0, 1, 0, 1}, {0, 1, 0, 2}, {0, 0, 0, 3}}, 3);
}

/* 149 above the average and room for 149: fewer than 150 do not pay. One more of each does. */
Test(harmoeny, leaves_small_differences_alone)
{
    clear_slots();
    dispatch_counts("harmoeny", 2, 2, (int32_t[]){600, 302, 0, 0});
    cr_expect_eq(world.loans.num_moves, 0);

    dispatch_counts("harmoeny", 2, 2, (int32_t[]){600, 300, 0, 0});
    expect_loans((struct expert_move[]){{0, 0, 0, 1}}, 1);
    cr_expect_eq(served(0, 1, -1), 150);
}

static int32_t draw(gsl_rng *rng, int32_t count)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)count);
}

/* A skewed world of up to 4,096 wishes with replicas here and there. */
static void draw_world(gsl_rng *rng, int32_t *rank_begin, int32_t num_ranks, int32_t num_experts)
{
    int32_t expert_of_slot[64];
    int32_t num_slots = num_ranks * 4;
    for (int32_t slot = 0; slot < num_slots; slot++) {
        expert_of_slot[slot] = slot < num_experts ? slot : draw(rng, num_experts);
    }
    gsl_ran_shuffle(rng, expert_of_slot, (size_t)num_slots, sizeof expert_of_slot[0]);
    arena_reset(&world.arena);
    world_place(&world, num_experts, num_slots, num_ranks, expert_of_slot);
    for (int32_t i = 0; i < WORLD_WISHES_MAX; i++) {
        world.expert[i] = draw(rng, 1 + draw(rng, 1 + draw(rng, num_experts)));
        world.dropped[i] = draw(rng, 16) == 0;
    }
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        rank_begin[rank] = WORLD_WISHES_MAX * rank / num_ranks;
    }
}

static bool holds(int32_t rank, int32_t expert)
{
    const struct placement *placement = &world.placement;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        if (placement->expert_of_slot[slot] == expert) {
            return true;
        }
    }
    return false;
}

static void expect_lawful_loans(const char *name)
{
    bool is_used[256] = {false};
    for (int32_t i = 0; i < WORLD_WISHES_MAX; i++) {
        if (world.slot[i] != SLOT_DROPPED) {
            is_used[world.slot[i]] = true;
        }
    }
    for (int32_t i = 0; i < world.loans.num_moves; i++) {
        const struct expert_move *move = &world.loans.move[i];
        cr_assert(holds(move->from_rank, move->expert), "%s: a lender holds it", name);
        cr_assert(!holds(move->to_rank, move->expert), "%s: a borrower does not", name);
        cr_assert(i == 0 || move[-1].to_rank < move->to_rank ||
                      (move[-1].to_rank == move->to_rank && move[-1].expert < move->expert),
                  "%s: in order, none twice", name);
    }
    for (int32_t rank = 0; rank < world.placement.num_ranks && world.loans.num_moves > 0; rank++) {
        int32_t own = world.placement.rank_begin[rank + 1] - world.placement.rank_begin[rank];
        for (int32_t slot = world.served->rank_begin[rank] + own;
             slot < world.served->rank_begin[rank + 1]; slot++) {
            cr_assert(is_used[slot], "%s: what is lent serves a token", name);
        }
    }
}

Test(lend, lends_only_what_is_needed_from_who_has_it)
{
    int32_t count;
    const struct replica_dispatch *const *all = dispatch_all(&count);
    gsl_rng *rng = rng_stream(1, "test.lend", 0);
    int32_t num_loans[16] = {0};
    cr_assert_leq(count, 16);
    for (int32_t round = 0; round < 100; round++) {
        int32_t rank_begin[NUM_RANKS_MAX + 1];
        int32_t num_ranks = 2 + draw(rng, 7);
        draw_world(rng, rank_begin, num_ranks, num_ranks * 3);
        for (int32_t i = 0; i < count; i++) {
            world_assign(&world, all[i]->name, rank_begin, 1, num_ranks);
            expect_lawful_loans(all[i]->name);
            num_loans[i] += world.loans.num_moves;
        }
    }
    for (int32_t i = 0; i < count; i++) { /* or the law would say nothing */
        cr_expect(all[i]->lends ? num_loans[i] > 100 : num_loans[i] == 0, "%s: %d", all[i]->name,
                  num_loans[i]);
    }
    gsl_rng_free(rng);
}
