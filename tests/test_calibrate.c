/* test_calibrate.c -- reading measured MoE operations, fitting constants, predicting rows. */
#include <criterion/criterion.h>
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calibrate.h"
#include "calibrate_internal.h"
#include "moe_rows_internal.h"
#include "rng.h"
#include "text_file.h"
#include "validate.h"

#define HEADER                                                                                     \
    "row_id,gpu,framework,version,kernel_source,dtype,model_shape,num_experts,topk,hidden,inter,"  \
    "moe_tp,moe_ep,tokens,distribution,latency_us,source\n"
#define ROW                                                                                        \
    "1,NVIDIA H100 80GB HBM3,TRTLLM,1,moe_torch_flow_cutlass,bfloat16,Tiny,8,2,1024,512,1,1,4,"    \
    "balanced,50.0,us\n"

static struct error error;
static struct moe_rows rows;

static enum status read_text(const char *text)
{
    const char *path = text_file(".csv", text);
    enum status status = moe_rows_read(&rows, path, &error);
    unlink(path);
    return status;
}

Test(moe_rows, deals_balanced_tokens_as_the_collector_does)
{
    int64_t few[8];
    int64_t many[8];

    moe_deal_balanced(few, 2, 8, 2);
    moe_deal_balanced(many, 6, 8, 2);

    /* stride 4: two tokens start at 0 and 2, six at 0 to 5 */
    const int64_t few_expected[8] = {1, 0, 1, 0, 1, 0, 1, 0};
    const int64_t many_expected[8] = {2, 2, 1, 1, 2, 2, 1, 1};
    cr_expect_arr_eq(few, few_expected, sizeof few);
    cr_expect_arr_eq(many, many_expected, sizeof many);
}

Test(moe_rows, deals_skewed_tokens_all_of_them_with_the_busiest_rank_first)
{
    gsl_rng *rng = rng_stream(1, "test calibrate", 0);
    for (int32_t round = 0; round < 500; round++) {
        const struct deal deal = {.tokens = 1 + round * 7, .num_experts = 64, .top_k = 4, .ep = 8};
        int64_t tokens_of[64];
        int64_t rank[8] = {0};
        int64_t sum = 0;

        moe_deal_power_law(tokens_of, &deal, 1.2, rng);

        for (int32_t expert = 0; expert < 64; expert++) {
            cr_assert(tokens_of[expert] >= 0 && tokens_of[expert] <= deal.tokens);
            sum += tokens_of[expert];
            rank[expert / 8] += tokens_of[expert];
        }
        cr_assert_eq(sum, deal.tokens * deal.top_k);
        for (int32_t other = 1; other < 8; other++) {
            cr_assert_geq(rank[0], rank[other]);
        }
    }
    gsl_rng_free(rng);
}

Test(moe_rows, follows_a_gate_that_keeps_half_of_the_groups)
{
    const struct deal deal = {.tokens = 8, .num_experts = 64, .top_k = 8, .ep = 1};
    const struct deal half = {.tokens = 8, .num_experts = 64, .top_k = 8, .ep = 2};
    const struct moe_gate gate = {.is_grouped = true};
    struct dealt alone;
    struct dealt of_two;

    moe_gate_balanced(&alone, &deal, &gate);
    moe_gate_balanced(&of_two, &half, &gate);

    /* Token t asks for t, t + 8, ..., t + 56, one expert of every group; groups 0 to 3 stay, and
     * the four lowest experts that it has not asked for make up the rest. */
    const int64_t expected[32] = {8, 8, 8, 8, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    cr_expect_arr_eq(alone.tokens_of, expected, sizeof expected);
    cr_expect_arr_eq(of_two.tokens_of, expected, sizeof expected);
    cr_expect_eq(alone.tokens_of[32], 0);
    cr_expect_eq(alone.rows, 8);
}

Test(moe_rows, follows_a_gate_whose_groups_have_one_expert_to_the_lowest)
{
    const struct deal deal = {.tokens = 12, .num_experts = 8, .top_k = 2, .ep = 8};
    struct dealt dealt;

    moe_gate_balanced(&dealt, &deal, &(struct moe_gate){.is_grouped = true});

    cr_expect_eq(dealt.tokens_of[0], 12); /* and expert 1 of another rank as many */
}

Test(moe_rows, leaves_choices_alone_that_fit_into_half_of_the_groups)
{
    const struct deal deal = {.tokens = 9, .num_experts = 32, .top_k = 4, .ep = 4};
    struct dealt plain;
    struct dealt grouped;

    moe_gate_balanced(&plain, &deal, &(struct moe_gate){0});
    moe_gate_balanced(&grouped, &deal, &(struct moe_gate){.is_grouped = true});

    int64_t tokens_of[32];
    moe_deal_balanced(tokens_of, 9, 32, 4);
    cr_expect_arr_eq(plain.tokens_of, tokens_of, 8 * sizeof *tokens_of);
    cr_expect_arr_eq(grouped.tokens_of, tokens_of, 8 * sizeof *tokens_of);
}

Test(moe_rows, gives_remote_choices_to_the_first_expert_where_the_collector_did)
{
    /* The example in the collector's own words: tokens choose 0 2, 0 2, 0 3, 0 3 and 2 1. */
    const int64_t tokens_of[4] = {4, 1, 3, 2};
    const struct deal deal = {.tokens = 5, .num_experts = 4, .top_k = 2, .ep = 2};
    const struct deal alone = {.tokens = 5, .num_experts = 4, .top_k = 2, .ep = 1};
    const struct deal spread = {.tokens = 4, .num_experts = 8, .top_k = 2, .ep = 8};
    const struct moe_gate to_first = {.remote = MOE_REMOTE_TO_FIRST};
    struct dealt seen;
    struct dealt first;
    struct dealt whole;
    struct dealt far;

    moe_gate_counts(&seen, tokens_of, &deal, &(struct moe_gate){0});
    moe_gate_counts(&first, tokens_of, &deal, &to_first);
    moe_gate_counts(&whole, tokens_of, &alone, &to_first);
    moe_gate_balanced(&far, &spread, &to_first);

    cr_expect_arr_eq(seen.tokens_of, ((int64_t[]){4, 1}), 2 * sizeof(int64_t));
    cr_expect_arr_eq(first.tokens_of, ((int64_t[]){9, 1}), 2 * sizeof(int64_t));
    cr_expect_arr_eq(whole.tokens_of, tokens_of, sizeof tokens_of);
    cr_expect_eq(first.rows, 5);
    /* 0 4, 1 5, 2 6, 3 7: one token comes to the rank of expert 0, and brings its other choice */
    cr_expect_eq(far.tokens_of[0], 2);
    cr_expect_eq(far.rows, 1);
}

Test(moe_rows, knows_which_collector_measured_the_kernel_alone)
{
#define DEEPSEEK(id, version)                                                                      \
    id ",NVIDIA H100 80GB HBM3,SGLang," version ",sglang_fused_moe_triton,fp8_block,DeepSeek-V3,"  \
       "256,8,7168,2048,1,2,64,balanced,9,us\n"
    cr_assert_eq(read_text(HEADER DEEPSEEK("1", "0.5.10") DEEPSEEK("2", "0.5.14")
                               DEEPSEEK("3", "0.5.14.post1") DEEPSEEK("4", "0.6")),
                 STATUS_OK, "%s", error.text);

    cr_expect_not(rows.row[0].gate.is_grouped);
    cr_expect_eq(rows.row[0].gate.remote, MOE_REMOTE_TO_FIRST);
    for (int32_t i = 1; i < 4; i++) {
        cr_expect(rows.row[i].gate.is_grouped, "row %d", (int)i);
        cr_expect_eq(rows.row[i].gate.remote, MOE_REMOTE_SEEN);
    }
    moe_rows_free(&rows);
}

Test(moe_rows, leaves_out_what_cannot_be_so_with_file_line_and_cell)
{
#define ODD(id, experts, top_k, ep, tokens, us)                                                    \
    id ",NVIDIA H100 80GB HBM3,TRTLLM,1,moe_torch_flow_cutlass,bfloat16,Tiny," experts "," top_k   \
       ",1024,512,1," ep "," tokens ",balanced," us ",us\n"
    static const char *const words[] = {NULL,
                                        ":3: latency_us is 'fast', not a positive number",
                                        ":4: tokens is '0', not a positive number",
                                        ":5: num_experts is '8.5', not a count",
                                        ":6: 8 experts, top-k 2 and EP 3 do not go together",
                                        ":7: 8 experts, top-k 9 and EP 1 do not go together",
                                        ":8: num_experts is '99999999999', not a count",
                                        NULL};
    cr_assert_eq(read_text(HEADER ROW ODD("2", "8", "2", "1", "4", "fast") ODD(
                     "3", "8", "2", "1", "0", "9") ODD("4", "8.5", "2", "1", "4", "9")
                               ODD("5", "8", "2", "3", "4", "9") ODD("6", "8", "9", "1", "4", "9")
                                   ODD("7", "99999999999", "2", "1", "4", "9") ROW),
                 STATUS_OK, "%s", error.text);

    cr_assert_eq(rows.num_rows, 8);
    cr_expect_eq(rows.odd.count, 6);
    cr_expect_eq(rows.odd.first, rows.row[1].odd);
    for (int32_t i = 0; i < 8; i++) {
        const struct moe_row *row = &rows.row[i];
        cr_expect_eq(row->skip, words[i] == NULL   ? MOE_USED
                                : i == 4 || i == 5 ? MOE_SKIP_EXPERTS
                                                   : MOE_SKIP_NUMBER);
        cr_expect_str_eq(row->dtype, "bfloat16");
        cr_assert_eq(row->odd == NULL, words[i] == NULL, "row %d", (int)i);
        cr_expect(words[i] == NULL || strstr(row->odd, words[i]) != NULL, "%s", row->odd);
        cr_expect_eq(row->num_loads, words[i] == NULL ? 1 : 0);
    }
    moe_rows_free(&rows);
}

Test(moe_rows, leaves_out_power_laws_that_are_none)
{
#define LAW(alpha)                                                                                 \
    "1,NVIDIA H100 80GB HBM3,TRTLLM,1,moe_torch_flow_cutlass,bfloat16,Tiny,8,2,1024,512,1,2,4,"    \
    "power_law_" alpha ",9,us\n"
    cr_assert_eq(read_text(HEADER LAW("nan") LAW("-1") LAW("1e308") LAW("") LAW("1.2x") LAW("1")),
                 STATUS_OK, "%s", error.text);
    for (int32_t i = 0; i < 6; i++) {
        cr_expect_eq(rows.row[i].skip, i < 5 ? MOE_SKIP_DISTRIBUTION : MOE_USED, "row %d", (int)i);
    }
    cr_expect_eq(rows.odd.count, 0);
    moe_rows_free(&rows);
}

/* A cell may be of any length, and its last character of several bytes. */
Test(moe_rows, keeps_the_words_of_a_row_short_and_whole)
{
    struct odd_rows odd = {0};
    struct error problems = {0};
    char cell[ODD_WORDS_BYTES + 2] = "";
    static char longest[ERROR_TEXT_BYTES];
    for (size_t i = 0; i < ODD_WORDS_BYTES; i += 2) {
        memcpy(cell + i, "\u00e9", 2);
    }
    (void)error_add(&problems, STATUS_INVALID, "%s", cell);
    (void)error_add(&problems, STATUS_INVALID, "another");
    const char *words = odd_rows_add(&odd, &problems);
    cr_expect_eq(strlen(words), ODD_WORDS_BYTES - 2);
    cr_expect_eq(problems.num_problems, 0);
    memset(longest, 'x', sizeof longest - 1);
    (void)error_add(&problems, STATUS_INVALID, "%s", longest);
    cr_expect_str_eq(odd_rows_add(&odd, &problems), "the cell is too long to be shown");
    cr_expect_eq(odd.count, 2);
    cr_expect_eq(odd.first, words);
    odd_rows_free(&odd);
}

Test(moe_rows, refuses_short_lines_and_missing_columns)
{
    cr_expect_eq(read_text(HEADER "1,NVIDIA H100\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":2: 2 cells"));
    moe_rows_free(&rows);

    cr_expect_eq(read_text("row_id,gpu\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, ":1: there is no column"));
    moe_rows_free(&rows);

    cr_expect_eq(read_text("device,num_sms,command,phase,expert_tokens\n"), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "is a CSV of moe-bench: give it with --bench"));
    moe_rows_free(&rows);

    cr_expect_eq(read_text(""), STATUS_INVALID);
    moe_rows_free(&rows);
    cr_expect_eq(moe_rows_read(&rows, "/nonexistent.csv", &error), STATUS_IO);
    moe_rows_free(&rows);
}

Test(moe_rows, leaves_out_what_is_not_modelled_and_says_why)
{
    cr_assert_eq(read_text(HEADER ROW "2,NVIDIA H100 80GB HBM3,TRTLLM,1,moe_torch_flow_nongated,"
                                      "bfloat16,Nemotron,8,2,1024,512,1,1,4,balanced,9,us\n"
                                      "3,Toaster,TRTLLM,1,moe_torch_flow_cutlass,bfloat16,Tiny,8,"
                                      "2,1024,512,1,1,4,balanced,9,us\n"),
                 STATUS_OK, "%s", error.text);

    cr_expect_eq(rows.row[0].skip, MOE_USED);
    cr_expect_eq(rows.row[1].skip, MOE_SKIP_NOT_GATED);
    cr_expect_eq(rows.row[2].skip, MOE_SKIP_GPU);
    moe_rows_free(&rows);
}

/* Weights of 4 bit as engines compute with them: the name of the kernels, what a weight weighs
 * where it is read, and the rate of tensor cores that a fit starts from. */
Test(moe_rows, tells_weights_of_4_bit_by_what_meets_them)
{
    static const struct {
        const char *source; /* device to dtype */
        const char *kernels;
        enum precision weights;
        enum precision arithmetic;
        enum tile_height tile_rows;
    } layer[] = {{"H100,VLLM,1,vllm_gptossmxfp4moe_triton_oaitritonmxfp4experts,w4a16_mxfp4",
                  "vllm", PRECISION_MXFP4, PRECISION_BF16, TILE_ROWS_CHOICES},
                 {"H100,TRTLLM,1,moe_torch_flow,w4a16_mxfp4", "trtllm", PRECISION_MXFP4,
                  PRECISION_BF16, TILE_ROWS_CHOICES},
                 {"H100,SGLang,1,sglang_fused_moe_triton,w4a16_mxfp4", "sglang", PRECISION_BF16,
                  PRECISION_BF16, TILE_ROWS_TUNED},
                 {"B200,VLLM,1,vllm_gptossmxfp4moe_flashinfer_trtllm_mxfp4_bf16,w4a16_mxfp4",
                  "vllm", PRECISION_MXFP4, PRECISION_BF16, TILE_ROWS_TUNED},
                 {"B200,SGLang,1,sglang_flashinfer_trtllm_moe,w4a16_mxfp4", "sglang",
                  PRECISION_MXFP4, PRECISION_BF16, TILE_ROWS_TUNED},
                 {"B200,SGLang,1,sglang_flashinfer_trtllm_moe,w4a8_mxfp4_mxfp8", "sglang_mxfp8",
                  PRECISION_MXFP4, PRECISION_FP8, TILE_ROWS_CHOICES},
                 {"B200,TRTLLM,1,moe_torch_flow,w4a8_mxfp4_mxfp8", "trtllm_mxfp8", PRECISION_MXFP4,
                  PRECISION_FP8, TILE_ROWS_CHOICES}};
    const int32_t count = (int32_t)(sizeof layer / sizeof layer[0]);
    char text[4096] = HEADER;
    for (int32_t i = 0; i < count; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used,
                       "1,%s,gpt-oss,32,4,2880,2880,1,1,8,balanced,9,us\n", layer[i].source);
    }
    cr_assert_eq(read_text(text), STATUS_OK, "%s", error.text);

    for (int32_t i = 0; i < count; i++) {
        const struct moe_row *row = &rows.row[i];
        const struct gpu_spec *gpu = &rows.gpu[row->gpu];
        double peak = gpu->flops_per_s[layer[i].arithmetic];
        struct fitted_kernels start[CALIBRATE_STARTS_MAX];
        cr_assert_eq(row->skip, MOE_USED, "%s", layer[i].source);
        cr_expect_str_eq(row->kernels, layer[i].kernels, "%s", layer[i].source);
        cr_expect_eq(row->precision, layer[i].weights, "%s", layer[i].source);
        cr_expect_eq(row->tile_rows, layer[i].tile_rows, "%s", layer[i].source);
        cr_expect_geq(calibrate_starts(start, gpu, row), 1);
        cr_expect_float_eq(start[0].flops_per_s, peak, 1.0, "%s", layer[i].source);
        cr_expect_eq(start[0].few_rows_share > 0.0, layer[i].tile_rows != TILE_ROWS_CHOICES);
    }
    moe_rows_free(&rows);
}

/* Six shapes, on one GPU and in groups of four. */
static void synthetic_rows(char *text, size_t text_bytes)
{
    static const int32_t shape[][4] = {{8, 2, 4096, 14336}, {128, 8, 2048, 768},
                                       {16, 1, 5120, 8192}, {64, 6, 2048, 1408},
                                       {32, 4, 2880, 2880}, {8, 2, 6144, 16384}};
    size_t used = (size_t)snprintf(text, text_bytes, "%s", HEADER);
    for (int32_t i = 0; i < 6; i++) {
        for (int32_t ep = 1; ep <= 4; ep *= 4) {
            for (int32_t tokens = 1; tokens <= 16384; tokens *= 2) {
                used +=
                    (size_t)snprintf(text + used, text_bytes - used,
                                     "1,NVIDIA H100 80GB "
                                     "HBM3,VLLM,1,vllm_modeloptfp8moe_flashinfer,fp8,S%d,%d,%d,%d,"
                                     "%d,1,%d,%d,balanced,1,us\n",
                                     (int)i, (int)shape[i][0], (int)shape[i][1], (int)shape[i][2],
                                     (int)shape[i][3], (int)ep, (int)tokens);
            }
        }
    }
}

Test(calibrate, finds_the_constants_behind_noisy_measurements)
{
    static char text[65536];
    const struct fitted_kernels truth = {.t0_ns = 31e3,
                                         .weight_bytes_per_s = 2.6e12,
                                         .flops_per_s = 0.8e15,
                                         .activation_bytes_per_s = 1.2e12,
                                         .row_bytes_per_s = 1.2e12,
                                         .slot_ns = 20.0,
                                         .depth_ns = 0.8,
                                         .tile_ns = 700.0,
                                         .tile_rows_lost = 60.0,
                                         .choice_hidden_bytes_per_s = 8e12,
                                         .choice_ffn_bytes_per_s = 8e12,
                                         .blend = 2.5};
    gsl_rng *rng = rng_stream(2, "test calibrate", 0);
    struct calibration *calibration = calloc(CALIBRATE_SOURCES, sizeof *calibration);
    struct calibrate_options options = {.table = "synthetic", .num_bootstrap = 10};
    int32_t count = 0;
    synthetic_rows(text, sizeof text);
    cr_assert_eq(read_text(text), STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        rows.row[i].latency_ns =
            moe_row_predict(&rows.row[i], &rows.gpu[0], &truth) * exp(gsl_ran_gaussian(rng, 0.01));
    }

    cr_assert_eq(calibrate_all(calibration, &count, &rows, &options, &error), STATUS_OK);

    const struct fitted_kernels *found = &calibration[0].fitted;
    cr_expect_eq(count, 1);
    cr_expect_float_eq(found->t0_ns / truth.t0_ns, 1.0, 0.05);
    cr_expect_float_eq(found->weight_bytes_per_s / truth.weight_bytes_per_s, 1.0, 0.05);
    cr_expect_float_eq(found->flops_per_s / truth.flops_per_s, 1.0, 0.10);
    cr_expect_float_eq(found->blend / truth.blend, 1.0, 0.20);
    cr_expect_lt(calibration[0].held_out_all.median, 0.012); /* noise alone: 0.7 % */
    cr_expect_lt(calibration[0].held_out_all.p90, 0.03);
    cr_expect_leq(calibration[0].low[1], found->weight_bytes_per_s * 1.02);
    cr_expect_geq(calibration[0].high[1], found->weight_bytes_per_s * 0.98);
    free(calibration);
    gsl_rng_free(rng);
    moe_rows_free(&rows);
}

Test(calibrate, sums_up_errors_by_nearest_rank)
{
    double errors[] = {-0.10, 0.01, 0.02, -0.03, 0.04, 0.05, 0.06, 0.07, -0.08, 0.09};

    struct error_summary summary = error_summarise(errors, 10);

    cr_expect_float_eq(summary.median, 0.05, 1e-12);
    cr_expect_float_eq(summary.p90, 0.09, 1e-12);
    cr_expect_float_eq(summary.max, 0.10, 1e-12);
    cr_expect_eq(error_summarise(errors, 0).num_rows, 0);
}
