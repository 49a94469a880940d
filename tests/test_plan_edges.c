/*
 * test_plan_edges.c -- which searched lists end where a missed target is best, of answers made up
 * by hand.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "plan_words.h"

#define DEPLOYMENTS 4

/* Decode on EP1, 2 and 8 with 16 sequences, and on EP8 with 64; all beside the same prefill. */
struct answered {
    struct plan plan;
    struct plan_answer answer;
    struct plan_point point[1 + DEPLOYMENTS];
    struct plan_deployment deployment[DEPLOYMENTS];
};

static void make(struct answered *made, const double tpot_s[DEPLOYMENTS])
{
    static const int32_t ep[DEPLOYMENTS] = {1, 2, 8, 8};
    static const int32_t sequences[DEPLOYMENTS] = {16, 16, 16, 64};
    static const struct plan_list one = {.count = 1, .value = {1}};
    *made = (struct answered){
        .plan = {.ttft_s = 2.0,
                 .tpot_s = 1e-3,
                 .num_gpus = 1,
                 .attention_tp = one,
                 .model = {.num_q_heads = 8},
                 .space = {[COST_PREFILL] = {.ep = one, .tokens_per_rank = one},
                           [COST_DECODE] = {.ep = {.count = 3, .value = {1, 2, 8}},
                                            .tokens_per_rank = {.count = 2, .value = {16, 64}}}}}};
    made->point[0] = (struct plan_point){
        .pool = COST_PREFILL, .ep = 1, .tp = 1, .tokens_per_rank = 1, .fate = PLAN_SIMULATED};
    for (int32_t i = 0; i < DEPLOYMENTS; i++) {
        made->point[i + 1] = (struct plan_point){.pool = COST_DECODE,
                                                 .ep = ep[i],
                                                 .tp = 1,
                                                 .tokens_per_rank = sequences[i],
                                                 .fate = PLAN_SIMULATED};
        made->deployment[i] =
            (struct plan_deployment){.point = {0, i + 1}, .ttft_s = 1.0, .tpot_s = tpot_s[i]};
    }
    made->answer = (struct plan_answer){.point = made->point,
                                        .num_points = 1 + DEPLOYMENTS,
                                        .deployment = made->deployment,
                                        .num_deployments = DEPLOYMENTS,
                                        .winner = -1};
}

static void expect_said(const struct answered *made, const char *words)
{
    char line[512] = "None.", expected[512];
    (void)snprintf(expected, sizeof expected, "None.%s", words);
    plan_say_edges(line, sizeof line, &made->plan, &made->answer);
    cr_expect_str_eq(line, expected);
}

static const double to_the_edge_s[DEPLOYMENTS] = {5e-3, 4e-3, 3e-3, 3.5e-3};

Test(plan_edges, the_best_at_the_end_of_a_list_names_it)
{
    struct answered made;
    make(&made, to_the_edge_s);
    expect_said(&made, " The best TPOT has search.decode.ep at its largest, 8 and "
                       "search.decode.sequences_per_rank at its smallest, 16; what lies beyond was "
                       "not searched.");
    made.plan.gpus_max = 8;
    expect_said(&made, " The best TPOT has search.decode.sequences_per_rank at its smallest, 16; "
                       "what lies beyond was not searched.");
}

Test(plan_edges, a_best_within_a_list_or_a_flat_one_names_nothing)
{
    static const double within_s[DEPLOYMENTS] = {5e-3, 3e-3, 4e-3, 2.99e-3};
    static const double flat_s[DEPLOYMENTS] = {3.02e-3, 3.01e-3, 3e-3, 3.01e-3};
    struct answered made;
    make(&made, within_s);
    made.deployment[3].tpot_s = 6e-3;
    made.plan.space[COST_DECODE].tokens_per_rank.count = 1;
    expect_said(&made, "");
    make(&made, flat_s);
    expect_said(&made, "");
}

Test(plan_edges, a_target_that_something_meets_names_nothing)
{
    struct answered made;
    make(&made, to_the_edge_s);
    made.plan.tpot_s = 3e-3;
    expect_said(&made, "");
    made.plan.tpot_s = 0.0;
    expect_said(&made, "");
}

/* EP16 was searched and did not fit: memory binds, not the list. */
Test(plan_edges, a_larger_value_that_failed_is_no_edge)
{
    struct answered made;
    make(&made, to_the_edge_s);
    made.plan.space[COST_DECODE].ep = (struct plan_list){.count = 4, .value = {1, 2, 8, 16}};
    made.plan.space[COST_DECODE].tokens_per_rank.count = 1;
    expect_said(&made, "");
}

/* What was too slow to be simulated is worse where its bound is, and says nothing elsewhere. */
Test(plan_edges, bounds_stand_for_points_too_slow)
{
    struct answered made;
    make(&made, to_the_edge_s);
    made.answer.deployment = &made.deployment[2];
    made.answer.num_deployments = 1; /* EP8 with 16 sequences: 3 ms */
    made.plan.space[COST_DECODE].tokens_per_rank.count = 1;
    for (int32_t i = 1; i <= 2; i++) {
        made.point[i].fate = PLAN_TOO_SLOW;
        made.point[i].bound_ns = 3.2e6;
    }
    expect_said(&made,
                " The best TPOT has search.decode.ep at its largest, 8; what lies beyond was "
                "not searched.");
    made.answer.deployment = &made.deployment[0]; /* EP1, 5 ms; the others may be faster */
    made.point[2].bound_ns = 2.9e6;
    made.point[3].fate = PLAN_TOO_SLOW;
    made.point[3].bound_ns = 2.0e6;
    expect_said(&made, "");

    made.answer.num_deployments = 0;
    expect_said(&made,
                " The lowest bound of TPOT has search.decode.ep at its largest, 8; what lies "
                "beyond was not searched.");
}
