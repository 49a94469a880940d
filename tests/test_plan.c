/*
 * test_plan.c -- plans that are read or refused, and searches whose answers are checked again.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"
#include "plan_internal.h"
#include "plan_words.h"
#include "small_plan.h"
#include "store_plan.h"

static const char *const small[] = {
    "traffic={requests_per_day: 4G, input_tokens: 1000, output_tokens: 200}",
    "slo={ttft: 1s, tpot: 20ms}",
    "search.prefill={ep: [1, 2], tokens_per_rank: [1024, 2048]}",
    "search.decode={ep: [1, 2, 8], sequences_per_rank: [16, 64, 256]}",
};

static void load_small(struct plan *plan, const char *extra)
{
    small_plan_load(plan, small, sizeof small / sizeof small[0], extra);
}

static void expect_equal(const struct plan_answer *a, const struct plan_answer *b)
{
    cr_assert_eq(a->num_points, b->num_points);
    cr_assert_eq(a->num_deployments, b->num_deployments);
    cr_expect_eq(a->winner, b->winner);
    for (int32_t i = 0; i < a->num_points; i++) {
        cr_expect_eq(a->point[i].fate, b->point[i].fate);
        cr_expect_eq(a->point[i].step_ns, b->point[i].step_ns);
        cr_expect_eq(a->point[i].imbalance, b->point[i].imbalance);
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            cr_expect_eq(a->point[i].phase_ns[phase], b->point[i].phase_ns[phase]);
        }
    }
    for (int32_t i = 0; i < a->num_deployments; i++) {
        cr_expect_eq(a->deployment[i].cost.usd_total, b->deployment[i].cost.usd_total);
        cr_expect_eq(a->deployment[i].on_front, b->deployment[i].on_front);
    }
    cr_assert_eq(a->num_shifts, b->num_shifts);
    for (int32_t i = 0; i < a->num_shifts; i++) {
        cr_expect_eq(a->shift[i].usd_per_day, b->shift[i].usd_per_day);
    }
}

Test(plan, the_answer_does_not_depend_on_threads_nor_on_what_was_stored)
{
    struct plan plan;
    struct store *store = NULL;
    struct plan_store *points = NULL;
    struct error error = {0};
    char plan_id[RUN_ID_BYTES];
    unlink("test_plan.db");
    load_small(&plan, NULL);
    cr_assert_eq(store_open(&store, "test_plan.db", true, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(plan_store_open(&points, store, &error), STATUS_OK, "%s", error.text);
    struct plan_answer one = small_plan_search(&plan, 1, NULL);
    struct plan_answer two = small_plan_search(&plan, 2, points);
    struct plan_answer again = small_plan_search(&plan, 1, points);

    expect_equal(&one, &two);
    expect_equal(&one, &again);
    cr_expect_eq(plan_store_answer(points, plan_id, &plan, &one, &error), STATUS_OK);
    cr_expect_eq(plan_store_answer(points, plan_id, &plan, &one, &error), STATUS_OK, "twice");
    plan_answer_free(&one);
    plan_answer_free(&two);
    plan_answer_free(&again);
    plan_store_close(points);
    store_close(store);
    plan_free(&plan);
    unlink("test_plan.db");
}

static bool beats(const struct plan_deployment *a, const struct plan_deployment *b)
{
    return a->cost.usd_total <= b->cost.usd_total && a->ttft_s <= b->ttft_s &&
           a->tpot_s <= b->tpot_s;
}

Test(plan, nobody_beats_the_front_and_somebody_beats_the_rest)
{
    struct plan plan;
    load_small(&plan, NULL);
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);

    cr_assert_gt(answer.num_deployments, 10);
    for (int32_t i = 0; i < answer.num_deployments; i++) {
        const struct plan_deployment *one = &answer.deployment[i];
        bool beaten = false;
        for (int32_t j = 0; j < answer.num_deployments; j++) {
            const struct plan_deployment *other = &answer.deployment[j];
            bool differs = other->cost.usd_total != one->cost.usd_total ||
                           other->ttft_s != one->ttft_s || other->tpot_s != one->tpot_s;
            beaten = beaten || (beats(other, one) && (differs || j < i));
        }
        cr_expect_eq(one->on_front, !beaten, "deployment %d", (int)i);
        cr_expect_geq(one->interval.usd_per_day.high, one->cost.usd_total);
        cr_expect_leq(one->interval.usd_per_day.low, one->cost.usd_total);
    }
    cr_assert_geq(answer.winner, 0);
    for (int32_t i = 0; i < answer.winner; i++) {
        const struct plan_deployment *before = &answer.deployment[i];
        const struct plan_deployment *winner = &answer.deployment[answer.winner];
        double saved_usd = winner->cost.usd_total - before->cost.usd_total;
        cr_expect(!before->meets_targets || saved_usd == 0.0, "%d is cheaper than the winner",
                  (int)i);
    }
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* Every point simulated all the same: none that was pruned is on the front, and no step is shorter
 * than its bound. */
/* Shares of what may be used: rate, time to the first token and time a token. */
static double nearest_limit(const struct plan_deployment *deployment)
{
    const double *load = deployment->load;
    double rate = deployment->shared ? load[0] + load[1] : fmax(load[0], load[1]);
    return fmax(rate / 0.9, fmax(deployment->ttft_s / 1.0, deployment->tpot_s / 20e-3));
}

Test(plan, of_equal_bills_the_one_furthest_from_its_limits_wins)
{
    struct plan plan;
    int32_t equals = 0;
    load_small(&plan, "traffic.requests_per_day=1M"); /* one group of each pool is plenty */
    cr_assert_float_eq(plan.utilisation_max, 0.9, 1e-12);
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);
    cr_assert_geq(answer.winner, 0);
    const struct plan_deployment *winner = &answer.deployment[answer.winner];

    for (int32_t i = 0; i < answer.num_deployments; i++) {
        const struct plan_deployment *other = &answer.deployment[i];
        if (other->meets_targets && i != answer.winner) {
            cr_expect_geq(other->cost.usd_total, winner->cost.usd_total);
        }
        if (other->meets_targets && other->cost.usd_total == winner->cost.usd_total) {
            equals++;
            cr_expect_geq(nearest_limit(other), nearest_limit(winner) - 0.001);
        }
    }

    cr_expect_gt(equals, 2);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* A tight budget leaves nobody; the words say so, and no command is made. */
/* 10 % more of a target is one of the questions, so what it lets in has to be simulated. */
Test(plan, a_point_is_too_slow_where_its_bound_misses_more_than_a_tenth_of_the_target)
{
    static const struct {
        double target_share; /* of the point's bound */
        bool is_too_slow;
    } cases[] = {{1.0 / 1.05, false}, {1.0 / 1.15, true}};
    struct plan plan;
    load_small(&plan, NULL);
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    int32_t slow = answer.deployment[answer.winner].point[COST_DECODE];
    double bound_ns = answer.point[slow].bound_ns;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        plan.tpot_s = bound_ns * 1e-9 * cases[i].target_share;
        struct plan_answer other = small_plan_search(&plan, 2, NULL);
        cr_expect_eq(other.point[slow].fate == PLAN_TOO_SLOW, cases[i].is_too_slow, "%zu", i);
        plan_answer_free(&other);
    }
    plan_answer_free(&answer);
    plan_free(&plan);
}

Test(plan, without_a_winner_the_answer_says_so)
{
    struct plan plan;
    char line[512];
    load_small(&plan, "budget.usd_per_day=1");
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);

    cr_expect_eq(answer.winner, -1);
    cr_expect_gt(answer.num_deployments, 0);
    cr_assert(plan_sentence(line, sizeof line, &plan, &answer, 0));
    cr_expect_not_null(strstr(line, "No deployment meets all targets"));
    plan_say_none_of(line, sizeof line, &plan, &answer, 0);
    cr_expect_eq(strncmp(line, "the cheapest costs $", 20), 0, "%s", line);
    cr_expect_not_null(strstr(line, "a day ($1.00 asked)"), "%s", line);
    plan.usd_per_day_max = 0.0;
    plan_say_none_of(line, sizeof line, &plan, &answer, 0);
    cr_expect_str_eq(line, "each target is met by some deployment, all by none");
    plan.tpot_s = 1e-6;
    plan_say_none_of(line, sizeof line, &plan, &answer, 0);
    cr_expect_eq(strncmp(line, "the quickest after it ", 22), 0, "%s", line);
    cr_expect_not_null(strstr(line, "(1 us asked)"), "%s", line);
    plan_say_none_of(line, sizeof line, &plan, &answer, 1);
    cr_expect_not_null(strstr(line, "no layout that was tried fits or may be had"), "%s", line);
    plan_answer_free(&answer);
    plan_free(&plan);
}

Test(plan, groups_are_enough_for_the_traffic_and_one_fewer_is_not)
{
    struct plan plan;
    load_small(&plan, "search.pools=disaggregated");
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    for (int32_t i = 0; i < answer.num_deployments; i++) {
        const struct plan_deployment *deployment = &answer.deployment[i];
        const struct plan_point *decode = &answer.point[deployment->point[COST_DECODE]];
        double group = (double)decode->tokens_per_rank * decode->ep / (decode->step_ns * 1e-9);
        double groups = 4e9 * 200.0 / 86400.0 / (group * 0.9);
        cr_expect_eq(deployment->groups[COST_DECODE], (int32_t)ceil(groups - 1e-9));
    }
    plan_answer_free(&answer);
    plan_free(&plan);
}

static void refuse(const char *text, int32_t num_problems, const char *const *words)
{
    struct plan plan;
    struct error error = {0};
    FILE *file = fopen("test_plan.yaml", "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    cr_expect_eq(plan_load(&plan, "test_plan.yaml", NULL, 0, &error), STATUS_INVALID, "%s", text);
    cr_expect_eq(error.num_problems, num_problems, "%s", error.text);
    for (int32_t i = 0; words[i] != NULL; i++) {
        cr_expect_not_null(strstr(error.text, words[i]), "%s in %s", words[i], error.text);
    }
    plan_free(&plan);
    remove("test_plan.yaml");
}

/* The deployment of other that has the same points, or NULL. */
static const struct plan_deployment *find_same(const struct plan_answer *other,
                                               const struct plan_deployment *deployment)
{
    for (int32_t i = 0; i < other->num_deployments; i++) {
        const struct plan_deployment *candidate = &other->deployment[i];
        if (memcmp(candidate->point, deployment->point, sizeof candidate->point) == 0 &&
            candidate->shared == deployment->shared) {
            return candidate;
        }
    }
    return NULL;
}

/* Half of the hours of useful work at the GPU's own preemptible price, a fifth of that work done
 * again: (2 / 2 + 1 / 1.6) / 2 of the bill of an H100, (3 / 2 + 2.5 / 1.6) / 3 of an H200's. */
Test(plan, each_gpu_has_its_own_price_of_preemptible_hours)
{
    static const char gpus[] = "gpus=[{gpu: h100-sxm, price: 2, spot_usd_per_gpu_hour: 1}, "
                               "{gpu: h200-sxm, price: 3, spot_usd_per_gpu_hour: 2.5}]";
    const char *keys[] = {small[0], small[1], small[2],
                          small[3], gpus,     "terms={spot_share: 0.5, spot_lost_share: 0.2}"};
    const double share[] = {1.625 / 2.0, 3.0625 / 3.0};
    struct plan whole_price, spot;
    int32_t count[2] = {0};
    char line[512];
    small_plan_load(&whole_price, keys, 5, NULL);
    small_plan_load(&spot, keys, 6, NULL);
    struct plan_answer whole = small_plan_search(&whole_price, 2, NULL);
    struct plan_answer some = small_plan_search(&spot, 2, NULL);

    for (int32_t i = 0; i < some.num_deployments; i++) {
        const struct plan_deployment *deployment = &some.deployment[i];
        const struct plan_deployment *same = find_same(&whole, deployment);
        int32_t gpu = some.point[deployment->point[0]].gpu;
        if (same != NULL) {
            double ratio = deployment->cost.usd_total / same->cost.usd_total;
            cr_expect_float_eq(ratio, share[gpu], 1e-6, "deployment %d: %g", (int)i, ratio);
            count[gpu]++;
        }
    }
    cr_expect_gt(count[0], 0);
    cr_expect_gt(count[1], 0);
    cr_assert(plan_assumption(line, sizeof line, &spot, &some, 4));
    cr_expect_not_null(strstr(line,
                              "spot: 50 % of hours at $1 an hour of h100-sxm, $2.5 an hour of "
                              "h200-sxm, 20 % of their work lost"),
                       "%s", line);
    plan_answer_free(&whole);
    plan_answer_free(&some);
    plan_free(&whole_price);
    plan_free(&spot);
}

Test(plan, tokens_go_in_bf16_to_experts_that_are_cut)
{
    static const struct plan_answer nothing;
    static const char *const searches[] = {"search.expert_tp=[1]", "search.expert_tp=[1, 2]"};
    static const char *const words[] = {"computes in fp8, bf16",
                                        "in fp8 and experts are whole, bf16"};
    for (size_t i = 0; i < 2; i++) {
        struct plan plan;
        char line[512];
        const char *keys[] = {small[0], small[1], small[2], small[3], searches[i]};
        small_plan_load(&plan, keys, 5, NULL);
        cr_assert(plan_assumption(line, sizeof line, &plan, &nothing, 3));
        cr_expect_not_null(strstr(line, words[i]), "%s", line);
        plan_free(&plan);
    }
}

Test(plan, a_plan_with_mistakes_is_refused_with_all_of_them)
{
    static const char *const words[] = {"test_plan.yaml:2: model",
                                        "test_plan.yaml:3: traffic.requests_per_day: 'many'",
                                        "test_plan.yaml:4: slo.ttft: '2 hours'",
                                        "test_plan.yaml:5: gpus",
                                        "test_plan.yaml:6: search.strategy: 'best'",
                                        "test_plan.yaml:7: compute.model",
                                        NULL};
    refuse("version: 1\n"
           "model: deepseek-v33\n"
           "traffic: {requests_per_day: many, input_tokens: 1k, output_tokens: 100}\n"
           "slo: {ttft: 2 hours}\n"
           "gpus: [{gpu: h900, price: 2}]\n"
           "search: {strategy: best}\n"
           "compute: {model: guess}\n",
           6, words);
}

#define GOOD                                                                                       \
    "version: 1\nmodel: deepseek-v3\n"                                                             \
    "traffic: {requests_per_day: 1M, input_tokens: 1k, output_tokens: 100}\n"                      \
    "gpus: [{gpu: h800-sxm}]\n"

Test(plan, keys_that_do_not_fit_together_are_refused)
{
    const struct {
        const char *text;
        const char *words[2];
    } cases[] = {
        {GOOD "searches: {}\n", {"searches", NULL}},
        {GOOD "search: {decode: {ep: []}}\n", {"search.decode.ep: an empty list", NULL}},
        {GOOD "search: {decode: {ep: [0]}}\n", {"1 ... 65536", NULL}},
        {GOOD "search: {micro_batches: 9}\n", {"1 ... 4", NULL}},
        {GOOD "search: {pools: both}\n", {"disaggregated or shared", NULL}},
        {GOOD "terms: {spot_share: 0.5}\n", {"spot_usd_per_gpu_hour", NULL}},
        {"version: 1\nmodel: deepseek-v3\n"
         "traffic: {requests_per_day: 1M, input_tokens: 1k, output_tokens: 100}\n"
         "gpus: [{gpu: h800-sxm, spot_usd_per_gpu_hour: 1}, {gpu: h100-sxm}]\n"
         "terms: {spot_share: 0.5, spot_usd_per_gpu_hour: 1}\n",
         {"in each of gpus", NULL}},
        {GOOD "terms: {energy_apart: true}\n", {"usd_per_kwh", NULL}},
        {GOOD "trace: {preset: nobody}\n", {"no such preset", NULL}},
        {GOOD "trace: {path: nowhere}\n", {"no such trace", NULL}},
        {GOOD "slo: {tpot: -1ms}\n", {"slo.tpot", NULL}},
        {"version: 1\nmodel: router-lab-14m\n"
         "traffic: {requests_per_day: 1M, input_tokens: 1k, output_tokens: 100}\n"
         "gpus: [{gpu: h800-sxm}]\n",
         {"no preset of this model's routing", NULL}},
        {"version: 1\nmodel: deepseek-v3\n"
         "traffic: {requests_per_day: 1M, input_tokens: 1k, output_tokens: 100, hours: [1, 2]}\n"
         "gpus: [{gpu: h800-sxm, price: h200-lease}]\n",
         {"24 numbers", NULL}},
    };
    const size_t count = sizeof cases / sizeof cases[0];
    for (size_t i = 0; i < count; i++) {
        refuse(cases[i].text, i + 1 == count ? 2 : 1, cases[i].words);
    }
}

Test(plan, the_plans_that_come_along_load)
{
    struct plan plan;
    struct error error = {0};
    cr_expect_eq(plan_load(&plan, SOURCE_DIRECTORY "/scenarios/plans/deepseek_r1_h800.yaml", NULL,
                           0, &error),
                 STATUS_OK, "%s", error.text);
    cr_expect_float_eq(plan.traffic.requests_per_day * plan.traffic.input_tokens / 608e9, 1.0,
                       0.005);
    cr_expect_float_eq(plan.traffic.requests_per_day * plan.traffic.output_tokens / 168e9, 1.0,
                       0.005);
    cr_expect_float_eq(plan_decode_context(&plan.traffic), 4989, 2);
    plan_free(&plan);
}
