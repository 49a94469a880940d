/* test_study.c -- comparisons whose gains were computed by hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "study.h"

#define RUNS_MAX 4

/* 100 steps; the first change, if any, lands in step 20 and takes 900 ns longer than the 79 settled
 * steps behind it. */
static struct rebalance_record record[RUNS_MAX];
static struct run_metrics metrics[RUNS_MAX];
static struct run_totals totals[RUNS_MAX];
static struct scenario scenario[RUNS_MAX];
static struct study_run run[RUNS_MAX];

/* A run whose steps take 1000 ns until step 20 and settled_ns behind it; landing_ns 0: it never
 * changes anything. */
static void fake(int32_t index, const char *strategy, const char *group, int64_t settled_ns,
                 int64_t landing_ns)
{
    scenario[index] =
        (struct scenario){.strategy = balance_find(strategy), .ep = 8, .expert_tp = 1};
    metrics[index] = (struct run_metrics){.num_steps = 100, .first_steps = 100};
    int64_t whole_ns = 20 * 1000 + 80 * settled_ns;
    if (landing_ns > 0) {
        record[index] = (struct rebalance_record){.step = 20,
                                                  .moves = 4,
                                                  .bytes = 4000,
                                                  .landing_ns = landing_ns,
                                                  .settled_steps = 79,
                                                  .settled_ns = 79 * settled_ns};
        metrics[index].rebalance = &record[index];
        metrics[index].num_rebalances = 1;
        metrics[index].first_steps = 20;
        metrics[index].first_ns = 20 * 1000;
        whole_ns = 20 * 1000 + landing_ns + 79 * settled_ns;
    }
    totals[index] = (struct run_totals){.step_ns_mean = (double)whole_ns / 100.0};
    run[index] = (struct study_run){.run_id = strategy,
                                    .name = strategy,
                                    .group = group,
                                    .is_strategy = true,
                                    .scenario = &scenario[index],
                                    .metrics = &metrics[index],
                                    .totals = &totals[index]};
}

static struct study judge(int32_t count)
{
    struct study study;
    cr_assert_eq(study_judge(&study, run, count), STATUS_OK);
    return study;
}

/*
 * eplb: 79 steps of 900 and one of 1800 where static has 80 of 1000: 79 * 100 - 800 = 7100 ns of
 * 80000 saved. Settled it saves 10 %, and its change costs 900, which 9 steps of 100 pay back.
 */
Test(study, counts_gains_behind_the_first_change)
{
    fake(0, "static", "", 1000, 0);
    fake(1, "eplb", "", 900, 1800);

    struct study study = judge(2);

    cr_expect_eq(study.num_groups, 1);
    cr_expect_eq(study.group[0].reference, 0);
    cr_expect_eq(study.group[0].winner, 1);
    cr_expect_float_eq(run[0].gain, 0.0, 1e-12);
    cr_expect_float_eq(run[1].gain, 7100.0 / 80000.0, 1e-12);
    cr_expect_float_eq(run[1].settled_gain, 0.1, 1e-12);
    cr_expect_float_eq(run[1].change_ns, 900.0, 1e-9);
    cr_expect_float_eq(run[1].payback_steps, 9.0, 1e-9);
    cr_expect(strstr(study.group[0].verdict, "balancing pays. eplb makes a step 8.9 % shorter"));
    study_free(&study);
}

/* A change of 80 steps' worth of gain, 8100 ns, is one step too dear. */
Test(study, says_that_fewer_changes_would_pay)
{
    fake(0, "eplb", "", 900, 9900);
    fake(1, "static", "", 1000, 0);

    struct study study = judge(2);

    cr_expect_eq(study.group[0].reference, 1); /* static, wherever it stands */
    cr_expect_float_eq(run[0].gain, (79.0 * 100.0 - 8900.0) / 80000.0, 1e-12);
    cr_expect_eq(run[1].place, 1);
    cr_expect_eq(run[0].place, 2);
    cr_expect(strstr(study.group[0].verdict, "balancing does not pay: nothing beats leaving"));
    cr_expect(strstr(study.group[0].verdict, "eplb's steps are 10.0 % shorter"));
    cr_expect(strstr(study.group[0].verdict, "takes 90 steps to pay back"));
    study_free(&study);
}

/* What a change cost or brought is not known before a step lies behind it. */
Test(study, says_nothing_of_changes_in_the_last_step)
{
    fake(0, "static", "", 1000, 0);
    fake(1, "eplb", "", 1000, 200); /* 800 of 80000 ns */
    record[1].settled_steps = 0;
    record[1].settled_ns = 0;

    struct study study = judge(2);

    cr_expect_eq(study.group[0].winner, 1);
    cr_expect(run[0].is_settled);
    cr_expect_not(run[1].is_settled);
    cr_expect_lt(run[1].payback_steps, 0.0);
    cr_expect_str_eq(strstr(study.group[0].verdict, "balancing"),
                     "balancing pays. eplb makes a step 1.0 % shorter, net of its moves: 1 change "
                     "of 4 copies of experts (4 kB). Next is static with +0.0 %.");
    study_free(&study);
}

Test(study, breaks_ties_by_what_is_moved)
{
    fake(0, "eplb", "", 1000, 1000);
    fake(1, "static", "", 1000, 0);
    fake(2, "swift", "", 1000, 1000);
    record[2].bytes = 3999;

    struct study study = judge(3);

    cr_expect_eq(run[1].place, 1);
    cr_expect_eq(run[2].place, 2);
    cr_expect_eq(run[0].place, 3);
    study_free(&study);
}

Test(study, ranks_groups_apart)
{
    fake(0, "static", "a", 1000, 0);
    fake(1, "eplb", "a", 900, 1800);
    fake(2, "static", "b", 1000, 0);
    fake(3, "eplb", "b", 1100, 1800);

    struct study study = judge(4);

    cr_expect_eq(study.num_groups, 2);
    cr_expect_eq(study.group[0].winner, 1);
    cr_expect_eq(study.group[1].winner, 2);
    cr_expect_eq(run[3].payback_steps, -1.0);
    study_free(&study);
}

/* It was never asked, moves nothing, and is no reason to balance. */
Test(study, does_not_call_a_fixed_placement_balancing)
{
    fake(0, "static", "", 1000, 0);
    fake(1, "round_robin", "", 900, 0);
    fake(2, "eplb", "", 990, 1800);
    scenario[2].rebalance_interval_steps = 1;

    struct study study = judge(3);

    cr_expect_eq(study.group[0].winner, 1);
    cr_expect(strstr(study.group[0].verdict,
                     "a change every step: another fixed placement is best. round_robin, which "
                     "looks at no load and moves nothing, makes a step 10.0 % shorter. Next is "),
              "%s", study.group[0].verdict);
    cr_expect_null(strstr(study.group[0].verdict, "balancing pays"));
    study_free(&study);
}

/* Four runs, two of them with 8 replicas, of a model whose expert takes 3 x 64 x 32 x 2 bytes; with
 * replicas steps before the change take 1100 ns, too. */
static void give_replicas(void)
{
    for (int32_t index = 0; index < 4; index++) {
        scenario[index].model = (struct moe_model){.hidden_dim = 64,
                                                   .expert_ffn_dim = 32,
                                                   .num_layers = 1,
                                                   .moe_layer_step = 1,
                                                   .num_experts = 8,
                                                   .top_k = 2,
                                                   .precision_expert = PRECISION_BF16};
        scenario[index].expert_tp = 1;
        scenario[index].tp = 1;
        scenario[index].redundant_experts = index < 2 ? 0 : 8;
    }
    for (int32_t index = 2; index < 4; index++) {
        totals[index].step_ns_mean += 20.0 * 100.0 / 100.0; /* steps before the change: 1100, too */
        metrics[index].first_ns = 20 * 1100;
    }
}

/* Static steps take 1100 instead of 1000 ns; eplb's, settled, 880, but its move costs more than
 * that is worth. */
Test(study, says_longer_where_replicas_lengthen_steps)
{
    fake(0, "static", "placement.redundant_experts=0", 1000, 0);
    fake(1, "eplb", "placement.redundant_experts=0", 1000, 1000);
    fake(2, "static", "placement.redundant_experts=8", 1100, 0);
    fake(3, "eplb", "placement.redundant_experts=8", 880, 100000);
    give_replicas();

    struct study study = judge(4);

    cr_expect(strstr(study.group[1].verdict, "static's steps are 10.0 % longer, once settled those "
                                             "of eplb are 12.0 % shorter; replicas take"),
              "%s", study.group[1].verdict);
    study_free(&study);
}

/*
 * With 8 replicas static steps take 1100 instead of 1000 ns; eplb's, settled, 880: 12 % less than
 * 1000. 80 behind the change: 79 of 880 and one of 8980 average 981.25 of 1100, 10.795 % less, so
 * 1.9 % less than 1000. A slot more on each of 8 ranks is an expert of 3 x 64 x 32 at 2 bytes.
 */
Test(study, weighs_replicas_against_experts_left_in_place_without_them)
{
    fake(0, "static", "placement.redundant_experts=0 seed=1", 1000, 0);
    fake(1, "eplb", "placement.redundant_experts=0 seed=1", 900, 900);
    fake(2, "static", "placement.redundant_experts=8 seed=1", 1100, 0);
    fake(3, "eplb", "placement.redundant_experts=8 seed=1", 880, 8980);
    give_replicas();

    struct study study = judge(4);

    cr_expect_null(strstr(study.group[0].verdict, "Beside"));
    cr_expect(strstr(study.group[1].verdict,
                     "Beside experts left in place with 0 redundant ones, eplb's steps are 1.9 % "
                     "shorter, once settled 12.0 % shorter; replicas take 12.3 kB more a GPU."),
              "%s", study.group[1].verdict);
    study_free(&study);
}

Test(study, has_no_word_on_balancing_where_something_else_varies)
{
    fake(0, "eplb", "", 900, 1800);
    fake(1, "static", "", 800, 0);
    run[0].is_strategy = false; /* another model, say */
    run[1].is_strategy = false;
    run[1].name = "other";

    struct study study = judge(2);

    cr_expect_eq(study.group[0].winner, 1);
    cr_expect(strstr(study.group[0].verdict, "'other' has the shortest steps"));
    cr_expect(strstr(study.group[0].verdict, "balancing") == NULL);
    study_free(&study);
}

/* The same runs, the same id; another order is another study, whose reference may differ. */
Test(study, is_known_by_its_runs_in_order)
{
    fake(0, "static", "", 1000, 0);
    fake(1, "eplb", "", 900, 1800);
    struct study first = judge(2);
    struct study again = judge(2);
    fake(0, "eplb", "", 900, 1800);
    fake(1, "static", "", 1000, 0);
    struct study other = judge(2);

    cr_expect_str_eq(first.id, again.id);
    cr_expect_str_neq(first.id, other.id);
    study_free(&first);
    study_free(&again);
    study_free(&other);
}

/* 100 steps are no interval of 200: nothing was asked, so nothing is known. */
Test(study, says_when_no_strategy_was_asked)
{
    fake(0, "static", "", 1000, 0);
    fake(1, "eplb", "", 1000, 0);
    scenario[1].rebalance_interval_steps = 200;

    struct study study = judge(2);

    cr_expect(strstr(study.group[0].verdict, "no strategy was asked"));
    cr_expect(strstr(study.group[0].verdict, "100 steps"));
    cr_expect(strstr(study.group[0].verdict, "does not pay") == NULL);
    study_free(&study);
}
