/* test_route.c -- routers replay what they were given; drop policies keep to the capacity. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "route/route.h"
#include "trace_writer.h"

#define NOT_ROUTED EXPERT_NOT_ROUTED

static struct arena arena;

static void stop(void)
{
    arena_free(&arena);
}

TestSuite(capacity, .fini = stop);
TestSuite(drop, .fini = stop);

Test(capacity, is_tokens_times_top_k_times_factor_over_experts_rounded_up)
{
    cr_expect_eq(capacity_assignments(1024, 4, 32, 1.0), 128);
    cr_expect_eq(capacity_assignments(1024, 4, 32, 1.1), 141); /* 140.8 */
    cr_expect_eq(capacity_assignments(1024, 4, 32, 1.25), 160);
    cr_expect_eq(capacity_assignments(3, 1, 2, 1.0), 2); /* 1.5 */
}

Test(capacity, rounds_away_what_binary_fractions_add)
{
    cr_expect_eq(capacity_assignments(10, 4, 16, 1.2), 3);
    cr_expect_eq(capacity_assignments(50, 8, 8, 1.1), 55);   /* in double 55.00000000000001 */
    cr_expect_eq(capacity_assignments(100, 8, 16, 1.1), 55); /* the same */
}

Test(capacity, is_at_least_one_where_there_are_tokens)
{
    cr_expect_eq(capacity_assignments(1, 1, 256, 1.0), 1);
    cr_expect_eq(capacity_assignments(1, 1, 256, 1e-300), 1);
    cr_expect_eq(capacity_assignments(0, 8, 256, 1.0), 0);
}

Test(capacity, holds_everything_at_a_huge_factor)
{
    cr_expect_geq(capacity_assignments(1, 1, 256, 1e300), INT64_C(1) << 40);
    cr_expect_geq(capacity_assignments(INT32_MAX, 16, 1, 1e308), INT64_C(1) << 40);
}

/* Six tokens that wish for one of two experts; with factor 1 an expert takes 3 of them. */
static int32_t six_experts[] = {0, 0, 0, 0, 1, 0};
static float six_weights[] = {0.5f, 0.9f, 0.5f, 0.7f, 0.3f, 0.5f};

static void expect_drops(const char *policy, enum capacity_scope scope, const bool *expected)
{
    bool dropped[6] = {true, true, true, true, true, true}; /* to be overwritten */
    int32_t rank_begin[] = {0, 2, 2, 6};                    /* the second rank is idle */
    struct trace_batch batch = {.num_tokens = 6, .rank_begin = rank_begin};
    struct route route = {.num_tokens = 6,
                          .top_k = 1,
                          .num_experts = 2,
                          .expert = six_experts,
                          .gate_weight = six_weights,
                          .dropped = dropped,
                          .assignments = 6};
    const struct route_settings settings = {
        .capacity_factor = 1.0, .capacity_scope = scope, .num_ranks = 3};
    const struct route_input input = {.settings = &settings, .batch = &batch, .scratch = &arena};
    cr_assert_eq(capacity_apply(&route, drop_find(policy), &input), STATUS_OK);
    for (int32_t token = 0; token < 6; token++) {
        cr_expect_eq(dropped[token], expected[token], "token %d", token);
    }
    cr_expect_eq(route.dropped_assignments, 2);
}

Test(drop, by_position_keeps_the_earliest_of_the_step)
{
    expect_drops("position", CAPACITY_GLOBAL, (bool[]){false, false, false, true, false, true});
}

/* Ranks have tokens {0, 1} and {2 .. 5}: capacities 2/2 = 1 and 4/2 = 2. */
Test(drop, by_position_keeps_the_earliest_of_each_rank)
{
    expect_drops("position", CAPACITY_RANK, (bool[]){false, true, false, false, false, true});
}

/* Expert 0 keeps .9 and .7; of the three with .5 the earliest takes the last place. */
Test(drop, by_gate_weight_keeps_the_highest_of_the_step)
{
    expect_drops("gate_weight", CAPACITY_GLOBAL, (bool[]){false, false, true, false, false, true});
}

Test(drop, by_gate_weight_keeps_the_highest_of_each_rank)
{
    expect_drops("gate_weight", CAPACITY_RANK, (bool[]){true, false, false, false, false, true});
}

Test(drop, by_gate_weight_takes_minus_zero_for_zero)
{
    int32_t expert[] = {0, 0, 0, 0};
    float gate_weight[] = {-0.0f, 0.0f, 1.0f, -1.0f};
    bool dropped[4];
    struct route route = {.num_tokens = 4,
                          .top_k = 1,
                          .num_experts = 2,
                          .expert = expert,
                          .gate_weight = gate_weight,
                          .dropped = dropped,
                          .assignments = 4};
    const struct route_settings settings = {.capacity_factor = 1.0,
                                            .capacity_scope = CAPACITY_GLOBAL};
    const struct route_input input = {.settings = &settings, .scratch = &arena};

    cr_assert_eq(capacity_apply(&route, drop_find("gate_weight"), &input), STATUS_OK);

    cr_expect(!dropped[0] && dropped[1] && !dropped[2] && dropped[3]);
}

Test(registry, finds_every_name_and_nothing_else)
{
    int32_t count;
    const struct router *const *routers = route_all(&count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(route_find(routers[i]->name), routers[i]);
    }
    const struct drop_policy *const *policies = drop_all(&count);
    for (int32_t i = 0; i < count; i++) {
        cr_expect_eq(drop_find(policies[i]->name), policies[i]);
    }
    cr_expect_null(route_find("no such"));
    cr_expect_null(drop_find("no such"));
}

/* Writes a trace of three tokens and two layers, where token 1 of layer 1 has a gap. */
static void write_trace(const char *path)
{
    static struct error error;
    const int32_t model_layer[] = {0, 1};
    const int32_t expert[] = {0, 1, 2, 3, 4, 5, /* layer 1: */ 5, 4, 3, NOT_ROUTED, 1, 0};
    const float weight[] = {.75f, .25f, .5f, .5f, 1, 0, .5f, .25f, .5f, 0, .75f, .125f};
    struct trace_description description = {.model = "tiny",
                                            .num_experts = 6,
                                            .top_k = 2,
                                            .num_layers = 2,
                                            .model_layer = model_layer,
                                            .tokens_per_shard = 3,
                                            .has_gate_weights = true,
                                            .has_gaps = true,
                                            .origin = "mock",
                                            .source = "test_route.c",
                                            .licence = "CC0"};
    struct trace_writer *writer;
    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(trace_writer_append(writer, expert, weight, 3, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(trace_writer_finish(writer, NULL, 0, &error), STATUS_OK, "%s", error.text);
}

Test(route_trace, replays_the_rows_of_the_batch)
{
    static struct error error;
    char directory[] = "/tmp/moesim-test-route-XXXXXX";
    char path[64];
    char command[128];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/trace", directory);
    write_trace(path);
    struct trace trace = {0};
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
    int64_t row[] = {2, 1};
    struct trace_batch batch = {.num_tokens = 2, .row = row};
    struct route_input input = {.trace = &trace, .batch = &batch, .trace_layer = 1};
    int32_t expert[4];
    float weight[4];
    struct route route = {
        .num_tokens = 2, .top_k = 2, .num_experts = 6, .expert = expert, .gate_weight = weight};

    cr_assert_eq(route_find("trace")->route(NULL, &input, &route, &error), STATUS_OK, "%s",
                 error.text);

    cr_expect(expert[0] == 1 && expert[1] == 0 && expert[2] == 3 && expert[3] == NOT_ROUTED);
    cr_expect_float_eq(weight[0], 0.75f, 0.0f);
    cr_expect_float_eq(weight[1], 0.125f, 0.0f);
    cr_expect_eq(route.assignments, 3);
    trace_close(&trace);
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}
