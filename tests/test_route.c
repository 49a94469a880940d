/* test_route.c -- routers replay what they were given; drop policies keep to the capacity. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
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
    struct drop_input input = {1.0, scope, &batch, 3, &arena};
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
    struct drop_input input = {1.0, CAPACITY_GLOBAL, NULL, 1, &arena};

    cr_assert_eq(capacity_apply(&route, drop_find("gate_weight"), &input), STATUS_OK);

    cr_expect(!dropped[0] && dropped[1] && !dropped[2] && dropped[3]);
}

/* Laws, over every policy. */

#define NUM_TOKENS  600
#define TOP_K       3
#define NUM_EXPERTS 20
#define NUM_RANKS   4
#define NUM_WISHES  (NUM_TOKENS * TOP_K)

static int32_t law_expert[NUM_WISHES];
static float law_weight[NUM_WISHES];
static bool law_dropped[NUM_WISHES];
static int32_t law_rank_begin[] = {0, 100, 101, 390, NUM_TOKENS};

/* Skewed: expert e is drawn about twice as often as e + 4; weights repeat; one wish in 8 is none.
 */
static struct route law_route(void)
{
    uint32_t draw = 12345;
    struct route route = {NUM_TOKENS,  TOP_K, NUM_EXPERTS, law_expert, law_weight,
                          law_dropped, NULL,  0,           0};
    for (int32_t i = 0; i < NUM_WISHES; i++) {
        draw = draw * UINT32_C(1664525) + UINT32_C(1013904223);
        uint32_t bits = draw >> 8;
        int32_t octave = bits % 2 == 0 ? 0 : bits % 4 == 1 ? 1 : 2 + (int32_t)(bits >> 2) % 3;
        law_expert[i] = (bits >> 5) % 8 == 0 ? NOT_ROUTED : octave * 4 + (int32_t)(bits >> 9) % 4;
        law_weight[i] = (float)((bits >> 12) % 64) / 64.0f;
        law_dropped[i] = true;
        route.assignments += law_expert[i] != NOT_ROUTED;
    }
    return route;
}

static void apply(struct route *route, const struct drop_policy *policy, enum capacity_scope scope,
                  double factor)
{
    struct trace_batch batch = {.num_tokens = NUM_TOKENS, .rank_begin = law_rank_begin};
    struct drop_input input = {factor, scope, &batch, NUM_RANKS, &arena};
    cr_assert_eq(capacity_apply(route, policy, &input), STATUS_OK);
}

/* Every expert of the scope keeps min(wishes, C): nobody over capacity, no place left empty. */
static int64_t expect_full_use(const struct route *route, int32_t first, int32_t end, double factor,
                               const char *name)
{
    int64_t wished[NUM_EXPERTS] = {0};
    int64_t kept[NUM_EXPERTS] = {0};
    int64_t dropped = 0;
    int64_t capacity = capacity_assignments(end - first, TOP_K, NUM_EXPERTS, factor);
    for (int32_t i = first * TOP_K; i < end * TOP_K; i++) {
        if (route->expert[i] == NOT_ROUTED) {
            cr_expect(!route->dropped[i], "%s drops what was never routed", name);
            continue;
        }
        wished[route->expert[i]]++;
        kept[route->expert[i]] += !route->dropped[i];
        dropped += route->dropped[i];
    }
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        cr_expect_eq(kept[expert], wished[expert] < capacity ? wished[expert] : capacity, "%s",
                     name);
    }
    return dropped;
}

static struct criterion_test_params policy_indices(void)
{
    static size_t cases[] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t count;
    drop_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
    return cr_make_param_array(size_t, cases, (size_t)count);
}

ParameterizedTestParameters(drop_law, fills_every_expert_to_its_capacity)
{
    return policy_indices();
}

ParameterizedTest(size_t *index, drop_law, fills_every_expert_to_its_capacity)
{
    int32_t count;
    const struct drop_policy *policy = drop_all(&count)[*index];
    const double factors[] = {0.01, 0.5, 1.0, 1.25, 3.0, 1e9};
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        struct route route = law_route();
        apply(&route, policy, CAPACITY_GLOBAL, factors[i]);
        cr_expect_eq(expect_full_use(&route, 0, NUM_TOKENS, factors[i], policy->name),
                     route.dropped_assignments);

        route = law_route();
        apply(&route, policy, CAPACITY_RANK, factors[i]);
        int64_t dropped = 0;
        for (int32_t rank = 0; rank < NUM_RANKS; rank++) {
            dropped += expect_full_use(&route, law_rank_begin[rank], law_rank_begin[rank + 1],
                                       factors[i], policy->name);
        }
        cr_expect_eq(dropped, route.dropped_assignments);
        cr_expect(factors[i] < 1e9 || dropped == 0);
    }
    arena_free(&arena);
}

ParameterizedTestParameters(drop_law, repeats_itself)
{
    return policy_indices();
}

ParameterizedTest(size_t *index, drop_law, repeats_itself)
{
    int32_t count;
    const struct drop_policy *policy = drop_all(&count)[*index];
    uint64_t digest[2] = {DIGEST_START, DIGEST_START};
    for (int32_t run = 0; run < 2; run++) {
        struct route route = law_route();
        apply(&route, policy, CAPACITY_RANK, 1.0);
        for (int32_t i = 0; i < NUM_WISHES; i++) {
            digest[run] = digest_u64(digest[run], law_dropped[i]);
        }
    }
    cr_expect_eq(digest[0], digest[1]);
    arena_free(&arena);
}

ParameterizedTestParameters(drop_law, leaves_an_empty_step_empty)
{
    return policy_indices();
}

ParameterizedTest(size_t *index, drop_law, leaves_an_empty_step_empty)
{
    int32_t count;
    const struct drop_policy *policy = drop_all(&count)[*index];
    int32_t rank_begin[] = {0, 0, 0};
    struct trace_batch batch = {.rank_begin = rank_begin};
    struct route route = {.top_k = TOP_K, .num_experts = NUM_EXPERTS, .dropped_assignments = 9};
    for (int32_t scope = CAPACITY_RANK; scope <= CAPACITY_GLOBAL; scope++) {
        struct drop_input input = {1.0, (enum capacity_scope)scope, &batch, 2, &arena};
        cr_assert_eq(capacity_apply(&route, policy, &input), STATUS_OK);
        cr_expect_eq(route.dropped_assignments, 0);
    }
    arena_free(&arena);
}

Test(drop, by_gate_weight_never_drops_a_higher_weight_than_it_keeps)
{
    struct route route = law_route();
    apply(&route, drop_find("gate_weight"), CAPACITY_GLOBAL, 0.7);

    float kept_min[NUM_EXPERTS];
    int32_t kept_last[NUM_EXPERTS]; /* the last wish kept at that weight */
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        kept_min[expert] = 2.0f;
    }
    for (int32_t i = 0; i < NUM_WISHES; i++) {
        int32_t expert = law_expert[i];
        if (expert != NOT_ROUTED && !law_dropped[i] && law_weight[i] <= kept_min[expert]) {
            kept_min[expert] = law_weight[i];
            kept_last[expert] = i;
        }
    }
    for (int32_t i = 0; i < NUM_WISHES; i++) {
        int32_t expert = law_expert[i];
        if (expert != NOT_ROUTED && law_dropped[i]) {
            cr_expect(law_weight[i] < kept_min[expert] ||
                      (law_weight[i] <= kept_min[expert] && i > kept_last[expert]));
        }
    }
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
