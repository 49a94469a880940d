/* test_collective.c -- known plans by hand, and laws every collective keeps. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "collective/collective.h"
#include "rng.h"

#define RANKS_MAX 16

/* A route over placement: slot s is expert s, one slot an expert. */
struct world {
    struct arena arena;
    struct cluster cluster;
    struct placement placement;
    struct trace_batch batch;
    struct route route;
    struct traffic traffic;
};

static void make_world(struct world *world, int32_t num_ranks, int32_t gpus_per_node,
                       int32_t slots_per_rank, int32_t tokens_per_rank, int32_t top_k)
{
    *world = (struct world){0};
    int32_t num_slots = num_ranks * slots_per_rank;
    int32_t num_tokens = num_ranks * tokens_per_rank;
    world->cluster = (struct cluster){.num_nodes = (num_ranks + gpus_per_node - 1) / gpus_per_node,
                                      .gpus_per_node = gpus_per_node};
    struct error error = {0};
    cr_assert_eq(
        placement_init(&world->placement, &world->arena, num_slots, num_slots, num_ranks, &error),
        STATUS_OK);
    world->batch.num_tokens = num_tokens;
    world->batch.rank_begin = arena_alloc(&world->arena, (size_t)num_ranks + 1, sizeof(int32_t));
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        world->batch.rank_begin[rank] = rank * tokens_per_rank;
    }
    world->route = (struct route){.num_tokens = num_tokens, .top_k = top_k};
    world->route.slot =
        arena_alloc(&world->arena, (size_t)num_tokens * (size_t)top_k, sizeof(int32_t));
}

static void count(struct world *world)
{
    int64_t wishes = (int64_t)world->route.num_tokens * world->route.top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        world->route.assignments++;
        world->route.dropped_assignments += world->route.slot[wish] == SLOT_DROPPED;
    }
    cr_assert_eq(traffic_count(&world->traffic, &world->route, &world->placement, &world->batch,
                               &world->cluster, &world->arena),
                 STATUS_OK);
}

static struct transfer_plan plan(struct world *world, const struct collective *collective,
                                 bool dispatch, double bytes_per_token)
{
    struct collective_input input = {&world->cluster, &world->traffic, bytes_per_token,
                                     bytes_per_token, &world->arena,   world->batch.rank_begin};
    struct transfer_plan plan;
    plan_init(&plan, &world->cluster, world->placement.num_ranks, collective->by_nic,
              &world->arena);
    cr_assert_eq(dispatch ? collective->plan_dispatch(&input, &plan)
                          : collective->plan_combine(&input, &plan),
                 STATUS_OK);
    return plan;
}

static int32_t sender(const struct transfer_plan *plan, int32_t message)
{
    int32_t group = 0;
    while (message - plan->group[group].first >= plan->group[group].count) {
        group++;
    }
    return plan->group[group].owner_rank;
}

static int64_t pair_bytes(const struct transfer_plan *plan, int32_t src, int32_t dst)
{
    int64_t bytes = 0;
    for (int32_t index = 0; index < plan->num_messages; index++) {
        const struct message *message = &plan->message[index];
        bytes += sender(plan, index) == src && message->dst_rank == dst ? message->bytes : 0;
    }
    return bytes;
}

/* Four ranks on two nodes, one slot each, one token on rank 0 that wants slots 0, 2 and 3. */
static void one_token(struct world *world)
{
    make_world(world, 4, 2, 1, 1, 3);
    int32_t wanted[4][3] = {{0, 2, 3}, {-1, -1, -1}, {-1, -1, -1}, {-1, -1, -1}};
    memcpy(world->route.slot, wanted, sizeof wanted);
    count(world);
}

Test(collective, may_have_nothing_to_send)
{
    struct arena arena = {0};
    struct transfer_plan plan;
    const struct cluster cluster = {.num_nodes = 1, .gpus_per_node = 2};
    plan_init(&plan, &cluster, 2, false, &arena);
    plan_add_group(&plan, 1);
    cr_assert_eq(plan_finish(&plan), STATUS_OK);
    cr_expect_eq(plan.num_messages, 0);
    cr_expect_eq(plan.group[0].count, 0);
    cr_expect_eq(plan.owned_begin[2] - plan.owned_begin[1], 1);
    arena_free(&arena);
}

Test(flat, sends_one_copy_to_each_rank)
{
    struct world world;
    one_token(&world);

    struct transfer_plan sent = plan(&world, collective_find("flat"), true, 10.0);

    cr_expect_eq(sent.num_messages, 2); /* the copy for slot 0 stays at home */
    cr_expect_eq(pair_bytes(&sent, 0, 2), 10);
    cr_expect_eq(pair_bytes(&sent, 0, 3), 10);
    arena_free(&world.arena);
}

Test(deepep_normal, crosses_nodes_once_and_forwards)
{
    struct world world;
    one_token(&world);

    struct transfer_plan sent = plan(&world, collective_find("deepep_normal"), true, 10.0);

    /* Rank 0's partner on node 1 is rank 2: it keeps its copy and forwards one to rank 3. */
    cr_expect_eq(sent.num_messages, 2);
    cr_expect_eq(pair_bytes(&sent, 0, 2), 10);
    cr_expect_eq(pair_bytes(&sent, 2, 3), 10);
    cr_expect_eq(sent.arrivals[2], 1);
    cr_expect_eq(sent.arrivals[3], 1);
    arena_free(&world.arena);
}

Test(deepep_normal, adds_up_at_the_relay_on_the_way_back)
{
    struct world world;
    one_token(&world);

    struct transfer_plan back = plan(&world, collective_find("deepep_normal"), false, 10.0);

    cr_expect_eq(back.num_messages, 2);
    cr_expect_eq(pair_bytes(&back, 3, 2), 10);
    cr_expect_eq(pair_bytes(&back, 2, 0), 10);
    cr_expect_eq(back.arrivals[0], 1);
    cr_expect_eq(back.arrivals[2], 0); /* partial sums pass through: the relay waits for none */
    arena_free(&world.arena);
}

/* Four ranks on two nodes, two slots each; rank 0's token wants both slots of rank 2 and one of
 * rank 3. */
static void one_token_twice_to_a_rank(struct world *world)
{
    make_world(world, 4, 2, 2, 1, 3);
    int32_t wanted[4][3] = {{4, 5, 6}, {-1, -1, -1}, {-1, -1, -1}, {-1, -1, -1}};
    memcpy(world->route.slot, wanted, sizeof wanted);
    count(world);
}

Test(one_sided, sends_one_copy_to_a_rank_where_flat_sends_one_an_expert)
{
    const char *const names[] = {"one_sided", "two_sided", "flat"};
    const int64_t bytes[] = {10, 10, 20};
    struct world world;
    one_token_twice_to_a_rank(&world);

    for (int index = 0; index < 3; index++) {
        struct transfer_plan sent = plan(&world, collective_find(names[index]), true, 10.0);

        cr_expect_eq(sent.num_messages, 2);
        cr_expect_eq(pair_bytes(&sent, 0, 2), bytes[index], "%s", names[index]);
        cr_expect_eq(pair_bytes(&sent, 0, 3), 10);
    }
    arena_free(&world.arena);
}

Test(hierarchical_2d, goes_to_the_rail_inside_the_node_first)
{
    struct world world;
    one_token_twice_to_a_rank(&world);

    struct transfer_plan sent = plan(&world, collective_find("hierarchical_2d"), true, 10.0);

    /* Rank 0 is on rank 2's rail itself; the copy for rank 3 goes by rank 1, which wants none. */
    cr_expect_eq(sent.num_messages, 3);
    cr_expect_eq(pair_bytes(&sent, 0, 2), 20);
    cr_expect_eq(pair_bytes(&sent, 0, 1), 10);
    cr_expect_eq(pair_bytes(&sent, 1, 3), 10);
    cr_expect_eq(sent.arrivals[1], 0);
    cr_expect_eq(sent.arrivals[2], 1);
    cr_expect_eq(sent.arrivals[3], 1);
    arena_free(&world.arena);
}

Test(allgather_reducescatter, brings_every_token_to_every_rank)
{
    struct world world;
    one_token(&world);

    struct transfer_plan sent =
        plan(&world, collective_find("allgather_reducescatter"), true, 10.0);

    /* Each of four tokens crosses to its partner once, and is told on once in either node. */
    cr_expect_eq(sent.num_messages, 4 * 3);
    cr_expect_eq(pair_bytes(&sent, 0, 2), 10);
    cr_expect_eq(pair_bytes(&sent, 0, 3), 0);
    cr_expect_eq(pair_bytes(&sent, 2, 3), 20); /* its own and rank 0's */
    for (int32_t rank = 0; rank < 4; rank++) {
        cr_expect_eq(sent.arrivals[rank], 3);
    }
    arena_free(&world.arena);
}

static void random_world(struct world *world, uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "test collective", 0);
    int32_t ranks = 1 + (int32_t)gsl_rng_uniform_int(rng, RANKS_MAX);
    int32_t per_node = 1 + (int32_t)gsl_rng_uniform_int(rng, 8);
    int32_t slots = 1 + (int32_t)gsl_rng_uniform_int(rng, 4);
    int32_t tokens = (int32_t)gsl_rng_uniform_int(rng, 300);
    int32_t top_k = 1 + (int32_t)gsl_rng_uniform_int(rng, 4);
    make_world(world, ranks, per_node, slots, tokens, top_k);
    int64_t wishes = (int64_t)world->route.num_tokens * top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        world->route.slot[wish] =
            (int32_t)gsl_rng_uniform_int(rng, (unsigned long)(ranks * slots) + 1) - 1;
    }
    count(world);
    gsl_rng_free(rng);
}

/* Law: what goes from a to b in dispatch comes from b to a in combine, byte for byte. */
static void check_transpose(struct world *world, const struct collective *collective)
{
    struct transfer_plan sent = plan(world, collective, true, 7.0);
    struct transfer_plan back = plan(world, collective, false, 7.0);
    int64_t matrix[RANKS_MAX][RANKS_MAX] = {{0}};
    for (int32_t index = 0; index < sent.num_messages; index++) {
        matrix[sender(&sent, index)][sent.message[index].dst_rank] += sent.message[index].bytes;
    }
    for (int32_t index = 0; index < back.num_messages; index++) {
        matrix[back.message[index].dst_rank][sender(&back, index)] -= back.message[index].bytes;
    }
    for (int32_t src = 0; src < RANKS_MAX; src++) {
        for (int32_t dst = 0; dst < RANKS_MAX; dst++) {
            cr_assert_eq(matrix[src][dst], 0, "%s: combine is not the transpose of dispatch",
                         collective->name);
        }
    }
}

/* Law: every group is released in the end, and every rank gets what it waits for. */
static void check_completes(struct world *world, const struct collective *collective, bool dispatch)
{
    struct transfer_plan sent = plan(world, collective, dispatch, 7.0);
    int32_t *waits = arena_alloc(&world->arena, (size_t)sent.num_groups, sizeof *waits);
    int32_t *queue = arena_alloc(&world->arena, (size_t)sent.num_groups, sizeof *queue);
    int32_t arrivals[RANKS_MAX] = {0};
    int32_t queued = 0;
    for (int32_t group = 0; group < sent.num_groups; group++) {
        waits[group] = sent.group[group].waits - 1; /* the owner is ready */
        if (waits[group] == 0) {
            queue[queued++] = group;
        }
    }
    for (int32_t next = 0; next < queued; next++) {
        const struct message_group *group = &sent.group[queue[next]];
        for (int32_t index = group->first; index < group->first + group->count; index++) {
            const struct message *message = &sent.message[index];
            const int32_t feeds = message_feeds(message);
            arrivals[message->dst_rank] += message_is_payload(message);
            if (feeds != NO_GROUP && --waits[feeds] == 0) {
                queue[queued++] = feeds;
            }
        }
    }
    cr_assert_eq(queued, sent.num_groups, "%s: a group is never sent", collective->name);
    for (int32_t rank = 0; rank < sent.num_ranks; rank++) {
        cr_assert_eq(arrivals[rank], sent.arrivals[rank]);
    }
}

/* Law: a rank that holds a slot some other rank's token wants is brought something, and so is the
 * token's rank on the way back. */
static void check_arrivals(struct world *world, const struct collective *collective)
{
    struct transfer_plan sent = plan(world, collective, true, 7.0);
    struct transfer_plan back = plan(world, collective, false, 7.0);
    const struct traffic *traffic = &world->traffic;
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        for (int32_t flow = traffic->rank_begin[source]; flow < traffic->rank_begin[source + 1];
             flow++) {
            int32_t rank = traffic->rank_flow[flow].rank;
            cr_assert(rank == source || sent.arrivals[rank] > 0, "%s", collective->name);
            cr_assert(rank == source || back.arrivals[source] > 0, "%s", collective->name);
        }
    }
}

/* Law: a plan is the same whether or not bytes had to be rounded and empty flows left out. */
static void check_rounding(struct world *world, const struct collective *collective, bool dispatch)
{
    struct transfer_plan whole = plan(world, collective, dispatch, 7.0);
    world->traffic.has_empty_flows = true;
    struct transfer_plan rounded = plan(world, collective, dispatch, 7.0);
    world->traffic.has_empty_flows = false;
    cr_assert_eq(whole.num_messages, rounded.num_messages);
    for (int32_t i = 0; i < whole.num_messages; i++) {
        cr_assert_eq(whole.message[i].dst_rank, rounded.message[i].dst_rank);
        cr_assert_eq(whole.message[i].awaited, rounded.message[i].awaited);
        cr_assert_eq(whole.message[i].bytes, rounded.message[i].bytes);
    }
    for (int32_t rank = 0; rank < whole.num_ranks; rank++) {
        cr_assert_eq(whole.arrivals[rank], rounded.arrivals[rank]);
        cr_assert_arr_eq(&whole.port_bytes[rank], &rounded.port_bytes[rank],
                         sizeof *whole.port_bytes);
    }
}

Test(collective, all_keep_the_laws_on_random_traffic)
{
    int32_t num = 0;
    const struct collective *const *all = collective_all(&num);
    for (uint64_t round = 0; round < 2000; round++) {
        struct world world;
        random_world(&world, round);
        for (int32_t index = 0; index < num; index++) {
            check_transpose(&world, all[index]);
            check_completes(&world, all[index], true);
            check_completes(&world, all[index], false);
            check_arrivals(&world, all[index]);
            check_rounding(&world, all[index], true);
            check_rounding(&world, all[index], false);
        }
        arena_free(&world.arena);
    }
}

Test(traffic, counts_copies_tokens_and_nodes)
{
    struct world world;
    make_world(&world, 4, 2, 2, 1, 3); /* slots 0-1 on rank 0, ..., 6-7 on rank 3 */
    int32_t wanted[4][3] = {{4, 5, 6}, {0, 1, 4}, {-1, 4, -1}, {-1, -1, -1}};
    memcpy(world.route.slot, wanted, sizeof wanted);

    count(&world);

    const struct traffic *traffic = &world.traffic;
    cr_expect_eq(traffic->rank_begin[1], 2); /* rank 0 reaches ranks 2 (two copies) and 3 */
    cr_expect_eq(traffic->rank_flow[0].rank, 2);
    cr_expect_eq(traffic->rank_flow[0].copies, 2);
    cr_expect_eq(traffic->rank_flow[0].tokens, 1);
    cr_expect_eq(traffic->node_begin[1], 1);
    cr_expect_eq(traffic->node_flow[0].dst_node, 1);
    cr_expect_eq(traffic->node_flow[0].tokens, 1);
    cr_expect_eq(traffic->back_begin[3] - traffic->back_begin[2], 3); /* ranks 0, 1, 2 reach 2 */
    arena_free(&world.arena);
}
