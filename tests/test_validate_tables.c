/* test_validate_tables.c -- balance.csv, serving.csv and silicon_sample.csv: what is predicted, and
 * why the rest is not. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "served_scenario.h"
#include "text_file.h"
#include "validate.h"

#define BALANCE "model,hardware,ep,slots,metric,value,unit,condition,source\n"
#define SERVING                                                                                    \
    "date,engine,model,precision,gpu,n_gpus,phase,ep,redundant_experts,tp,isl,kv_len,"             \
    "batch_per_gpu,overlap,mtp,eplb,tok_s_per_gpu\n"

#define ENGINES                                                                                    \
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

TestSuite(validate_tables, .init = set_up, .fini = clean_up);

static void write_text(const char *text)
{
    (void)text_file(".csv", text);
}

static void expect_reason(int32_t row, const char *part)
{
    int32_t reason = report.row[row].reason;
    cr_assert_geq(reason, 0, "row %d is predicted", (int)row);
    cr_expect_not_null(strstr(report.reason[reason].text, part), "row %d: %s", (int)row,
                       report.reason[reason].text);
}

/* A part of a name, another table's, a fit to another GPU's rows: all of them unseen. */
Test(validate_tables, rows_are_part_of_a_fit_by_the_whole_name_of_their_table)
{
    static const char fit[] = "378 rows of kernels_moe.csv, fp8_block, 6 model shapes";
    cr_expect(validate_is_fitted_on(fit, "kernels_moe.csv"));
    cr_expect(validate_is_fitted_on("31 rows of alltoall.csv", "alltoall.csv"));
    cr_expect_not(validate_is_fitted_on(fit, "kernels.csv"));
    cr_expect_not(validate_is_fitted_on(fit, "moe.csv"));
    cr_expect_not(validate_is_fitted_on(fit, "kernels_moe.cs"));
    cr_expect_not(validate_is_fitted_on("9 rows of kernels.csv, fp8, of the H100", "kernels.csv"));
    cr_expect_not(validate_is_fitted_on("", ""));
}

/* Without skew nothing is saved and nothing lost; a heavy tail over 32 ranks at least doubles the
 * time of the busiest, and EPLB wins back part of it. */
Test(validate_tables, imbalance_costs_and_eplb_wins_back)
{
    write_text(BALANCE
               "DeepSeek-V3,H100,32,256,\"MoE compute latency on hottest rank / uniform, prefill\","
               "2,x,power_law_1.2; 65536 global tokens (2048 per rank),wideep_context\n"
               "DeepSeek-V3,H100,32,288,MoE compute latency with EPLB / without (rank 0),0.5,x,"
               "\"power law alpha=1.2, 65536 global tokens\",trtllm\n");
    cr_assert_eq(validate_balance(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_rows, 2);
    cr_expect_gt(report.row[0].predicted, 2.0);
    cr_expect_lt(report.row[0].predicted, 32.0);
    cr_expect_lt(report.row[1].predicted, 0.8);
    cr_expect_gt(report.row[1].predicted, 1.0 / 32.0);
}

/* The two measures are alike up to their 80th letter. */
Test(validate_tables, groups_differ_by_whole_names)
{
    write_text(
        BALANCE
        "DeepSeek-V3,H100,32,256,\"MoE compute latency on hottest rank / uniform, prefill of "
        "16384 tokens, warm\",2,x,power_law_1.2; 65536 global tokens,x\n"
        "DeepSeek-V3,H100,32,256,\"MoE compute latency on hottest rank / uniform, prefill of "
        "16384 tokens, cold\",2,x,power_law_1.2; 65536 global tokens,x\n");
    cr_assert_eq(validate_balance(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_groups, 2);
    cr_expect(strstr(report.group[0].value[2], "tokens, warm") != NULL);
}

Test(validate_tables, rows_of_balance_that_cannot_be_predicted_say_why)
{
    write_text(BALANCE "Kimi-K2,,,,redundant experts,32,experts,,x\n"
                       "Tutel,,,,all-to-all faster,20.7,x,,x\n"
                       "Kimi-K2,H100,8,256,MoE compute latency on hottest rank / uniform,2,x,"
                       "power_law_1.2; 64 global tokens,x\n"
                       "DeepSeek-V3,H100,8,256,MoE compute latency on hottest rank / uniform,2,x,"
                       "zipf; 64 global tokens,x\n"
                       "DeepSeek-V3,H100,7,256,MoE compute latency on hottest rank / uniform,2,x,"
                       "power_law_1.2; 64 global tokens,x\n"
                       "DeepSeek-V3,TPU,8,256,MoE compute latency on hottest rank / uniform,2,x,"
                       "power_law_1.2; 64 global tokens,x\n");
    cr_assert_eq(validate_balance(&report, path, &error), STATUS_OK, "%s", error.text);
    expect_reason(0, "no ratio");
    expect_reason(1, "is not published");
    expect_reason(2, "no model preset");
    expect_reason(3, "not a power law");
    expect_reason(4, "do not divide");
    expect_reason(5, "no GPU preset");
}

/* Two micro-batches of few tokens read the weights twice: slower than one. */
Test(validate_tables, a_step_is_simulated_as_its_row_says)
{
    write_text(SERVING "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,,,,1000\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,two micro-batch,,,1000\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,prefill,8,,,64,,128 tokens,,,,1000\n");
    cr_assert_eq(validate_serving(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_rows, 3);
    for (int32_t row = 0; row < 3; row++) {
        cr_assert_lt(report.row[row].reason, 0, "row %d is not predicted", (int)row);
        cr_expect_gt(report.row[row].predicted, 0.0);
    }
    cr_expect_lt(report.row[1].predicted, report.row[0].predicted);
    cr_expect_gt(report.row[2].predicted, report.row[0].predicted);
}

/* Prompts of 24 tokens do not fill a step of 100: the last is cut. What EPLB leaves of a measured
 * skew is slower than perfect balance; kernels of spring 2025 were not those of 2026. */
Test(validate_tables, a_step_is_as_uneven_and_as_old_as_its_row_says)
{
    write_text(
        SERVING
        "2026-01,e,DeepSeek-V3,fp8,H100,16,prefill,16,,,24,,100,,,perfectly balanced,1000\n"
        "2026-01,e,DeepSeek-V3,fp8,H100,16,prefill,16,,,24,,100,,,in-distribution EPLB,1000\n"
        "2025-05-05,e,DeepSeek-V3,fp8,H100,16,prefill,16,,,24,,100,,,perfectly balanced,1000\n");
    cr_assert_eq(validate_serving(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_rows, 3);
    cr_expect_lt(report.row[1].predicted, report.row[0].predicted);
    cr_expect_neq(report.row[2].predicted, report.row[0].predicted);
}

Test(validate_tables, rows_of_serving_that_cannot_be_predicted_say_why)
{
    write_text(SERVING "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,,,,\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,both,8,,,,64,8,,,,9\n"
                       "2026-01,e,unheard-of,fp8,H100,8,decode,8,,,,64,8,,,,9\n"
                       "2026-01,e,Llama-2-70B,fp8,H100,8,decode,8,,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,int3,H100,8,decode,8,,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,5000,,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,3,,,64,8,,,,9\n"
                       "2026-01,e,DBRX,fp8,H100,8,decode,8,,,,64,8,,,in-distribution,9\n");
    cr_assert_eq(validate_serving(&report, path, &error), STATUS_OK, "%s", error.text);
    expect_reason(0, "no throughput");
    expect_reason(1, "requests come and go");
    expect_reason(2, "no preset of its model");
    expect_reason(3, "dense");
    expect_reason(4, "not stated");
    expect_reason(5, "number format");
    expect_reason(6, "too large");
    expect_reason(7, "do not divide");
    expect_reason(8, "no trace preset");
}

static void expect_words(int32_t row, const char *part)
{
    cr_assert_not_null(report.row[row].words, "row %d", (int)row);
    cr_expect_not_null(strstr(report.row[row].words, part), "row %d: %s", (int)row,
                       report.row[row].words);
}

/* The last row is predicted all the same; 2 ** 24 tokens of KV are more than a GPU holds. */
Test(validate_tables, rows_of_serving_that_cannot_be_so_are_left_out_by_themselves)
{
    write_text(SERVING "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,x,,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8-16,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,-1,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,,,,0\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,16777216,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,16777216,,,64,8,,,,9\n"
                       "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,,,,9\n");
    cr_assert_eq(validate_serving(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_rows, 7);
    for (int32_t row = 0; row < 4; row++) {
        expect_reason(row, "a cell is not the number");
    }
    cr_expect_eq(report.reason[0].count, 4);
    cr_expect_eq(report.reason[0].first, 0);
    expect_words(0, ":2: ep is 'x'");
    expect_words(1, ":3: batch_per_gpu is '8-16', not 'N' or 'N tokens'");
    expect_words(2, ":4: redundant_experts is '-1'");
    expect_words(3, ":5: tok_s_per_gpu is '0'");
    expect_reason(4, "its step cannot be simulated");
    expect_words(4, "does not fit");
    expect_reason(5, "too large");
    cr_expect_lt(report.row[6].reason, 0);
}

Test(validate_tables, rows_of_balance_that_cannot_be_so_are_left_out_by_themselves)
{
#define RATIO(ep, slots, value)                                                                    \
    "DeepSeek-V3,H100," ep "," slots ",MoE compute latency on hottest rank / uniform," value       \
    ",x,power_law_1.2; 64 global tokens,x\n"
    write_text(BALANCE RATIO("8.5", "256", "2") RATIO("8", "~100", "2") RATIO("8", "256", "abc")
                   RATIO("8", "99999999999", "2") RATIO("8", "256", "2"));
    cr_assert_eq(validate_balance(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(report.num_rows, 5);
    cr_expect_eq(report.num_skipped, 4);
    cr_expect_eq(report.reason[0].count, 4);
    expect_words(0, ":2: ep is '8.5', not a count");
    expect_words(1, ":3: slots is '~100'");
    expect_words(2, ":4: value is 'abc'");
    expect_words(3, ":5: slots is '99999999999'");
    cr_expect_lt(report.row[4].reason, 0);
}

Test(validate_tables, tables_that_cannot_be_cut_into_cells_are_refused)
{
    write_text(SERVING "2026-01,e,Mixtral-8x7B,fp8,H100,8,decode,8,,,,64,8,,,\n");
    cr_expect_eq(validate_serving(&report, path, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: 16 cells; the header has 17"), "%s", error.text);
    error_report_free(&report);
    write_text("model,hardware,ep\n");
    cr_expect_eq(validate_balance(&report, path, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":1: columns are missing: slots"), "%s", error.text);
}

/* Two entries a row: TPOT, then TTFT. */
static void predict_engines(const char *text)
{
    (void)text_file(".csv", text);
    cr_assert_eq(validate_engines(&report, path, &error), STATUS_OK, "%s", error.text);
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
static void expect_served_alike(const char *row, const char *keys)
{
    static const char form[] =
        "version: 1\nmodel: llama-3.1-8b\ncluster: {preset: h100-nvlink, nodes: 1, "
        "gpus_per_node: 2}\nparallel: {ep: 2, attention: tp, tp: 2}\nphase: decode\n"
        "context_tokens: 576\ntrace: {tokens_per_rank: 4}\n"
        "dispatch: {collective: allgather_reducescatter}\n%s"
        "price: h100-neocloud\nserving:\n"
        "  arrivals: {concurrency: 8, requests: 80, prompt_tokens: 512, decode_tokens: 128}\n"
        "  batch: {tokens: 8192, sequences: 8}\n  engine: trtllm\n";
    char scenario_text[2 * sizeof form];
    (void)snprintf(scenario_text, sizeof scenario_text, form, keys);
    predict_engines(row);
    expect_predicted(0);
    double tpot_ms = report.row[0].predicted;
    double ttft_ms = report.row[1].predicted;

    const char *yaml = text_file(".yaml", scenario_text);
    const struct served_means served = served_scenario(yaml);
    cr_expect_float_eq(tpot_ms, served.tpot_ms, 1e-9 * tpot_ms);
    cr_expect_float_eq(ttft_ms, served.ttft_ms, 1e-9 * ttft_ms);
    (void)unlink(yaml);
    error_report_free(&report);
}

Test(validate_tables, a_row_is_what_moesim_serve_makes_of_the_same_scenario)
{
    expect_served_alike(ENGINES OWN LLAMA "512,128,,,8,2,1,1,2,1,30,6\n",
                        "compute: {model: fitted, kernels: trtllm}\n");
}

/* Dense checkpoints in fp8 have one scale a tensor, of weights and of inputs. */
Test(validate_tables, dense_models_in_fp8_take_gemms_of_their_scales)
{
    expect_served_alike(ENGINES OWN LLAMA "512,128,fp8,fp8,8,2,1,1,2,1,30,6\n",
                        "precision: {dense: fp8, expert: fp8, kv: fp8}\n"
                        "compute: {model: fitted, kernels: trtllm_static_fp8_tensor}\n");
    expect_served_alike(ENGINES OWN LLAMA "512,128,fp8_block,fp8_block,8,2,1,1,2,1,30,6\n",
                        "precision: {dense: fp8, expert: fp8, kv: fp8}\n"
                        "compute: {model: fitted, kernels: trtllm}\n");
}

/* More requests outstanding wait longer for each token; lengths that are drawn are shorter in the
 * mean; experts on two GPUs take less time than on one, dealt to them or cut over them. */
Test(validate_tables, rows_follow_their_load)
{
    predict_engines(ENGINES OWN OLMOE
                    "512,64,,,4,1,1,1,1,1,30,6\n" OWN OLMOE "512,64,,,32,1,1,1,1,1,30,6\n" MAX OLMOE
                    "512,64,,,32,1,1,1,1,1,31,6\n" OWN OLMOE
                    "512,64,,,32,2,1,1,1,2,30,6\n" OWN OLMOE "512,64,,,32,2,1,1,2,1,30,6\n");
    for (int32_t row = 0; row < 5; row++) {
        expect_predicted(row);
    }
    cr_expect_gt(report.row[2].predicted, report.row[0].predicted);
    cr_expect_lt(report.row[5].predicted, report.row[3].predicted);
    cr_expect_lt(report.row[6].predicted, report.row[2].predicted);
    cr_expect_lt(report.row[8].predicted, report.row[2].predicted);
    cr_expect_neq(report.row[8].predicted, report.row[6].predicted);
}

Test(validate_tables, rows_that_cannot_be_predicted_say_why)
{
    predict_engines(
        ENGINES MAX
        "vllm,allenai/OLMoE-1B-7B-0924,h100_sxm,disagg,512,64,,,4,1,1,1,1,1,30,6\n" MAX OLMOE
        "512,64,,,,1,1,1,1,1,30,6\n" MAX OLMOE "512,64,,,4,1,2,1,1,1,30,6\n" MAX OLMOE
        "512,64,,,4,4,1,1,2,2,30,6\n" MAX OLMOE "512,64,,,4,2,1,2,1,4,30,6\n" MAX OLMOE
        "512,64,,,4,8,1,1,1,4,30,6\n" MAX
        "vllm,unheard/of,h100_sxm,agg,512,64,,,4,1,1,1,1,1,30,6\n" MAX
        "sglang,deepseek-ai/DeepSeek-R1,h200_sxm,agg,512,64,fp8,fp8,4,8,1,1,1,8,30,6\n" MAX
        "vllm,allenai/OLMoE-1B-7B-0924,tpu,agg,512,64,,,4,1,1,1,1,1,30,6\n" MAX OLMOE
        "512,64,int4_wo,int4_wo,4,1,1,1,1,1,30,6\n" MAX OLMOE
        "512,64,,,4,16,1,1,1,16,30,6\n" MAX LLAMA "100000,64,,,99999,1,1,1,1,1,30,6\n");
    expect_reason(0, "read on other GPUs");
    expect_reason(2, "not stated");
    expect_reason(4, "dealt to GPUs in turn");
    expect_reason(6, "experts are cut");
    expect_reason(8, "contradict");
    expect_reason(10, "contradict");
    expect_reason(12, "no preset of its model");
    expect_reason(14, "drafted");
    expect_reason(16, "no preset of a cluster");
    expect_reason(18, "number format");
    expect_reason(20, "no preset of a cluster");
    expect_reason(22, "too large");
}

Test(validate_tables, a_measurement_counts_once_and_an_odd_cell_is_named)
{
    predict_engines(ENGINES MAX LLAMA
                    "512,64,,,4,1,1,1,1,1,30,6\n" MAX LLAMA "512,64,,,4,1,1,1,1,1,30,6\n" MAX LLAMA
                    "512,64,,,4,1,1,1,1,1,31,6\n" MAX LLAMA "x,64,,,4,1,1,1,1,1,30,6\n");
    expect_predicted(0);
    expect_reason(2, "stands in an earlier row");
    expect_predicted(2);
    cr_assert_not_null(report.row[6].words);
    cr_expect_not_null(strstr(report.row[6].words, ":5: isl is 'x'"), "%s", report.row[6].words);
}

Test(validate_tables, a_file_without_the_columns_is_refused)
{
    (void)text_file(".csv", "backend,isl\nvllm,1\n");
    cr_expect_eq(validate_engines(&report, path, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "silicon_tpot_ms"), "%s", error.text);
}
