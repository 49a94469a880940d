/*
 * test_serve_step_time.c -- step times beside direct runs of the engine.
 *
 * What is expected comes from the engine itself: a run of a batch that is in no table.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "batch.h"
#include "digest.h"
#include "engine.h"
#include "serve/step_time.h"
#include "simulate.h"

#define H800 SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml"

static struct error error;

static void expect(enum status status)
{
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
}

static double engine_step_ns(const struct scenario *scenario, const struct trace *trace)
{
    struct engine *engine = NULL;
    expect(engine_open(&engine, scenario, trace, &error));
    expect(engine_run(engine, NULL, &error));
    const struct run_metrics *metrics = engine_metrics(engine);
    double sum_ns = 0.0;
    for (int32_t window = 0; window < metrics->num_windows; window++) {
        sum_ns += (double)metrics->window[window].step_ns_sum;
    }
    double mean_ns = sum_ns / (double)metrics->num_steps;
    engine_close(engine);
    return mean_ns;
}

/* DeepSeek-V3 on 8 H200s, with routing as skewed as was measured. */
static void load(struct scenario *scenario, struct trace *trace, const char *more)
{
    const char *overrides[] = {"parallel.ep=8",        "cluster.nodes=1",
                               "trace.tokens=16384",   "trace.tokens_per_rank=64",
                               "memory_fraction=1",    "precision.expert=fp8",
                               "cluster.gpu=h200-sxm", "price=h200-neocloud",
                               "precision.dense=fp8",  more};
    expect(scenario_load(scenario, H800, overrides, more != NULL ? 10 : 9, &error));
    expect(simulate_open_trace(trace, scenario, 1, &error));
}

static struct step_time *table(const struct scenario *scenario, const struct trace *trace)
{
    struct step_time *step_time = NULL;
    const struct step_time_options options = {.tokens_per_rank_max = 256};
    expect(step_time_open(&step_time, scenario, trace, &options, &error));
    return step_time;
}

static double decode_ns(const struct step_time *step_time, int32_t sequences, int64_t context)
{
    const struct step_load one = {.sequences = sequences,
                                  .decode_tokens = sequences,
                                  .context_tokens = sequences * context,
                                  .head_tokens = sequences};
    return step_time_ns(step_time, &one, 1);
}

/* Largest error at batches and contexts that the table does not hold. */
static double worst_error(const char *more, int32_t expert_tp)
{
    static const int32_t sequences[] = {3, 13, 50, 77, 150, 230};
    static const int32_t contexts[] = {100, 1500, 5000};
    struct scenario scenario;
    struct trace trace;
    load(&scenario, &trace, more);
    if (expert_tp > 1) {
        scenario.expert_tp = expert_tp;
        scenario.redundant_experts = 0;
        scenario.collective = scenario.prefill_collective =
            collective_find("allgather_reducescatter");
    }
    struct step_time *step_time = table(&scenario, &trace);
    double worst = 0.0;
    scenario.memory_fraction = 1e6;
    scenario.num_steps = 4;
    scenario.rebalance_interval_steps = 0;
    for (int32_t i = 0; i < 6; i++) {
        for (int32_t j = 0; j < 3; j++) {
            scenario.tokens_per_rank = sequences[i];
            scenario.context_tokens = contexts[j];
            double run_ns = engine_step_ns(&scenario, &trace);
            double off = decode_ns(step_time, sequences[i], contexts[j]) / run_ns - 1.0;
            worst = fmax(worst, fabs(off));
        }
    }
    step_time_close(step_time);
    trace_close(&trace);
    scenario_free(&scenario);
    return worst;
}

Test(serve_step_time, lies_within_two_percent_of_runs_it_has_not_seen)
{
    cr_assert_lt(worst_error(NULL, 1), 0.02); /* 0.4 % */
}

Test(serve_step_time, knows_what_two_micro_batches_hide)
{
    cr_assert_lt(worst_error("overlap.micro_batches=2", 1), 0.02); /* 0.8 % */
}

/* Largest error of steps that read a prompt a rank, as the engine's prefill has them. */
static double worst_chunk_error(const struct step_time *step_time, struct scenario *scenario,
                                const struct trace *trace)
{
    static const int32_t prompts[] = {96, 200};
    double worst = 0.0;
    scenario->phase = PHASE_PREFILL;
    scenario->num_steps = 4;
    scenario->rebalance_interval_steps = 0;
    for (int32_t i = 0; i < 2; i++) {
        struct step_load prompt = {.head_tokens = 1};
        scenario->tokens_per_rank = prompts[i];
        scenario->context_tokens = prompts[i];
        step_load_add_chunk(&prompt, 0, prompts[i]);
        double run_ns = engine_step_ns(scenario, trace);
        worst = fmax(worst, fabs(step_time_ns(step_time, &prompt, 1) / run_ns - 1.0));
    }
    return worst;
}

Test(serve_step_time, knows_experts_that_are_cut)
{
    cr_assert_lt(worst_error(NULL, 8), 0.02); /* 0.3 % */
}

Test(serve_step_time, knows_chunks_of_prompts)
{
    static const char *const micro_batches[] = {"overlap.micro_batches=1",
                                                "overlap.micro_batches=2"};
    for (int32_t i = 0; i < 2; i++) {
        struct scenario scenario;
        struct trace trace;
        load(&scenario, &trace, micro_batches[i]);
        scenario.phase = PHASE_PREFILL;
        struct step_time *step_time = table(&scenario, &trace);
        cr_expect_lt(worst_chunk_error(step_time, &scenario, &trace), 0.02);
        step_time_close(step_time);
        trace_close(&trace);
        scenario_free(&scenario);
    }
}

/* One, two and five sequences of a group of eight GPUs that cuts attention, beside the engine's own
 * steps of so many tokens. Before, all were as long as a step of eight. */
Test(serve_step_time, knows_steps_of_fewer_tokens_than_ranks)
{
    static const int32_t sequences[] = {1, 2, 5};
    static const double tolerance[] = {1e-5, 1e-5, 0.04};
    int64_t step_begin[17];
    struct scenario scenario;
    struct trace trace;
    load(&scenario, &trace, "parallel={ep: 8, attention: tp, tp: 8}");
    struct step_time *step_time = table(&scenario, &trace);
    scenario.memory_fraction = 1e6;
    scenario.tokens_per_rank = 1;
    scenario.context_tokens = 1500;
    scenario.rebalance_interval_steps = 0;
    for (int32_t i = 0; i < 3; i++) {
        struct trace few = trace;
        few.num_steps = 16;
        few.step_begin = step_begin;
        for (int32_t step = 0; step <= 16; step++) {
            step_begin[step] = (int64_t)step * sequences[i];
        }
        double run_ns = engine_step_ns(&scenario, &few);
        double table_ns = decode_ns(step_time, sequences[i], 1500);
        cr_expect_lt(fabs(table_ns / run_ns - 1.0), tolerance[i], "%d: %g ns, engine %g",
                     (int)sequences[i], table_ns, run_ns);
    }
    cr_expect_lt(decode_ns(step_time, 1, 1500), 0.9 * decode_ns(step_time, 8, 1500));
    step_time_close(step_time);
    trace_close(&trace);
    scenario_free(&scenario);
}

/* A group that reads and answers: as if it only decoded where nobody reads, and as the engine's
 * prefill by the normal kernels has it where one replica does. */
Test(serve_step_time, takes_the_collective_of_prompts_where_anybody_reads)
{
    struct scenario scenario;
    struct trace trace;
    struct step_time *shared = NULL;
    const struct step_time_options options = {.tokens_per_rank_max = 64, .decode_per_rank_max = 32};
    const struct step_time_options all = {.tokens_per_rank_max = 64};
    load(&scenario, &trace, NULL);
    expect(step_time_open(&shared, &scenario, &trace, &options, &error));
    struct step_time *decode = NULL;
    expect(step_time_open(&decode, &scenario, &trace, &all, &error));
    struct step_time *prefill = NULL;
    scenario.phase = PHASE_PREFILL;
    scenario.batching = BATCHING_CONSECUTIVE;
    scenario.collective = scenario.prefill_collective;
    cr_assert_str_eq(scenario.collective->name, "deepep_normal");
    cluster_use_constants(&scenario.cluster, "deepep_normal", "fp8");
    cr_assert(scenario_choose_kernels(&scenario));
    expect(step_time_open(&prefill, &scenario, &trace, &all, &error));

    struct step_load rank[8];
    for (int32_t i = 0; i < 8; i++) {
        rank[i] = (struct step_load){
            .sequences = 16, .decode_tokens = 16, .context_tokens = 16000, .head_tokens = 16};
    }
    cr_expect_eq(step_time_ns(shared, rank, 8), step_time_ns(decode, rank, 8));
    step_load_add_chunk(&rank[3], 0, 16);
    cr_expect_eq(step_time_ns(shared, rank, 8), step_time_ns(prefill, rank, 8));
    cr_expect_neq(step_time_ns(shared, rank, 8), step_time_ns(decode, rank, 8));
    cr_expect_eq(step_time_error(shared).num_runs,
                 step_time_error(prefill).num_runs + step_time_num_points(shared));
    step_time_close(prefill);
    step_time_close(decode);
    step_time_close(shared);
    trace_close(&trace);
    scenario_free(&scenario);
}

/* Contexts from 128 to thousands, so that every rank looks back on another number of tokens. */
Test(serve_step_time, follows_the_busiest_of_uneven_ranks)
{
    struct scenario scenario;
    struct trace trace;
    load(&scenario, &trace, NULL);
    struct step_time *step_time = table(&scenario, &trace);
    for (int64_t i = 0; i < trace.num_requests; i++) {
        trace.requests[i].prompt_tokens = 128 << (i % 7);
    }
    scenario.memory_fraction = 1e6;
    scenario.num_steps = 8;
    scenario.rebalance_interval_steps = 0;
    scenario.context_tokens = 0;
    double run_ns = engine_step_ns(&scenario, &trace);
    const struct batch_config config = {.tokens_per_step = scenario.tokens_per_rank * 8,
                                        .num_ranks = 8,
                                        .num_steps_max = 8,
                                        .seed = scenario.seed};
    struct batcher *batcher = NULL;
    const struct trace_batch *batch = NULL;
    double sum_ns = 0.0;
    expect(batcher_open(&batcher, &trace, &config, &error));
    while ((batch = batcher_next(batcher)) != NULL) {
        struct step_load rank[8] = {{0}};
        for (int32_t slot = 0; slot < batch->num_tokens; slot++) {
            struct step_load *own = &rank[batch->source_rank[slot]];
            own->sequences = ++own->decode_tokens;
            own->head_tokens = own->sequences;
            own->context_tokens += batch->context_tokens[slot];
        }
        sum_ns += step_time_ns(step_time, rank, 8);
    }
    cr_assert_float_eq(sum_ns / 8.0 / run_ns, 1.0, 0.02);
    batcher_close(batcher);
    step_time_close(step_time);
    trace_close(&trace);
    scenario_free(&scenario);
}

Test(serve_step_time, mixes_chunks_and_sequences_between_the_two_apart_and_their_sum)
{
    struct scenario scenario;
    struct trace trace;
    load(&scenario, &trace, NULL);
    struct step_time *step_time = table(&scenario, &trace);
    struct step_load decode = {
        .sequences = 64, .decode_tokens = 64, .context_tokens = 64 * 2000, .head_tokens = 64};
    struct step_load prompt = {.head_tokens = 1};
    step_load_add_chunk(&prompt, 1000, 128);
    struct step_load both = decode;
    step_load_add_chunk(&both, 1000, 128);
    both.head_tokens = 65;
    double decode_alone_ns = step_time_ns(step_time, &decode, 1);
    double prompt_alone_ns = step_time_ns(step_time, &prompt, 1);
    double both_ns = step_time_ns(step_time, &both, 1);
    cr_assert_gt(both_ns, fmax(decode_alone_ns, prompt_alone_ns));
    cr_assert_lt(both_ns, decode_alone_ns + prompt_alone_ns);
    step_time_close(step_time);
    trace_close(&trace);
    scenario_free(&scenario);
}

/* What is kept of attention from step to step changes no bit of it. An H800 has constants for the
 * GEMMs of attention, where an H200 has some for the whole of it. */
Test(serve_step_time, keeps_gemms_as_they_are)
{
    static const int32_t tokens[] = {1, 63, 200};
    struct scenario scenario;
    expect(scenario_load(&scenario, H800, NULL, 0, &error));
    const struct gpu_spec *gpu = &scenario.cluster.gpu;
    for (int32_t i = 0; i < 6; i++) {
        struct gpu_work work = {.phase = GPU_ATTENTION,
                                .model = &scenario.model,
                                .prefill = i < 3,
                                .tokens = tokens[i % 3],
                                .attended_tokens = 1000 * tokens[i % 3],
                                .context_tokens = 1000 * tokens[i % 3],
                                .shards = 1};
        double asked_ns = scenario.gpu_model->duration_ns(gpu, &work);
        work.gemms_ns = scenario.gpu_model->gemms_ns(gpu, &work);
        cr_expect_gt(work.gemms_ns, 0.0);
        cr_expect_eq(scenario.gpu_model->duration_ns(gpu, &work), asked_ns);
        work.gemms_ns += 1000.0;
        cr_expect_float_eq(scenario.gpu_model->duration_ns(gpu, &work), asked_ns + 1000.0, 1e-6);
    }
    scenario_free(&scenario);
}

Test(serve_step_time, is_the_same_table_on_any_number_of_threads)
{
    struct scenario scenario;
    struct trace trace;
    uint64_t digest[2];
    load(&scenario, &trace, "placement.strategy=eplb");
    for (int32_t i = 0; i < 2; i++) {
        struct step_time *step_time = NULL;
        const struct step_time_options options = {.tokens_per_rank_max = 24,
                                                  .num_threads = 1 + 2 * i};
        expect(step_time_open(&step_time, &scenario, &trace, &options, &error));
        digest[i] = step_time_digest(step_time, DIGEST_START);
        step_time_close(step_time);
    }
    cr_assert_eq(digest[0], digest[1]);
    trace_close(&trace);
    scenario_free(&scenario);
}
