/* test_balance_affinity.c -- experts that belong together share a rank: hops and copies counted. */
#include <criterion/criterion.h>
#include <gsl/gsl_rng.h>
#include <string.h>

#include "balance/balance.h"
#include "rng.h"

#define EXPERTS_MAX 8

static struct arena arena;
static struct error error;
static struct placement placement[3];
static int32_t map[24];

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(affinity, .fini = stop);

/* Slot s holds expert s mod num_experts. */
static void put_in_force(const struct balance_input *input)
{
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        cr_assert_eq(placement_init(&placement[layer], &arena, input->num_experts, input->num_slots,
                                    input->num_ranks, &error),
                     STATUS_OK);
        memcpy(map + layer * input->num_slots, placement[layer].expert_of_slot,
               (size_t)input->num_slots * sizeof *map);
    }
}

static void plan(struct balance_input input)
{
    input.placement = placement;
    input.scratch = &arena;
    cr_assert_eq(balance_find("affinity")->plan(NULL, &input, map, &error), STATUS_OK, "%s",
                 error.text);
}

static void expect_map(const int32_t *expected, int32_t count)
{
    for (int32_t slot = 0; slot < count; slot++) {
        cr_expect_eq(map[slot], expected[slot], "slot %d: %d, expected %d", slot, map[slot],
                     expected[slot]);
    }
}

struct ties {
    int32_t num_layers;
    int32_t num_experts;
    int32_t pair[3][EXPERTS_MAX * EXPERTS_MAX];
    int32_t next[3][EXPERTS_MAX * EXPERTS_MAX];
    int32_t pair_flat[3 * EXPERTS_MAX * EXPERTS_MAX];
    int32_t next_flat[3 * EXPERTS_MAX * EXPERTS_MAX];
};

static struct balance_input ties_input(struct ties *ties, int32_t num_slots, int32_t num_ranks,
                                       int32_t num_nodes)
{
    size_t block = (size_t)ties->num_experts * (size_t)ties->num_experts;
    for (int32_t layer = 0; layer < ties->num_layers; layer++) {
        memcpy(ties->pair_flat + (size_t)layer * block, ties->pair[layer], block * 4);
        memcpy(ties->next_flat + (size_t)layer * block, ties->next[layer], block * 4);
    }
    return (struct balance_input){.num_layers = ties->num_layers,
                                  .num_experts = ties->num_experts,
                                  .num_slots = num_slots,
                                  .num_ranks = num_ranks,
                                  .num_nodes = num_nodes,
                                  .num_groups = 1,
                                  .num_steps = 1,
                                  .pair_tokens = ties->pair_flat,
                                  .transition_tokens = ties->next_flat};
}

/* Hops and copies: 1 within a node, 2 between nodes. rank_of [num_layers][num_experts] */
static int64_t cost_of(const struct ties *ties, const int32_t *rank_of, int32_t ranks_per_node)
{
    int64_t cost = 0;
    int32_t experts = ties->num_experts;
    for (int32_t layer = 0; layer < ties->num_layers; layer++) {
        for (int32_t a = 0; a < experts; a++) {
            for (int32_t b = 0; b < experts; b++) {
                int32_t here = rank_of[layer * experts + a];
                int32_t beside = rank_of[layer * experts + b];
                int32_t far = here / ranks_per_node != beside / ranks_per_node;
                cost +=
                    a < b && here != beside ? ties->pair[layer][a * experts + b] * (1 + far) : 0;
                if (layer + 1 < ties->num_layers) {
                    int32_t ahead = rank_of[(layer + 1) * experts + b];
                    far = here / ranks_per_node != ahead / ranks_per_node;
                    cost += here != ahead ? ties->next[layer][a * experts + b] * (1 + far) : 0;
                }
            }
        }
    }
    return cost;
}

/* Of a placement without spare slots. */
static void ranks_of(int32_t *rank_of, const struct balance_input *input)
{
    for (int32_t slot = 0; slot < input->num_layers * input->num_slots; slot++) {
        int32_t layer = slot / input->num_slots;
        rank_of[layer * input->num_experts + map[slot]] =
            slot % input->num_slots / (input->num_slots / input->num_ranks);
    }
}

/* Four kinds of tokens, each with its own two experts in each of three layers: a placement of the
 * pairs on four ranks without a single hop exists. */
Test(affinity, finds_the_placement_without_hops)
{
    static struct ties ties = {.num_layers = 3, .num_experts = 8};
    static const int32_t expert_of[3][4][2] = {{{0, 5}, {1, 4}, {2, 7}, {3, 6}},
                                               {{6, 1}, {0, 2}, {3, 4}, {5, 7}},
                                               {{2, 3}, {6, 7}, {0, 1}, {4, 5}}};
    for (int32_t layer = 0; layer < 3; layer++) {
        for (int32_t kind = 0; kind < 4; kind++) {
            const int32_t *pair = expert_of[layer][kind];
            ties.pair[layer][pair[0] * 8 + pair[1]] = 100;
            ties.pair[layer][pair[1] * 8 + pair[0]] = 100;
            for (int32_t i = 0; i < 4 && layer < 2; i++) {
                ties.next[layer][pair[i / 2] * 8 + expert_of[layer + 1][kind][i % 2]] = 100;
            }
        }
    }
    struct balance_input input = ties_input(&ties, 8, 4, 2);
    int32_t rank_of[24];
    put_in_force(&input);

    plan(input);

    ranks_of(rank_of, &input);
    cr_expect_eq(cost_of(&ties, rank_of, 2), 0);
}

/* Spare slots: expert 4 (with 0 and 1 forty times) is at home with 5 and 3, but closest to 0 1 2.
 */
Test(affinity, gives_spare_slots_to_what_is_close)
{
    static struct ties ties = {.num_layers = 1, .num_experts = 6};
    static const int32_t pairs[][3] = {{0, 1, 90}, {0, 2, 90}, {1, 2, 90}, {3, 4, 90}, {3, 5, 90},
                                       {4, 5, 90}, {0, 4, 20}, {1, 4, 20}, {0, 3, 9},  {5, 2, 8}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        ties.pair[0][pairs[i][0] * 6 + pairs[i][1]] = pairs[i][2];
        ties.pair[0][pairs[i][1] * 6 + pairs[i][0]] = pairs[i][2];
    }
    struct balance_input input = ties_input(&ties, 8, 2, 1);
    put_in_force(&input);

    plan(input);

    int32_t first = map[0] == 0 ? 0 : 4; /* either half is as good for either rank */
    expect_map(
        first == 0 ? (int32_t[]){0, 1, 2, 4, 3, 4, 5, 0} : (int32_t[]){3, 4, 5, 0, 0, 1, 2, 4}, 8);
}

static void draw_ties(gsl_rng *rng, struct ties *ties)
{
    int32_t experts = ties->num_experts;
    for (int32_t layer = 0; layer < ties->num_layers; layer++) {
        for (int32_t a = 0; a < experts; a++) {
            for (int32_t b = 0; b < experts; b++) {
                int32_t drawn = (int32_t)gsl_rng_uniform_int(rng, 100);
                ties->next[layer][a * experts + b] = drawn * drawn / 100;
                if (a < b) {
                    drawn = (int32_t)gsl_rng_uniform_int(rng, 100);
                    ties->pair[layer][a * experts + b] = drawn * drawn / 100;
                    ties->pair[layer][b * experts + a] = drawn * drawn / 100;
                }
            }
        }
    }
}

/* The 6 ways to part four experts of each of three layers on two ranks. */
static int64_t least_cost(const struct ties *ties)
{
    static const int32_t parts[6][4] = {{0, 0, 1, 1}, {0, 1, 0, 1}, {0, 1, 1, 0},
                                        {1, 1, 0, 0}, {1, 0, 1, 0}, {1, 0, 0, 1}};
    int64_t least = INT64_MAX;
    for (int32_t choice = 0; choice < 216; choice++) {
        int32_t rank_of[12];
        memcpy(rank_of, parts[choice % 6], sizeof parts[0]);
        memcpy(rank_of + 4, parts[choice / 6 % 6], sizeof parts[0]);
        memcpy(rank_of + 8, parts[choice / 36], sizeof parts[0]);
        int64_t cost = cost_of(ties, rank_of, 2);
        least = cost < least ? cost : least;
    }
    return least;
}

Test(affinity, comes_near_the_least_cost_of_random_ties)
{
    gsl_rng *rng = rng_stream(1, "test.affinity", 0);
    int64_t found_sum = 0;
    int64_t least_sum = 0;
    int64_t linear_sum = 0;
    for (int32_t round = 0; round < 200; round++) {
        static struct ties ties = {.num_layers = 3, .num_experts = 4};
        static const int32_t linear[12] = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};
        int32_t rank_of[12];
        draw_ties(rng, &ties);
        struct balance_input input = ties_input(&ties, 4, 2, 1);
        put_in_force(&input);
        plan(input);
        ranks_of(rank_of, &input);
        int64_t least = least_cost(&ties);
        int64_t found = cost_of(&ties, rank_of, 2);
        cr_assert_geq(found, least, "round %d", round);
        found_sum += found;
        least_sum += least;
        linear_sum += cost_of(&ties, linear, 2);
    }
    cr_log_info("least %lld, found %lld, linear %lld", (long long)least_sum, (long long)found_sum,
                (long long)linear_sum);
    cr_expect_lt((double)(found_sum - least_sum), 0.1 * (double)(linear_sum - least_sum));
    gsl_rng_free(rng);
}
