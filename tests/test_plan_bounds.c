/*
 * test_plan_bounds.c -- no step of a plan takes less than the bound that it is pruned by.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "plan.h"
#include "plan_internal.h"
#include "small_plan.h"

static void load_pools(struct plan *plan)
{
    static const char *const keys[] = {
        "traffic={requests_per_day: 4G, input_tokens: 1000, output_tokens: 200}",
        "slo={ttft: 1s, tpot: 20ms}",
        "search.pools=disaggregated",
        "search.prefill={ep: [1, 2], tokens_per_rank: [1024, 2048]}",
        "search.decode={ep: [1, 2, 8], sequences_per_rank: [16, 64, 256]}",
    };
    small_plan_load(plan, keys, sizeof keys / sizeof keys[0], NULL);
}

/* Release with plan_answer_free. */
static struct plan_answer search_and_run_all(const struct plan *plan)
{
    struct plan_answer answer = small_plan_search(plan, 2, NULL);
    struct plan_world world;
    struct error error = {0};
    cr_assert_eq(plan_world_open(&world, plan, 1, &error), STATUS_OK, "%s", error.text);
    for (int32_t i = 0; i < answer.num_points; i++) {
        struct plan_point *point = &answer.point[i];
        if (point->fate != PLAN_NO_MEMORY && point->fate != PLAN_IMPOSSIBLE) {
            point->fate = PLAN_OPEN;
            cr_assert_eq(plan_point_run(point, &world, &error), STATUS_OK, "%s", error.text);
            cr_expect_geq(point->step_ns, point->bound_ns);
        }
    }
    plan_world_close(&world);
    return answer;
}

Test(plan_bounds, bounds_hold_and_prune_nothing_that_matters)
{
    struct plan plan;
    load_pools(&plan);
    struct plan_answer pruned = small_plan_search(&plan, 2, NULL);
    struct plan_answer all = search_and_run_all(&plan);
    cr_assert_eq(plan_combine(&all, &plan), STATUS_OK);

    cr_expect_eq(all.num_front, pruned.num_front);
    cr_expect_eq(all.deployment[all.winner].cost.usd_total,
                 pruned.deployment[pruned.winner].cost.usd_total);
    plan_answer_free(&pruned);
    plan_answer_free(&all);
    plan_free(&plan);
}

/* vLLM up to 256 tokens of a decode step; bounds hold there, too. */
Test(plan_bounds, an_engine_may_compute_the_shared_expert_beside_the_routed_ones)
{
    struct plan plan;
    load_pools(&plan);
    plan.model.num_shared_experts = 1;
    plan.model.shared_ffn_dim = 512;
    struct plan_answer behind = search_and_run_all(&plan);
    strcpy(plan.host.name, "vllm");
    struct plan_answer beside = search_and_run_all(&plan);
    cr_assert_eq(behind.num_points, beside.num_points);
    int32_t shorter = 0;
    for (int32_t i = 0; i < behind.num_points; i++) {
        const struct plan_point *one = &behind.point[i];
        const struct plan_point *other = &beside.point[i];
        if (one->pool == COST_DECODE && one->tokens_per_rank * one->tp <= 256) {
            shorter += other->step_ns < one->step_ns;
        } else {
            cr_expect_eq(other->step_ns, one->step_ns);
        }
    }
    cr_expect_gt(shorter, 5);
    plan_answer_free(&behind);
    plan_answer_free(&beside);
    plan_free(&plan);
}
