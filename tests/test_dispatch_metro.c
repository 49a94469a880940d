/* test_dispatch_metro.c -- the busiest rank activates as few experts as any choice allows. */
#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>

#include "dispatch_world.h"
#include "rng.h"

static struct dispatch_world world;

static void stop(void)
{
    arena_free(&world.arena);
}

TestSuite(metro, .fini = stop);

/* Four ranks of two slots: 0 1 | 0 2 | 1 3 | 0 4. */
static const int32_t four_ranks[] = {0, 1, 0, 2, 1, 3, 0, 4};

/* Experts 2 and 3 have no choice and fill ranks 1 and 2. Expert 0 (two tokens) chooses first: of
 * the empty ranks 0 and 3 it takes rank 0. Expert 1 then finds ranks 0 and 2 with one expert each,
 * but expert 0 can move over to rank 3. So no rank activates two. */
Test(metro, moves_an_expert_over_to_make_room)
{
    world_place(&world, 5, 8, 4, four_ranks);
    world_wish(&world, (int32_t[]){0, 1, 2, 3, 0}, 5);

    world_assign(&world, "metro", (int32_t[]){0, 2, 3, 3, 5}, 1, 2);

    world_expect_slots(&world, (int32_t[]){6, 1, 3, 5, 6}, 5);
}

/* As above, but expert 2 is not wanted, so rank 1 is free: the first of the ranks without any. */
Test(metro, counts_only_what_is_computed)
{
    world_place(&world, 5, 8, 4, four_ranks);
    world_wish(&world, (int32_t[]){0, 1, 2, EXPERT_NOT_ROUTED, 3, 0}, 6);
    world.dropped[2] = true;

    world_assign(&world, "metro", (int32_t[]){0, 2, 3, 3, 6}, 1, 2);

    world_expect_slots(&world, (int32_t[]){2, 1, SLOT_DROPPED, SLOT_DROPPED, 5, 2}, 6);
}

/* Ranks 0 (expert 0, three tokens) and 1 (expert 1, one token) activate one expert each. */
Test(metro, takes_the_rank_of_fewer_tokens_among_equals)
{
    world_place(&world, 3, 4, 2, (int32_t[]){0, 2, 1, 2});
    world_wish(&world, (int32_t[]){0, 0, 0, 1, 2}, 5);

    world_assign(&world, "metro", (int32_t[]){0, 1, 5}, 1, 2);

    world_expect_slots(&world, (int32_t[]){0, 0, 0, 2, 3}, 5);
}

/* Ranks 0 and 1 serve experts 2 (one token) and 3 (five), which have no choice. Expert 1 has more
 * tokens than expert 0, so it has the first choice and takes rank 0. */
Test(metro, lets_experts_with_more_tokens_choose_first)
{
    world_place(&world, 4, 6, 2, (int32_t[]){0, 1, 2, 0, 1, 3});
    world_wish(&world, (int32_t[]){0, 1, 1, 2, 3, 3, 3, 3, 3}, 9);

    world_assign(&world, "metro", (int32_t[]){0, 4, 9}, 1, 2);

    world_expect_slots(&world, (int32_t[]){3, 1, 1, 2, 5, 5, 5, 5, 5}, 9);
}

/* As the first, with a third slot a rank: 0 1 4 | 0 2 5 | 1 3 5 | 0 4 5. When expert 0 has moved
 * over, ranks 0 to 2 have one token each, rank 3 two; expert 4 takes rank 0. */
Test(metro, takes_tokens_along_when_an_expert_moves_over)
{
    world_place(&world, 6, 12, 4, (int32_t[]){0, 1, 4, 0, 2, 5, 1, 3, 5, 0, 4, 5});
    world_wish(&world, (int32_t[]){0, 0, 1, 2, 3, 4}, 6);

    world_assign(&world, "metro", (int32_t[]){0, 2, 3, 5, 6}, 1, 2);

    world_expect_slots(&world, (int32_t[]){9, 9, 1, 4, 7, 2}, 6);
}

/* Rank 0 has expert 0 twice: still one place to read weights from. */
Test(metro, activates_one_of_two_replicas_on_a_rank)
{
    world_place(&world, 2, 4, 2, (int32_t[]){0, 0, 1, 1});
    world_wish(&world, (int32_t[]){0, 0, 1, 1, 0, 0}, 6);

    world_assign(&world, "metro", (int32_t[]){0, 3, 6}, 1, 1);

    world_expect_slots(&world, (int32_t[]){0, 0, 2, 2, 0, 0}, 6);
}

#define NUM_EXPERTS_MAX 48
#define NUM_SLOTS_MAX   80
#define NUM_RANKS_MAX   16

static int32_t draw(gsl_rng *rng, int32_t count)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)count);
}

/* Wishes for some of the experts, from any rank; each has a slot, the spare slots hold whatever. */
static void draw_world(gsl_rng *rng, int32_t num_experts, int32_t slots_per_rank, int32_t num_ranks,
                       int32_t num_wishes, int32_t *rank_begin)
{
    int32_t num_slots = slots_per_rank * num_ranks;
    int32_t expert_of_slot[NUM_SLOTS_MAX];
    for (int32_t slot = 0; slot < num_slots; slot++) {
        expert_of_slot[slot] = slot < num_experts ? slot : draw(rng, num_experts);
    }
    gsl_ran_shuffle(rng, expert_of_slot, (size_t)num_slots, sizeof expert_of_slot[0]);
    arena_reset(&world.arena);
    world_place(&world, num_experts, num_slots, num_ranks, expert_of_slot);
    for (int32_t i = 0; i < num_wishes; i++) {
        world.expert[i] = draw(rng, num_experts);
        world.dropped[i] = draw(rng, 8) == 0;
    }
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        rank_begin[rank] = num_wishes * rank / num_ranks;
    }
}

/* Slots with a token on the rank that has most of them. */
static int32_t most_activated(int32_t num_wishes)
{
    bool active[NUM_SLOTS_MAX] = {false};
    int32_t activated[NUM_RANKS_MAX] = {0};
    int32_t most = 0;
    for (int32_t i = 0; i < num_wishes; i++) {
        int32_t slot = world.slot[i];
        if (slot != SLOT_DROPPED && !active[slot]) {
            active[slot] = true;
            int32_t count = ++activated[world.placement.rank_of_slot[slot]];
            most = count > most ? count : most;
        }
    }
    return most;
}

/* The least possible, by trying every choice of one replica for each expert: counts through the
 * choices like the digits of a number. */
static int32_t least_possible(int32_t num_wishes)
{
    const struct placement *placement = &world.placement;
    int32_t choice[NUM_EXPERTS_MAX] = {0};
    int32_t least = INT32_MAX;
    for (int32_t digit = 0; digit < placement->num_experts;) {
        for (int32_t i = 0; i < num_wishes; i++) {
            int32_t expert = world.expert[i];
            int32_t slot = placement->slot_of[placement->slot_begin[expert] + choice[expert]];
            world.slot[i] = world.dropped[i] ? SLOT_DROPPED : slot;
        }
        int32_t most = most_activated(num_wishes);
        least = most < least ? most : least;
        for (digit = 0; digit < placement->num_experts; digit++) {
            if (++choice[digit] < placement_num_replicas(placement, digit)) {
                break;
            }
            choice[digit] = 0;
        }
    }
    return least;
}

Test(metro, finds_the_optimum_of_every_small_world)
{
    gsl_rng *rng = rng_stream(1, "test.metro.small", 0);
    for (int32_t round = 0; round < 300; round++) {
        int32_t rank_begin[NUM_RANKS_MAX + 1];
        int32_t num_wishes = 1 + draw(rng, 16);
        draw_world(rng, 7, 3 + draw(rng, 2), 4, num_wishes, rank_begin);

        world_assign(&world, "metro", rank_begin, 1, 2);

        int32_t most = most_activated(num_wishes);
        int32_t least = least_possible(num_wishes);
        cr_assert_eq(most, least, "round %d: %d, best %d", round, most, least);
    }
    gsl_rng_free(rng);
}

Test(metro, never_activates_more_than_any_other_dispatch)
{
    int32_t count;
    const struct replica_dispatch *const *all = dispatch_all(&count);
    gsl_rng *rng = rng_stream(1, "test.metro.large", 0);
    int32_t num_fewer[16] = {0};
    cr_assert_leq(count, 16);
    for (int32_t round = 0; round < 300; round++) {
        int32_t rank_begin[NUM_RANKS_MAX + 1];
        int32_t num_wishes = 1 + draw(rng, 400);
        draw_world(rng, NUM_EXPERTS_MAX, 5, NUM_RANKS_MAX, num_wishes, rank_begin);
        world_assign(&world, "metro", rank_begin, 1, 4);
        int32_t most = most_activated(num_wishes);
        for (int32_t i = 0; i < count; i++) {
            if (all[i]->lends) {
                continue; /* what is lent is not in the bound */
            }
            world_assign(&world, all[i]->name, rank_begin, 1, 4);
            int32_t other = most_activated(num_wishes);
            cr_assert_leq(most, other, "round %d: %d, %s %d", round, most, all[i]->name, other);
            num_fewer[i] += most < other;
        }
    }
    for (int32_t i = 0; i < count; i++) { /* or the law would say nothing */
        bool is_metro = all[i] == dispatch_find("metro");
        cr_expect(all[i]->lends || is_metro ? num_fewer[i] == 0 : num_fewer[i] > 100, "%s: %d",
                  all[i]->name, num_fewer[i]);
    }
    gsl_rng_free(rng);
}
