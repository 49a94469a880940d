/* test_gpu_constants.c -- lists of constants in a GPU's YAML, and what is wrong with them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cluster.h"
#include "text_file.h"

#define GPU                                                                                        \
    "source: tests\nflops_per_s: {bf16: 1e12}\nflops_fraction: 0.5\nhbm_bytes: 16e9\n"             \
    "hbm_bytes_per_s: 320e9\nhbm_fraction: 0.8\nkernel_ns: 3000\nnum_sms: 40\ntdp_watts: 70\n"     \
    "scale_up: {bytes_per_s: 16e9, fraction: 0.35, latency_ns: 10000}\n"                           \
    "scale_out: {bytes_per_s: 3e9, fraction: 0.9, latency_ns: 10000}\n" /* 11 lines */
#define EVIDENCE                                                                                   \
    "fitted_on: x, holdout: x, num_rows: 1, error_median: 0.1, error_p90: 0.2, t0_ns: 1, "         \
    "tile_ns: 1, precision: bf16, kernels: "
#define EXPERTS                                                                                    \
    "  - {weight_bytes_per_s: 1, flops_per_s: 1, activation_bytes_per_s: 1, row_bytes_per_s: 1, "  \
    "slot_ns: 1, depth_ns: 1, tile_rows_lost: 1, blend: 1, " EVIDENCE
#define GEMM                                                                                       \
    "  - {tiles: tuned, weight_bytes_per_s: 1, flops_per_s: 1, feed_bytes_per_s: 1, "              \
    "prepare_bytes_per_s: 1, output_bytes_per_s: 1, blend: 1, " EVIDENCE
#define ATTENTION "  - {kv_bytes_per_s: 1, flops_per_s: 1, blend: 1, " EVIDENCE

static struct error error;
static struct gpu_spec gpu;

static enum status load(const char *lists)
{
    static char text[1 << 14];
    (void)snprintf(text, sizeof text, GPU "%s", lists);
    const char *path = text_file(".yaml", text);
    error = (struct error){0};
    enum status status = gpu_load(&gpu, path, &error);
    cr_assert_eq(unlink(path), 0);
    return status;
}

static void expect_error(const char *words)
{
    cr_expect_not_null(strstr(error.text, words), "no '%s' in: %s", words, error.text);
}

Test(gpu_constants, fill_what_the_lists_hold)
{
    cr_expect_eq(load("fitted:\n" EXPERTS "a}\n" EXPERTS "b}\ngemm:\n" GEMM
                      "a}\nattention:\n" ATTENTION "a, phase: gqa_decode}\n" ATTENTION
                      "a, phase: gqa_decode, heads_min: 64}\n"
                      "" ATTENTION "a, phase: gqa_prefill}\n"),
                 STATUS_OK, "%s", error.text);
    cr_expect_eq(gpu.num_fitted, 2);
    cr_expect_eq(gpu.num_gemm, 1);
    cr_expect_eq(gpu.num_attention, 3);
    cr_expect_str_eq(gpu.fitted[1].kernels, "b");
    cr_expect_float_eq(gpu.fitted[0].fit.error_median, 0.1, 1e-12);
    cr_expect_float_eq(gpu.attention[1].heads_min, 64.0, 1e-12);
}

Test(gpu_constants, say_which_kernels_take_over_with_many_tokens)
{
    cr_assert_eq(load("fitted:\n" EXPERTS "a, many_rows: 128, many_kernels: b}\n" EXPERTS "b}\n"),
                 STATUS_OK, "%s", error.text);

    cr_expect_eq(gpu_experts_of(&gpu, &gpu.fitted[0], 127.0), &gpu.fitted[0]);
    cr_expect_eq(gpu_experts_of(&gpu, &gpu.fitted[0], 128.0), &gpu.fitted[1]);
    cr_expect_eq(gpu_experts_of(&gpu, &gpu.fitted[1], 1e6), &gpu.fitted[1]);
}

Test(gpu_constants, refuse_kernels_that_take_over_but_are_not_there)
{
    cr_expect_eq(load("fitted:\n" EXPERTS "a, many_rows: 128, many_kernels: z}\n" EXPERTS
                      "b, many_rows: 128, many_kernels: b}\n" EXPERTS
                      "c, many_kernels: a}\n" EXPERTS "d, many_rows: 1}\n"),
                 STATUS_INVALID);
    expect_error(":13: fitted: many_rows and many_kernels of a");
    expect_error("not 128 and 'z'");
    expect_error(":14: fitted: many_rows and many_kernels of b");
    expect_error(":15: fitted: many_rows and many_kernels of c");
    expect_error(":16: fitted: many_rows and many_kernels of d");
}

Test(gpu_constants, say_where_an_entry_stands_twice)
{
    cr_expect_eq(load("fitted:\n" EXPERTS "a}\n" EXPERTS "a}\ngemm:\n" GEMM "b}\n" GEMM
                      "b}\nattention:\n" ATTENTION "c, phase: gqa_decode}\n" ATTENTION
                      "c, phase: gqa_decode}\n"),
                 STATUS_INVALID);
    expect_error(":14: fitted: a in bf16 stands twice");
    expect_error(":17: gemm: b in bf16 stands twice");
    expect_error(":20: attention: c in bf16 stands twice");
}

Test(gpu_constants, say_what_is_no_list_and_no_entry)
{
    cr_expect_eq(load("fitted: 3\ngemm: [one, two]\nattention: {a: b}\n"), STATUS_INVALID);
    expect_error(":12: fitted: a list is expected");
    expect_error(":13: gemm: keys and values are expected");
    expect_error(":14: attention: a list is expected");
}

Test(gpu_constants, say_the_line_of_an_entry_that_lacks_a_constant)
{
    cr_expect_eq(load("attention:\n" ATTENTION "c, phase: gqa_decode}\n" ATTENTION
                      "d, phase: gqa_decode, splits: even}\n"),
                 STATUS_INVALID);
    expect_error(":14: attention: gqa_decode of d (splits: even) needs sm_bytes_per_s");
    cr_expect_null(strstr(error.text, ":13:"));
}

Test(gpu_constants, say_how_many_entries_there_may_be)
{
    static char text[1 << 13] = "gemm:\n";
    size_t used = strlen(text);
    for (int32_t i = 0; i <= GEMM_CONSTANTS_MAX; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, GEMM "k%d}\n", (int)i);
    }
    cr_expect_eq(load(text), STATUS_INVALID);
    expect_error(":29: gemm: at most 16 entries");
}

Test(gpu_constants, are_told_all_that_a_form_of_attention_lacks)
{
    cr_expect_eq(
        load("attention:\n  - {" EVIDENCE "made_up, phase: gqa_decode, splits: even, blend: 2}\n"),
        STATUS_INVALID);
    expect_error("gqa_decode of made_up (splits: even) needs kv_bytes_per_s of at least 1");
    expect_error("needs single_sm_bytes_per_s of at least 1");
    expect_error("needs wave_blend of at least 1");

    cr_expect_eq(load("attention:\n  - {" EVIDENCE "made_up, phase: gqa_prefill, splits: even}\n"),
                 STATUS_INVALID);
    expect_error("gqa_prefill of made_up (splits: even) needs exps_per_s");

    cr_expect_eq(load("attention:\n  - {" EVIDENCE "made_up, phase: mla_decode, splits: even}\n"),
                 STATUS_INVALID);
    expect_error("splits: even of made_up is of gqa_decode or gqa_prefill");

    cr_expect_eq(load("attention:\n  - {" EVIDENCE
                      "made_up, phase: mla_module_decode, kv_bytes_per_s: 1e9,"
                      " flops_per_s: 1e9, blend: 2}\n"),
                 STATUS_INVALID);
    expect_error("mla_module_decode of made_up (splits: filling) needs weight_bytes_per_s");

    cr_expect_eq(load("attention:\n  - {" EVIDENCE
                      "made_up, phase: gqa_decode, kv_bytes_per_s: 1e9,"
                      " flops_per_s: 1e9, blend: 2}\n"),
                 STATUS_OK, "%s", error.text);
}
