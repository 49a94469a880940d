/* test_engine.c -- steps whose times were computed by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "two_ranks.h"

/*
 * Both tokens want expert 1 on rank 1.
 *   rank 0: attention to 1000, gate to 1100, start-up to 31100, nothing to compute, start-up to
 *           61100, result in at 62100, head to 62110
 *   rank 1: gate to 1100, token in at 31100 + 50 + 200 = 31350, experts to 31850, start-up to
 *           61850, the result leaves for rank 0: 61850 + 50 + 200 = 62100; head to 61860
 */
Test(engine, times_a_step_as_computed_by_hand)
{
    struct scenario scenario = two_ranks();
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    const double *phase_ns = metrics->window[0].phase_ns;
    cr_expect_eq(metrics->window[0].step_ns_sum, 62110);
    cr_expect_float_eq(phase_ns[STEP_ATTENTION], 1000.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_GATE], 100.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_DISPATCH], (30000.0 + 30250.0) / 2, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_EXPERT], 500.0 / 2, 1e-9);
    /* Rank 0 waits from 31100 until rank 1 is done at 31850, then for start-up and message. */
    cr_expect_float_eq(phase_ns[STEP_COMBINE], (30250.0 + 30000.0) / 2, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_WAITING], (750.0 + 250.0) / 2, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_DENSE], 10.0, 1e-9);
    cr_expect_eq(metrics->rank_tokens[0], 0);
    cr_expect_eq(metrics->rank_tokens[1], 2);
    cr_expect_float_eq(metrics->layer[0].rank_tokens_max_over_mean_sum, 2.0, 1e-12);
    cr_expect_eq(metrics->bytes_sent, 400);
    /* $3.6/h = $0.001/s a GPU: 2 GPUs x 62.11 us x $0.001/s for 2 tokens */
    cr_expect_float_eq(run_totals(metrics, &scenario).usd_per_million_tokens, 62.11e-3, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * Four ranks on two nodes, scale-out 1 byte/ns with 500 ns; all four tokens want expert 3 on
 * rank 3. Everybody is up at 1100 + 32900 = 34000. Rank 1's partner on node 1 is rank 3 itself: in
 * at 34000 + 500 + 200 = 34700. Rank 0's is rank 2, which has it at 34700 and only then forwards
 * it: in at 34700 + 50 + 200 = 34950. Experts to 35450, start-up to 90150. Of rank 3's two messages
 * to rank 2 the first, for rank 0, is in at 90150 + 250 = 90400 and goes on: in at 90400 + 700 =
 * 91100; head to 91110, after all others.
 */
Test(engine, forwards_a_token_when_it_has_arrived_and_not_before)
{
    struct scenario scenario = two_ranks();
    scenario.model.num_experts = 4;
    scenario.ep = 4;
    scenario.cluster.num_nodes = 2;
    scenario.cluster.gpu.port[TIER_SCALE_OUT] = (struct port_spec){1e9, 1.0, 500.0};
    scenario.collective = collective_find("deepep_normal");
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "3333");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    cr_expect_eq(engine_metrics(engine)->window[0].step_ns_sum, 91110);
    engine_close(engine);
    trace_close(&trace);
}

/* All four tokens want expert 1. The gate is done for both chunks at 1100, both leave at 31100, one
 * behind the other: in at 31350 and 31550. Experts of the first to 31850, of the second to 32350;
 * results for rank 0 in at 62100 and 62600; head to 62610. */
Test(engine, computes_chunks_while_later_ones_travel)
{
    struct scenario scenario = two_ranks();
    scenario.tokens_per_rank = 2;
    scenario.chunks = 2;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "1111");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    const double *phase_ns = metrics->window[0].phase_ns;
    cr_expect_eq(metrics->window[0].step_ns_sum, 62610);
    cr_expect_float_eq(phase_ns[STEP_ATTENTION], 1000.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_GATE], 100.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_EXPERT], 1000.0 / 2, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * The step of times_a_step_as_computed_by_hand, and again with a rank 1 at half speed, compute and
 * ports: its gate is done at 2200, its start-up at 32200, when rank 0's token has long been in;
 * experts to 33200, start-up to 63200, 400 ns out of the port and 50 on the way: in at 63650, head
 * to 63660.
 */
Test(engine, slows_a_faulty_rank_for_the_steps_it_is_faulty)
{
    struct scenario scenario = two_ranks();
    struct fault fault = {.rank = 1,
                          .from_step = 1,
                          .until_step = 2,
                          .compute = 0.5,
                          .scale_up = 0.5,
                          .scale_out = 1.0};
    scenario.fault = &fault;
    scenario.num_faults = 1;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "111111");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    cr_expect_eq(metrics->num_windows, 3);
    cr_expect_eq(metrics->window[0].step_ns_sum, 62110);
    cr_expect_eq(metrics->window[1].step_ns_sum, 63660);
    cr_expect_eq(metrics->window[2].step_ns_sum, 62110);
    engine_close(engine);
    trace_close(&trace);
}

/* With one token a rank and C = ceil(2 * 1 * 1 / 2) = 1, the second wish for expert 1 is dropped:
 * rank 1's own token. Rank 0's still travels. */
/* A strategy that looks at no load says how a checkpoint is loaded: round_robin has experts 1 and 3
 * on rank 1, where linear order has 2 and 3. */
Test(engine, begins_with_the_order_of_a_strategy_that_looks_at_no_load)
{
    struct scenario scenario = two_ranks();
    scenario.model.num_experts = 4;
    scenario.strategy = balance_find("round_robin");
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    cr_expect_eq(engine_metrics(engine)->rank_tokens[0], 0);
    cr_expect_eq(engine_metrics(engine)->rank_tokens[1], 2);
    cr_expect_eq(engine_metrics(engine)->num_rebalances, 0);
    engine_close(engine);
    trace_close(&trace);
}

Test(engine, drops_what_exceeds_the_capacity)
{
    struct scenario scenario = two_ranks();
    scenario.capacity_factor = 1.0;
    scenario.capacity_scope = CAPACITY_GLOBAL;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    cr_expect_eq(metrics->layer[0].dropped_assignments, 1);
    cr_expect_eq(metrics->rank_tokens[1], 1);
    cr_expect_eq(metrics->bytes_sent, 400);
    cr_expect_eq(metrics->dropped_at[CAPACITY_GLOBAL * DROP_FACTORS], 1);
    cr_expect_eq(metrics->dropped_at[CAPACITY_RANK * DROP_FACTORS], 0); /* C = 1 a rank */
    engine_close(engine);
    trace_close(&trace);
}

/* Experts 0 1 | 2 3 start on two ranks and only 0 and 1 are wanted, equally. eplb deals them to
 * 0 2 | 1 3, so one weight travels each way: 3 x 100 x 10 x 2 bytes = 6000 ns and 50 ns of latency
 * behind a kernel's start-up of 1000 ns, before either rank begins the third step. */
Test(engine, charges_moved_weights_to_the_step_they_land_in)
{
    struct scenario scenario = two_ranks();
    scenario.model.num_experts = 4;
    scenario.strategy = balance_find("eplb");
    scenario.rebalance_interval_steps = 2;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "010101");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    cr_assert_eq(metrics->num_rebalances, 1);
    cr_expect_eq(metrics->rebalance[0].step, 2);
    cr_expect_eq(metrics->rebalance[0].moves, 2);
    cr_expect_eq(metrics->rebalance[0].bytes, 2 * 6000);
    cr_expect_eq(metrics->rebalance[0].duration_ns, 7050);
    /* What a placement can change: the step less attention, gate and head. */
    cr_expect_eq(metrics->rebalance[0].landing_ns,
                 metrics->window[2].step_ns_sum - 1000 - 100 - 10);
    cr_expect_eq(metrics->first_steps, 2);
    cr_expect_eq(metrics->rebalance[0].settled_steps, 0);
    cr_expect_float_eq(metrics->window[1].phase_ns[STEP_REBALANCE], 0.0, 1e-9);
    cr_expect_float_eq(metrics->window[2].phase_ns[STEP_REBALANCE], 7050.0, 1e-9);
    cr_expect_eq(metrics->rank_tokens[0], 2 + 2 + 1); /* both, both, then one each */
    cr_expect_eq(metrics->rank_tokens[1], 1);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * Both tokens want expert 1 of rank 1, which is twice the mean: llep leaves it the first, rank 0's,
 * and lends rank 0 the expert for the second. Up at 31100, each sends its token, in at 31350; rank
 * 1 sends 6000 bytes of weights behind it, in at 31300 + 6000 + 50 = 37350.
 *   rank 1: experts to 31850, start-up to 61850, the result for rank 0 in at 62100
 *   rank 0: experts to 37850, start-up to 67850, the result for rank 1 in at 68100, head to 68110
 */
Test(engine, waits_for_weights_that_are_lent)
{
    struct scenario scenario = two_ranks();
    scenario.replica = dispatch_find("llep");
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    cr_expect_eq(metrics->window[0].step_ns_sum, 68110);
    cr_expect_eq(metrics->experts_lent, 1);
    cr_expect_eq(metrics->bytes_sent, 4 * 200 + 6000);
    cr_expect_eq(metrics->rank_tokens[0], 1);
    cr_expect_eq(metrics->rank_tokens[1], 1);
    engine_close(engine);
    trace_close(&trace);
}

/* What the strategy below was told; the plug-in table has no place for a context. */
static struct balance_input told;

static enum status listen(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                          struct error *error)
{
    (void)state;
    (void)expert_of_slot;
    (void)error;
    told = *input;
    return STATUS_OK;
}

/* 6000 bytes at 1 byte/ns and 50 ns on the node, at 9 and 5000 ns to another; 100 x (2 + 2) bytes
 * there and back for a token, and experts take 500 ns however many there are. */
Test(engine, tells_strategies_what_moves_and_tokens_cost)
{
    static const struct balance_strategy listening = {
        .name = "listening", .needs = BALANCE_NEEDS_WINDOW, .plan = listen};
    struct scenario scenario = two_ranks();
    scenario.strategy = &listening;
    scenario.rebalance_interval_steps = 2;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "010101");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    cr_expect_float_eq(told.near_move_ns, 6050.0, 1e-9);
    cr_expect_float_eq(told.far_move_ns, 5000.0 + 6000.0 / 9.0, 1e-9);
    cr_expect_float_eq(told.token_ns, 400.0, 1e-9);
    cr_expect_eq(told.interval_steps, 2);
    engine_close(engine);
    trace_close(&trace);
}

/* Steps of 100 ns become 80 and 80 behind one of 140, then 90 behind one of 170: a change costs
 * (60 + 80) / 2 = 70 ns, settled steps take (160 + 90) / 3 ns, so 16.7 ns are saved a step. */
Test(metrics, tell_after_how_many_steps_a_rebalance_is_paid_back)
{
    struct rebalance_record records[] = {
        {.landing_ns = 140, .settled_steps = 2, .settled_ns = 160},
        {.landing_ns = 170, .settled_steps = 1, .settled_ns = 90},
        {.landing_ns = 150}}; /* the run ended: nothing can be said */
    struct run_metrics metrics = {
        .num_rebalances = 3, .rebalance = records, .first_steps = 3, .first_ns = 300};

    struct rebalance_worth worth = rebalance_worth(&metrics);

    cr_expect_eq(worth.changes, 2);
    cr_expect_float_eq(worth.cost_ns, 70.0, 1e-12);
    cr_expect_float_eq(worth.payback_steps, 70.0 / (100.0 - 250.0 / 3.0), 1e-9);
    cr_expect_float_eq(worth.steps_between, 1.5, 1e-12);
    metrics.first_ns = 240; /* steps of 80: none became shorter */
    cr_expect_lt(rebalance_worth(&metrics).payback_steps, 0.0);
}

Test(engine, refuses_a_trace_of_another_model)
{
    struct scenario scenario = two_ranks();
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "11");
    scenario.model.num_experts = 4;
    scenario.model.top_k = 2;

    struct engine *engine = NULL;
    struct error error = {0};
    cr_expect_eq(engine_open(&engine, &scenario, &trace, &error), STATUS_INVALID);

    cr_expect_eq(error.num_problems, 2);
    cr_expect_not_null(strstr(error.text, "2 experts a layer, model tiny has 4"));
    engine_close(engine);
    trace_close(&trace);
}
