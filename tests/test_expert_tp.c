/*
 * test_expert_tp.c -- experts that are cut over GPUs: bytes, work, memory and refusals by hand, and
 * laws in random scenarios.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_fit.h"
#include "random_run.h"
#include "rng.h"
#include "text_file.h"
#include "two_ranks.h"

static struct error error;

/* The two ranks as tensor parallelism has them: attention and experts are cut over both. */
static struct scenario cut_ranks(void)
{
    struct scenario scenario = two_ranks();
    scenario.tp = 2;
    scenario.expert_tp = 2;
    scenario.collective = collective_find("allgather_reducescatter");
    return scenario;
}

/* A token is 200 bytes, a message of one 250 ns; exchanges of attention start up in 1000 ns, those
 * of experts in 7400. Tokens gathered at 1250, attention to 2250, scattered at 3500, gate to 3600,
 * gathered at 11250, experts to 11750, scattered at 19400, head to 19410, its logits gathered at
 * 20480: half of a vocabulary of 10 for two tokens in bf16 are 20 bytes, which take 20 ns behind a
 * start-up of 1000 and 50 of latency. vLLM does two all-reduces a layer, one behind attention and
 * one behind the experts. Of S bytes each takes 2 (n - 1) / n S from every one of n ranks: here S
 * is 400 and n 2, 400 a rank, 1600 in all. */
Test(expert_tp, a_layer_pays_an_all_reduce_behind_attention_and_one_behind_experts)
{
    struct scenario scenario = cut_ranks();
    struct trace trace;
    two_ranks_trace(&trace, &scenario, "01");

    struct engine *engine = two_ranks_run(&scenario, &trace);

    const struct run_metrics *metrics = engine_metrics(engine);
    cr_expect_eq(metrics->window[0].step_ns_sum, 20480);
    cr_expect_eq(metrics->bytes_sent, 1600);
    cr_expect_eq(metrics->dispatch_bytes, 400);
    cr_expect_eq(metrics->rank_tokens[0], 2); /* each computes both, at half the width */
    cr_expect_eq(metrics->rank_tokens[1], 2);
    cr_expect_float_eq(metrics->window[0].phase_ns[STEP_WAITING], 0.0, 1e-9);
    engine_close(engine);
    trace_close(&trace);
}

/* Four ranks: 4 tokens are 800 bytes, two all-reduces 2 * 2 * 3 / 4 * 800 a rank, 9600 in all.
 * Where attention is data-parallel, only the tokens' way to the experts and back is left: half. */
Test(expert_tp, bytes_are_those_of_all_reduces)
{
    for (int32_t tp = 1; tp <= 4; tp += 3) {
        struct scenario scenario = cut_ranks();
        struct trace trace;
        scenario.ep = scenario.expert_tp = scenario.cluster.gpus_per_node = 4;
        scenario.tp = tp;
        two_ranks_trace(&trace, &scenario, "0011");
        struct engine *engine = two_ranks_run(&scenario, &trace);
        cr_expect_eq(engine_metrics(engine)->bytes_sent, tp == 4 ? 9600 : 4800);
        engine_close(engine);
        trace_close(&trace);
    }
}

/* Where all tokens come to all ranks shared experts are cut as attention is, and need tokens of
 * other ranks: 200 ns more than 20480, also where routed experts are whole. Where tokens are sent
 * to their experts they are whole, computed beside the tokens' way, for nothing: gate to 3600,
 * tokens at 33600, experts to 34100, results at 64100, head and logits to 65180. */
Test(expert_tp, shared_experts_that_are_cut_wait_for_the_tokens)
{
    static const struct {
        int32_t expert_tp;
        const char *collective;
        int64_t step_ns;
    } cases[] = {{2, "allgather_reducescatter", 20680},
                 {1, "allgather_reducescatter", 20680},
                 {1, "flat", 65180}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scenario scenario = cut_ranks();
        struct trace trace;
        scenario.model.shared_ffn_dim = 10;
        scenario.expert_tp = cases[i].expert_tp;
        scenario.collective = collective_find(cases[i].collective);
        two_ranks_trace(&trace, &scenario, "01");
        struct engine *engine = two_ranks_run(&scenario, &trace);
        cr_expect_eq(engine_metrics(engine)->window[0].step_ns_sum, cases[i].step_ns);
        engine_close(engine);
        trace_close(&trace);
    }
}

/* What a GPU is asked to do, phase by phase: the last time. */
static struct gpu_work asked[GPU_PHASE_COUNT];
static int32_t asked_slots[GPU_PHASE_COUNT][2];

static double note_work(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    (void)gpu;
    asked[work->phase] = *work;
    for (int32_t slot = 0; slot < work->num_slots && slot < 2; slot++) {
        asked_slots[work->phase][slot] = work->slot_tokens[slot];
    }
    return 1.0;
}

static const struct gpu_model noting = {
    .name = "noting", .kernels = "any", .fitted_on = "", .duration_ns = note_work};

/* Four ranks, two groups of two: expert 0 on ranks 0 and 1, expert 1 on 2 and 3; three of four
 * tokens want expert 1. The rank that is asked last is one of its group. */
Test(expert_tp, every_rank_of_a_group_computes_the_groups_tokens_at_a_part_of_the_width)
{
    struct scenario scenario = cut_ranks();
    struct trace trace;
    scenario.ep = scenario.tp = scenario.cluster.gpus_per_node = 4;
    scenario.model.shared_ffn_dim = 40;
    scenario.gpu_model = &noting;
    two_ranks_trace(&trace, &scenario, "1101");
    struct engine *engine = two_ranks_run(&scenario, &trace);
    const struct run_metrics *metrics = engine_metrics(engine);
    static const int64_t tokens[] = {1, 1, 3, 3};
    for (int32_t rank = 0; rank < 4; rank++) {
        cr_expect_eq(metrics->rank_tokens[rank], tokens[rank]);
    }
    cr_expect_float_eq(metrics->layer[0].rank_tokens_max_over_mean_sum, 1.5, 1e-12);
    cr_expect_eq(asked[GPU_EXPERT].shards, 2);
    cr_expect_eq(asked[GPU_EXPERT].num_slots, 1);
    cr_expect_eq(asked_slots[GPU_EXPERT][0], 3);
    cr_expect_eq(asked[GPU_EXPERT].token_rows, 3);
    cr_expect_eq(asked[GPU_GATE].tokens, 4); /* those that attention has left everywhere */
    cr_expect_eq(asked[GPU_SHARED].tokens, 4);
    cr_expect_eq(asked[GPU_SHARED].shards, 4); /* as attention */
    cr_expect_eq(asked[GPU_HEAD].tokens, 4);
    cr_expect_eq(asked[GPU_HEAD].shards, 4);
    engine_close(engine);
    trace_close(&trace);
}

/* Whole experts of two ranks, tokens on their own way: gate and shared experts know one's own. */
Test(expert_tp, gate_and_shared_experts_have_the_tokens_that_the_exchange_leaves)
{
    static const char *const collective[] = {"allgather_reducescatter", "flat"};
    for (int32_t i = 0; i < 2; i++) {
        struct scenario scenario = cut_ranks();
        struct trace trace;
        scenario.expert_tp = 1;
        scenario.model.shared_ffn_dim = 10;
        scenario.gpu_model = &noting;
        scenario.collective = collective_find(collective[i]);
        two_ranks_trace(&trace, &scenario, "01");
        struct engine *engine = two_ranks_run(&scenario, &trace);
        cr_expect_eq(asked[GPU_GATE].tokens, i == 0 ? 2 : 1);
        cr_expect_eq(asked[GPU_SHARED].tokens, i == 0 ? 2 : 1);
        cr_expect_eq(asked[GPU_SHARED].shards, i == 0 ? 2 : 1);
        engine_close(engine);
        trace_close(&trace);
    }
}

/* Nothing but the intermediate size may tell a part of an expert from a smaller expert. */
Test(expert_tp, a_part_of_an_expert_takes_as_long_as_an_expert_of_its_width)
{
    struct moe_model whole;
    struct gpu_spec gpu;
    cr_assert_eq(model_load(&whole, "qwen1.5-moe-a2.7b", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    struct moe_model part = whole;
    part.expert_ffn_dim = whole.expert_ffn_dim / 4;
    part.shared_ffn_dim = whole.shared_ffn_dim / 4;
    static const int32_t slot_tokens[] = {0, 3, 70, 1000};
    int32_t count = 0;
    const struct gpu_model *const *models = gpu_all(&count);
    for (int32_t i = 0; i < count; i++) {
        for (int32_t choice = -1; choice < gpu.num_fitted; choice++) { /* each engine's kernels */
            gpu.fitted_chosen = choice;
            for (int32_t phase = GPU_SHARED; phase <= GPU_EXPERT; phase++) {
                struct gpu_work cut = {.phase = (enum gpu_phase)phase,
                                       .model = &whole,
                                       .shards = 4,
                                       .tokens = 100,
                                       .num_slots = 4,
                                       .slot_tokens = slot_tokens,
                                       .token_rows = 600};
                struct gpu_work narrow = cut;
                narrow.model = &part;
                narrow.shards = 1;
                if (gpu_model_applies(models[i], &gpu)) {
                    cr_expect_eq(models[i]->duration_ns(&gpu, &cut),
                                 models[i]->duration_ns(&gpu, &narrow), "%s", models[i]->name);
                }
            }
        }
    }
}

/* Of 60 experts a rank of 8 keeps 8 whole ones, or an eighth of all: 7.5. With two groups of four
 * GPUs, a quarter of 30. Shared experts are cut as attention is. 24 layers in bf16. */
Test(expert_tp, a_gpu_holds_its_part_of_every_expert_of_its_group)
{
    struct moe_model model;
    struct gpu_spec gpu;
    cr_assert_eq(model_load(&model, "qwen1.5-moe-a2.7b", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    struct memory_layout layout = {.model = &model,
                                   .gpu = &gpu,
                                   .ep = 8,
                                   .expert_tp = 1,
                                   .tp = 8,
                                   .tokens_per_rank = 1,
                                   .memory_fraction = 0.9};
    const int64_t expert = INT64_C(3) * 2048 * 1408 * 2 * 24;
    const int64_t shared = INT64_C(3) * 2048 * 5632 * 2 * 24;
    cr_expect_eq(memory_use(&layout, 0).expert_bytes, 8 * expert);
    cr_expect_eq(memory_parts(&layout).shared_expert_bytes, shared);
    int64_t dense = memory_use(&layout, 0).dense_bytes;
    layout.cuts_shared = true;
    cr_expect_eq(memory_parts(&layout).shared_expert_bytes, shared / 8);
    layout.cuts_shared = false;
    layout.expert_tp = 8;
    cr_expect_eq(memory_use(&layout, 0).expert_bytes, 15 * expert / 2);
    cr_expect_eq(memory_parts(&layout).routed_expert_bytes, 15 * expert / 2);
    cr_expect_eq(memory_parts(&layout).redundant_expert_bytes, 0);
    cr_expect_eq(memory_parts(&layout).shared_expert_bytes, shared / 8);
    cr_expect_eq(memory_use(&layout, 0).dense_bytes, dense - shared / 8 * 7);
    layout.expert_tp = 4;
    cr_expect_eq(memory_use(&layout, 0).expert_bytes, 15 * expert / 2);
    layout.redundant_experts = 2; /* 31 in each group */
    cr_expect_eq(memory_use(&layout, 0).expert_bytes, 31 * expert / 4);
    layout.tp = 1;
    cr_expect_eq(memory_parts(&layout).shared_expert_bytes, shared);
}

/* Where every GPU has a part of every expert, no load makes one busier than another, and no answer
 * of a strategy has anything to send. */
Test(expert_tp, strategies_find_nothing_to_do_where_all_gpus_have_all_experts)
{
    int32_t count = 0;
    const struct balance_strategy *const *strategies = balance_all(&count);
    for (int32_t i = 0; i < count; i++) {
        struct random_run run;
        random_run_make(&run, 3);
        struct scenario *scenario = &run.scenario;
        scenario->expert_tp = scenario->ep;
        scenario->cluster.gpus_per_node = scenario->ep;
        scenario->cluster.num_nodes = 1;
        scenario->collective = collective_find("allgather_reducescatter");
        scenario->replica = dispatch_find("locality");
        scenario->micro_batches = scenario->chunks = 1;
        scenario->strategy = strategies[i];
        scenario->rebalance_interval_steps = 1;
        scenario->window_steps = 0;
        cr_assert_gt(scenario->ep, 1);
        struct engine *engine = two_ranks_run(scenario, &run.trace);
        const struct run_metrics *metrics = engine_metrics(engine);
        cr_expect_float_eq(run_totals(metrics, scenario).rank_tokens_max_over_mean, 1.0, 1e-12);
        for (int64_t change = 0; change < metrics->num_rebalances; change++) {
            cr_expect_eq(metrics->rebalance[change].moves, 0, "%s", strategies[i]->name);
        }
        engine_close(engine);
        random_run_free(&run);
    }
}

/* Cuts the experts of a random scenario; false: its GPUs cannot. */
static bool cut_random_run(struct random_run *run, uint64_t round)
{
    static const int32_t degrees[] = {2, 3, 4, 6, 8, 12};
    struct scenario *scenario = &run->scenario;
    int32_t on_node = scenario->cluster.gpus_per_node;
    int32_t expert_tp = degrees[round % 6];
    scenario->model.expert_ffn_dim = 96;
    scenario->expert_tp = expert_tp;
    scenario->collective = collective_find("allgather_reducescatter");
    scenario->replica = scenario->replica->lends ? dispatch_find("round_robin") : scenario->replica;
    scenario->micro_batches = scenario->chunks = 1;
    return scenario->ep % expert_tp == 0 && (on_node % expert_tp == 0 || expert_tp % on_node == 0);
}

static void check_cut_run(const struct random_run *run, const struct run_metrics *metrics,
                          uint64_t round)
{
    int64_t computed = 0;
    struct run_totals totals = run_totals(metrics, &run->scenario);
    for (int64_t i = 0; i < (int64_t)metrics->num_layers * metrics->num_ranks; i++) {
        computed += metrics->rank_tokens[i];
    }
    int64_t kept = totals.assignments - totals.dropped_assignments;
    cr_assert_eq(computed, kept * run->scenario.expert_tp, "round %llu", (unsigned long long)round);
    cr_assert_eq(metrics->bytes_sent, metrics->bytes_received);
    for (int32_t i = 0; i < metrics->num_windows; i++) {
        const struct step_window *window = &metrics->window[i];
        double booked_ns = 0.0;
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            booked_ns += window->phase_ns[phase];
        }
        cr_assert_float_eq(booked_ns, (double)window->step_ns_sum,
                           1e-9 * (double)window->step_ns_sum + 1e-3);
    }
}

/* Groups of ranks, nodes that they span or share, drops, replicas, rebalances: a rank of a group
 * computes all that the group keeps, what is sent arrives, time is booked, equal runs are equal. */
Test(expert_tp, keeps_the_engines_laws_in_random_scenarios)
{
    int32_t cut = 0;
    for (uint64_t round = 0; round < 2000; round++) {
        struct random_run run;
        random_run_make(&run, round);
        if (cut_random_run(&run, round)) {
            struct engine *engine = two_ranks_run(&run.scenario, &run.trace);
            struct engine *again = two_ranks_run(&run.scenario, &run.trace);
            check_cut_run(&run, engine_metrics(engine), round);
            cr_assert_eq(engine_metrics(engine)->digest, engine_metrics(again)->digest);
            engine_close(engine);
            engine_close(again);
            cut++;
        }
        random_run_free(&run);
    }
    cr_expect_gt(cut, 200);
}

/* Mixtral's experts are 14336 wide; there are 8. */
static const char *load_words(const char *a, const char *b, const char *c)
{
    static const char text[] =
        "version: 1\nmodel: mixtral-8x7b\ncluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}\n"
        "parallel: {expert_tp: 8}\nphase: decode\ncontext_tokens: 100\n"
        "trace: {preset: deepseek-v3, tokens: 1000, tokens_per_rank: 4}\nprice: h100-neocloud\n";
    const char *const overrides[] = {a, b, c};
    struct scenario scenario;
    error = (struct error){0};
    int32_t count = a == NULL ? 0 : b == NULL ? 1 : c == NULL ? 2 : 3;
    enum status status =
        scenario_load(&scenario, text_file(".yaml", text), overrides, count, &error);
    if (status == STATUS_OK) {
        cr_expect_str_eq(scenario.collective->name, "allgather_reducescatter");
    }
    scenario_free(&scenario);
    return status == STATUS_OK ? "ok" : error.text;
}

Test(expert_tp, what_does_not_go_with_cut_experts_says_what_to_do)
{
    static const struct {
        const char *setting[3];
        const char *words;
    } cases[] = {
        {{NULL}, "ok"},
        {{"parallel.expert_tp=4"}, "ok"},
        {{"parallel.expert_tp=3"}, "expert_tp: 3 does not divide ep 8, the GPUs that share"},
        {{"parallel.expert_tp=0"}, "parallel.expert_tp"},
        {{"cluster.gpus_per_node=12", "parallel.expert_tp=3"},
         "3 does not divide the expert FFN width 14336 of mixtral-8x7b"},
        {{"parallel.expert_tp=2", "placement.redundant_experts=1"},
         "9 slots do not divide over 4 groups of GPUs; use 0 or 4 redundant"},
        {{"cluster={gpu: h100-sxm, nodes: 2, gpus_per_node: 6}", "parallel.expert_tp=4",
          "placement.redundant_experts=1"},
         "4 is neither a part of a node's 6 GPUs nor whole nodes"},
        {{"dispatch.collective=deepep_low_latency"}, "use allgather_reducescatter"},
        {{"dispatch.replica=llep"}, "use locality"},
        {{"overlap.micro_batches=2"}, "take micro_batches and chunks of 1"},
        {{"overlap.chunks=2"}, "take micro_batches and chunks of 1"},
        {{"placement.redundant_experts=8"}, "relieves nobody; use 0"},
        {{"offload={where: host, slots: 1}"}, "parallel.expert_tp cuts them"},
        {{"model=llama-2-70b", "trace={tokens_per_rank: 4}"}, "llama-2-70b has no experts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *set = cases[i].setting;
        const char *words = load_words(set[0], set[1], set[2]);
        cr_expect_not_null(strstr(words, cases[i].words), "%s: %s", cases[i].words, words);
        const char *newline = strchr(words, '\n');
        cr_expect(newline == NULL || newline[1] == '\0', "one mistake, one line: %s", words);
    }
}

/* A prompt of 10 tokens on two ranks, in wholes: one logit, whose halves of 5 in bf16 are gathered
 * (1000 + 50 + 10); of ranks with attention of their own, each has the whole vocabulary. */
Test(expert_tp, the_output_head_is_cut_as_attention_is)
{
    struct scenario scenario = cut_ranks();
    cr_expect_float_eq(engine_logits_ns(&scenario, 2), 1070.0, 1e-9);
    cr_expect_eq(engine_head_tokens(&scenario, 10), 10);
    scenario.phase = PHASE_PREFILL;
    cr_expect_eq(engine_head_tokens(&scenario, 10), 1);
    cr_expect_eq(engine_head_tokens(&scenario, 11), 2);
    cr_expect_float_eq(engine_logits_ns(&scenario, 1), 1060.0, 1e-9);
    cr_expect_float_eq(engine_logits_ns(&scenario, 0), 0.0, 1e-9);
    cr_expect_eq(engine_head_work(&scenario, 1).shards, 2);
    scenario.tp = 1;
    cr_expect_float_eq(engine_logits_ns(&scenario, 1), 0.0, 1e-9);
    cr_expect_eq(engine_head_work(&scenario, 1).shards, 1);
}
