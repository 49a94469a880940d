/*
 * test_plan_percentile.c -- pools that percentiles make larger than means do.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"
#include "plan_internal.h"
#include "plan_words.h"
#include "small_plan.h"
#include "store_plan.h"

static const char *const small[] = {
    "traffic={requests_per_day: 4G, input_tokens: 1000, output_tokens: 20}",
    "search.pools=disaggregated",
    "search.prefill={ep: 1, tokens_per_rank: 2048}",
    "search.decode={ep: 1, sequences_per_rank: 64}",
};

static void load_small(struct plan *plan, const char *extra)
{
    small_plan_load(plan, small, sizeof small / sizeof small[0], extra);
}

/* Two points alone make one deployment, and where it is sized its sized self. */
Test(plan_percentile, a_pool_that_misses_gets_groups_until_it_meets)
{
    struct plan plan;
    load_small(&plan, "slo={ttft: 1.9ms at p90, tpot: 20ms}");
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);
    char line[1024];

    cr_assert_eq(answer.num_deployments, 2);
    cr_assert_eq(answer.winner, 1, "the dearer one");
    const struct plan_deployment *mean = &answer.deployment[0];
    const struct plan_deployment *sized = &answer.deployment[1];
    int32_t added = sized->added[COST_PREFILL];
    cr_expect_not(mean->meets_targets);
    cr_expect_gt(mean->ttft.percentile_s[1], plan.ttft_s);
    cr_expect_leq(sized->ttft.percentile_s[1], plan.ttft_s);
    cr_expect_gt(added, 0);
    cr_expect_eq(sized->added[COST_DECODE], 0, "which misses nothing");
    cr_expect_eq(sized->groups[COST_PREFILL], mean->groups[COST_PREFILL] + added);
    cr_expect_eq(sized->num_gpus, mean->num_gpus + added);
    cr_expect_eq(plan_count(&plan, &answer, PLAN_MEETS), 1);

    /* A flat day: every group more costs its price all day long, and does less of the work. */
    double group_usd = plan.gpu[0].price.usd_per_gpu_hour * 24.0;
    double work = mean->load[COST_PREFILL] * (double)mean->groups[COST_PREFILL];
    cr_expect_float_eq(sized->cost.usd_total, mean->cost.usd_total + added * group_usd, 1e-6);
    cr_expect_eq(sized->usd_per_day_mean, mean->cost.usd_total);
    cr_expect_float_eq(sized->load[COST_PREFILL] * (double)sized->groups[COST_PREFILL], work, 1e-9);
    cr_assert(plan_sentence(line, sizeof line, &plan, &answer, 1));
    cr_expect_not_null(strstr(line, "more than the means do"), "%s", line);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* With a store: what one target has simulated serves the next. */
Test(plan_percentile, a_stricter_percentile_is_never_cheaper)
{
    static const char *const targets[] = {
        "slo={ttft: 3ms, tpot: 20ms}", "slo={ttft: 3ms at p50, tpot: 20ms}",
        "slo={ttft: 3ms at p90, tpot: 20ms}", "slo={ttft: 3ms at p99, tpot: 20ms}"};
    struct store *store = NULL;
    struct plan_store *points = NULL;
    struct error error = {0};
    double before_usd = 0.0;
    double first_usd = 0.0;
    unlink("test_plan_percentile.db");
    cr_assert_eq(store_open(&store, "test_plan_percentile.db", true, &error), STATUS_OK);
    cr_assert_eq(plan_store_open(&points, store, &error), STATUS_OK, "%s", error.text);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct plan plan;
        load_small(&plan, targets[i]);
        struct plan_answer answer = small_plan_search(&plan, 1, points);
        cr_assert_geq(answer.winner, 0, "%s", targets[i]);
        double usd = answer.deployment[answer.winner].cost.usd_total;
        cr_expect_geq(usd, before_usd, "%s", targets[i]);
        first_usd = i == 0 ? usd : first_usd;
        before_usd = usd;
        plan_answer_free(&answer);
        plan_free(&plan);
    }
    cr_expect_gt(before_usd, first_usd, "p99 takes more than the mean");
    plan_store_close(points);
    store_close(store);
    unlink("test_plan_percentile.db");
}

Test(plan_percentile, what_twice_the_groups_cannot_meet_is_given_up_in_words)
{
    struct plan plan;
    load_small(&plan, "slo={ttft: 1.3ms at p99, tpot: 20ms}");
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);
    char line[1024];

    cr_assert_eq(answer.winner, -1);
    cr_assert_eq(answer.num_deployments, 2);
    cr_expect_eq(plan_count(&plan, &answer, PLAN_MEETS), 0);
    cr_expect_eq(answer.deployment[1].groups[COST_PREFILL],
                 2 * answer.deployment[0].groups[COST_PREFILL]);
    cr_expect_lt(answer.deployment[1].ttft.percentile_s[3],
                 answer.deployment[0].ttft.percentile_s[3]);
    cr_assert(plan_sentence(line, sizeof line, &plan, &answer, 0));
    cr_expect_not_null(strstr(line, "misses TTFT (target 1.30 ms at p99)"), "%s", line);
    cr_expect_not_null(strstr(line, "no queue binds"), "%s", line);
    cr_assert(plan_sentence(line, sizeof line, &plan, &answer, 1));
    cr_expect_not_null(strstr(line, "the nearest of 1 finalist"), "%s", line);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* Prompts of a file as unlike as exponential ones get up to four times the groups. */
Test(plan_percentile, unlike_prompts_may_take_more_groups)
{
    struct plan plan;
    load_small(&plan, "slo={ttft: 1.6ms at p99, tpot: 20ms}");
    plan.traffic.input_cv = 1.0;
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);

    cr_assert_eq(answer.winner, -1);
    cr_assert_eq(answer.num_deployments, 2);
    cr_expect_eq(answer.deployment[1].groups[COST_PREFILL],
                 4 * answer.deployment[0].groups[COST_PREFILL]);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* GPUs that may be had end the search for groups: one more is too few. */
Test(plan_percentile, no_more_groups_than_may_be_had)
{
    struct plan plan;
    load_small(&plan, "slo={ttft: 1.4ms, tpot: 20ms}");
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);
    plan.gpus_max = answer.deployment[0].num_gpus + 1;
    plan.ttft_percentile = 90;
    plan_answer_free(&answer);
    answer = small_plan_search(&plan, 1, NULL);

    cr_expect_eq(answer.winner, -1);
    cr_assert_eq(answer.num_deployments, 2);
    cr_expect_eq(answer.deployment[1].num_gpus, plan.gpus_max);
    char line[1024];
    cr_assert(plan_sentence(line, sizeof line, &plan, &answer, 0));
    cr_expect_not_null(strstr(line, "no GPUs or no money"), "%s", line);
    plan_answer_free(&answer);
    plan_free(&plan);
}
