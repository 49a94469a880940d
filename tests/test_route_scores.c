/*
 * test_route_scores.c -- routers that choose from recorded scores.
 *
 * Where scores are real they are those of the shipped router lab, whose gate was DeepSeek-V3's:
 * without a bias, choosing again must give what was recorded.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npy.h"
#include "scenario.h"
#include "scored.h"
#include "simulate.h"
#include "trace_tools.h"

#define LAB         SOURCE_DIRECTORY "/scenarios/traces/router-lab/"
#define LAB_LAYERS  8
#define LAB_TOKENS  384
#define LAB_EXPERTS 64
#define LAB_TOP_K   8
#define LAB_WISHES  (LAB_TOKENS * LAB_TOP_K)

static struct error error;

static char directory[64];
static char tiny_path[96]; /* where write_scores writes */

static void init(void)
{
    scored_make_directory(directory, sizeof directory);
    snprintf(tiny_path, sizeof tiny_path, "%s/tiny", directory);
}

static void fini(void)
{
    scored_remove_directory(directory);
}

TestSuite(route_scores, .init = init, .fini = fini);

static void choose(struct scored *scored, const char *router, int32_t layer)
{
    cr_assert_eq(scored_route(scored, router, layer), STATUS_OK, "%s", scored->error.text);
}

static void expect_experts(const struct scored *scored, int32_t token, const int32_t *expected)
{
    for (int32_t k = 0; k < scored->route.top_k; k++) {
        cr_expect_eq(scored->route.expert[token * scored->route.top_k + k], expected[k],
                     "token %d, choice %d: %d", token, k,
                     scored->route.expert[token * scored->route.top_k + k]);
    }
}

/* Counts the places where a token's expert has not the score of the recorded one: float16 makes
 * ties of scores that were apart when they were recorded, and a tie is open. */
static int32_t count_other_scores(struct scored *scored, int32_t layer)
{
    static int32_t recorded[LAB_WISHES];
    static float score[LAB_TOKENS * LAB_EXPERTS];
    int32_t num_other = 0;
    cr_assert_eq(scored->route.num_tokens, LAB_TOKENS);
    cr_assert_eq(
        trace_read(&scored->trace, recorded, NULL, layer, scored->batch.row, LAB_TOKENS, &error),
        STATUS_OK, "%s", error.text);
    trace_side_scores(&scored->side, score, layer, scored->batch.row, LAB_TOKENS);
    for (int32_t i = 0; i < LAB_WISHES; i++) {
        const float *of_token = &score[i / LAB_TOP_K * LAB_EXPERTS];
        float difference = of_token[scored->route.expert[i]] - of_token[recorded[i]];
        num_other += difference > 0.0f || difference < 0.0f;
    }
    return num_other;
}

Test(route_scores, choose_again_what_a_router_of_that_gate_chose)
{
    static const char *const traces[] = {LAB "unbalanced_scores", LAB "aux_loss_scores"};
    for (int32_t i = 0; i < 2; i++) {
        struct scored scored;
        scored_open(&scored, traces[i], 1);
        for (int32_t layer = 0; layer < LAB_LAYERS; layer++) {
            choose(&scored, "deepseek_v3", layer);
            cr_expect_eq(count_other_scores(&scored, layer), 0, "%s, layer %d", traces[i], layer);
        }
        scored_close(&scored);
    }
}

/* Recorded weights are float16 of a quotient of float32 scores, ours a quotient of float16 ones:
 * each is off by at most 2^-11 of itself, and so is the sum; together 3 * 2^-11. */
Test(route_scores, weigh_as_a_router_of_that_gate_did)
{
    static float recorded[LAB_WISHES];
    static int32_t expert[LAB_WISHES];
    struct scored scored;
    scored_open(&scored, LAB "aux_loss_scores", 1);
    choose(&scored, "deepseek_v3", 3);
    cr_assert_eq(
        trace_read(&scored.trace, expert, recorded, 3, scored.batch.row, LAB_TOKENS, &error),
        STATUS_OK, "%s", error.text);
    for (int32_t i = 0; i < LAB_WISHES; i++) {
        double apart = fabs((double)scored.route.gate_weight[i] / (double)recorded[i] - 1.0);
        cr_expect_lt(apart, 3 * 0x1p-11, "wish %d", i);
    }
    scored_close(&scored);
}

/* A bias of training decides too, and a trace does not hold it: without it the choice is another,
 * which also shows that the test above can fail. */
Test(route_scores, do_not_follow_a_bias)
{
    struct scored scored;
    scored_open(&scored, LAB "loss_free_scores", 1);
    choose(&scored, "deepseek_v3", 0);
    cr_expect_gt(count_other_scores(&scored, 0), LAB_WISHES / 10);
    scored_close(&scored);
}

/* Pairs of sigmoids sum to 0.98 + 0.88, 0.95 + 0.02, 0.73 + 0.73 and 0.27 + 0.50: expert 2 is the
 * second best of all, but its group is the third best. Of 4 and 5, equals, 4 comes first. */
Test(route_scores, deepseek_v3_limits_groups_by_their_best_two)
{
    const float logit[] = {4, 2, 3, -4, 1, 1, -1, 0};
    scored_write(tiny_path, 1, 8, 3, TRACE_SCORE_LOGITS, logit);
    struct scored scored;
    scored_open(&scored, tiny_path, 1);
    choose(&scored, "deepseek_v3", 0);
    expect_experts(&scored, 0, (int32_t[]){0, 2, 1});

    scored.model.num_expert_groups = 4;
    scored.model.topk_groups = 2;
    choose(&scored, "deepseek_v3", 0);
    expect_experts(&scored, 0, (int32_t[]){0, 1, 4});
    scored_close(&scored);
}

/* Four logits of equal distance ln 2 = 0.693 as float16 has it: p = 8, 4, 2, 1 of 15. */
Test(route_scores, softmax_before_or_after_top_k_differs_in_weights_only)
{
    const float ln2 = npy_half_to_float(npy_float_to_half(0.6931472f));
    const float logit[] = {0, ln2, 3 * ln2, 2 * ln2};
    scored_write(tiny_path, 1, 4, 2, TRACE_SCORE_LOGITS, logit);
    struct scored scored;
    scored_open(&scored, tiny_path, 1);

    choose(&scored, "softmax_topk", 0);
    expect_experts(&scored, 0, (int32_t[]){2, 3});
    cr_expect_float_eq(scored.route.gate_weight[0], 8.0f / 15.0f, 1e-3f); /* float16 of 2.08 */
    cr_expect_float_eq(scored.route.gate_weight[1], 4.0f / 15.0f, 1e-3f);

    choose(&scored, "topk_softmax", 0);
    expect_experts(&scored, 0, (int32_t[]){2, 3});
    cr_expect_float_eq(scored.route.gate_weight[0], 2.0f / 3.0f, 1e-3f);
    cr_expect_float_eq(scored.route.gate_weight[1], 1.0f / 3.0f, 1e-3f);
    scored_close(&scored);
}

/* All float16 numbers from 0 to 1, over several tokens and shards. */
Test(route_scores, logits_of_sigmoids_keep_their_order_and_come_back)
{
    enum { EXPERTS = 1024, TOKENS = 15, LAST = 0x3c00 }; /* 15 * 1024 numbers below 1.0 */
    static float sigmoid[TOKENS * EXPERTS];
    static float logit[TOKENS * EXPERTS];
    static int64_t row[TOKENS];
    cr_assert_eq(TOKENS * EXPERTS, LAST);
    for (int32_t i = 0; i < LAST; i++) {
        sigmoid[i] = npy_half_to_float((uint16_t)i);
        row[i / EXPERTS] = i / EXPERTS;
    }
    scored_write(tiny_path, TOKENS, EXPERTS, 2, TRACE_SCORE_SIGMOIDS, sigmoid);
    struct scored scored;
    scored_open(&scored, tiny_path, 1);

    trace_side_logits(&scored.side, logit, 0, row, TOKENS);

    cr_expect(isinf(logit[0]) && logit[0] < 0);
    for (int32_t i = 1; i < LAST; i++) {
        cr_assert_gt(logit[i], logit[i - 1], "float16 number %d", i);
        double back = 1.0 / (1.0 + exp(-(double)logit[i]));
        cr_assert_eq(npy_float_to_half((float)back), i);
    }
    scored_close(&scored);
}

Test(route_scores, a_trace_without_scores_is_refused_in_one_line)
{
    static const char *const override[] = {"routing.policy=deepseek_v3"};
    struct scenario scenario = {0};
    struct trace trace = {0};
    cr_assert_eq(scenario_load(&scenario,
                               SOURCE_DIRECTORY
                               "/scenarios/studies/router_lab_training_8xh100.yaml",
                               override, 1, &error),
                 STATUS_OK, "%s", error.text);

    cr_expect_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "trace unbalanced has no scores"));
    cr_expect_not_null(strstr(error.text, "deepseek_v3"));
    cr_expect_eq(error.num_problems, 1);
    trace_close(&trace);
    scenario_free(&scenario);
}

Test(route_scores, a_gate_that_cannot_be_is_refused)
{
    const float logit[] = {4, 3, 2, 1};
    scored_write(tiny_path, 1, 4, 2, TRACE_SCORE_LOGITS, logit);
    struct scored scored;
    scored_open(&scored, tiny_path, 1);
    scored.model.num_expert_groups = 4; /* of one expert each: no two best */
    scored.model.topk_groups = 2;
    cr_expect_eq(scored_route(&scored, "deepseek_v3", 0), STATUS_INVALID);
    cr_expect_not_null(strstr(scored.error.text, "2 of 4 groups"));
    scored_close(&scored);
}

static uint64_t digest_for(const char *router, const float *logit)
{
    struct scenario scenario = {.model = {.num_layers = 1, .moe_layer_step = 1, .num_experts = 4},
                                .ep = 1,
                                .expert_tp = 1,
                                .router = route_find(router)};
    struct trace trace = {0};
    scored_write(tiny_path, 1, 4, 2, TRACE_SCORE_LOGITS, logit);
    strcpy(scenario.trace_path, tiny_path);
    cr_assert_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_OK, "%s", error.text);
    uint64_t digest = trace.digest;
    trace_close(&trace);
    return digest;
}

Test(route_scores, are_in_the_fingerprint_of_those_runs_that_use_them)
{
    const float one[] = {4, 3, 2, 1};
    const float other[] = {4, 3, 1, 2};
    cr_expect_eq(digest_for("trace", one), digest_for("trace", other));
    cr_expect_neq(digest_for("softmax_topk", one), digest_for("softmax_topk", other));
    cr_expect_eq(digest_for("softmax_topk", one), digest_for("deepseek_v3", one));
}

Test(route_scores, keep_their_kind_through_trace_tools)
{
    const float sigmoid[] = {0.25f, 0.5f, 0.75f, 0.125f};
    const struct trace_slice all = {.token_end = 1};
    char path[128];
    scored_write(tiny_path, 1, 4, 2, TRACE_SCORE_SIGMOIDS, sigmoid);
    struct trace_edit edit = {0};
    cr_assert_eq(trace_slice(&edit, tiny_path, &all, &error), STATUS_OK, "%s", error.text);
    snprintf(path, sizeof path, "%s-copy", tiny_path);
    const struct trace_output output = {.path = path};
    cr_assert_eq(trace_edit_write(&edit, &output, &error), STATUS_OK, "%s", error.text);
    trace_edit_free(&edit);
    struct scored scored;
    scored_open(&scored, path, 1);
    cr_expect_eq(scored.trace.score, TRACE_SCORE_SIGMOIDS);
    scored_close(&scored);
    scored_write(tiny_path, 1, 4, 2, TRACE_SCORE_LOGITS, sigmoid);
    const char *const both[] = {path, tiny_path};
    cr_assert_eq(trace_merge(&edit, both, 2, &error), STATUS_OK, "%s", error.text);
    const struct trace_output mixed = {.path = path, .replace = true};
    cr_assert_eq(trace_edit_write(&edit, &mixed, &error), STATUS_OK, "%s", error.text);
    cr_expect_not_null(strstr(edit.notes, "scores are left out"));
    trace_edit_free(&edit);
}
