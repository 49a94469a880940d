/* test_route_drop_laws.c -- what every drop policy must do, over the registry. */
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

#define NUM_TOKENS  600
#define TOP_K_MAX   3
#define NUM_EXPERTS 20
#define NUM_RANKS   4
#define NUM_WISHES  (NUM_TOKENS * TOP_K_MAX)

static int32_t law_expert[NUM_WISHES];
static int32_t law_wished[NUM_WISHES]; /* before any policy */
static float law_weight[NUM_WISHES];
static bool law_dropped[NUM_WISHES];
static int64_t law_row[NUM_TOKENS];
static int32_t law_rank_begin[] = {0, 100, 101, 390, NUM_TOKENS};

/* Skewed: expert e is drawn about twice as often as e + 4; weights repeat; one wish in 8 is none.
 * Experts of a token differ. */
static struct route law_route(int32_t top_k)
{
    uint32_t draw = 12345;
    struct route route = {.num_tokens = NUM_TOKENS,
                          .top_k = top_k,
                          .num_experts = NUM_EXPERTS,
                          .expert = law_expert,
                          .gate_weight = law_weight,
                          .dropped = law_dropped};
    for (int32_t i = 0; i < NUM_TOKENS * top_k; i++) {
        draw = draw * UINT32_C(1664525) + UINT32_C(1013904223);
        uint32_t bits = draw >> 8;
        int32_t octave = bits % 2 == 0 ? 0 : bits % 4 == 1 ? 1 : 2 + (int32_t)(bits >> 2) % 3;
        int32_t expert = octave * 4 + (int32_t)(bits >> 9) % 4;
        for (int32_t k = i / top_k * top_k; k < i; k++) {
            expert = law_expert[k] == expert ? NOT_ROUTED : expert;
        }
        law_expert[i] = (bits >> 5) % 8 == 0 ? NOT_ROUTED : expert;
        law_wished[i] = law_expert[i];
        law_weight[i] = (float)((bits >> 12) % 64) / 64.0f;
        law_dropped[i] = true;
        route.assignments += law_expert[i] != NOT_ROUTED;
    }
    return route;
}

/* What policies may look at besides the route: scores and where experts are. */
struct law_world {
    char directory[40];
    struct trace trace;
    struct trace_side side;
    struct placement placement;
    struct trace_batch batch;
    struct route_settings settings;
    struct route_input input;
};

static void law_world_open(struct law_world *world)
{
    static struct error error;
    static float score[NUM_TOKENS * NUM_EXPERTS];
    static int32_t expert[NUM_TOKENS];
    static const int32_t model_layer[] = {0};
    const struct trace_description description = {.model = "law",
                                                  .num_experts = NUM_EXPERTS,
                                                  .top_k = 1,
                                                  .num_layers = 1,
                                                  .model_layer = model_layer,
                                                  .tokens_per_shard = NUM_TOKENS,
                                                  .has_scores = true,
                                                  .origin = "mock"};
    *world = (struct law_world){.directory = "/tmp/moesim-test-law-XXXXXX"};
    cr_assert_not_null(mkdtemp(world->directory));
    for (int32_t i = 0; i < NUM_TOKENS * NUM_EXPERTS; i++) {
        score[i] = (float)(i * 7919 % 257) / 64.0f;
    }
    for (int32_t token = 0; token < NUM_TOKENS; token++) {
        law_row[token] = token;
    }
    char path[64];
    snprintf(path, sizeof path, "%s/trace", world->directory);
    const struct trace_rows rows = {.expert = expert, .score = score, .layer_tokens = NUM_TOKENS};
    struct trace_writer *writer;
    cr_assert_eq(trace_writer_open(&writer, path, &description, false, &error), STATUS_OK);
    cr_assert_eq(trace_writer_append_rows(writer, &rows, NUM_TOKENS, &error), STATUS_OK);
    cr_assert_eq(trace_writer_finish(writer, NULL, 0, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace_open(&world->trace, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace_side_open(&world->side, &world->trace, &error), STATUS_OK);
    cr_assert_eq(
        placement_init(&world->placement, &arena, NUM_EXPERTS, NUM_EXPERTS, NUM_RANKS, &error),
        STATUS_OK);
    world->batch = (struct trace_batch){
        .num_tokens = NUM_TOKENS, .row = law_row, .rank_begin = law_rank_begin};
    world->settings = (struct route_settings){.num_ranks = NUM_RANKS, .min_capacity = -1};
    world->input = (struct route_input){.settings = &world->settings,
                                        .trace = &world->trace,
                                        .side = &world->side,
                                        .batch = &world->batch,
                                        .placement = &world->placement,
                                        .scratch = &arena};
}

static void law_world_close(struct law_world *world)
{
    char command[64];
    trace_side_close(&world->side);
    trace_close(&world->trace);
    arena_free(&arena);
    snprintf(command, sizeof command, "rm -r %s", world->directory);
    cr_assert_eq(system(command), 0);
}

static void apply(struct law_world *world, struct route *route, const struct drop_policy *policy,
                  enum capacity_scope scope, double factor)
{
    world->settings.capacity_factor = factor;
    world->settings.capacity_scope = scope;
    cr_assert_eq(capacity_apply(route, policy, &world->input), STATUS_OK);
}

/* Who takes a wish: its expert, or the device that its expert is on. */
static int32_t taker_of(const struct law_world *world, const struct drop_policy *policy,
                        int32_t expert)
{
    return policy->limits_devices ? world->placement.rank_of_slot[expert] : expert;
}

/* Every taker of the scope keeps min(wishes, C): nobody over capacity, no place left empty. Where
 * wishes move on, no more than C, and a wish is dropped only if nobody has room who lacks the
 * token. Returns what is dropped, and the places of the scope. */
static int64_t expect_full_use(const struct law_world *world, const struct route *route,
                               const struct drop_policy *policy, int32_t first, int32_t end,
                               double *places)
{
    int64_t wished[NUM_EXPERTS] = {0};
    int64_t kept[NUM_EXPERTS] = {0};
    int64_t dropped = 0;
    int32_t num_takers = policy->limits_devices ? NUM_RANKS : NUM_EXPERTS;
    struct capacity_input capacity_input = {.num_tokens = end - first,
                                            .top_k = route->top_k,
                                            .num_experts = NUM_EXPERTS,
                                            .settings = &world->settings};
    for (int32_t i = first * route->top_k; i < end * route->top_k; i++) {
        if (route->expert[i] == NOT_ROUTED) {
            cr_expect(!route->dropped[i], "%s drops what was never routed", policy->name);
            continue;
        }
        wished[taker_of(world, policy, law_wished[i])]++;
        kept[taker_of(world, policy, route->expert[i])] += !route->dropped[i];
        dropped += route->dropped[i];
    }
    for (int32_t taker = 0; taker < num_takers; taker++) {
        int64_t most = capacity_input.wished_max;
        capacity_input.wished_max = wished[taker] > most ? wished[taker] : most;
    }
    int64_t capacity = drop_capacity(policy, &capacity_input);
    *places += (double)capacity * num_takers;
    for (int32_t taker = 0; taker < num_takers; taker++) {
        int64_t least = wished[taker] < capacity ? wished[taker] : capacity;
        cr_expect_leq(kept[taker], capacity, "%s", policy->name);
        cr_expect_geq(kept[taker], least, "%s", policy->name);
        cr_expect(policy->needs_scores || kept[taker] == least, "%s", policy->name);
    }
    for (int32_t i = first * route->top_k; i < end * route->top_k && policy->needs_scores; i++) {
        for (int32_t e = 0; e < NUM_EXPERTS && route->dropped[i]; e++) {
            bool has = false;
            for (int32_t k = i / route->top_k * route->top_k, n = 0; n < route->top_k; n++) {
                has |= route->expert[k + n] == e;
            }
            cr_expect(has || kept[e] == capacity, "%s drops though expert %d has room",
                      policy->name, e);
        }
    }
    return dropped;
}

/* No token has an expert twice. */
static void expect_different_experts(const struct route *route, const char *name)
{
    for (int32_t i = 0; i < route->num_tokens * route->top_k; i++) {
        for (int32_t k = i / route->top_k * route->top_k; k < i; k++) {
            cr_expect(route->expert[i] == NOT_ROUTED || route->expert[i] != route->expert[k], "%s",
                      name);
        }
    }
}

static struct criterion_test_params policy_indices(void)
{
    static size_t cases[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int32_t count;
    drop_all(&count);
    cr_assert_leq((size_t)count, sizeof cases / sizeof cases[0]);
    return cr_make_param_array(size_t, cases, (size_t)count);
}

/* Each policy under all factors that it knows, both scopes, and several k. */
static void expect_laws(struct law_world *world, const struct drop_policy *policy, int32_t top_k,
                        double factor)
{
    for (int32_t scope = CAPACITY_RANK; scope <= CAPACITY_GLOBAL; scope++) {
        struct route route = law_route(top_k);
        int64_t dropped = 0;
        double places = 0.0;
        apply(world, &route, policy, (enum capacity_scope)scope, factor);
        int32_t num_scopes = scope == CAPACITY_RANK ? NUM_RANKS : 1;
        for (int32_t part = 0; part < num_scopes; part++) {
            int32_t first = scope == CAPACITY_RANK ? law_rank_begin[part] : 0;
            int32_t end = scope == CAPACITY_RANK ? law_rank_begin[part + 1] : NUM_TOKENS;
            dropped += expect_full_use(world, &route, policy, first, end, &places);
        }
        expect_different_experts(&route, policy->name);
        cr_expect_eq(dropped, route.dropped_assignments, "%s", policy->name);
        cr_expect_float_eq(places, route.places, 0.0, "%s", policy->name);
        bool is_enough = factor >= 1e9 || !(factor > 0.0 || factor < 0.0);
        cr_expect(!is_enough || dropped == 0, "%s drops at %g", policy->name, factor);
        for (int32_t i = 0; i < NUM_TOKENS * top_k && !policy->needs_scores; i++) {
            cr_expect_eq(route.expert[i], law_wished[i], "%s moves a wish", policy->name);
        }
        cr_expect(policy->needs_scores || route.rerouted_assignments == 0, "%s", policy->name);
    }
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
    struct law_world world;
    law_world_open(&world);
    for (int32_t top_k = 1; top_k <= TOP_K_MAX; top_k++) {
        if (policy->top_k != 0 && policy->top_k != top_k) {
            continue;
        }
        for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
            expect_laws(&world, policy, top_k, factors[i]);
            if (policy->may_be_negative) {
                expect_laws(&world, policy, top_k, -factors[i]);
            }
        }
        if (policy->is_adaptive) {
            expect_laws(&world, policy, top_k, 0.0);
        }
    }
    law_world_close(&world);
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
    struct law_world world;
    law_world_open(&world);
    for (int32_t run = 0; run < 2; run++) {
        int32_t top_k = policy->top_k > 0 ? policy->top_k : TOP_K_MAX;
        struct route route = law_route(top_k);
        apply(&world, &route, policy, CAPACITY_RANK, 1.0);
        for (int32_t i = 0; i < NUM_TOKENS * top_k; i++) {
            digest[run] = digest_u64(digest[run], law_dropped[i]);
            digest[run] = digest_u64(digest[run], (uint64_t)law_expert[i]);
        }
    }
    cr_expect_eq(digest[0], digest[1]);
    law_world_close(&world);
}

ParameterizedTestParameters(drop_law, leaves_an_empty_step_empty)
{
    return policy_indices();
}

ParameterizedTest(size_t *index, drop_law, leaves_an_empty_step_empty)
{
    int32_t count;
    const struct drop_policy *policy = drop_all(&count)[*index];
    int32_t rank_begin[NUM_RANKS + 1] = {0};
    struct law_world world;
    law_world_open(&world);
    world.batch = (struct trace_batch){.rank_begin = rank_begin};
    struct route route = {.top_k = 1, .num_experts = NUM_EXPERTS, .dropped_assignments = 9};
    for (int32_t scope = CAPACITY_RANK; scope <= CAPACITY_GLOBAL; scope++) {
        apply(&world, &route, policy, (enum capacity_scope)scope, 1.0);
        cr_expect_eq(route.dropped_assignments, 0);
    }
    law_world_close(&world);
}

Test(drop_law, by_gate_weight_never_drops_a_higher_weight_than_it_keeps)
{
    struct law_world world;
    law_world_open(&world);
    struct route route = law_route(TOP_K_MAX);
    apply(&world, &route, drop_find("gate_weight"), CAPACITY_GLOBAL, 0.7);

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
    law_world_close(&world);
}
