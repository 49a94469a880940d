/* test_validate_engines.c -- rows of silicon_sample.csv: served as a scenario of the same load is,
 * or left out with the reason. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve/deployment.h"
#include "simulate.h"
#include "text_file.h"
#include "validate.h"

#define HEADER                                                                                     \
    "silicon_data_source,backend,model_path,system,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"   \
    "batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,"        \
    "silicon_tpot_ms\n"
#define OWN   "aic-auto-gap-analysis,"
#define MAX   "2026-04-06.csv,"
#define LLAMA "trtllm,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,agg,"
#define OLMOE "vllm,allenai/OLMoE-1B-7B-0924,h100_sxm,agg,"

static struct error error;
static struct error_report report;
static const char *path;

static void set_up(void)
{
    path = text_file(".csv", "");
    error = (struct error){0};
    report = (struct error_report){0};
}

static void clean_up(void)
{
    error_report_free(&report);
    (void)unlink(path);
}

TestSuite(validate_engines, .init = set_up, .fini = clean_up);

/* Two entries a row: TPOT, then TTFT. */
static void predict(const char *text)
{
    (void)text_file(".csv", text);
    cr_assert_eq(validate_engines(&report, path, &error), STATUS_OK, "%s", error.text);
}

static void expect_reason(int32_t row, const char *part)
{
    for (int32_t i = 2 * row; i < 2 * row + 2; i++) {
        int32_t reason = report.row[i].reason;
        cr_assert_geq(reason, 0, "row %d is predicted", (int)row);
        cr_expect_not_null(strstr(report.reason[reason].text, part), "row %d: %s", (int)row,
                           report.reason[reason].text);
    }
}

static void expect_predicted(int32_t row)
{
    for (int32_t i = 2 * row; i < 2 * row + 2; i++) {
        int32_t reason = report.row[i].reason;
        cr_assert_lt(reason, 0, "row %d: %s", (int)row,
                     reason < 0 ? "" : report.reason[reason].text);
        cr_expect_gt(report.row[i].predicted, 0.0);
    }
}

/* The same deployment as a user would write it down, served by the library's own path. */
Test(validate_engines, a_row_is_what_moesim_serve_makes_of_the_same_scenario)
{
    static const char scenario_text[] =
        "version: 1\nmodel: llama-3.1-8b\ncluster: {preset: h100-nvlink, nodes: 1, "
        "gpus_per_node: 2}\nparallel: {ep: 2, attention: tp, tp: 2}\nphase: decode\n"
        "context_tokens: 576\ntrace: {tokens_per_rank: 4}\n"
        "dispatch: {collective: allgather_reducescatter}\ncompute: {model: fitted, kernels: "
        "trtllm}\n"
        "price: h100-neocloud\nserving:\n"
        "  arrivals: {concurrency: 8, requests: 80, prompt_tokens: 512, decode_tokens: 128}\n"
        "  batch: {tokens: 8192, sequences: 8}\n";
    predict(HEADER OWN LLAMA "512,128,,,8,2,1,1,2,1,30,6\n");
    expect_predicted(0);
    double tpot_ms = report.row[0].predicted;
    double ttft_ms = report.row[1].predicted;

    struct scenario scenario;
    struct deployment deployment;
    struct serve_result result = {0};
    const struct deployment_progress progress = {.num_threads = 1};
    const char *yaml = text_file(".yaml", scenario_text);
    cr_assert_eq(scenario_load(&scenario, yaml, NULL, 0, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(deployment_open(&deployment, &scenario, NULL, &progress, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(serve_run(&result, &deployment.arrivals, &deployment.options, &error), STATUS_OK,
                 "%s", error.text);
    cr_expect_float_eq(tpot_ms, result.latency[SERVE_TPOT].mean_s * 1e3, 1e-9 * tpot_ms);
    cr_expect_float_eq(ttft_ms, result.latency[SERVE_TTFT].mean_s * 1e3, 1e-9 * ttft_ms);
    serve_result_free(&result);
    deployment_close(&deployment);
    scenario_free(&scenario);
    (void)unlink(yaml);
}

/* More requests outstanding wait longer for each token; lengths that are drawn are shorter in the
 * mean; experts on two GPUs take less time than on one. */
Test(validate_engines, rows_follow_their_load)
{
    predict(HEADER OWN OLMOE
            "512,64,,,4,1,1,1,1,1,30,6\n" OWN OLMOE "512,64,,,32,1,1,1,1,1,30,6\n" MAX OLMOE
            "512,64,,,32,1,1,1,1,1,31,6\n" OWN OLMOE "512,64,,,32,2,1,1,1,2,30,6\n");
    for (int32_t row = 0; row < 4; row++) {
        expect_predicted(row);
    }
    cr_expect_gt(report.row[2].predicted, report.row[0].predicted);
    cr_expect_lt(report.row[5].predicted, report.row[3].predicted);
    cr_expect_lt(report.row[6].predicted, report.row[2].predicted);
}

Test(validate_engines, rows_that_cannot_be_predicted_say_why)
{
    predict(HEADER MAX
            "vllm,allenai/OLMoE-1B-7B-0924,h100_sxm,disagg,512,64,,,4,1,1,1,1,1,30,6\n" MAX OLMOE
            "512,64,,,,1,1,1,1,1,30,6\n" MAX OLMOE "512,64,,,4,1,2,1,1,1,30,6\n" MAX OLMOE
            "512,64,,,4,2,1,1,2,1,30,6\n" MAX OLMOE "512,64,,,4,2,1,2,1,4,30,6\n" MAX OLMOE
            "512,64,,,4,8,1,1,1,4,30,6\n" MAX
            "vllm,unheard/of,h100_sxm,agg,512,64,,,4,1,1,1,1,1,30,6\n" MAX
            "sglang,deepseek-ai/DeepSeek-R1,h200_sxm,agg,512,64,fp8,fp8,4,8,1,1,1,8,30,6\n" MAX
            "vllm,allenai/OLMoE-1B-7B-0924,tpu,agg,512,64,,,4,1,1,1,1,1,30,6\n" MAX OLMOE
            "512,64,int4_wo,int4_wo,4,1,1,1,1,1,30,6\n" MAX OLMOE
            "512,64,,,4,16,1,1,1,16,30,6\n" MAX LLAMA "100000,64,,,99999,1,1,1,1,1,30,6\n");
    expect_reason(0, "read on other GPUs");
    expect_reason(1, "not stated");
    expect_reason(2, "dealt to GPUs in turn");
    expect_reason(3, "experts are cut");
    expect_reason(4, "contradict");
    expect_reason(5, "contradict");
    expect_reason(6, "no preset of its model");
    expect_reason(7, "drafted");
    expect_reason(8, "no preset of a cluster");
    expect_reason(9, "number format");
    expect_reason(10, "no preset of a cluster");
    expect_reason(11, "too large");
}

Test(validate_engines, a_measurement_counts_once_and_an_odd_cell_is_named)
{
    predict(HEADER MAX LLAMA "512,64,,,4,1,1,1,1,1,30,6\n" MAX LLAMA
                             "512,64,,,4,1,1,1,1,1,30,6\n" MAX LLAMA
                             "512,64,,,4,1,1,1,1,1,31,6\n" MAX LLAMA "x,64,,,4,1,1,1,1,1,30,6\n");
    expect_predicted(0);
    expect_reason(1, "stands in an earlier row");
    expect_predicted(2);
    cr_assert_not_null(report.row[6].words);
    cr_expect_not_null(strstr(report.row[6].words, ":5: isl is 'x'"), "%s", report.row[6].words);
}

Test(validate_engines, a_file_without_the_columns_is_refused)
{
    (void)text_file(".csv", "backend,isl\nvllm,1\n");
    cr_expect_eq(validate_engines(&report, path, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "silicon_tpot_ms"), "%s", error.text);
}
