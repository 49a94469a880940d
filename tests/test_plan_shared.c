/*
 * test_plan_shared.c -- pools that read prompts and answer by turns.
 */
#include <criterion/criterion.h>
#include <math.h>

#include "plan_internal.h"
#include "small_plan.h"

/* 10 requests a second of 1024 + 100 tokens; prefill steps of 1024 tokens a replica take 80 ms, of
 * which 30 are the experts', and decode steps of 16 sequences 20 ms. */
struct pool {
    struct plan plan;
    struct plan_point prefill;
    struct plan_point decode;
};

static void fill(struct pool *pool, int32_t replicas)
{
    *pool = (struct pool){
        .plan = {.utilisation_max = 0.9},
        .prefill = {.ep = replicas, .tp = 1, .tokens_per_rank = 1024, .step_ns = 80e6},
        .decode = {.ep = replicas, .tp = 1, .tokens_per_rank = 16, .step_ns = 20e6}};
    pool->plan.traffic = (struct cost_traffic){
        .requests_per_day = 10.0 * SECONDS_A_DAY, .input_tokens = 1024, .output_tokens = 100};
    cost_flat_day(&pool->plan.traffic);
    pool->prefill.phase_ns[STEP_EXPERT] = 30e6;
}

static struct plan_turns turns_of(const struct pool *pool, int32_t groups)
{
    return plan_take_turns(&pool->plan, &pool->prefill, &pool->decode, groups);
}

/* In a second of n steps 20 n + 10 x 80 = 1000 ms, so n = 10. */
Test(plan_shared, one_replica_reads_and_answers_by_turns)
{
    struct pool pool;
    fill(&pool, 1);
    struct plan_turns turns = turns_of(&pool, 1);

    cr_expect_float_eq(turns.step_s, 0.1, 1e-8);
    cr_expect_float_eq(turns.read_share, 1.0, 1e-6);
    cr_expect_float_eq(turns.read_s, 0.1, 1e-8);
    cr_expect_float_eq(turns.load[COST_PREFILL], 1.0, 1e-6);
    cr_expect_float_eq(turns.load[COST_DECODE], 10.0 * 100.0 * 0.1 / 16.0, 1e-6);
}

/* By hand, of 2 replicas with a chunk each in a share x of steps: T = 20 + (1 - (1 - x)^2) 50 + 30
 * x and x = 5 T / 1000 give 0.00125 T^2 + 0.35 T - 20 = 0. */
Test(plan_shared, replicas_wait_for_the_one_that_reads)
{
    struct pool pool;
    fill(&pool, 2);
    struct plan_turns turns = turns_of(&pool, 1);
    double step_ms = (sqrt(0.35 * 0.35 + 4.0 * 0.00125 * 20.0) - 0.35) / (2.0 * 0.00125);
    double reads = 0.005 * step_ms;

    cr_expect_float_eq(turns.step_s, step_ms * 1e-3, 1e-8);
    cr_expect_float_eq(turns.read_share, 1.0 - (1.0 - reads) * (1.0 - reads), 1e-6);
    cr_expect_float_eq(turns.read_s, 0.07 + (1.0 + reads) / 2.0 * 0.03, 1e-8);
    cr_expect_float_eq(turns.load[COST_PREFILL], 5.0 * turns.read_s, 1e-6);
}

/* The same traffic a replica: all that a larger group changes is who waits for whom. */
Test(plan_shared, more_replicas_wait_longer)
{
    double before_s = 0.0;
    for (int32_t replicas = 2; replicas <= 64; replicas *= 2) {
        struct pool pool;
        fill(&pool, replicas);
        pool.plan.traffic.requests_per_day *= (double)replicas / 4.0;
        struct plan_turns turns = turns_of(&pool, 1);
        cr_expect_gt(turns.step_s, before_s, "%d replicas", (int)replicas);
        cr_expect_lt(turns.step_s, 0.1);
        before_s = turns.step_s;
    }
}

Test(plan_shared, short_prompts_share_a_chunk)
{
    struct pool pool;
    fill(&pool, 1);
    pool.plan.traffic.input_tokens = 128;
    pool.plan.traffic.requests_per_day *= 8.0; /* as many tokens */
    struct plan_turns turns = turns_of(&pool, 1);

    cr_expect_float_eq(turns.step_s, 0.1, 1e-8);
    cr_expect_float_eq(turns.prompt_chunks, 1.0, 0.0);
}

/* Groups are the fewest that leave room for prompts and answers. */
Test(plan_shared, groups_are_as_many_as_find_room)
{
    struct pool pool;
    fill(&pool, 8);
    pool.plan.traffic.requests_per_day *= 100.0;
    int32_t groups = plan_shared_groups(&pool.plan, &pool.prefill, &pool.decode, 1);
    struct plan_turns enough = turns_of(&pool, groups);
    struct plan_turns fewer = turns_of(&pool, groups - 1);

    cr_assert_gt(groups, 1);
    cr_expect_leq(fmax(enough.load[COST_PREFILL], enough.load[COST_DECODE]), 0.9);
    cr_expect_gt(fmax(fewer.load[COST_PREFILL], fewer.load[COST_DECODE]), 0.9);
    cr_expect_eq(plan_shared_groups(&pool.plan, &pool.prefill, &pool.decode, groups + 3),
                 groups + 3, "never fewer than asked");
}

/* Prompts much shorter than a chunk, read alone: what prunes points must not rule them out. */
Test(plan_shared, no_deployment_is_quicker_than_its_bounds)
{
    static const char *const keys[] = {
        "traffic={requests_per_day: 1G, input_tokens: 100, output_tokens: 20}",
        "search.prefill={ep: [1, 2, 8], tokens_per_rank: [1024, 8192]}",
        "search.decode={ep: [1, 2, 8], sequences_per_rank: [16, 64]}",
        "search.micro_batches=[1, 2]"};
    struct plan plan;
    int32_t num_shared = 0;
    small_plan_load(&plan, keys, sizeof keys / sizeof keys[0], NULL);
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);

    for (int32_t i = 0; i < answer.num_deployments; i++) {
        const struct plan_deployment *row = &answer.deployment[i];
        const struct plan_point *prefill = &answer.point[row->point[COST_PREFILL]];
        const struct plan_point *decode = &answer.point[row->point[COST_DECODE]];
        num_shared += row->shared;
        cr_expect_geq(row->ttft_s, plan_point_least_s(&plan, prefill), "TTFT of %d", (int)i);
        cr_expect_geq(row->tpot_s, plan_point_least_s(&plan, decode), "TPOT of %d", (int)i);
    }
    cr_expect_gt(num_shared, 10);
    plan_answer_free(&answer);
    plan_free(&plan);
}
