/* test_route_gates.c -- routers against the code that they follow, and by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gate_batch.h"
#include "npy.h"
#include "scored.h"
#include "source_gates.h"

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

TestSuite(route_gate, .init = init, .fini = fini);

/* Opens scores with the tokens in their order. */
static void open_scores(const float *logits, int32_t num_tokens, int32_t num_experts, int32_t top_k,
                        int32_t num_ranks)
{
    scored_write(path, num_tokens, num_experts, top_k, TRACE_SCORE_LOGITS, logits);
    scored_close(&scored);
    scored_open(&scored, path, num_ranks);
    for (int32_t token = 0; token < num_tokens; token++) {
        scored.batch.row[token] = token;
    }
}

static void open_source_batch(int32_t top_k, int32_t num_ranks)
{
    scored_open_source_batch(&scored, path, top_k, num_ranks);
}

static void choose(const char *router)
{
    cr_assert_eq(scored_route(&scored, router, 0), STATUS_OK, "%s", scored.error.text);
}

static uint32_t experts_of(int32_t token)
{
    uint32_t experts = 0;
    for (int32_t k = 0; k < scored.route.top_k; k++) {
        int32_t expert = scored.route.expert[token * scored.route.top_k + k];
        experts |= expert == EXPERT_NOT_ROUTED ? 0 : UINT32_C(1) << expert;
    }
    return experts;
}

static void expect_masks(const char *what, const uint8_t *expected)
{
    for (int32_t token = 0; token < SOURCE_TOKENS; token++) {
        cr_expect_eq(experts_of(token), expected[token], "%s, token %d: 0x%02x", what, token,
                     experts_of(token));
    }
}

Test(route_gate, sinkhorn_chooses_as_megatron)
{
    open_source_batch(1, 1);
    choose("sinkhorn");
    expect_masks("k = 1", source_sinkhorn_1);

    open_source_batch(2, 1);
    choose("sinkhorn");
    expect_masks("k = 2", source_sinkhorn_2);
}

/* Token 0's logits are 44 73 90 -73 -11 2 -73 -105 of 64; Megatron-LM weighs with softmax over all,
 * or for k = 1 with the sigmoid. It chose expert 5 for k = 1: sigmoid(2 / 64). */
Test(route_gate, sinkhorn_weighs_as_megatron)
{
    open_source_batch(1, 1);
    choose("sinkhorn");
    cr_expect_float_eq(scored.route.gate_weight[0], 0.50781184f, 1e-7f);

    open_source_batch(2, 1);
    choose("sinkhorn"); /* experts 5 and 2 */
    double sum = 0.0;
    for (int32_t e = 0; e < SOURCE_EXPERTS; e++) {
        sum += exp(source_logits_64[0][e] / 64.0);
    }
    cr_expect_float_eq(scored.route.gate_weight[0], exp(2.0 / 64.0) / sum, 1e-7);
    cr_expect_float_eq(scored.route.gate_weight[1], exp(90.0 / 64.0) / sum, 1e-7);
    /* its likeliest two would have been 2 and 1 */
    cr_expect_float_eq(scored.route.full_weight[0], (exp(90.0 / 64.0) + exp(73.0 / 64.0)) / sum,
                       1e-6);
}

Test(route_gate, quantile_follows_megatrons_bias_from_batch_to_batch)
{
    static const uint8_t *const expected[] = {source_quantile_0, source_quantile_1,
                                              source_quantile_2};
    open_source_batch(2, 1);
    scored.settings.bias_decay = 0.25;
    for (int32_t batch = 0; batch < 3; batch++) {
        choose("quantile");
        expect_masks("quantile", expected[batch]);
        const float *bias = scored.state;
        for (int32_t e = 0; e < SOURCE_EXPERTS; e++) {
            cr_expect_float_eq(bias[e], source_quantile_bias[batch][e], 1e-6f, "batch %d, bias %d",
                               batch, e);
        }
    }
}

/* Two ranks' quantiles are averaged: here each has the mean of what it would have alone. */
Test(route_gate, quantile_averages_over_ranks)
{
    float alone[2][SOURCE_EXPERTS];
    static int32_t expert[SOURCE_TOKENS];
    static float gate_weight[SOURCE_TOKENS];
    static float threshold[SOURCE_TOKENS];
    static uint64_t work[2 * SOURCE_TOKENS];
    static float logits[SOURCE_TOKENS][SOURCE_EXPERTS];
    const float zero[SOURCE_EXPERTS] = {0};
    for (int32_t i = 0; i < SOURCE_TOKENS * SOURCE_EXPERTS; i++) {
        logits[i / SOURCE_EXPERTS][i % SOURCE_EXPERTS] =
            (float)source_logits_64[i / SOURCE_EXPERTS][i % SOURCE_EXPERTS] / 64.0f;
    }
    for (int32_t rank = 0; rank < 2; rank++) {
        struct gate_batch half = {SOURCE_TOKENS / 2, SOURCE_EXPERTS, 2, logits[12 * rank]};
        cr_assert_eq(ref_quantile(half, expert, gate_weight, alone[rank], zero, work, threshold),
                     STATUS_OK);
    }
    open_source_batch(2, 2);
    choose("quantile");
    double mean = 0.0;
    for (int32_t e = 0; e < SOURCE_EXPERTS; e++) {
        mean += 0.5 * ((double)alone[0][e] + (double)alone[1][e]) / SOURCE_EXPERTS;
    }
    for (int32_t e = 0; e < SOURCE_EXPERTS; e++) {
        double both = 0.5 * ((double)alone[0][e] + (double)alone[1][e]) - mean;
        cr_expect_float_eq(((float *)scored.state)[e], both, 1e-6, "bias %d", e);
    }
}

/* C = 24 * 2 CF / 8: 6 with factor 1; 3, rounded up to 4, with 1/2. vmoe's factors are 2 and 1. */
Test(route_gate, expert_choice_takes_as_vmoe)
{
    open_source_batch(2, 1);
    choose("expert_choice");
    expect_masks("C = 6", source_top_items_6);
    cr_expect_eq(scored.route.top_k, 4); /* token 15 has four experts */
    cr_expect_eq(scored.route.model_top_k, 2);
    cr_expect_eq(scored.route.assignments, 48);

    open_source_batch(2, 1);
    scored.settings.capacity_factor = 0.5;
    scored.settings.capacity_multiple = 4;
    choose("expert_choice");
    expect_masks("C = 4", source_top_items_4);
    cr_expect_eq(experts_of(12), 0); /* no expert took it */
    cr_expect_eq(scored.route.assignments, 32);
}

/* Experts of ranks are 0 to 3 and 4 to 7, a rank a node; of 24 tokens all are on rank 0 or 1. */
static void choose_on_node(int32_t node, double share)
{
    static const int32_t expert_of_slot[] = {0, 1, 2, 3, 4, 5, 6, 7};
    open_source_batch(2, 2);
    cr_assert_eq(placement_set(&scored.placement, expert_of_slot, &scored.error), STATUS_OK);
    scored.cluster = (struct cluster){.num_nodes = 2, .gpus_per_node = 1};
    scored.batch.rank_begin[1] = node == 0 ? SOURCE_TOKENS : 0;
    scored.settings.off_node_share = share;
    choose("fastermoe");
}

Test(route_gate, fastermoe_chooses_as_its_source)
{
    choose_on_node(0, 0.14);
    expect_masks("near 0", source_faster_near_0);
    cr_expect_float_eq(scored.route.gate_weight[0], 0.566019f, 1e-6f);
    cr_expect_float_eq(scored.route.gate_weight[1], 0.433981f, 1e-6f);

    choose_on_node(1, 0.14);
    expect_masks("near 1", source_faster_near_1);
    cr_expect_float_eq(scored.route.gate_weight[0], 0.550607f, 1e-6f);

    choose_on_node(1, 0.9);
    expect_masks("most near 1", source_faster_most_1);
    cr_expect_float_eq(scored.route.gate_weight[0], 0.798187f, 1e-6f); /* the one off the node */
}

Test(route_gate, fastermoe_refuses_a_node_of_one_expert)
{
    static const float logits[2][2] = {{1, 0}, {0, 1}};
    open_scores(logits[0], 2, 2, 2, 2);
    scored.cluster = (struct cluster){.num_nodes = 2, .gpus_per_node = 1};
    cr_expect_eq(scored_route(&scored, "fastermoe", 0), STATUS_INVALID);
    cr_expect_not_null(strstr(scored.error.text, "two experts on every node, but node 0"));
}

/* Four experts in two groups, softmax of 3 2 | 2.5 0: group 0's best is better, so its second, 2,
 * is chosen before the better 2.5. Weights are of all four: e^3 + e^2 + e^2.5 + 1 = 40.657. */
Test(route_gate, deepseek_v2_stays_in_the_best_groups)
{
    static const float logits[1][4] = {{3, 2, 2.5, 0}};
    open_scores(logits[0], 1, 4, 2, 1);
    scored.model.num_expert_groups = 2;
    scored.model.topk_groups = 1;
    choose("deepseek_v2");
    cr_expect(scored.route.expert[0] == 0 && scored.route.expert[1] == 1);
    cr_expect_float_eq(scored.route.gate_weight[0], 0.494026f, 1e-5f);
    cr_expect_float_eq(scored.route.gate_weight[1], 0.181742f, 1e-5f);
    cr_expect_float_eq(scored.route.full_weight[0], 0.494026f + 0.299642f, 1e-5f);

    scored.settings.num_groups = 4; /* the scenario's come before the model's */
    scored.settings.topk_groups = 2;
    choose("deepseek_v2");
    cr_expect(scored.route.expert[0] == 0 && scored.route.expert[1] == 2);
}

/* Loads are 3 1 0 0 of mean 1: the bias steps down for 0 and up for 2 and 3, and leaves 1. */
Test(route_gate, loss_free_steps_towards_the_mean)
{
    static const float logits[4][4] = {
        {2, 0, -1, -2}, {2, 0, -1, -2}, {2, 0, -1, -2}, {0, 2, -1, 0}};
    open_scores(logits[0], 4, 4, 1, 1);
    scored.settings.bias_update = 0.25;
    choose("loss_free");
    const float *bias = scored.state;
    cr_expect_eq(experts_of(0), 1u);
    cr_expect_eq(experts_of(3), 2u);
    cr_expect(bias[0] == -0.25f && bias[1] == 0.0f && bias[2] == 0.25f && bias[3] == 0.25f);

    choose("loss_free"); /* sigmoids .88 - .25, .5, .27 + .25, .12 + .25: still 0 */
    cr_expect_eq(experts_of(0), 1u);
    cr_expect_eq(bias[0], -0.5f);

    choose("loss_free"); /* .88 - .5, .5, .27 + .5 */
    cr_expect_eq(experts_of(0), 4u);
    cr_expect_float_eq(scored.route.gate_weight[0], 1.0f, 1e-6f); /* without the bias */
    cr_expect_float_eq(scored.route.full_weight[0], 0.8807971f / 0.2689414f, 1e-5f);
}

/* Tokens of one row have one choice whatever the batch; experts of a token differ; loads are even:
 * 24,000 draws of 8 are 3,000 +- 51 an expert (one standard deviation). */
Test(route_gate, hash_is_even_and_of_the_row_alone)
{
    static int32_t expert[8000 * 3];
    static float gate_weight[8000 * 3];
    static uint64_t key[8000];
    int32_t load[8] = {0};
    for (int32_t token = 0; token < 8000; token++) {
        key[token] = (uint64_t)token;
    }
    ref_hash((struct gate_batch){8000, 8, 3, NULL}, expert, gate_weight, key);
    for (int32_t i = 0; i < 8000 * 3; i++) {
        load[expert[i]]++;
        cr_expect_eq(gate_weight[i], 1.0f / 3.0f);
        cr_expect(i % 3 == 0 || expert[i] != expert[i - 1]);
        cr_expect(i % 3 != 2 || expert[i] != expert[i - 2]);
    }
    for (int32_t e = 0; e < 8; e++) {
        cr_expect(load[e] > 2800 && load[e] < 3200, "expert %d: %d", e, load[e]);
    }
    open_source_batch(2, 1);
    choose("hash");
    uint32_t first = experts_of(3);
    scored.batch.row[5] = 3;
    choose("hash");
    cr_expect_eq(experts_of(5), first);
}

/* Probabilities are 8 7.6 4 3.9 | 7.8 4.2 3.99 1 of 40.49, experts 0 to 3 on node 0, 4 to 7 on 1;
 * the token is on node 1. */
static const double near_odds[] = {8.0, 7.6, 4.0, 3.9, 7.8, 4.2, 3.99, 1.0};

static void choose_near(double tolerance)
{
    static const int32_t expert_of_slot[] = {0, 1, 2, 3, 4, 5, 6, 7};
    float logits[2][8];
    for (int32_t i = 0; i < 16; i++) {
        logits[i / 8][i % 8] = (float)log(near_odds[i % 8]);
    }
    open_scores(logits[0], 2, 8, 4, 2); /* the second token is rank 1's */
    cr_assert_eq(placement_set(&scored.placement, expert_of_slot, &scored.error), STATUS_OK);
    scored.cluster = (struct cluster){.num_nodes = 2, .gpus_per_node = 1};
    scored.settings.tolerance = tolerance;
    choose("node_aware");
}

static void expect_second_token(const int32_t *expected)
{
    for (int32_t k = 0; k < 4; k++) {
        cr_expect_eq(scored.route.expert[4 + k], expected[k], "choice %d: %d", k,
                     scored.route.expert[4 + k]);
    }
}

/* Tolerance 0: 8 7.8 7.6 4.2. At 0.5 a near expert with half the best's score is enough: 7.8, then
 * 4.2 (>= 4), then 3.99 is too little, so the token goes to node 0 for 8, and then 7.6 is near. */
Test(route_gate, node_aware_prefers_what_is_near_within_its_tolerance)
{
    choose_near(0.0);
    expect_second_token((int32_t[]){0, 4, 1, 5});
    double mass = (8.0 + 7.8 + 7.6 + 4.2);
    cr_expect_float_eq(scored.route.gate_weight[4], 8.0 / mass, 1e-3); /* float16 logits */
    cr_expect_float_eq(scored.route.full_weight[1], 1.0f, 1e-6f);

    choose_near(0.5);
    expect_second_token((int32_t[]){0, 4, 1, 5});

    choose_near(0.51); /* 3.99 >= 0.49 * 8, then 1 is too little, so 8 */
    expect_second_token((int32_t[]){0, 4, 5, 6});
    cr_expect_float_eq(scored.route.full_weight[1], mass / (8.0 + 7.8 + 4.2 + 3.99), 1e-3);

    choose_near(1.0); /* anything near */
    expect_second_token((int32_t[]){4, 5, 6, 7});
}

/* A copy of expert 0 on node 1 makes it near. */
Test(route_gate, node_aware_knows_replicas)
{
    choose_near(0.0);
    struct placement with_copy;
    cr_assert_eq(placement_init(&with_copy, &scored.arena, 8, 10, 2, &scored.error), STATUS_OK);
    static const int32_t ten[] = {0, 1, 2, 3, 5, 4, 0, 6, 7, 5};
    cr_assert_eq(placement_set(&with_copy, ten, &scored.error), STATUS_OK);
    scored.placement = with_copy;
    scored.settings.tolerance = 0.06; /* 7.6 >= 0.94 * 8: but 8 is near itself */
    choose("node_aware"); /* 8, 7.8, then of 7.6 nothing near has 7.14: node 0; then 4.2 */
    expect_second_token((int32_t[]){0, 4, 1, 5});
    scored.settings.tolerance = 0.45; /* of 7.6: 4.2 has 4.18; of 7.6 again: 3.99 has not */
    choose("node_aware");
    expect_second_token((int32_t[]){0, 4, 1, 5});
    scored.settings.tolerance = 0.48; /* 3.99 has 3.952 */
    choose("node_aware");
    expect_second_token((int32_t[]){0, 4, 5, 6});
}
