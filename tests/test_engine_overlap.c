/* test_engine_overlap.c -- steps in micro-batches, and kernels that hold the GPU, by hand. */
#include <criterion/criterion.h>

#include "two_ranks.h"

/*
 * Two micro-batches of one token a rank: both first tokens want expert 0 on rank 0, both second
 * ones expert 1 on rank 1. Three of four parameters of attention are before its core: 750 and 250.
 * The second's core comes behind the first's experts. Attention and gate of the first to 1100, then
 * the second's projections to 1850; the first's start-up to 31100.
 *   rank 0: first token in at 31350, experts to 31850; core and gate of the second to 32200,
 *           start-ups to 61850 (the first is done) and 62200, with nothing to compute for the
 *           second another to 92200
 *   rank 1: nothing to compute for the first at 31100; core and gate of the second to 31450; the
 *           first's result in at 61850 + 250 = 62100; second token in at 62200 + 250 = 62450,
 *           experts to 62950, start-up to 92950, head to 92960
 *   rank 0: the second's result in at 92950 + 250 = 93200; head to 93210
 * One batch would be through at 62110: all that costs is fixed, so halves cost more.
 */
Test(engine, interleaves_micro_batches_as_computed_by_hand)
{
    struct scenario scenario = two_ranks();
    scenario.tokens_per_rank = 2;
    scenario.micro_batches = 2;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "0101");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    const double *phase_ns = metrics->window[0].phase_ns;
    cr_expect_eq(metrics->window[0].step_ns_sum, 93210);
    cr_expect_float_eq(phase_ns[STEP_ATTENTION], 2000.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_GATE], 200.0, 1e-9);
    /* Idle until tokens are in: 1850 .. 31350, 61850 .. 62200; 1850 .. 31100, 62100 .. 62450. */
    cr_expect_float_eq(phase_ns[STEP_DISPATCH], (29850.0 + 29600.0) / 2, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_EXPERT], 500.0, 1e-9);
    /* 32200 .. 61850, 62950 .. 93200; 31850 .. 62100, 62950 .. 92950. */
    cr_expect_float_eq(phase_ns[STEP_COMBINE], (59900.0 + 60250.0) / 2, 1e-9);
    /* For rank 1's experts 62200 .. 62950; for rank 0's 31450 .. 31850, at the end 250. */
    cr_expect_float_eq(phase_ns[STEP_WAITING], (750.0 + 650.0) / 2, 1e-9);
    cr_expect_eq(metrics->bytes_sent, 4 * 200);
    cr_expect_float_eq(metrics->layer[0].rank_tokens_max_over_mean_sum, 2.0, 1e-12);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * A prompt's micro-batches with a shared expert, which is computed behind the routed ones, while
 * results are under way. All tokens want the rank they are on: nothing is sent, transfers are
 * start-ups. Attention and gate of the first to 1100, of the second to 2200; tokens in at 31100 and
 * 32200, experts to 31600 and 32700, shared experts to 33100; results in at 61600 and 62700; head
 * to 62710.
 */
Test(engine, computes_the_shared_expert_of_a_prompt_while_results_travel)
{
    struct scenario scenario = two_ranks();
    scenario.phase = PHASE_PREFILL;
    scenario.model.shared_ffn_dim = 10;
    scenario.tokens_per_rank = 2;
    scenario.micro_batches = 2;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "0011");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    const double *phase_ns = metrics->window[0].phase_ns;
    cr_expect_eq(metrics->window[0].step_ns_sum, 62710);
    cr_expect_float_eq(phase_ns[STEP_EXPERT], 2.0 * (500.0 + 200.0), 1e-9);
    cr_expect_float_eq(phase_ns[STEP_DISPATCH], 28900.0 + 600.0, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * Low-latency kernels hold the GPU while they send: 11200 behind the gate, 8700 behind the experts.
 * Both tokens want the rank they are on; the shared expert comes behind the sending.
 * Attention and gate to 1100, sending to 12300, shared expert to 12500, experts to 13000, sending
 * to 21700, head to 21710.
 */
Test(engine, lets_low_latency_kernels_hold_the_gpu)
{
    struct scenario scenario = two_ranks();
    scenario.collective = collective_find("deepep_low_latency");
    scenario.model.shared_ffn_dim = 10;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "01");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    const double *phase_ns = metrics->window[0].phase_ns;
    cr_expect_eq(metrics->window[0].step_ns_sum, 21710);
    cr_expect_float_eq(phase_ns[STEP_DISPATCH], 11200.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_COMBINE], 8700.0, 1e-9);
    cr_expect_float_eq(phase_ns[STEP_GATE], 100.0, 1e-9);
    cr_expect_float_eq(metrics->rank_busy_ns[0], 1000.0 + 100.0 + 200.0 + 500.0 + 10.0, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

static int64_t step_ns(const struct scenario *scenario, const char *experts)
{
    struct trace trace;
    two_ranks_trace(&trace, scenario, experts);
    struct engine *engine = two_ranks_run(scenario, &trace);
    const struct run_metrics *metrics = engine_metrics(engine);
    const int64_t ns = metrics->window[0].step_ns_sum;
    double sum_ns = 0.0;
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        sum_ns += metrics->window[0].phase_ns[phase];
    }
    cr_expect_float_eq(sum_ns, (double)ns, 1e-9); /* nothing is booked twice */
    engine_close(engine);
    trace_close(&trace);
    return ns;
}

/*
 * Attention and experts cut over both ranks, a step of 20480 without a shared expert
 * (test_expert_tp.c), whose 200 come before the experts' 500. On a stream of its own it lengthens
 * them by what it keeps the memory busy, at 1000 bytes a ns: half of its 3 x 100 x 10 parameters in
 * bf16 are 3000 bytes, two tokens 2 x (2 x 100 + 5 x 5) x 2 = 900; so by 3.9. It runs after all
 * where a step decodes more tokens than it may, and where it reads prompts.
 */
Test(engine, computes_the_shared_expert_beside_the_routed_ones)
{
    struct scenario scenario = two_ranks();
    scenario.tp = scenario.expert_tp = 2;
    scenario.collective = collective_find("allgather_reducescatter");
    scenario.model.shared_ffn_dim = 10;

    cr_expect_eq(step_ns(&scenario, "01"), 20680);
    scenario.shared_tokens = 1;
    cr_expect_eq(step_ns(&scenario, "01"), 20680);
    scenario.shared_tokens = 2;
    cr_expect_eq(step_ns(&scenario, "01"), 20484);
    scenario.phase = PHASE_PREFILL; /* one logit less to gather, of 10 bytes */
    cr_expect_eq(step_ns(&scenario, "01"), 20670);
}

static double long_shared_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const struct scenario scenario = two_ranks();
    return work->phase == GPU_SHARED ? 31000.0 : scenario.gpu_model->duration_ns(gpu, work);
}

/*
 * Attention and gate to 1100. The shared expert of 31000 goes on when tokens are in at 31100, by
 * 1000, longer than the experts' 500: these keep the memory busy for 6000 bytes of weights and
 * (6 x 100 + 5 x 10) x 2 = 1300 of activations, 7.3. Results in at 32107 + 30000, head 10.
 */
Test(engine, begins_the_shared_expert_behind_the_gate_and_ends_it_beside_the_routed_ones)
{
    const struct gpu_model slow = {
        .name = "slow", .kernels = "any", .fitted_on = "", .duration_ns = long_shared_ns};
    struct scenario scenario = two_ranks();
    scenario.model.shared_ffn_dim = 10;
    scenario.gpu_model = &slow;

    cr_expect_eq(step_ns(&scenario, "01"), 1100 + 31000 + 500 + 30000 + 10);
    scenario.shared_tokens = 1;
    cr_expect_eq(step_ns(&scenario, "01"), 62117);
}
