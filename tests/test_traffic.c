/* test_traffic.c -- counts of traffic against a token by token twin. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "rng.h"
#include "traffic.h"

#define RANKS_MAX 12

/* What a source rank sends to a rank and to a node, counted one token after the other. */
struct twin {
    int32_t copies[RANKS_MAX];
    int32_t tokens[RANKS_MAX];
    int32_t node_tokens[RANKS_MAX];
};

static void count_token(struct twin *twin, const struct placement *placement,
                        const struct cluster *cluster, const int32_t *slot, int32_t top_k)
{
    bool is_at_rank[RANKS_MAX] = {false};
    bool is_at_node[RANKS_MAX] = {false};
    for (int32_t k = 0; k < top_k; k++) {
        if (slot[k] == SLOT_DROPPED) {
            continue;
        }
        int32_t rank = placement->rank_of_slot[slot[k]];
        int32_t node = cluster_node(cluster, rank);
        twin->copies[rank]++;
        twin->tokens[rank] += !is_at_rank[rank];
        twin->node_tokens[node] += !is_at_node[node];
        is_at_rank[rank] = true;
        is_at_node[node] = true;
    }
}

static void expect_flows(const struct traffic *traffic, const struct twin *twin, int32_t source)
{
    int32_t flow = traffic->rank_begin[source];
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        if (twin->copies[rank] > 0) {
            cr_assert_lt(flow, traffic->rank_begin[source + 1]);
            cr_expect_eq(traffic->rank_flow[flow].rank, rank);
            cr_expect_eq(traffic->rank_flow[flow].copies, twin->copies[rank]);
            cr_expect_eq(traffic->rank_flow[flow].tokens, twin->tokens[rank]);
            flow++;
        }
    }
    cr_expect_eq(flow, traffic->rank_begin[source + 1]);
    flow = traffic->node_begin[source];
    for (int32_t node = 0; node < traffic->num_nodes; node++) {
        if (twin->node_tokens[node] > 0) {
            cr_assert_lt(flow, traffic->node_begin[source + 1]);
            cr_expect_eq(traffic->node_flow[flow].dst_node, node);
            cr_expect_eq(traffic->node_flow[flow].tokens, twin->node_tokens[node]);
            flow++;
        }
    }
    cr_expect_eq(flow, traffic->node_begin[source + 1]);
}

static int32_t below(gsl_rng *rng, int32_t end)
{
    return (int32_t)gsl_rng_uniform_int(rng, (unsigned long)end);
}

/* Slots are drawn one by one, so tokens repeat some, drop some and fill more than a block. */
static void expect_twin(uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "test traffic", 0);
    struct arena arena = {0};
    struct error error = {0};
    int32_t num_ranks = 1 + below(rng, RANKS_MAX);
    int32_t num_slots = num_ranks * (1 + below(rng, 4));
    int32_t tokens = below(rng, 300); /* of a rank */
    struct cluster cluster = {.gpus_per_node = 1 + below(rng, 5)};
    struct placement placement;
    cr_assert_eq(placement_init(&placement, &arena, num_slots, num_slots, num_ranks, &error),
                 STATUS_OK, "%s", error.text);
    struct route route = {.num_tokens = num_ranks * tokens, .top_k = 1 + below(rng, 9)};
    route.assignments = (int64_t)route.num_tokens * route.top_k;
    route.slot = arena_alloc(&arena, (size_t)route.assignments, sizeof *route.slot);
    struct trace_batch batch = {.num_tokens = route.num_tokens};
    batch.rank_begin = arena_alloc(&arena, (size_t)num_ranks + 1, sizeof *batch.rank_begin);
    for (int64_t i = 0; i < route.assignments; i++) {
        route.slot[i] = below(rng, 10) == 0 ? SLOT_DROPPED : below(rng, num_slots);
        route.dropped_assignments += route.slot[i] == SLOT_DROPPED;
    }
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        batch.rank_begin[rank] = rank * tokens;
    }
    struct traffic traffic;

    cr_assert_eq(traffic_count(&traffic, &route, &placement, &batch, &cluster, &arena), STATUS_OK);

    int32_t *slot_tokens = arena_alloc(&arena, (size_t)num_slots, sizeof *slot_tokens);
    for (int64_t i = 0; i < route.assignments; i++) {
        slot_tokens[route.slot[i] == SLOT_DROPPED ? 0 : route.slot[i]] +=
            route.slot[i] != SLOT_DROPPED;
    }
    cr_expect_arr_eq(traffic.slot_tokens, slot_tokens, (size_t)num_slots * sizeof *slot_tokens);
    int32_t received_tokens[RANKS_MAX] = {0};
    int64_t copies = 0;
    int64_t received = 0;
    for (int32_t source = 0; source < num_ranks; source++) {
        struct twin twin = {{0}, {0}, {0}};
        for (int32_t token = source * tokens; token < (source + 1) * tokens; token++) {
            count_token(&twin, &placement, &cluster, &route.slot[(int64_t)token * route.top_k],
                        route.top_k);
        }
        expect_flows(&traffic, &twin, source);
        for (int32_t rank = 0; rank < num_ranks; rank++) {
            received_tokens[rank] += twin.tokens[rank];
            received += twin.tokens[rank];
            copies += twin.copies[rank];
        }
    }
    cr_expect_arr_eq(traffic.received_tokens, received_tokens,
                     (size_t)num_ranks * sizeof *received_tokens);
    cr_expect_eq(traffic.tokens, received);
    cr_expect_eq(traffic.copies, copies);
    arena_free(&arena);
    gsl_rng_free(rng);
}

Test(traffic, is_what_counting_token_by_token_gives)
{
    for (uint64_t round = 0; round < 100; round++) {
        expect_twin(round);
    }
}
