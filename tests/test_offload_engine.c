/* test_offload_engine.c -- offloaded experts on the clock: times by hand, laws in random scenarios,
 * memory. */
#include <criterion/criterion.h>
#include <math.h>

#include "digest.h"
#include "engine.h"
#include "random_run.h"
#include "rng.h"
#include "two_ranks.h"

#include <gsl/gsl_rng.h>

static struct engine *simulate(const struct scenario *scenario, const struct trace *trace)
{
    struct engine *engine = NULL;
    struct error error = {0};
    cr_assert_eq(engine_open(&engine, scenario, trace, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
    return engine;
}

/* One GPU that keeps one of two experts of 6000 bytes; 1 byte/ns from the host, 5000 ns of latency.
 */
static struct scenario one_slot(void)
{
    struct scenario scenario = two_ranks();
    scenario.ep = 1;
    scenario.cluster.gpus_per_node = 1;
    scenario.offload = (struct offload_settings){.home = OFFLOAD_HOST,
                                                 .policy = offload_find("lru"),
                                                 .num_slots = 1,
                                                 .profile_steps = 10,
                                                 .link_bytes_per_s = 1e9,
                                                 .link_latency_ns = 5000.0};
    return scenario;
}

static void expect_steps(const struct scenario *scenario, const char *experts,
                         const int64_t *step_ns, double fetch_ns)
{
    struct trace trace;
    two_ranks_trace(&trace, scenario, experts);
    struct engine *engine = simulate(scenario, &trace);
    const struct run_metrics *metrics = engine_metrics(engine);
    double fetched_ns = 0.0;
    for (int32_t step = 0; step < metrics->num_windows; step++) {
        cr_expect_eq(metrics->window[step].step_ns_sum, step_ns[step], "step %d: %lld ns",
                     (int)step, (long long)metrics->window[step].step_ns_sum);
        fetched_ns += metrics->window[step].phase_ns[STEP_FETCH];
    }
    cr_expect_float_eq(fetched_ns, fetch_ns, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

/*
 * A hit: attention to 1000, gate to 1100, experts to 1600, head to 1610; one GPU exchanges nothing.
 * A miss at a hundredth of the rate: the fetch begins with the gate's end, is in at 1100 + 600000 +
 * 5000 = 606100, and all behind it comes 605000 ns later.
 */
Test(offload_engine, times_a_fetch_as_computed_by_hand)
{
    struct scenario scenario = one_slot();
    scenario.offload.link_bytes_per_s = 1e7;

    expect_steps(&scenario, "0110", (int64_t[]){1610, 606610, 1610, 606610}, 2 * 605000.0);
}

/* At 100 bytes/ns it is in at 1100 + 60 + 100 = 1260, before the shared expert is done at 1300. */
Test(offload_engine, hides_a_fetch_behind_what_the_rank_does_meanwhile)
{
    struct scenario scenario = one_slot();
    scenario.model.shared_ffn_dim = 10;
    scenario.offload.link_bytes_per_s = 1e11;
    scenario.offload.link_latency_ns = 100.0;

    expect_steps(&scenario, "01", (int64_t[]){1810, 1810}, 0.0);
}

/* A node's drives at 0.01 bytes/ns and 7000 ns behind the same link. */
Test(offload_engine, drives_are_slower_than_the_link)
{
    struct scenario scenario = one_slot();
    scenario.offload.home = OFFLOAD_NVME;
    scenario.offload.home_bytes_per_s = 1e7;
    scenario.offload.home_latency_ns = 7000.0;

    expect_steps(&scenario, "01", (int64_t[]){1610, 613610}, 612000.0);
}

/*
 * Rank 0 serves experts 0 and 1, rank 1 serves 2 and 3, and tokens "31" ask for the second of each,
 * which neither has. They know when the dispatch is in, at 31100 + 50 + 200 = 31350. The drives
 * take 6000 ns an expert, as a link does: one is in after 11000, the other after 17000. Memory of
 * three times that rate lets the second set out 2000 ns after the first.
 */
Test(offload_engine, ranks_of_a_node_share_its_drives_and_its_memory)
{
    struct scenario scenario = two_ranks();
    struct trace trace;
    const double fetch_ns[] = {(11000.0 + 17000.0) / 2, (11000.0 + 13000.0) / 2, 11000.0};
    const double bytes_per_s[] = {1e9, 3e9, 0.0};
    scenario.model.num_experts = 4;
    scenario.offload = one_slot().offload;
    two_ranks_trace(&trace, &scenario, "31");
    for (int32_t which = 0; which < 3; which++) {
        scenario.offload.home = which == 0 ? OFFLOAD_NVME : OFFLOAD_HOST;
        scenario.offload.home_bytes_per_s = bytes_per_s[which];
        struct engine *engine = simulate(&scenario, &trace);
        const struct run_metrics *metrics = engine_metrics(engine);
        cr_expect_eq(offload_totals(metrics).fetched, 2);
        cr_expect_float_eq(metrics->window[0].phase_ns[STEP_FETCH], fetch_ns[which], 1e-9);
        engine_close(engine);
    }
    trace_close(&trace);
}

/*
 * No slots: the CPUs read 0.06 bytes/ns. The token arrives at 1100 + 5000 + 200 = 6300, is computed
 * by 106300 and back at 111500; head to 111510. Nothing is fetched.
 */
Test(offload_engine, cpus_compute_what_the_gpu_lacks)
{
    struct scenario scenario = one_slot();
    scenario.offload.num_slots = 0;
    scenario.offload.misses = OFFLOAD_CPU;
    scenario.offload.cpu_bytes_per_s = 6e7;
    scenario.offload.cpu_flops_per_s = 1e12;
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "01");

    struct engine *engine = simulate(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    struct offload_counts counts = offload_totals(metrics);
    cr_expect_eq(metrics->window[1].step_ns_sum, 111510);
    cr_expect_float_eq(metrics->window[1].phase_ns[STEP_EXPERT], 110400.0, 1e-9);
    cr_expect_eq(counts.on_cpu, 2);
    cr_expect_eq(counts.transfers, 0);
    engine_close(engine);
    trace_close(&trace);
}

/* The CPUs take 110,400 ns and the link 11,000: with `faster` nothing is computed by CPUs, and the
 * other way round all is, and its expert comes behind it. */
Test(offload_engine, the_faster_way_is_taken)
{
    struct scenario scenario = one_slot();
    scenario.offload.misses = OFFLOAD_FASTER;
    scenario.offload.cpu_flops_per_s = 1e12;
    for (int32_t which = 0; which < 2; which++) {
        scenario.offload.cpu_bytes_per_s = which == 0 ? 6e7 : 1e12;
        struct trace trace;
        two_ranks_trace(&trace, &scenario, "0110");
        struct engine *engine = simulate(&scenario, &trace);
        struct offload_counts counts = offload_totals(engine_metrics(engine));
        cr_expect_eq(counts.fetched, which == 0 ? 2 : 0);
        cr_expect_eq(counts.on_cpu, which == 0 ? 0 : 2);
        cr_expect_eq(counts.transfers, 2);
        cr_expect_eq(counts.hits, 2);
        engine_close(engine);
        trace_close(&trace);
    }
}

/* Random scenarios whose experts are offloaded in all ways. */
static void offload_at_random(struct random_run *run, uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "offload run", 0);
    int32_t num_policies = 0;
    const struct offload_policy *const *policies = offload_all(&num_policies);
    struct scenario *scenario = &run->scenario;
    scenario->strategy = balance_find("static");
    scenario->rebalance_interval_steps = 0;
    scenario->window_steps = 0;
    scenario->replica = dispatch_find("locality");
    scenario->micro_batches = 1;
    scenario->chunks = 1;
    int32_t served = scenario_experts_per_rank(scenario);
    scenario->offload = (struct offload_settings){
        .home = gsl_rng_uniform_int(rng, 2) == 0 ? OFFLOAD_HOST : OFFLOAD_NVME,
        .policy = policies[gsl_rng_uniform_int(rng, (unsigned long)num_policies)],
        .num_slots = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)served) + 1,
        .prefetch = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)served + 1),
        .misses = (enum offload_misses)gsl_rng_uniform_int(rng, 3),
        .profile_steps = 2,
        .link_bytes_per_s = 1e8,
        .link_latency_ns = 3000.0,
        .home_bytes_per_s = 5e7,
        .cpu_bytes_per_s = 3e8,
        .cpu_flops_per_s = 1e9};
    gsl_rng_free(rng);
}

static void check_counts(const struct run_metrics *metrics, const struct scenario *scenario)
{
    struct offload_counts windows = {0};
    struct offload_counts layers = offload_totals(metrics);
    for (int32_t window = 0; window < metrics->num_windows; window++) {
        windows.touches += metrics->offload_window[window].touches;
        windows.transfers += metrics->offload_window[window].transfers;
    }
    cr_assert_eq(windows.touches, layers.touches);
    cr_assert_eq(windows.transfers, layers.transfers);
    cr_assert_eq(layers.touches, layers.hits + layers.ahead + layers.fetched + layers.on_cpu);
    cr_assert_leq(layers.touches - layers.best_hits, layers.transfers + layers.on_cpu);
    cr_assert(scenario->offload.prefetch > 0 || layers.ahead == 0);
    cr_assert(scenario->offload.misses != OFFLOAD_FETCH || layers.on_cpu == 0);
    cr_assert(scenario->offload.misses != OFFLOAD_CPU || layers.fetched == 0);
    cr_assert(scenario->offload.prefetch > 0 || layers.hits <= layers.best_hits);
}

static void check_time(const struct run_metrics *metrics)
{
    for (int32_t index = 0; index < metrics->num_windows; index++) {
        const struct step_window *window = &metrics->window[index];
        double booked_ns = 0.0;
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            cr_assert_geq(window->phase_ns[phase], 0.0);
            booked_ns += window->phase_ns[phase];
        }
        cr_assert_lt(fabs(booked_ns - (double)window->step_ns_sum),
                     1e-9 * (double)window->step_ns_sum + 1e-3);
    }
}

/* Touches are counted once, no fetches fewer than the bound, all time is booked, equal runs are
 * equal. */
Test(offload_engine, keeps_its_laws_in_random_scenarios)
{
    for (uint64_t round = 0; round < 500; round++) {
        struct random_run run;
        random_run_make(&run, round);
        offload_at_random(&run, round);
        struct engine *engine = simulate(&run.scenario, &run.trace);
        const struct run_metrics *metrics = engine_metrics(engine);
        check_counts(metrics, &run.scenario);
        check_time(metrics);
        if (round % 20 == 0) {
            struct engine *again = simulate(&run.scenario, &run.trace);
            cr_assert_eq(engine_metrics(again)->digest, metrics->digest);
            engine_close(again);
        }
        engine_close(engine);
        random_run_free(&run);
    }
}

/* Every policy, home and way with misses on four ranks, folded into one word; a new policy moves
 * it.
 */
Test(offload_engine, all_ways_have_the_pinned_digest)
{
    struct scenario scenario = two_ranks();
    struct trace trace;
    int32_t num_policies = 0;
    const struct offload_policy *const *policies = offload_all(&num_policies);
    uint64_t digest = DIGEST_START;
    scenario.model.num_layers = 3;
    scenario.model.num_experts = 16;
    scenario.model.top_k = 3;
    scenario.ep = 4;
    scenario.cluster.num_nodes = 2;
    random_trace(&trace, &scenario.model, 400, 1);
    for (int32_t way = 0; way < num_policies * 18; way++) {
        scenario.offload = one_slot().offload;
        scenario.offload.policy = policies[way / 18];
        scenario.offload.num_slots = 2;
        scenario.offload.misses = (enum offload_misses)(way % 3);
        scenario.offload.prefetch = way / 3 % 3;
        scenario.offload.home = way / 9 % 2 == 0 ? OFFLOAD_HOST : OFFLOAD_NVME;
        scenario.offload.home_bytes_per_s = way / 9 % 2 == 0 ? 0.0 : 5e8;
        scenario.offload.cpu_bytes_per_s = 4e8;
        scenario.offload.cpu_flops_per_s = 1e9;
        struct engine *engine = simulate(&scenario, &trace);
        digest = digest_u64(digest, engine_metrics(engine)->digest);
        engine_close(engine);
    }
    cr_expect_eq(digest, UINT64_C(0x7cedcbe2e97bcf87), "digest is 0x%016llx",
                 (unsigned long long)digest);
    trace_close(&trace);
}

/* A cache that holds all is none: the very run without offload. */
Test(offload_engine, a_slot_for_every_expert_changes_nothing)
{
    for (uint64_t round = 0; round < 100; round++) {
        struct random_run run;
        random_run_make(&run, round);
        offload_at_random(&run, round);
        run.scenario.offload.num_slots = scenario_experts_per_rank(&run.scenario);
        struct engine *offloaded = simulate(&run.scenario, &run.trace);
        run.scenario.offload = (struct offload_settings){0};
        struct engine *whole = simulate(&run.scenario, &run.trace);
        cr_expect_eq(engine_metrics(offloaded)->digest, engine_metrics(whole)->digest);
        engine_close(offloaded);
        engine_close(whole);
        random_run_free(&run);
    }
}

/* Slots, two buffers and one a prefetched expert, of 6000 bytes each. */
Test(offload_engine, memory_counts_slots_and_buffers)
{
    struct scenario scenario = one_slot();
    scenario.offload.prefetch = 1;

    struct memory_use use = scenario_memory(&scenario, 10);

    cr_expect_eq(use.expert_bytes, (1 + 2 + 1) * 6000);
}
