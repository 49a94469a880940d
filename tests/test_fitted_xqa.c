/* test_fitted_xqa.c -- TensorRT-LLM's decode: XQA for groups of query heads, MMHA for single ones.
 */
#include <criterion/criterion.h>

#include "gpu/fitted_attention.h"
#include "gpu/gpu.h"
#include "small_attention.h"

static struct error error;

/* TensorRT-LLM's MMHA reads the KV once a head; it is asked of groups that XQA has no kernels for.
 */
static const struct attention_constants xqa = {
    FREE_DECODE,       .precision = PRECISION_BF16, .splits = SPLITS_XQA,   .group_min = 2.0,
    .group_max = 32.0, .single_t0_ns = 50e3,        .single_tile_ns = 700.0};

Test(fitted_xqa, takes_heads_one_by_one_where_no_kernel_takes_the_group)
{
    struct attention_shape group = shape;
    group.sequences = 16.0;
    group.kv_heads = 1.0;
    group.kv_bytes = 512.0;
    group.q_heads = 32.0;
    cr_expect_float_eq(fitted_attention_ns(&xqa, &group), 1000.0, 1.0);
    group.q_heads = 40.0; /* 16 x 40 blocks on 8 SMs, two at once */
    struct attention_constants two = xqa;
    two.single_overlap = 2.0;
    cr_expect_float_eq(fitted_attention_ns(&two, &group), 50e3 + 40.0 * 700.0, 1.0);
    group.q_heads = 1.0;
    cr_expect_float_eq(fitted_attention_ns(&two, &group), 50e3 + 1.0 * 700.0, 10.0);

    two.group_min = 1.0; /* newer kernels take groups of one as well */
    cr_expect_float_eq(fitted_attention_ns(&two, &group), 1000.0, 1.0);
}

Test(fitted_xqa, asks_xqa_only_where_it_fills_a_quarter_of_the_sms)
{
    struct attention_constants fp8 = xqa;
    struct attention_shape few = shape; /* 2 KV heads; 128 positions are a part */
    few.num_sms = 20.0;                 /* those that are left do not change the choice */
    few.gpu_sms = 132.0;
    few.tokens = 16.0 * 128.0;
    cr_expect_gt(fitted_attention_ns(&xqa, &few), 50e3);
    few.tokens = 17.0 * 128.0;
    cr_expect_float_eq(fitted_attention_ns(&xqa, &few), 1000.0, 1.0);
    few.tokens = 128.0;
    fp8.precision = PRECISION_FP8;
    cr_expect_float_eq(fitted_attention_ns(&fp8, &few), 1000.0, 1.0);
}

/* sqrt(8 x 64) = 22.6 parts of 8192 positions, fewer where they would be more than eight waves:
 * 256 blocks in 23 parts are 44.6 of 132, so 23 / 5.58 remain. */
Test(fitted_xqa, splits_as_xqa_does)
{
    static const double parts[][3] = {{32, 8192, 23}, {256, 8192, 4}, {2048, 8192, 1},
                                      {64, 255, 1},   {64, 256, 2},   {64, 1024, 8}};
    struct attention_constants constants = xqa;
    struct attention_shape long_ones = shape;
    constants.merge_ns = 300.0;
    constants.part_ns = 50.0;
    long_ones.gpu_sms = 132.0;
    long_ones.num_sms = 132.0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        double more = parts[i][2] > 1.0 ? 300.0 + 50.0 * (parts[i][2] - 1.0) : 0.0;
        long_ones.sequences = parts[i][0] / 2.0;
        long_ones.tokens = parts[i][1];
        cr_expect_float_eq(fitted_attention_ns(&constants, &long_ones), 1000.0 + more, 1.0,
                           "%g blocks of %g", parts[i][0], parts[i][1]);
    }
}

/* A KV head of 64 query heads on an H100: TensorRT-LLM's MMHA takes them one by one, 692.8 us of 16
 * sequences of 8192 positions in bf16 (aiconfigurator @ 095f58a), 16 heads together 41.9. */
Test(fitted_xqa, presets_know_that_wide_groups_have_slow_kernels)
{
    struct gpu_spec gpu;
    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    for (int32_t i = 0; i < gpu.num_attention; i++) {
        const struct attention_constants *constants = &gpu.attention[i];
        if (constants->splits == SPLITS_XQA && constants->precision == PRECISION_BF16) {
            struct attention_shape wide = shape;
            wide.sequences = 16.0;
            wide.tokens = 8193.0;
            wide.kv_heads = 1.0;
            wide.kv_bytes = 512.0;
            wide.q_heads = 64.0;
            wide.num_sms = gpu.num_sms;
            wide.gpu_sms = gpu.num_sms;
            cr_expect_float_eq(fitted_attention_ns(constants, &wide), 692.8e3, 0.1 * 692.8e3);
            wide.q_heads = 16.0;
            cr_expect_float_eq(fitted_attention_ns(constants, &wide), 41.9e3, 0.1 * 41.9e3);
            return;
        }
    }
    cr_assert_fail("there are no constants of XQA");
}
