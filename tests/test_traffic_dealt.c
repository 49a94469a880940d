/* test_traffic_dealt.c -- traffic dealt set by set against slots that were assigned wish by wish.
 */
#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>

#include "flow_counter.h"
#include "rng.h"
#include "traffic_dealt.h"

#define EXPERTS_MAX 24
#define SLOTS_MAX   48

struct world {
    struct arena arena;
    struct cluster cluster;
    struct placement placement;
    struct trace_batch batch;
    struct route route;
    struct dispatch_loans loans;
    struct dispatch_input input;
};

static int32_t below(gsl_rng *rng, int32_t end)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)end);
}

/* Every expert has a slot; the others are drawn, so some experts have several, also on one rank. */
static void place(struct world *world, gsl_rng *rng)
{
    int32_t num_ranks = 1 + below(rng, 12);
    int32_t num_slots = num_ranks * (1 + below(rng, SLOTS_MAX / num_ranks));
    int32_t num_experts = 1 + below(rng, num_slots < EXPERTS_MAX ? num_slots : EXPERTS_MAX);
    int32_t expert_of_slot[SLOTS_MAX];
    for (int32_t slot = 0; slot < num_slots; slot++) {
        expert_of_slot[slot] = slot < num_experts ? slot : below(rng, num_experts);
    }
    gsl_ran_shuffle(rng, expert_of_slot, (size_t)num_slots, sizeof *expert_of_slot);
    world->cluster.gpus_per_node = 1 + below(rng, 5);
    cr_assert_eq(
        placement_init(&world->placement, &world->arena, num_experts, num_slots, num_ranks, NULL),
        STATUS_OK);
    cr_assert_eq(placement_set(&world->placement, expert_of_slot, NULL), STATUS_OK);
}

/* Each token wishes different experts; some of its wishes were not routed. Ranks have no token, or
 * fewer than a word, or more than a block. */
static void wish(struct world *world, gsl_rng *rng)
{
    struct route *route = &world->route;
    int32_t num_ranks = world->placement.num_ranks;
    int32_t *rank_begin = arena_alloc(&world->arena, (size_t)num_ranks + 1, sizeof *rank_begin);
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        rank_begin[rank + 1] = rank_begin[rank] + (below(rng, 4) == 0 ? 0 : below(rng, 300));
    }
    route->num_tokens = rank_begin[num_ranks];
    route->num_experts = world->placement.num_experts;
    route->top_k = 1 + below(rng, route->num_experts < 9 ? route->num_experts : 9);
    size_t wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    route->expert = arena_alloc(&world->arena, wishes, sizeof *route->expert);
    route->dropped = arena_alloc(&world->arena, wishes, sizeof *route->dropped);
    route->slot = arena_alloc(&world->arena, wishes, sizeof *route->slot);
    int32_t order[EXPERTS_MAX];
    for (int32_t expert = 0; expert < route->num_experts; expert++) {
        order[expert] = expert;
    }
    for (int32_t token = 0; token < route->num_tokens; token++) {
        gsl_ran_shuffle(rng, order, (size_t)route->num_experts, sizeof *order);
        for (int32_t k = 0; k < route->top_k; k++) {
            bool is_routed = below(rng, 20) > 0;
            route->expert[(int64_t)token * route->top_k + k] =
                is_routed ? order[k] : EXPERT_NOT_ROUTED;
            route->assignments += is_routed;
        }
    }
    world->batch = (struct trace_batch){.num_tokens = route->num_tokens, .rank_begin = rank_begin};
}

static void build(struct world *world, uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "test traffic dealt", 0);
    *world = (struct world){0};
    place(world, rng);
    wish(world, rng);
    world->input = (struct dispatch_input){.placement = &world->placement,
                                           .batch = &world->batch,
                                           .cluster = &world->cluster,
                                           .scratch = &world->arena,
                                           .loans = &world->loans};
    gsl_rng_free(rng);
}

static bool is_dealt(struct world *world, const char *dispatch, struct traffic *traffic,
                     int32_t **wish_tokens)
{
    bool dealt = false;
    cr_assert_eq(traffic_count_dealt(traffic, wish_tokens, &world->route, dispatch_find(dispatch),
                                     &world->input, &world->arena, &dealt),
                 STATUS_OK);
    return dealt;
}

static void expect_same(const struct traffic *dealt, const struct traffic *twin, int32_t num_slots)
{
    size_t ranks = (size_t)twin->num_ranks;
    cr_assert_eq(dealt->num_ranks, twin->num_ranks);
    cr_assert_eq(dealt->num_nodes, twin->num_nodes);
    cr_assert_arr_eq(dealt->rank_begin, twin->rank_begin, (ranks + 1) * sizeof(int32_t));
    cr_assert_arr_eq(dealt->node_begin, twin->node_begin, (ranks + 1) * sizeof(int32_t));
    cr_assert_arr_eq(dealt->back_begin, twin->back_begin, (ranks + 1) * sizeof(int32_t));
    size_t flows = (size_t)twin->rank_begin[ranks];
    size_t node_flows = (size_t)twin->node_begin[ranks];
    cr_expect_arr_eq(dealt->rank_flow, twin->rank_flow, flows * sizeof *twin->rank_flow);
    cr_expect_arr_eq(dealt->back_flow, twin->back_flow, flows * sizeof *twin->back_flow);
    cr_expect_arr_eq(dealt->node_flow, twin->node_flow, node_flows * sizeof *twin->node_flow);
    cr_expect_arr_eq(dealt->slot_tokens, twin->slot_tokens, (size_t)num_slots * sizeof(int32_t));
    cr_expect_arr_eq(dealt->received_tokens, twin->received_tokens, ranks * sizeof(int32_t));
    cr_expect_eq(dealt->copies, twin->copies);
    cr_expect_eq(dealt->tokens, twin->tokens);
}

static void expect_wishes(const struct world *world, const int32_t *wish_tokens)
{
    const struct route *route = &world->route;
    for (int32_t rank = 0; rank < world->placement.num_ranks; rank++) {
        int32_t tokens[EXPERTS_MAX] = {0};
        int64_t end = (int64_t)world->batch.rank_begin[rank + 1] * route->top_k;
        for (int64_t i = (int64_t)world->batch.rank_begin[rank] * route->top_k; i < end; i++) {
            tokens[route->expert[i] >= 0 ? route->expert[i] : 0] += route->expert[i] >= 0;
        }
        cr_expect_arr_eq(&wish_tokens[rank * route->num_experts], tokens,
                         (size_t)route->num_experts * sizeof *tokens);
    }
}

Test(traffic_dealt, is_that_of_slots_assigned_one_by_one)
{
    for (uint64_t round = 0; round < 200; round++) {
        struct world world;
        build(&world, round);
        struct traffic dealt;
        struct traffic twin;
        int32_t *wish_tokens = NULL;

        cr_assert(is_dealt(&world, "locality", &dealt, &wish_tokens));

        cr_assert_eq(dispatch_find("locality")->assign(NULL, &world.input, &world.route),
                     STATUS_OK);
        cr_assert_eq(traffic_count(&twin, &world.route, &world.placement, &world.batch,
                                   &world.cluster, &world.arena),
                     STATUS_OK);
        expect_same(&dealt, &twin, world.placement.num_slots);
        expect_wishes(&world, wish_tokens);
        arena_free(&world.arena);
    }
}

/* Sets of 0 to 128 tokens each, as many as fit and do not fit vectors. */
Test(traffic_dealt, wishes_are_added_alike_by_every_path)
{
    enum { NUM_SETS = 37 };
    uint64_t word[SET_WORDS * NUM_SETS];
    struct token_sets sets = {NUM_SETS, word};
    gsl_rng *rng = rng_stream(1, "test traffic dealt paths", 0);
    wish_adder *adder[WISH_ADDERS_MAX];
    int32_t num_adders = traffic_wish_adders(adder);
    for (int32_t i = 0; i < SET_WORDS * NUM_SETS; i++) {
        word[i] = ((uint64_t)gsl_rng_get(rng) << 32 | gsl_rng_get(rng)) & -(uint64_t)below(rng, 3);
    }
    gsl_rng_free(rng);
    for (int32_t num_experts = 0; num_experts <= NUM_SETS; num_experts++) {
        int32_t wanted[NUM_SETS + 1] = {0}; /* one more, that nobody may touch */
        int32_t sum = 0;
        for (int32_t bit = 0; bit < 64 * SET_WORDS; bit++) {
            for (int32_t expert = 0; expert < num_experts; expert++) {
                int32_t is_in = word[bit / 64 * NUM_SETS + expert] >> bit % 64 & 1;
                wanted[expert] += is_in;
                sum += is_in;
            }
        }
        for (int32_t i = 0; i < num_adders; i++) {
            int32_t tokens[NUM_SETS + 1] = {0};
            cr_expect_eq(adder[i](tokens, &sets, num_experts), sum, "path %d", i);
            cr_expect_arr_eq(tokens, wanted, sizeof tokens, "path %d", i);
        }
    }
}

/* The traffic of one block, by each path. */
Test(traffic_dealt, bits_are_folded_alike_by_every_path)
{
    flow_fold *fold[FLOW_FOLDS_MAX];
    int32_t num_folds = flow_counter_folds(fold);
    for (uint64_t round = 0; round < 50; round++) {
        struct world world;
        struct traffic traffic[FLOW_FOLDS_MAX];
        build(&world, round);
        int32_t num_slots = world.placement.num_slots;
        for (int32_t i = 0; i < num_folds; i++) {
            struct flow_counter counter;
            gsl_rng *rng = rng_stream(round, "test flow folds", 0);
            int64_t kept = (int64_t)num_slots * SET_TOKENS;
            cr_assert_eq(flow_counter_open(&counter, &traffic[i], &world.placement, &world.cluster,
                                           kept, num_slots, &world.arena),
                         STATUS_OK);
            cr_assert_eq(counter.fold, fold[num_folds - 1], "the fastest");
            counter.fold = fold[i];
            int32_t bits = 0;
            for (int32_t set = 0; set < SET_WORDS * num_slots; set++) {
                int32_t tokens = below(rng, 65); /* the lowest bits, as many */
                counter.sets.word[set] = tokens < 64 ? (UINT64_C(1) << tokens) - 1 : UINT64_MAX;
                bits += tokens;
            }
            cr_expect_eq(flow_counter_fold(&counter), bits, "path %d", i);
            cr_expect_eq(flow_counter_fold(&counter), 0, "path %d: sets are empty", i);
            flow_counter_end_source(&counter, 0);
            for (int32_t source = 1; source < world.placement.num_ranks; source++) {
                flow_counter_end_source(&counter, source);
            }
            flow_counter_close(&counter);
            cr_expect_eq(traffic[i].copies, bits);
            gsl_rng_free(rng);
        }
        for (int32_t i = 1; i < num_folds; i++) {
            expect_same(&traffic[i], &traffic[0], num_slots);
        }
        arena_free(&world.arena);
    }
}

Test(traffic_dealt, leaves_to_others_what_is_not_sets)
{
    struct world world;
    struct traffic traffic;
    int32_t *wish_tokens = NULL;
    for (uint64_t round = 0; round == 0 || world.route.top_k < 2 || world.route.num_tokens == 0;
         round++) {
        build(&world, round);
    }
    cr_expect(is_dealt(&world, "locality", &traffic, &wish_tokens));
    cr_expect_not(is_dealt(&world, "round_robin", &traffic, &wish_tokens), "it goes by wishes");

    world.route.dropped_assignments = 1;
    cr_expect_not(is_dealt(&world, "locality", &traffic, &wish_tokens), "a wish is dropped");

    world.route.dropped_assignments = 0;
    world.route.assignments += (world.route.expert[0] < 0) + (world.route.expert[1] < 0);
    world.route.expert[0] = 0;
    world.route.expert[1] = 0;
    cr_expect_not(is_dealt(&world, "locality", &traffic, &wish_tokens), "an expert named twice");
    arena_free(&world.arena);
}
