/* test_kernel_rows.c -- reading single kernels, fitting their constants, predicting rows. */
#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calibrate_kernels.h"
#include "gpu/library_picks.h"
#include "kernel_rows.h"
#include "rng.h"
#include "text_file.h"
#include "validate.h"

#define HEADER                                                                                     \
    "kernel,gpu,library,dtype,kv_dtype,phase,m,n,k,num_groups,num_experts,topk,hidden,inter,ep,"   \
    "local_experts,tokens,tokens_scope,tokens_per_expert,batch,seq_or_kv_len,q_heads,model_shape," \
    "distribution,num_slots,latency_us\n"
#define H100 "NVIDIA H100 80GB HBM3"
#define GEMM(m, n, k, us)                                                                          \
    "dense GEMM," H100 ",TRT-LLM 1.3,bfloat16,,," m "," n "," k ",,,,,,,,,,,,,,,,," us "\n"
#define ATTENTION(gpu, phase, batch, length, heads, us)                                            \
    "mha attention " phase "," gpu ",FlashMLA,bf16,bf16," phase ",,,,,,,,,,,,,," batch "," length  \
    "," heads ",,,," us "\n"
#define EXPERTS(tokens, distribution, slots)                                                       \
    "WideEP MoE compute," H100 ",TRT-LLM 1.3,fp8_block,,both,,,,,16,2,1024,512,4,," tokens         \
    ",global over EP group,,,,,Tiny," distribution "," slots ",50\n"

static struct error error;
static struct kernel_rows rows;

static enum status read_text(const char *text)
{
    const char *path = text_file(".csv", text);
    enum status status = kernel_rows_read(&rows, path, &error);
    unlink(path);
    return status;
}

Test(kernel_rows, reads_shapes_of_every_kind)
{
    cr_assert_eq(read_text(HEADER GEMM("16", "4096", "7168", "26.5")
                               ATTENTION("H20", "decode", "8", "1024", "32-4-128", "35")
                                   EXPERTS("64", "power_law_1.2", "")),
                 STATUS_OK, "%s", error.text);

    cr_expect_eq(rows.num_rows, 3);
    cr_expect_str_eq(rows.row[0].kernels, "trtllm");
    cr_expect_str_eq(rows.row[0].shape, "4096 x 7168");
    cr_expect_float_eq(rows.row[0].latency_ns, 26500.0, 1e-9);
    cr_expect_eq(rows.row[1].phase, PHASE_GQA_DECODE);
    /* 4 KV heads x (128 + 128) x 2 bytes */
    cr_expect_float_eq(rows.row[1].attention.kv_bytes, 2048.0, 1e-9);
    cr_expect_eq(rows.row[2].class, KERNEL_MOE);
    cr_expect_eq(rows.moe.row[0].class, MOE_SKEWED_EP);
    kernel_rows_free(&rows);
}

Test(kernel_rows, tells_engines_attention_from_a_library_alone_and_takes_batches_of_prompts)
{
    const char *prompts = "mha attention," H100 ",TRT-LLM 1.3,fp8,fp8,prefill,,,,,,,,,,,,,,4,1024,"
                          "32-4-128,,,,35\n";
    const char *answers =
        "mha attention," H100 ",vLLM 0.24,bfloat16,fp8,decode,,,,,,,,,,,,,,8,1024,"
        "32-4-128,,,,35\n";
    char text[2048];
    (void)snprintf(text, sizeof text,
                   HEADER "%s%s" ATTENTION("H20", "prefill", "", "1024", "32-4-128", "35"), prompts,
                   answers);
    cr_assert_eq(read_text(text), STATUS_OK, "%s", error.text);

    cr_expect_str_eq(rows.row[0].kernels, "trtllm_fp8");
    cr_expect_eq(rows.row[0].phase, PHASE_GQA_PREFILL);
    cr_expect_float_eq(rows.row[0].attention.sequences, 4.0, 1e-9);
    cr_expect_str_eq(rows.row[1].kernels, "vllm");
    cr_expect_eq(rows.row[1].precision, PRECISION_FP8);
    cr_expect_str_eq(rows.row[2].kernels, "flash");
    cr_expect_float_eq(rows.row[2].attention.sequences, 1.0, 1e-9);
    kernel_rows_free(&rows);
}

Test(kernel_rows, spreads_tokens_evenly_over_the_slots_of_eplb)
{
    cr_assert_eq(read_text(HEADER EXPERTS("60", "power_law_1.2_eplb", "20")), STATUS_OK, "%s",
                 error.text);

    const struct moe_row *moe = &rows.moe.row[0];
    cr_expect_eq(moe->num_experts, 20);
    cr_expect_eq(moe->class, MOE_BALANCED_EP);
    /* 60 tokens x top-2 over 20 slots, of which rank 0 of 4 holds 5 */
    cr_expect_float_eq(moe->load[0].copies, 30.0, 1e-9);
    kernel_rows_free(&rows);
}

Test(kernel_rows, keeps_rows_that_lack_a_number_with_the_reason)
{
    cr_assert_eq(read_text(HEADER GEMM("", "4096", "7168", "26.5") "gdn attention decode,H20,X,,,"
                                                                   ",,,,,,,,,,,,,,,,,,,,\n"),
                 STATUS_OK, "%s", error.text);

    cr_expect_str_eq(rows.row[0].skip, "a shape or the latency is missing");
    cr_expect_eq(rows.row[1].class, KERNEL_OTHER);
    cr_expect_not_null(rows.row[1].skip);
    kernel_rows_free(&rows);
}

static void expect_odd(int64_t row, const char *reason, const char *words)
{
    cr_assert_not_null(rows.row[row].skip);
    cr_expect_not_null(strstr(rows.row[row].skip, reason), "%s", rows.row[row].skip);
    cr_assert_not_null(rows.row[row].odd);
    cr_expect_not_null(strstr(rows.row[row].odd, words), "%s", rows.row[row].odd);
}

Test(kernel_rows, leaves_out_what_cannot_be_so_with_file_line_and_cell)
{
    cr_assert_eq(
        read_text(HEADER GEMM("many", "-1", "7168", "fast") GEMM("0", "4096", "7168", "9") GEMM(
            "16", "1e308", "7168", "26.5") ATTENTION("H20", "decode", "8", "1024", "4-32-128", "35")
                      EXPERTS("64", "power_law_1.2", "5000") GEMM("16", "4096", "7168", "26.5")),
        STATUS_OK, "%s", error.text);

    cr_assert_eq(rows.num_rows, 6);
    cr_expect_eq(rows.moe.odd.count, 5);
    cr_expect_eq(rows.moe.num_rows, 0);
    expect_odd(0, "a cell is not the number", ":2: m is 'many', not a positive number");
    expect_odd(1, "a cell is not the number", ":3: m is '0', not a positive number");
    expect_odd(2, "a cell is not the number", ":4: n is 1e308, not from 0.001 to 1e+09");
    expect_odd(3, "heads", ":5: q_heads is '4-32-128'");
    expect_odd(4, "do not go together", "5000 slots, top-k 2, EP 4");
    cr_expect_null(rows.row[5].skip);
    kernel_rows_free(&rows);
}

Test(kernel_rows, refuses_a_table_without_its_columns)
{
    cr_expect_eq(read_text("kernel,gpu\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":1: there is no column 'library'"));
    kernel_rows_free(&rows);
    cr_expect_eq(kernel_rows_read(&rows, "/nonexistent.csv", &error), STATUS_IO);
    kernel_rows_free(&rows);
}

Test(kernel_rows, are_predicted_or_listed_by_validate)
{
    struct error_report report = {0};
    const char *path =
        text_file(".csv", HEADER GEMM("16", "4096", "7168", "26.5") GEMM("", "1", "1", "1")
                              GEMM("0", "1", "1", "1") GEMM("-3", "1", "1", "1"));

    cr_assert_eq(validate_kernels(&report, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(error_report_finish(&report, &error), STATUS_OK);

    cr_expect_eq(report.total.num_rows, 1);
    cr_expect_eq(report.num_skipped, 3);
    cr_expect_str_eq(report.reason[0].text, "a shape or the latency is missing");
    cr_expect_eq(report.reason[1].count, 2);
    cr_expect_eq(report.reason[1].first, 2);
    cr_expect_not_null(strstr(report.row[2].words, ":4: m is '0'"));
    cr_expect_not_null(strstr(report.row[3].words, ":5: m is '-3'"));
    cr_expect_lt(report.total.max, 0.2); /* a row that the preset was fitted to */
    error_report_free(&report);
    unlink(path);
}

/* bf16 is cuBLAS's everywhere; fp8 of one scale a tensor is CUTLASS's outside of TensorRT-LLM, and
 * vLLM's blocks were timed with their host. */
Test(kernel_rows, tells_linear_layers_of_engines_apart)
{
    static const struct {
        const char *engine;
        const char *dtype;
        const char *kernels; /* NULL: skipped */
        enum tile_choice tiles;
    } rows_of[] = {{"TRT-LLM 1.3", "fp8", "trtllm_fp8_tensor", TILES_TUNED},
                   {"SGLang 0.5.14", "bfloat16", "sglang_linear", TILES_TUNED},
                   {"SGLang 0.5.14", "fp8_block", "sglang_linear", TILES_TUNED_WHOLE},
                   {"vLLM 0.24.0", "fp8", "vllm_linear_fp8_tensor", TILES_TUNED_WHOLE},
                   {"vLLM 0.24.0", "fp8_block", NULL, TILES_TUNED_WHOLE}};
    char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "%s", HEADER);
    for (size_t i = 0; i < 5; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "dense GEMM," H100 ",%s,%s,,,64,4096,7168,,,,,,,,,,,,,,,,,20\n",
                                 rows_of[i].engine, rows_of[i].dtype);
    }
    cr_assert_eq(read_text(text), STATUS_OK, "%s", error.text);

    for (int64_t i = 0; i < 5; i++) {
        const struct kernel_row *row = &rows.row[i];
        cr_expect_eq(row->skip == NULL, rows_of[i].kernels != NULL);
        cr_expect_eq(row->tiles, rows_of[i].tiles);
        cr_expect_float_eq(row->gemm.rounds, i == 0 ? 5.0 : 6.0, 0.0);
        if (rows_of[i].kernels != NULL) {
            cr_expect_str_eq(row->kernels, rows_of[i].kernels);
            cr_expect_not_null(kernel_row_gemm(row, &rows.moe.gpu[row->gpu]));
        }
    }
    kernel_rows_free(&rows);
}

static void gemm_rows(char *text, size_t bytes)
{
    static const char *const shapes[] = {"256,7168",   "4096,7168", "7168,2048",
                                         "7168,16384", "2048,4096", "12288,1024"};
    size_t used = (size_t)snprintf(text, bytes, "%s", HEADER);
    for (int32_t i = 0; i < 6; i++) {
        for (int32_t m = 1; m <= 16384; m *= 2) {
            used += (size_t)snprintf(text + used, bytes - used,
                                     "dense GEMM," H100 ",TRT-LLM 1.3,bfloat16,,,%d,%s,,,,,,,,,,,,,"
                                     ",,,,1\n",
                                     (int)m, shapes[i]);
        }
    }
}

Test(calibrate_kernels, finds_the_constants_behind_noisy_measurements)
{
    static char text[65536];
    const struct gemm_constants truth = {.tiles = TILES_TUNED,
                                         .picks = PICKS_hopper_bf16,
                                         .t0_ns = 3000.0,
                                         .weight_bytes_per_s = 2.5e12,
                                         .flops_per_s = 0.7e15,
                                         .feed_bytes_per_s = 30e12,
                                         .prepare_bytes_per_s = 20e12,
                                         .output_bytes_per_s = 3e12,
                                         .tile_ns = 800.0,
                                         .split_ns = 2000.0,
                                         .depth_ns = 0.3,
                                         .cache_bytes = 30e6,
                                         .sink_share = 0.1,
                                         .blend = 2.5};
    struct kernel_calibration *found = calloc(KERNEL_CALIBRATIONS_MAX, sizeof *found);
    gsl_rng *rng = rng_stream(3, "test kernel rows", 0);
    const struct calibrate_options options = {.table = "synthetic", .num_bootstrap = 5};
    int32_t count = 0;
    gemm_rows(text, sizeof text);
    cr_assert_eq(read_text(text), STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        rows.row[i].latency_ns = kernel_row_gemm_ns(&rows.row[i], &rows.moe.gpu[0], &truth) *
                                 exp(gsl_ran_gaussian(rng, 0.01));
    }

    cr_assert_eq(calibrate_kernels(found, &count, &rows, &options, &error), STATUS_OK);

    cr_assert_eq(count, 1);
    cr_expect_eq(found->num_shapes, 6);
    cr_expect_float_eq(found->gemm.weight_bytes_per_s / truth.weight_bytes_per_s, 1.0, 0.05);
    cr_expect_float_eq(found->gemm.flops_per_s / truth.flops_per_s, 1.0, 0.05);
    cr_expect_eq(found->gemm.picks, PICKS_hopper_bf16);
    cr_expect_lt(found->held_out.median, 0.015); /* noise alone: 0.7 % */
    cr_expect_lt(found->held_out.p90, 0.05);
    cr_expect_leq(found->low[1], found->gemm.weight_bytes_per_s * 1.02);
    cr_expect_geq(found->high[1], found->gemm.weight_bytes_per_s * 0.98);
    gsl_rng_free(rng);
    free(found);
    kernel_rows_free(&rows);
}
