/* test_scenario_routing.c -- what the routing section refuses, each in one clear line. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "scenario.h"
#include "simulate.h"

#define STUDIES SOURCE_DIRECTORY "/scenarios/studies/"

static struct error error;

static enum status load(struct scenario *scenario, const char *study, const char *const *override,
                        int32_t count)
{
    char path[512];
    error = (struct error){0};
    snprintf(path, sizeof path, STUDIES "%s.yaml", study);
    return scenario_load(scenario, path, override, count, &error);
}

static void expect_refused(const char *study, const char *const *override, int32_t count,
                           const char *words)
{
    struct scenario scenario = {0};
    cr_expect_eq(load(&scenario, study, override, count), STATUS_INVALID, "%s", words);
    cr_expect_not_null(strstr(error.text, words), "'%s' lacks '%s'", error.text, words);
    cr_expect_eq(error.num_problems, 1, "%s", error.text);
    scenario_free(&scenario);
}

#define LAB "router_lab_training_8xh100" /* 64 experts, 8 a token, no groups */

Test(scenario_routing, a_gate_of_another_k_is_refused)
{
    const char *override[] = {"routing.policy=fastermoe"};
    expect_refused(LAB, override, 1,
                   "routing.policy: fastermoe is a gate of 2 experts a token, "
                   "router-lab-olmoe-width routes to 8");
}

Test(scenario_routing, a_gate_of_groups_needs_groups)
{
    const char *override[] = {"routing.policy=deepseek_v2", "routing.num_groups=8",
                              "routing.topk_groups=3"};
    expect_refused(LAB, override, 1,
                   "deepseek_v2 chooses among groups of experts, and router-lab-olmoe-width has "
                   "none: set routing.num_groups and routing.topk_groups");
    struct scenario scenario = {0};
    cr_expect_eq(load(&scenario, LAB, override, 3), STATUS_OK, "%s", error.text);
    scenario_free(&scenario);
}

Test(scenario_routing, groups_that_do_not_fit_are_refused)
{
    const char *uneven[] = {"routing.num_groups=7", "routing.topk_groups=3"};
    const char *alone[] = {"routing.num_groups=8"};
    const char *more[] = {"routing.num_groups=4", "routing.topk_groups=5"};
    const char *few[] = {"routing.num_groups=16", "routing.topk_groups=1"};
    expect_refused(LAB, uneven, 2, "routing.num_groups: 7 does not divide the 64 experts");
    expect_refused(LAB, alone, 1, "routing.num_groups: goes with topk_groups");
    expect_refused(LAB, more, 2, "routing.topk_groups: 5 of 4 groups");
    expect_refused(LAB, few, 2, "1 groups hold 4 experts, a token of router-lab-olmoe-width goes");
}

Test(scenario_routing, a_drop_policy_of_another_k_is_refused_where_it_is_asked)
{
    const char *override[] = {"routing.drop=switch", "routing.capacity_factor=1"};
    expect_refused(LAB, override, 2,
                   "routing.drop: switch is for gates of 1 expert a token, "
                   "router-lab-olmoe-width routes to 8");
    struct scenario scenario = {0};
    cr_expect_eq(load(&scenario, LAB, override, 1), STATUS_OK, "%s", error.text);
    scenario_free(&scenario);
}

Test(scenario_routing, a_negative_factor_is_tutels)
{
    const char *override[] = {"routing.capacity_factor=-1.5", "routing.drop=tutel"};
    expect_refused(LAB, override, 1,
                   "routing.capacity_factor: -1.5 is below 0, which only drop: tutel has a "
                   "meaning for");
    struct scenario scenario = {0};
    cr_expect_eq(load(&scenario, LAB, override, 2), STATUS_OK, "%s", error.text);
    scenario_free(&scenario);
}

Test(scenario_routing, shares_out_of_range_are_refused)
{
    const char *tolerance[] = {"routing.tolerance=1.5"};
    const char *share[] = {"routing.exempt_share=-0.1"};
    const char *score[] = {"routing.score=relu"};
    expect_refused(LAB, tolerance, 1, "routing.tolerance: must be between 0 and 1");
    expect_refused(LAB, share, 1, "routing.exempt_share: must be between 0 and 1");
    expect_refused(LAB, score, 1, "softmax");
}

/* A drop policy may need scores where the router does not. */
Test(scenario_routing, rerouting_a_trace_without_scores_is_refused_in_one_line)
{
    const char *override[] = {"routing.drop=reroute", "routing.capacity_factor=1"};
    struct scenario scenario = {0};
    struct trace trace = {0};
    cr_assert_eq(load(&scenario, LAB, override, 2), STATUS_OK, "%s", error.text);

    cr_expect_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "trace unbalanced has no scores"));
    cr_expect_not_null(strstr(error.text, "from which reroute chooses"));
    cr_expect_eq(error.num_problems, 1);
    trace_close(&trace);
    scenario_free(&scenario);
}

/* Every router that the lab's scores can drive, through the whole engine, and every drop policy. */
Test(scenario_routing, every_router_and_drop_policy_runs_the_lab)
{
    int32_t num_routers = 0;
    int32_t num_drops = 0;
    const struct router *const *routers = route_all(&num_routers);
    const struct drop_policy *const *drops = drop_all(&num_drops);
    for (int32_t i = 0; i < num_routers + num_drops; i++) {
        const struct router *router = i < num_routers ? routers[i] : route_find("expert_choice");
        const struct drop_policy *drop =
            i < num_routers ? drop_find("reroute") : drops[i - num_routers];
        if ((router->top_k != 0 && router->top_k != 8) || (drop->top_k != 0 && drop->top_k != 8)) {
            continue;
        }
        struct scenario scenario = {0};
        struct trace trace = {0};
        struct engine *engine = NULL;
        char policy[64];
        char drop_name[64];
        snprintf(policy, sizeof policy, "routing.policy=%s", router->name);
        snprintf(drop_name, sizeof drop_name, "routing.drop=%s", drop->name);
        const char *override[] = {policy,
                                  drop_name,
                                  "routing.num_groups=8",
                                  "routing.topk_groups=4",
                                  "routing.capacity_factor=1",
                                  "trace.path=" SOURCE_DIRECTORY
                                  "/scenarios/traces/router-lab/aux_loss_scores",
                                  "trace.tokens_per_rank=16",
                                  "trace.steps=2",
                                  "cluster.nodes=2",
                                  "cluster.gpus_per_node=4"};
        cr_assert_eq(load(&scenario, LAB, override, 10), STATUS_OK, "%s", error.text);
        cr_assert_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_OK, "%s",
                     error.text);
        cr_assert_eq(engine_open(&engine, &scenario, &trace, &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s, %s: %s", policy, drop_name,
                     error.text);
        cr_expect_gt(run_totals(engine_metrics(engine), &scenario).assignments, 0);
        engine_close(engine);
        trace_close(&trace);
        scenario_free(&scenario);
    }
}
