/* test_route_drop_policies.c -- drop policies against the code that they follow, and by hand. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "scored.h"
#include "source_drops.h"

static char directory[64];
static char path[96];
static struct scored scored;

static void init(void)
{
    scored_make_directory(directory, sizeof directory);
    snprintf(path, sizeof path, "%s/tiny", directory);
}

static void fini(void)
{
    scored_close(&scored);
    scored_remove_directory(directory);
}

TestSuite(drop_policy, .init = init, .fini = fini);

/* The source's batch, routed by softmax and top-k; tokens in its order, one scope. */
static void open_source_batch(int32_t top_k)
{
    scored_open_source_batch(&scored, path, top_k, 1);
    cr_assert_eq(scored_route(&scored, "softmax_topk", 0), STATUS_OK);
}

static uint32_t kept_of(int32_t token)
{
    uint32_t kept = 0;
    for (int32_t k = 0; k < scored.route.top_k; k++) {
        int32_t wish = token * scored.route.top_k + k;
        kept |= scored.route.dropped[wish] ? 0 : UINT32_C(1) << scored.route.expert[wish];
    }
    return kept;
}

Test(drop_policy, keep_what_their_sources_keep)
{
    for (size_t i = 0; i < sizeof source_drops / sizeof source_drops[0]; i++) {
        open_source_batch(source_drops[i].top_k);
        scored.settings.capacity_factor = source_drops[i].capacity_factor;
        scored.settings.min_capacity = source_drops[i].min_capacity;
        scored.settings.capacity_multiple = source_drops[i].capacity_multiple;

        scored_drop(&scored, source_drops[i].policy);

        cr_expect_eq((int32_t)scored.route.places, SOURCE_EXPERTS * source_drops[i].capacity,
                     "case %zu, %s: %g places", i, source_drops[i].policy, scored.route.places);
        for (int32_t token = 0; token < SOURCE_TOKENS; token++) {
            cr_expect_eq(kept_of(token), source_drops[i].kept[token],
                         "case %zu, %s, token %d: 0x%02x", i, source_drops[i].policy, token,
                         kept_of(token));
        }
    }
}

/* Which of the tokens that want an expert keep it is open in Megatron-LM's "position", and random
 * in DeepSpeed's top1gating; how many is not. */
static void expect_counts(const char *policy, const int32_t *expected)
{
    for (int32_t expert = 0; expert < SOURCE_EXPERTS; expert++) {
        int32_t kept = 0;
        for (int32_t token = 0; token < SOURCE_TOKENS; token++) {
            kept += (int32_t)(kept_of(token) >> expert & 1u);
        }
        cr_expect_eq(kept, expected[expert], "%s, expert %d: %d", policy, expert, kept);
    }
}

Test(drop_policy, keep_as_many_as_their_sources_where_those_leave_open_which)
{
    open_source_batch(2);
    scored.settings.capacity_factor = 1.0;
    scored_drop(&scored, "position");
    expect_counts("position", (int32_t[]){6, 6, 6, 6, 4, 1, 2, 0});

    open_source_batch(1);
    scored.settings.capacity_factor = 1.0;
    scored.settings.min_capacity = 2;
    scored_drop(&scored, "deepspeed");
    expect_counts("deepspeed", (int32_t[]){3, 3, 3, 1, 1, 0, 1, 0});
}

/* Who keeps a place is a matter of the seed, and not of position. */
Test(drop_policy, deepspeed_draws_top_1_at_random)
{
    int32_t moved = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        open_source_batch(1);
        scored.settings.capacity_factor = 0.5;
        scored.settings.min_capacity = 0;
        scored.settings.seed = seed;
        scored_drop(&scored, "deepspeed");
        moved += kept_of(1) == 0; /* the first token that wants expert 0 */
    }
    cr_expect(moved > 5 && moved < 20, "%d of 20", moved); /* of ten that want it, two keep it */
}

/* Two devices of two experts; six tokens of one expert each, weights 6 to 1 of 21 by logits. With
 * factor 1 a device takes three. Experts 0 and 1, on device 0, are wished five times. */
static void open_devices(void)
{
    /* token: expert 0 1 0 1 0 2; the higher the token, the surer */
    static const float logits[6][4] = {{1, 0, 0, 0}, {0, 2, 0, 0}, {3, 0, 0, 0},
                                       {0, 4, 0, 0}, {5, 0, 0, 0}, {0, 0, 6, 0}};
    scored_write(path, 6, 4, 1, TRACE_SCORE_LOGITS, logits[0]);
    scored_open(&scored, path, 2);
    for (int32_t token = 0; token < 6; token++) {
        scored.batch.row[token] = token;
    }
    scored.settings.capacity_factor = 1.0;
    scored.settings.capacity_scope = CAPACITY_GLOBAL;
    scored.settings.exempt_share = 0.0;
    cr_assert_eq(scored_route(&scored, "softmax_topk", 0), STATUS_OK);
}

Test(drop_policy, device_limited_drops_a_devices_lightest_wishes)
{
    static struct error error;
    static const int32_t expert_of_slot[] = {0, 1, 2, 3};
    open_devices();
    cr_assert_eq(placement_set(&scored.placement, expert_of_slot, &error), STATUS_OK);

    scored_drop(&scored, "device_limited");

    const bool expected[] = {true, true, false, false, false, false};
    for (int32_t token = 0; token < 6; token++) {
        cr_expect_eq(scored.route.dropped[token], expected[token], "token %d", token);
    }
    cr_expect_float_eq(scored.route.places, 6.0, 0.0);
}

/* Experts 0 and 3 on one device, 1 and 2 on the other: both are wished three times. */
Test(drop_policy, device_limited_follows_the_placement)
{
    static struct error error;
    static const int32_t expert_of_slot[] = {0, 3, 1, 2};
    open_devices();
    cr_assert_eq(placement_set(&scored.placement, expert_of_slot, &error), STATUS_OK);

    scored_drop(&scored, "device_limited");

    cr_expect_eq(scored.route.dropped_assignments, 0);
}

Test(drop_policy, device_limited_spares_the_exempt)
{
    static struct error error;
    static const int32_t expert_of_slot[] = {0, 1, 2, 3};
    open_devices();
    cr_assert_eq(placement_set(&scored.placement, expert_of_slot, &error), STATUS_OK);
    scored.settings.exempt_share = 1.0;

    scored_drop(&scored, "device_limited");

    cr_expect_eq(scored.route.dropped_assignments, 0);
}

/* One place an expert. Tokens 0 and 1 want expert 0, then 1; token 2 wants 2. Token 1 finds 0 full
 * and goes to 1; its weight falls by exp(1 - 2), and what its experts should sum to stays. */
Test(drop_policy, reroute_takes_the_next_best_with_room)
{
    static const float logits[3][3] = {{2, 1, 0}, {2, 1, 0}, {0, 1, 2}};
    scored_write(path, 3, 3, 1, TRACE_SCORE_LOGITS, logits[0]);
    scored_open(&scored, path, 1);
    for (int32_t token = 0; token < 3; token++) {
        scored.batch.row[token] = token;
    }
    cr_assert_eq(scored_route(&scored, "topk_softmax", 0), STATUS_OK);
    scored.settings.capacity_factor = 1.0;

    scored_drop(&scored, "reroute");

    cr_expect(scored.route.expert[0] == 0 && scored.route.expert[1] == 1 &&
              scored.route.expert[2] == 2);
    cr_expect_eq(scored.route.dropped_assignments, 0);
    cr_expect_eq(scored.route.rerouted_assignments, 1);
    cr_expect_float_eq(scored.route.gate_weight[1], 0.36787944f, 1e-6f); /* 1 / e */
    cr_expect_float_eq(scored.route.full_weight[1], 1.0f, 0.0f);
}

/* sigmoid(1) / sigmoid(2) = 0.7310586 / 0.8807971. */
Test(drop_policy, reroute_weighs_by_sigmoids_where_told)
{
    static const float logits[2][2] = {{2, 1}, {2, 1}};
    scored_write(path, 2, 2, 1, TRACE_SCORE_LOGITS, logits[0]);
    scored_open(&scored, path, 1);
    cr_assert_eq(scored_route(&scored, "topk_softmax", 0), STATUS_OK);
    scored.settings.capacity_factor = 1.0;
    scored.settings.score = ROUTE_SIGMOID;

    scored_drop(&scored, "reroute");

    cr_expect_float_eq(scored.route.gate_weight[1], 0.82999665f, 1e-6f);
}
