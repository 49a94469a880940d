/* test_scenario.c -- scenarios from file to struct, and every reason to refuse one. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data.h"
#include "scenario.h"

#define DECODE SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml"

/* A small scenario that is right; tests break it with overrides. */
#define SMALL                                                                                      \
    "version: 1\nquestion: Does it load?\nmodel: mixtral-8x7b\n"                                   \
    "cluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}\nparallel: {ep: 8}\nphase: decode\n"     \
    "trace: {preset: deepseek-v3, tokens: 1000, tokens_per_rank: 4}\nprice: h100-neocloud\n"

static struct error error;
static struct scenario scenario;
static char directory[64];

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/moesim-scenario-%d", (int)getpid());
    cr_assert_eq(mkdir(directory, 0700), 0);
}

static void clean_up(void)
{
    char command[128];
    scenario_free(&scenario);
    scenario_free(&scenario);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(scenario, .init = make_directory, .fini = clean_up);

/* A file of the test's directory; the path is good until the next call. */
static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

/* Loads SMALL with up to three overrides (NULL: none). */
static enum status load_small(const char *a, const char *b, const char *c)
{
    const char *overrides[] = {a, b, c};
    int32_t count = a == NULL ? 0 : b == NULL ? 1 : c == NULL ? 2 : 3;
    error = (struct error){0};
    scenario_free(&scenario);
    write_file("small.yaml", SMALL);
    return scenario_load(&scenario, path_of("small.yaml"), overrides, count, &error);
}

static void expect_refused(const char *a, const char *b, const char *c, const char *message)
{
    cr_expect_eq(load_small(a, b, c), STATUS_INVALID, "%s %s %s", a, b != NULL ? b : "",
                 c != NULL ? c : "");
    cr_expect(strstr(error.text, message) != NULL, "'%s' lacks '%s'", error.text, message);
    cr_expect_eq(error.num_problems, 1, "%s", error.text);
}

static void expect_taken(const char *a, const char *b, const char *c)
{
    cr_expect_eq(load_small(a, b, c), STATUS_OK, "%s", error.text);
}

Test(scenario, a_study_becomes_complete)
{
    cr_assert_eq(scenario_load(&scenario, DECODE, NULL, 0, &error), STATUS_OK, "%s", error.text);

    cr_expect_str_eq(scenario.name, "deepseek_v3_decode_32xh800");
    cr_expect_str_eq(scenario.model.name, "deepseek-v3");
    cr_expect_str_eq(scenario.cluster.gpu.name, "h800-sxm");
    cr_expect_eq(cluster_num_gpus(&scenario.cluster), 32);
    cr_expect_eq(scenario.ep, 32);
    cr_expect_eq(scenario.tp, 1);
    cr_expect_eq(scenario.phase, PHASE_DECODE);
    cr_expect_str_eq(scenario.trace_preset, "deepseek-v3");
    cr_expect_str_eq(scenario.strategy->name, "static");
    cr_expect_str_eq(scenario.collective->name, "deepep_low_latency");
    cr_expect_eq(scenario.dispatch_precision, PRECISION_FP8);
    cr_expect_eq(scenario.combine_precision, PRECISION_BF16);
    cr_expect_eq(scenario.price.usd_per_gpu_hour, 2.0);
    cr_expect_eq(scenario.memory_fraction, 0.9);
}

Test(scenario, defaults_are_as_documented)
{
    cr_assert_eq(load_small(NULL, NULL, NULL), STATUS_OK, "%s", error.text);

    cr_expect_eq(scenario.capacity_factor, 0.0);
    cr_expect_str_eq(scenario.drop->name, "position");
    cr_expect_str_eq(scenario.strategy->name, "static");
    cr_expect_str_eq(scenario.replica->name, "locality");
    cr_expect_str_eq(scenario.collective->name, "deepep_low_latency");
    cr_expect_eq(scenario.dispatch_precision, PRECISION_BF16);
    cr_expect_str_eq(scenario.net->name, "alpha_beta");
    cr_expect_str_eq(scenario.kernels, "any");
    cr_expect_eq(scenario.batching, BATCHING_INTERLEAVED);
    cr_expect_eq(scenario.seed, 1);
    cr_assert_eq(load_small("phase=prefill", "context_tokens=4", "parallel.ep="), STATUS_OK, "%s",
                 error.text);
    cr_expect_str_eq(scenario.collective->name, "deepep_normal");
    cr_expect_eq(scenario.batching, BATCHING_CONSECUTIVE);
    cr_expect_eq(scenario.ep, 8); /* all GPUs */
}

Test(scenario, the_shipped_studies_lack_at_most_their_trace)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = data_list(&names, "studies", &arena);
    cr_assert_geq(count, 4);
    for (int32_t i = 0; i < count; i++) {
        error = (struct error){0};
        enum status status = scenario_load(&scenario, names[i], NULL, 0, &error);
        bool is_fine = status == STATUS_OK ||
                       (error.num_problems == 1 && (strstr(error.text, "trace.path") != NULL ||
                                                    strstr(error.text, "moesim study") != NULL));
        cr_expect(is_fine, "%s: %s", names[i], error.text);
        scenario_free(&scenario);
    }
    arena_free(&arena);
}

Test(scenario, tells_every_problem_at_once)
{
    write_file("bad.yaml", "version: 2\n"
                           "model: mixtrall-8x7b\n"
                           "cluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}\n"
                           "parallel: {ep: 3}\n"
                           "phase: decode\n"
                           "trace: {preset: deepseek-v3, tokens: 1000, tokens_per_rank: 4}\n"
                           "placement:\n"
                           "  stategy: eplb\n"
                           "dispatch: {collective: depep_normal}\n"
                           "price: h200-neocloud\n");

    cr_expect_eq(scenario_load(&scenario, path_of("bad.yaml"), NULL, 0, &error), STATUS_INVALID);

    static const char *const problems[] = {
        "bad.yaml:1: version: must be 1\n",
        "bad.yaml:2: model: 'mixtrall-8x7b' is neither a file nor one of the models; did you mean "
        "'mixtral-8x7b'?",
        "bad.yaml:4: parallel.ep: 3 does not divide the 8 GPUs",
        "bad.yaml:8: placement.stategy: unknown key; did you mean 'strategy'?",
        "bad.yaml:9: dispatch.collective: 'depep_normal' is none of the collectives; did you mean "
        "'deepep_normal'?",
        "bad.yaml:10: price: h200-neocloud is the price of h200-sxm, the cluster has h100-sxm",
    };
    size_t count = sizeof problems / sizeof problems[0];
    cr_expect_eq(error.num_problems, (int32_t)count, "%s", error.text);
    for (size_t i = 0; i < count; i++) {
        cr_expect(strstr(error.text, problems[i]) != NULL, "'%s' lacks '%s'", error.text,
                  problems[i]);
    }
    cr_expect_null(scenario.text);
}

Test(scenario, an_override_is_named_in_its_problem)
{
    expect_refused("placement.strategy=eplp", "placement.rebalance_interval_steps=5", NULL,
                   "--set placement.strategy: 'eplp' is none of the strategies; did you mean "
                   "'eplb'? Known: ");
    expect_refused("routing.capacity_factor=-1", NULL, NULL,
                   "--set routing.capacity_factor: -1 is below 0");
    expect_refused("routing.capacity_factor=.inf", NULL, NULL, "expected a number");
    expect_refused("nonsense", NULL, NULL, "expected key=value");
}

Test(scenario, slots_and_tokens_must_divide_over_ranks_and_lanes)
{
    expect_refused("overlap.chunks=8", NULL, NULL, "1 micro-batches x 8 chunks are more");
    expect_refused("placement.redundant_experts=3", NULL, NULL,
                   "8 experts + 3 redundant = 11 slots do not divide over ep 8; use 0 or 8 ");
    expect_taken("placement.redundant_experts=8", NULL, NULL);
}

Test(scenario, ranks_that_share_attention_must_fit_heads_and_group)
{
    expect_refused("parallel.tp=2", NULL, NULL, "parallel.tp: needs attention: tp, not dp");
    expect_refused("parallel.attention=tp", "parallel.tp=16", NULL,
                   "parallel.tp: 16 does not divide ep 8");
    expect_taken("parallel.attention=tp", "parallel.tp=4", NULL);
    expect_taken("parallel.attention=tp", NULL, NULL);
    cr_expect_eq(scenario.tp, 8);
}

Test(scenario, prefill_takes_whole_prompts_or_a_part_of_one)
{
    expect_refused("phase=prefill", NULL, NULL, "context_tokens: prefill needs the length");
    expect_refused("phase=prefill", "context_tokens=3", NULL,
                   "4 is neither whole prompts of context_tokens 3 nor a part of one");
    expect_taken("phase=prefill", "context_tokens=2", NULL);
    expect_taken("phase=prefill", "context_tokens=100", NULL);
}

Test(scenario, experts_need_a_trace_and_a_dense_model_must_not_have_one)
{
    expect_refused("trace.preset=", "trace.tokens=", NULL, "trace: mixtral-8x7b has experts");
    expect_refused("trace.tokens=", NULL, NULL, "trace.tokens: is missing");
    expect_refused("trace={path: /, preset: olmoe, tokens: 9, tokens_per_rank: 4}", NULL, NULL,
                   "give a path or a preset, not both");
    expect_refused("trace.preset=deepseek-v4", NULL, NULL, "did you mean 'deepseek-v3'?");
    expect_refused("model=llama-2-70b", "context_tokens=10", NULL, "has no experts");
    expect_refused("trace.path=no/such", "trace.preset=", NULL, "there is no 'no/such'");
}

Test(scenario, a_strategy_that_wants_loads_needs_an_interval)
{
    expect_refused("placement.strategy=eplb", NULL, NULL, "eplb is never asked while");
    expect_refused("placement.strategy=eplb", "placement.rebalance_interval_steps=5",
                   "placement.window_steps=6", "6 is longer than the interval of 5 steps");
    expect_taken("placement.strategy=eplb", "placement.rebalance_interval_steps=5",
                 "placement.window_steps=5");
    cr_expect_eq(scenario.rebalance_interval_steps, 5);
    expect_taken("placement.strategy=static", "placement.rebalance_interval_steps=5", NULL);
    cr_expect_eq(scenario.rebalance_interval_steps, 0); /* nothing to ask */
}

Test(scenario, the_gpu_must_compute_in_the_formats)
{
    write_file("old.yaml", "source: test\nflops_per_s: {bf16: 312e12}\nflops_fraction: 0.8\n"
                           "hbm_bytes: 80e9\nhbm_bytes_per_s: 2e12\nhbm_fraction: 0.8\n"
                           "kernel_ns: 3000\nnum_sms: 108\ntdp_watts: 400\n"
                           "scale_up: {bytes_per_s: 300e9, fraction: 0.8, latency_ns: 1000}\n"
                           "scale_out: {bytes_per_s: 25e9, fraction: 0.9, latency_ns: 3000}\n");
    write_file("price.yaml", "gpu: old\nusd_per_gpu_hour: 1.5\ndate: today\nsource: test\n");
    expect_taken("cluster.gpu=old.yaml", "price=price.yaml", "precision.expert=mxfp4");
    cr_expect_str_eq(scenario.cluster.gpu.name, "old");
    cr_expect_eq(scenario.model.precision_expert, PRECISION_MXFP4);
    expect_refused("cluster.gpu=old.yaml", "price=price.yaml", "dispatch.dtype=fp8",
                   "--set dispatch.dtype: old does not compute in fp8");
    expect_refused("cluster.gpu=old.yaml", "price=price.yaml", "precision.dense=fp8",
                   "--set precision.dense: old does not compute in fp8");
}

Test(scenario, kernels_must_be_ones_the_gpu_model_predicts)
{
    expect_refused("compute.kernels=mine", NULL, NULL, "'mine' is none of any, ours, trtllm");
    expect_taken("compute.kernels=trtllm", NULL, NULL); /* roofline predicts any */
}

Test(scenario, a_price_is_a_preset_what_follows_the_gpu_in_its_name_or_a_number)
{
    expect_taken("price=ondemand", NULL, NULL);
    cr_expect_str_eq(scenario.price.name, "h100-ondemand");

    expect_taken("price=neocloud", "cluster.gpu=h200-sxm", NULL);
    cr_expect_str_eq(scenario.price.name, "h200-neocloud");

    expect_taken("price=2.5", NULL, NULL);
    cr_expect_eq(scenario.price.usd_per_gpu_hour, 2.5);
    cr_expect_str_eq(scenario.price.name, "own price");

    expect_refused("price=-1", NULL, NULL, "price");
    expect_refused("price=b200-neocloud", NULL, NULL, "b200");
}

Test(scenario, inherits_takes_the_rest_from_other_files)
{
    write_file("base.yaml", SMALL "placement: {redundant_experts: 8}\n");
    write_file("middle.yaml", "inherits: base.yaml\nseed: 7\ntrace: {tokens_per_rank: 16}\n");
    write_file("top.yaml", "inherits: middle.yaml\nseed: 9\n");

    cr_assert_eq(scenario_load(&scenario, path_of("top.yaml"), NULL, 0, &error), STATUS_OK, "%s",
                 error.text);

    cr_expect_eq(scenario.seed, 9);
    cr_expect_eq(scenario.tokens_per_rank, 16);
    cr_expect_eq(scenario.redundant_experts, 8);
    cr_expect_str_eq(scenario.question, "Does it load?");
    cr_expect(strstr(scenario.text, "inherits") == NULL);
}

Test(scenario, inheritance_in_a_circle_or_from_nowhere_is_told)
{
    write_file("a.yaml", "inherits: b.yaml\n");
    write_file("b.yaml", "seed: 1\ninherits: ./a.yaml\n");
    cr_expect_eq(scenario_load(&scenario, path_of("a.yaml"), NULL, 0, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "b.yaml:2: inherits: goes round in a circle"), "%s", error.text);
    write_file("a.yaml", "inherits: missing.yaml\n");
    cr_expect_eq(scenario_load(&scenario, path_of("a.yaml"), NULL, 0, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "a.yaml:1: inherits: there is no "), "%s", error.text);
    write_file("a.yaml", "inherits: [b.yaml]\n");
    cr_expect_eq(scenario_load(&scenario, path_of("a.yaml"), NULL, 0, &error), STATUS_INVALID);
    for (char name = '0'; name < '9'; name++) {
        char file[] = "x.yaml";
        char text[] = "inherits: x.yaml\n";
        file[0] = name;
        text[10] = (char)(name + 1);
        write_file(file, text);
    }
    cr_expect_eq(scenario_load(&scenario, path_of("0.yaml"), NULL, 0, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "more than 8 files deep") != NULL, "%s", error.text);
}

Test(scenario, a_trace_is_looked_up_beside_the_scenario_and_kept_as_written)
{
    cr_assert_eq(mkdir(path_of("routing"), 0700), 0);

    expect_taken("trace.preset=", "trace.tokens=", "trace.path=routing");

    cr_expect_str_eq(scenario.trace_path, path_of("routing"));
    cr_expect(strstr(scenario.text, "path: routing\n") != NULL);
    cr_expect(strstr(scenario.text, directory) == NULL); /* no paths of this machine */
}

Test(scenario, the_text_is_the_same_however_the_file_was_laid_out)
{
    cr_assert_eq(load_small("seed=3", NULL, NULL), STATUS_OK);
    char *text = scenario.text;
    scenario.text = NULL;
    write_file("spread.yaml", "# a comment\nversion: 1\nquestion: 'Does it load?'\n"
                              "model: \"mixtral-8x7b\"\ncluster:\n    gpu: h100-sxm\n"
                              "    nodes: 1\n    gpus_per_node: 8\nparallel:\n  ep: 8\n"
                              "phase: decode\ntrace:\n  preset: deepseek-v3\n  tokens: 1000\n"
                              "  tokens_per_rank: 4\nprice: h100-neocloud\nseed: 3\n");

    cr_assert_eq(scenario_load(&scenario, path_of("spread.yaml"), NULL, 0, &error), STATUS_OK);

    cr_expect_str_eq(scenario.text, text);
    free(text);
}

/* DeepSeek-V3 on EP32, by hand. Experts: 8 slots x 58 layers x 44.05 MB = 20.44 GB. KV: 64 x 4096
 * tokens x 61 layers x 576 x 2 bytes = 18.42 GB. Dense: attention 61 x 187.1 M, dense FFN 3 x
 * 396.4 M, shared 58 x 44.04 M at one byte; embeddings 1853.4 M and router 58 x 1.835 M at two. */
Test(scenario, memory_is_what_a_calculation_by_hand_gives)
{
    const char *overrides[] = {"trace.tokens_per_rank=64", "context_tokens=4096"};
    cr_assert_eq(scenario_load(&scenario, DECODE, overrides, 2, &error), STATUS_OK);

    struct memory_use use = scenario_memory(&scenario, 64 * 4096);

    double dense = 61 * 187.107e6 + 3 * 396.36e6 + 58 * 44.04e6 + 2 * (1853.4e6 + 58 * 1.835e6);
    cr_expect_eq(use.expert_bytes, INT64_C(8) * 58 * model_expert_bytes(&scenario.model));
    cr_expect_eq(use.kv_bytes, INT64_C(64) * 4096 * 61 * 1152);
    cr_expect_lt(fabs((double)use.dense_bytes / dense - 1.0), 1e-3);
    cr_expect_eq(use.total_bytes,
                 use.dense_bytes + use.expert_bytes + use.kv_bytes + use.buffer_bytes);
    cr_expect_eq(use.limit_bytes, INT64_C(76968000000));
    cr_expect_eq(scenario_check_memory(&scenario, 64 * 4096, &error), STATUS_OK);
}

Test(scenario, too_much_memory_is_told_with_its_parts_and_a_way_out)
{
    cr_assert_eq(scenario_load(&scenario, DECODE, NULL, 0, &error), STATUS_OK);

    cr_expect_eq(scenario_check_memory(&scenario, 136 * 4096, &error), STATUS_INVALID);

    cr_expect(strstr(error.text, "does not fit: the fullest GPU needs 7") != NULL, "%s",
              error.text);
    cr_expect(strstr(error.text, "KV 39.1") != NULL, "%s", error.text);
    cr_expect(strstr(error.text, "is 77.0 GB") != NULL);
    cr_expect(strstr(error.text, "lower trace.tokens_per_rank") != NULL);
}

/* Llama-2-70B over 8 ranks: an eighth of everything, and of the KV cache of all ranks' sequences:
 * 8 KV heads split 8 ways, so a rank's share is that of its own tokens. */
Test(scenario, tensor_parallel_ranks_share_weights_and_cache)
{
    cr_assert_eq(
        load_small("model=llama-2-70b", "trace={tokens_per_rank: 4}", "context_tokens=100"),
        STATUS_OK, "%s", error.text);
    struct memory_use whole = scenario_memory(&scenario, 400);

    scenario.tp = 8;
    struct memory_use shared = scenario_memory(&scenario, 400);

    cr_expect_eq(whole.expert_bytes, 0);
    cr_expect_eq(whole.kv_bytes, 400 * 80 * 2 * 8 * 128 * 2);
    cr_expect_eq(shared.kv_bytes, whole.kv_bytes);
    cr_expect_leq(llabs(shared.dense_bytes * 8 - whole.dense_bytes), 8);
}

/* GPT-OSS: 12 layers keep 128 tokens of each of 4 sequences, 12 keep all 1000. */
Test(scenario, a_sliding_window_bounds_the_cache)
{
    cr_assert_eq(load_small("model=gpt-oss-20b", NULL, NULL), STATUS_OK, "%s", error.text);

    struct memory_use use = scenario_memory(&scenario, 4 * 1000);

    cr_expect_eq(use.kv_bytes, (12 * 4 * 1000 + 12 * 4 * 128) * (2 * 8 * 64 * 2));
}
