/*
 * test_plan_launch.c -- the commands and scenarios that realise a plan.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"
#include "plan_launch.h"
#include "plan_serve.h"
#include "small_plan.h"

static const char *const small[] = {
    "traffic={requests_per_day: 4G, input_tokens: 1000, output_tokens: 200}",
    "slo={ttft: 1s, tpot: 20ms}",
};

static void load_small(struct plan *plan, const char *search_keys)
{
    small_plan_load(plan, small, sizeof small / sizeof small[0], search_keys);
}

static bool says(const char *command, const char *words)
{
    return strstr(command, words) != NULL;
}

/* On one GPU the flags of the exchange and of balancing are not there. */
static void expect_commands(const char *search_keys, bool is_spread)
{
    struct plan plan;
    char command[LAUNCH_BYTES], sequences[32], length[32];
    load_small(&plan, search_keys);
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    cr_assert_geq(answer.winner, 0);
    const struct plan_deployment *winner = &answer.deployment[answer.winner];
    const struct plan_point *decode = &answer.point[winner->point[COST_DECODE]];

    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_VLLM, COST_DECODE));
    (void)snprintf(sequences, sizeof sequences, "--max-num-seqs %d ", (int)decode->tokens_per_rank);
    cr_expect(says(command, sequences), "%s", command);
    cr_expect_eq(says(command, "--enable-expert-parallel"), is_spread, "%s", command);
    cr_expect(says(command, "--kv-transfer-config"));
    double mean_tokens = plan.traffic.input_tokens + plan.traffic.output_tokens;
    (void)snprintf(length, sizeof length, "--max-model-len %d ", (int)(4.0 * mean_tokens));
    cr_expect(says(command, length), "requests that are longer than the mean too: %s", command);
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_PREFILL));
    cr_expect(says(command, "--disaggregation-mode prefill"), "%s", command);
    cr_expect_eq(says(command, "--moe-a2a-backend"), is_spread, "%s", command);
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_TRTLLM, COST_DECODE));
    cr_expect_eq(says(command, "moe_expert_parallel_size: 2"), is_spread, "%s", command);
    plan_answer_free(&answer);
    plan_free(&plan);
}

Test(plan, commands_carry_what_the_plan_decided)
{
    expect_commands("search={pools: disaggregated, prefill: {ep: [2], tokens_per_rank: [2048]}, "
                    "decode: {ep: [2], sequences_per_rank: [64]}}",
                    true);
    expect_commands("search={pools: disaggregated, prefill: {ep: [1], tokens_per_rank: [2048]}, "
                    "decode: {ep: [1], sequences_per_rank: [64]}}",
                    false);
}

/* vLLM cuts experts where nobody asks for expert parallelism, over all GPUs or none; the others
 * take the degree of either. */
Test(plan, commands_say_how_experts_are_shared)
{
    static const struct {
        const char *expert_tp;
        bool vllm_can;
        const char *sglang; /* NULL: no --ep-size */
        const char *trtllm;
    } cases[] = {
        {"1", true, "--ep-size 4", "moe_expert_parallel_size: 4"},
        {"2", false, "--ep-size 2", "moe_tensor_parallel_size: 2\nmoe_expert_parallel_size: 2"},
        {"4", true, NULL, "moe_tensor_parallel_size: 4\nenable_attention_dp"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plan plan;
        char command[LAUNCH_BYTES], keys[256];
        (void)snprintf(keys, sizeof keys,
                       "search={pools: shared, prefill: {ep: [4], tokens_per_rank: [2048]}, "
                       "decode: {ep: [4], sequences_per_rank: [64]}, expert_tp: [%s]}",
                       cases[i].expert_tp);
        load_small(&plan, keys);
        struct plan_answer answer = small_plan_search(&plan, 2, NULL);
        cr_assert_geq(answer.winner, 0);
        bool is_whole = cases[i].expert_tp[0] == '1';
        cr_expect_eq(plan_launch(command, &plan, &answer, LAUNCH_VLLM, COST_DECODE),
                     cases[i].vllm_can);
        cr_expect_eq(says(command, "--enable-expert-parallel"), is_whole, "%s", command);
        cr_expect_eq(says(command, "--tensor-parallel-size 1"), cases[i].vllm_can, "%s", command);
        cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_DECODE));
        cr_expect_eq(says(command, "--ep-size"), cases[i].sglang != NULL, "%s", command);
        cr_expect(cases[i].sglang == NULL || says(command, cases[i].sglang), "%s", command);
        cr_assert(plan_launch(command, &plan, &answer, LAUNCH_TRTLLM, COST_DECODE));
        cr_expect(says(command, cases[i].trtllm), "%s", command);
        plan_answer_free(&answer);
        plan_free(&plan);
    }
}

/* Every layout once: whole experts, and each degree that divides; others are told why not. */
Test(plan, searches_whole_and_cut_experts_side_by_side)
{
    struct plan plan;
    load_small(&plan, "search={pools: shared, prefill: {ep: [4], tokens_per_rank: [2048]}, "
                      "decode: {ep: [4], sequences_per_rank: [64]}, expert_tp: [1, 3, 4]}");
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    int32_t seen[5] = {0};
    for (int32_t i = 0; i < answer.num_points; i++) {
        const struct plan_point *point = &answer.point[i];
        seen[point->expert_tp]++;
        cr_expect_eq(point->fate == PLAN_IMPOSSIBLE, point->expert_tp == 3, "%s", point->why);
        cr_expect(point->expert_tp != 4 || point->redundant_experts == 0);
        char words[256];
        plan_point_words(words, sizeof words, point);
        cr_expect_eq(strncmp(words, "TP4, ", 5) == 0, point->expert_tp == 4, "%s", words);
        cr_expect(point->expert_tp != 4 || point->fate != PLAN_SIMULATED ||
                  point->imbalance == 1.0);
    }
    cr_expect_eq(seen[0], 8); /* of prompts and answers: redundancies and micro-batches, two each */
    cr_expect_eq(seen[3], 2);
    cr_expect_eq(seen[4], 2);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* An NVL72 is one scale-up domain of trays of four GPUs; SGLang's DeepEP wants to be told of more
 * than 128 tokens a rank. */
Test(plan, commands_know_the_machines_of_a_rack)
{
    struct plan plan;
    char command[LAUNCH_BYTES];
    load_small(&plan, "search={pools: disaggregated, prefill: {ep: [8], tokens_per_rank: [2048]}, "
                      "decode: {ep: [8], sequences_per_rank: [192]}}");
    plan.gpu[0].cluster.gpus_per_node = 72;
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    cr_assert_geq(answer.winner, 0);

    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_VLLM, COST_DECODE));
    cr_expect(says(command, "--data-parallel-size 8 --data-parallel-size-local 4"), "%s", command);
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_DECODE));
    cr_expect(says(command, "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK=192 python3"), "%s",
              command);
    cr_expect(says(command, "--nnodes 2"), "%s", command);
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_PREFILL));
    cr_expect_not(says(command, "SGLANG_DEEPEP"), "%s", command);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* vLLM has no EPLB and SGLang neither that nor DeepEP for mxfp4; TensorRT-LLM's backends go by
 * format and GPU, and those of Triton have no load balancer; AMD's cards have neither it nor
 * DeepEP. */
Test(plan, commands_ask_no_engine_for_what_it_has_not)
{
    struct plan plan;
    char command[LAUNCH_BYTES];
    load_small(&plan, "search={pools: shared, prefill: {ep: [2], tokens_per_rank: [2048]}, decode: "
                      "{ep: [2], sequences_per_rank: [64]}, strategy: eplb}");
    struct plan_answer answer = small_plan_search(&plan, 2, NULL);
    cr_assert_geq(answer.winner, 0);
    int32_t decode = answer.deployment[answer.winner].point[COST_DECODE];
    struct gpu_spec *gpu = &plan.gpu[0].cluster.gpu;
    const struct {
        enum precision precision;
        bool is_blackwell, balances;
        const char *backend;
    } cases[] = {{PRECISION_FP8, false, true, "backend: CUTLASS"},
                 {PRECISION_FP8, true, true, "backend: DEEPGEMM"},
                 {PRECISION_NVFP4, true, true, "backend: CUTEDSL"},
                 {PRECISION_MXFP4, true, true, "backend: TRTLLM"},
                 {PRECISION_MXFP4, false, false, "backend: TRITON"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool is_mxfp4 = cases[i].precision == PRECISION_MXFP4;
        answer.point[decode].expert_precision = cases[i].precision;
        gpu->flops_per_s[PRECISION_NVFP4] = cases[i].is_blackwell ? 9e15 : 0.0;
        cr_assert(plan_launch(command, &plan, &answer, LAUNCH_TRTLLM, COST_DECODE));
        cr_expect(says(command, cases[i].backend), "%s", command);
        cr_expect_eq(says(command, "num_slots"), cases[i].balances, "%s", command);
        cr_assert(plan_launch(command, &plan, &answer, LAUNCH_VLLM, COST_DECODE));
        cr_expect_eq(says(command, "--enable-eplb"), !is_mxfp4, "%s", command);
        cr_expect_eq(says(command, "# it has no EPLB"), is_mxfp4, "%s", command);
        cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_DECODE));
        cr_expect_eq(says(command, "--enable-eplb"), !is_mxfp4, "%s", command);
        cr_expect_eq(says(command, "--moe-a2a-backend"), !is_mxfp4, "%s", command);
    }
    answer.point[decode].expert_precision = PRECISION_FP8;
    (void)snprintf(gpu->name, sizeof gpu->name, "mi300x");
    cr_expect_not(plan_launch(command, &plan, &answer, LAUNCH_TRTLLM, COST_DECODE));
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_SGLANG, COST_DECODE));
    cr_expect(says(command, "--moe-a2a-backend mori"), "%s", command);
    cr_assert(plan_launch(command, &plan, &answer, LAUNCH_VLLM, COST_DECODE));
    cr_expect_not(says(command, "deepep"), "%s", command);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* Grouped GEMMs that were measured alone are constants too: a scenario that said roofline would not
 * serve what was planned. Where kernels have none, it must: a scenario refuses what a plan leaves.
 */
Test(plan, scenarios_compute_as_the_plan_did)
{
    const struct {
        const char *kernels;
        const char *model;
    } cases[] = {{"any", "model: fitted"},
                 {"deepgemm", "model: fitted"},
                 {"trtllm_wideep", "model: roofline"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plan plan;
        struct error error = {0};
        char kernels[64], text[4096] = "";
        (void)snprintf(kernels, sizeof kernels, "compute.kernels=%s", cases[i].kernels);
        const char *keys[] = {small[0], small[1], "gpus=[{gpu: h800-sxm, price: 2}]", kernels};
        small_plan_load(&plan, keys, 4,
                        "search={pools: disaggregated, prefill: {ep: [1], tokens_per_rank: [2048]},"
                        " decode: {ep: [1], sequences_per_rank: [64]}}");
        struct plan_answer answer = small_plan_search(&plan, 2, NULL);
        cr_assert_gt(answer.num_deployments, 0);
        cr_assert_eq(plan_serve_write("test_plan_launch.served", &plan, &answer,
                                      &answer.deployment[0], 1.0, &error),
                     STATUS_OK, "%s", error.text);
        FILE *file = fopen("test_plan_launch.served/serve.yaml", "r");
        cr_assert_not_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        cr_expect(says(text, cases[i].model), "%s: %s", kernels, text);
        plan_answer_free(&answer);
        plan_free(&plan);
    }
    cr_expect_eq(unlink("test_plan_launch.served/serve.yaml"), 0);
    cr_expect_eq(unlink("test_plan_launch.served/prefill.yaml"), 0);
    cr_expect_eq(rmdir("test_plan_launch.served"), 0); /* nothing else was written */
}
