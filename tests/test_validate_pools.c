/* test_validate_pools.c -- rows of silicon_sample.csv whose prompts are read on other GPUs: what is
 * predicted, and why the rest is not. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "served_scenario.h"
#include "text_file.h"
#include "validate.h"

#define POOLS                                                                                      \
    "silicon_data_source,backend,model_path,system,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"   \
    "batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,prefill_num_workers,"    \
    "prefill_tp_size,prefill_pp_size,prefill_attention_dp_size,prefill_moe_tp_size,"               \
    "prefill_moe_ep_size,decode_batch_size,decode_num_workers,decode_tp_size,decode_pp_size,"      \
    "decode_attention_dp_size,decode_moe_tp_size,decode_moe_ep_size,silicon_ttft_ms,"              \
    "silicon_tpot_ms\n"
#define NO_DEGREES     ",,,,,,"
#define LLAMA_POOLS    "trtllm,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,disagg,"
#define OLMOE_POOLS    "trtllm,allenai/OLMoE-1B-7B-0924,gb200,disagg,512,64,,," NO_DEGREES
#define DEEPSEEK_POOLS "trtllm,deepseek-ai/DeepSeek-V3,tpu,disagg,512,64,fp8,fp8," NO_DEGREES
#define OWN            "aic-auto-gap-analysis,"
#define MAX            "2026-04-06.csv,"

static struct error error;
static struct error_report report;
static char path[64];

static void clean_up(void)
{
    error_report_free(&report);
    (void)unlink(path);
}

TestSuite(validate_pools, .fini = clean_up);

/* Two entries a row: TPOT, then TTFT. */
static void predict(const char *text)
{
    (void)snprintf(path, sizeof path, "%s", text_file(".csv", text));
    cr_assert_eq(validate_engines(&report, path, &error), STATUS_OK, "%s", error.text);
}

static void expect_predicted(int32_t row)
{
    for (int32_t i = 2 * row; i < 2 * row + 2; i++) {
        cr_assert_lt(report.row[i].reason, 0, "row %d is not predicted", (int)row);
        cr_expect_gt(report.row[i].predicted, 0.0);
    }
}

static void expect_reason(int32_t row, const char *part)
{
    int32_t reason = report.row[2 * row].reason;
    cr_assert_geq(reason, 0, "row %d is predicted", (int)row);
    cr_expect_not_null(strstr(report.reason[reason].text, part), "row %d: %s", (int)row,
                       report.reason[reason].text);
}

/* Two workers that answer with four requests each, on two GPUs, behind one that reads on one. */
Test(validate_pools, a_row_of_two_pools_is_what_moesim_serve_makes_of_the_same_scenarios)
{
#define LLAMA_SCENARIO(nodes, gpus, phase)                                                         \
    "version: 1\nmodel: llama-3.1-8b\ncluster: {preset: h100-nvlink, nodes: " nodes                \
    ", gpus_per_node: " gpus "}\nparallel: {ep: " gpus ", attention: tp, tp: " gpus                \
    "}\nphase: " phase "\ntrace: {tokens_per_rank: 4}\ndispatch: {collective: "                    \
    "allgather_reducescatter}\ncompute: {model: fitted, kernels: trtllm}\nprice: h100-neocloud\n"
    char prefill[64];
    char text[2048];
    predict(POOLS OWN LLAMA_POOLS "512,128,,," NO_DEGREES "1,1,1,1,1,1,4,2,2,1,1,2,1,30,6\n");
    expect_predicted(0);
    double tpot_ms = report.row[0].predicted;
    double ttft_ms = report.row[1].predicted;

    (void)snprintf(
        prefill, sizeof prefill, "%s",
        text_file("-prefill.yaml", LLAMA_SCENARIO("1", "1", "prefill") "context_tokens: 512\n"));
    (void)snprintf(text, sizeof text,
                   "%scontext_tokens: 576\nserving:\n"
                   "  arrivals: {concurrency: 8, requests: 80, prompt_tokens: 512, decode_tokens: "
                   "128}\n  batch: {tokens: 4, sequences: 4}\n"
                   "  prefill: {scenario: %s, tokens: 8192, sequences: 64}\n  engine: trtllm\n",
                   LLAMA_SCENARIO("2", "2", "decode"), prefill);
    const char *yaml = text_file(".yaml", text);
    const struct served_means served = served_scenario(yaml);
    cr_expect_float_eq(tpot_ms, served.tpot_ms, 1e-9 * tpot_ms);
    cr_expect_float_eq(ttft_ms, served.ttft_ms, 1e-9 * ttft_ms);
    (void)unlink(yaml);
    (void)unlink(prefill);
}

/* Of 64 requests outstanding: who reads alone keeps them waiting longer than two who share the
 * prompts, and a group of four GPUs answers each request sooner than one of two. */
Test(validate_pools, rows_of_two_pools_follow_their_workers)
{
    predict(POOLS MAX OLMOE_POOLS "1,1,1,1,1,1,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "2,1,1,1,1,1,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,1,1,1,1,32,1,1,1,2,1,2,30,6\n");
    for (int32_t row = 0; row < 3; row++) {
        expect_predicted(row);
    }
    cr_expect_lt(report.row[3].predicted, report.row[1].predicted);
    cr_expect_lt(report.row[0].predicted, report.row[4].predicted);
}

/* Rows of InferenceX's database draft nothing, so the last one is left out for its cluster alone.
 */
Test(validate_pools, rows_of_two_pools_that_cannot_be_predicted_say_why)
{
    predict(POOLS MAX OLMOE_POOLS ",1,1,1,1,1,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,1,1,1,1,16,,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,1,1,1,1,,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,4,1,1,4,4,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,2,1,2,1,4,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,2,1,1,1,16,1,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,1,1,1,1,65536,2,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1,1,1,1,1,1,16,x,1,1,4,1,4,30,6\n" MAX OLMOE_POOLS
                                  "1048576,1,1,64,1,64,16,1,1,1,4,1,4,30,6\n" MAX DEEPSEEK_POOLS
                                  "1,1,1,1,1,1,16,1,1,1,4,1,4,30,6\n"
                                  "db-dump/2026-04-27," DEEPSEEK_POOLS
                                  "1,1,1,1,1,1,16,1,1,1,4,1,4,30,6\n");
    for (int32_t row = 0; row < 3; row++) {
        expect_reason(row, "how many workers read prompts");
    }
    expect_reason(3, "experts are cut and dealt alike");
    expect_reason(4, "contradict");
    expect_reason(5, "dealt to GPUs in turn");
    expect_reason(6, "too large");
    cr_assert_not_null(report.row[14].words);
    cr_expect_not_null(strstr(report.row[14].words, ":9: decode_num_workers is 'x'"), "%s",
                       report.row[14].words);
    expect_reason(8, "workers are too many");
    expect_reason(9, "drafted");
    expect_reason(10, "no preset of a cluster");
}
