/* test_fitted_gqa.c -- engines' grouped-query attention: known answers, laws, and who is asked. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "gpu/fitted_attention.h"
#include "gpu/fitted_phases.h"
#include "gpu/gpu.h"
#include "small_attention.h"

static const struct attention_constants decode = {FREE_DECODE, .splits = SPLITS_EVEN};
static const struct attention_constants prefill = {.phase = PHASE_GQA_PREFILL,
                                                   .splits = SPLITS_EVEN,
                                                   .t0_ns = 1000.0,
                                                   .flops_per_s = NOTHING,
                                                   .exps_per_s = NOTHING,
                                                   .row_bytes_per_s = NOTHING,
                                                   .kv_row_bytes_per_s = NOTHING,
                                                   .wave_blend = LARGER};

static struct error error;

Test(fitted_gqa, streams_the_cache_and_waits_more_where_it_leaves_the_l2)
{
    struct attention_constants constants = decode;
    constants.kv_bytes_per_s = 1e9; /* a byte a nanosecond */
    constants.miss_ns = 5000.0;

    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 256 * 1024, 1.0);
    constants.cache_bytes = 256.0 * 1024.0; /* half of the misses */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 256 * 1024 + 2500.0, 1.0);
    constants.cache_bytes = 0.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 256 * 1024 + 5000.0, 1.0);
}

Test(fitted_gqa, gives_a_block_its_tile_and_each_sm_its_share_of_blocks)
{
    struct attention_constants constants = decode;
    struct attention_shape many = shape;
    constants.tile_ns = 400.0;
    constants.dim_ns = 5.0;
    many.sequences = 16.0;

    /* one of 2 blocks on 8 SMs: 400 + 5 x 128; then 32 blocks, four an SM, or eight an SM of 4 */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 1040.0, 1e-6);
    cr_expect_float_eq(fitted_attention_ns(&constants, &many), 1000.0 + 4 * 1040.0, 1e-6);
    many.num_sms = 4.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &many), 1000.0 + 8 * 1040.0, 1e-6);
}

Test(fitted_gqa, splits_long_sequences_over_idle_sms_and_adds_them_up)
{
    struct attention_constants constants = decode;
    struct attention_shape longer = shape;
    constants.sm_bytes_per_s = 16e9; /* a byte a nanosecond and SM */
    constants.merge_ns = 300.0;
    longer.num_sms = 16.0;
    longer.gpu_sms = 16.0;

    /* 256 positions of 512 bytes are too few to split; 1024 have 4 parts, though 8 would fit */
    cr_expect_float_eq(fitted_attention_ns(&constants, &longer), 1000.0 + 131072.0, 1e-3);
    longer.tokens = 1024.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &longer), 1000.0 + 131072.0 + 300.0, 1e-3);
    longer.sequences = 32.0; /* 64 blocks, 4 an SM */
    cr_expect_float_eq(fitted_attention_ns(&constants, &longer), 1000.0 + 4 * 524288.0, 1e-3);
}

Test(fitted_gqa, takes_another_kernel_where_every_head_has_kv_of_its_own)
{
    struct attention_constants constants = decode;
    struct attention_shape alone = shape;
    constants.tile_ns = 400.0;
    constants.single_tile_ns = 700.0;
    constants.single_sm_bytes_per_s = 8e12;
    alone.q_heads = 2.0;

    /* 700 + 256 x 512 bytes at 1000 a nanosecond */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1400.0, 1e-6);
    cr_expect_float_eq(fitted_attention_ns(&constants, &alone), 1700.0 + 131.072, 1e-3);
}

/* Tensor cores take 8, 16, 32 or 64 heads of a group at once. */
Test(fitted_gqa, pads_the_heads_of_a_group)
{
    static const double heads[][2] = {{2, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 32}, {64, 64}};
    struct attention_constants constants = decode;
    struct attention_shape group = shape;
    constants.row_tile_ns = 10.0;
    constants.flops_per_s = 4096e9; /* of 8 SMs: a padded head and position a nanosecond */
    group.kv_heads = 1.0;
    group.kv_bytes = 512.0;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        group.q_heads = heads[i][0];
        cr_expect_float_eq(fitted_attention_ns(&constants, &group),
                           1000.0 + heads[i][1] * (10.0 + 256.0), 1e-3, "%g heads", heads[i][0]);
    }
}

Test(fitted_gqa, waits_more_for_rows_of_less_than_a_line)
{
    struct attention_constants constants = decode;
    struct attention_shape narrow = shape;
    constants.narrow_ns = 800.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0, 1e-6);
    narrow.kv_bytes = 2.0 * 128.0; /* 64 elements of fp8, twice, of each of 2 heads */
    cr_expect_float_eq(fitted_attention_ns(&constants, &narrow), 1800.0, 1e-6);
}

Test(fitted_gqa, charges_each_sequence_and_its_queries)
{
    struct attention_constants constants = decode;
    constants.sequence_ns = 7.0;
    constants.row_bytes_per_s = 1e9;

    /* 8 heads x 128 x 2 bytes */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 7.0 + 2048.0, 1e-6);
}

Test(fitted_gqa, reads_prompts_by_causal_pairs_in_products_and_exponentials)
{
    struct attention_constants constants = prefill;
    struct attention_shape many = shape;
    double pairs = 16.0 * 8.0 * 256.0 * 257.0 / 2.0;
    constants.flops_per_s = 512e9; /* a pair a nanosecond: 2 x (128 + 128) flops */
    many.sequences = 16.0;

    cr_expect_float_eq(fitted_attention_ns(&constants, &many), 1000.0 + pairs, 1e-3);
    constants.exps_per_s = 1e9;
    cr_expect_float_eq(fitted_attention_ns(&constants, &many), 1000.0 + 2.0 * pairs, 1e-3);
}

Test(fitted_gqa, ends_no_prompt_before_its_last_block)
{
    struct attention_constants constants = prefill;
    struct attention_shape one_head = shape;
    constants.tile_ns = 1000.0;
    one_head.q_heads = 1.0;
    one_head.kv_heads = 1.0;

    /* 2 blocks on 8 SMs take as long as one; 16 blocks two rounds */
    cr_expect_float_eq(fitted_attention_ns(&constants, &one_head), 2000.0, 1e-6);
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 3000.0, 1e-6);
}

Test(fitted_gqa, moves_queries_outputs_and_the_cache_of_a_prompt)
{
    struct attention_constants constants = prefill;
    constants.row_bytes_per_s = 1e9;
    constants.kv_row_bytes_per_s = 2e9;

    /* 256 x 8 heads x (128 + 128) x 2 bytes; 256 x 1024 bytes at two a nanosecond */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 1048576.0 + 131072.0,
                       1e-3);
    constants.floor_ns = 1e8;
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1e8, 10.0);
}

static void expect_more_to_take_longer(const struct attention_constants *constants,
                                       const struct attention_shape *base)
{
    static const double factors[] = {2.0, 16.0, 256.0};
    double ns = fitted_attention_ns(constants, base);
    for (size_t f = 0; f < sizeof factors / sizeof factors[0]; f++) {
        struct attention_shape more = *base;
        more.sequences = base->sequences * factors[f];
        cr_expect_gt(fitted_attention_ns(constants, &more), 0.99 * ns, "%s", constants->kernels);
        more = *base;
        more.tokens = base->tokens * factors[f];
        cr_expect_gt(fitted_attention_ns(constants, &more), 0.99 * ns, "%s", constants->kernels);
        more = *base;
        more.hbm_taken = 0.5;
        more.num_sms = ceil(base->num_sms / factors[f]);
        cr_expect_geq(fitted_attention_ns(constants, &more), ns, "%s", constants->kernels);
    }
}

/* The constants in presets grow with every dimension of the work, of one kernel: from MMHA to XQA
 * it is 15.7 to 12.9 us for twice the positions on H100s (aiconfigurator @ 095f58a, 8 KV heads of
 * 128 elements in bf16, 512 positions). */
Test(fitted_gqa, presets_take_longer_for_more)
{
    static const char *const gpus[] = {"h100-sxm",    "h800-sxm", "h200-sxm",    "b200-sxm",
                                       "gb200-nvl72", "b300-sxm", "gb300-nvl72", "a100-sxm-80gb"};
    int32_t num_engines = 0;
    for (size_t g = 0; g < sizeof gpus / sizeof gpus[0]; g++) {
        struct gpu_spec gpu;
        cr_assert_eq(gpu_load(&gpu, gpus[g], &error), STATUS_OK, "%s", error.text);
        for (int32_t i = 0; i < gpu.num_attention; i++) {
            const struct attention_constants *constants = &gpu.attention[i];
            if (constants->splits != SPLITS_EVEN && constants->splits != SPLITS_XQA) {
                continue;
            }
            num_engines++;
            struct attention_shape base = shape;
            base.sequences = constants->splits == SPLITS_XQA ? 32.0 : 1.0;
            base.num_sms = gpu.num_sms;
            base.gpu_sms = gpu.num_sms;
            expect_more_to_take_longer(constants, &base);
            base.sequences = 1.0;
            base.q_heads = 96.0; /* 48 a KV head */
            expect_more_to_take_longer(constants, &base);
        }
    }
    cr_expect_geq(num_engines, 93, "only %d entries of engines", (int)num_engines);
}

Test(fitted_gqa, asks_the_engine_whose_experts_run_and_else_the_first)
{
    struct gpu_spec gpu = {.num_fitted = 3, .fitted_chosen = -1, .num_attention = 3};
    strcpy(gpu.fitted[0].kernels, "sglang_deepep_decode");
    strcpy(gpu.fitted[1].kernels, "vllm");
    strcpy(gpu.fitted[2].kernels, "vllmish");
    strcpy(gpu.attention[0].kernels, "trtllm");
    strcpy(gpu.attention[1].kernels, "vllm");
    strcpy(gpu.attention[2].kernels, "sglang_fa3");
    for (int32_t i = 0; i < gpu.num_attention; i++) {
        gpu.attention[i].phase = PHASE_GQA_DECODE;
        gpu.attention[i].precision = PRECISION_FP8;
    }

    static const char *const wanted[] = {"trtllm", "sglang_fa3", "vllm", "trtllm"};
    for (int32_t chosen = -1; chosen < 3; chosen++) {
        gpu.fitted_chosen = chosen;
        cr_expect_str_eq(
            fitted_find_attention(&gpu, PHASE_GQA_DECODE, PRECISION_FP8, 32.0)->kernels,
            wanted[chosen + 1]);
    }
    cr_expect_null(fitted_find_attention(&gpu, PHASE_GQA_PREFILL, PRECISION_FP8, 32.0));
    cr_expect_null(fitted_find_attention(&gpu, PHASE_GQA_DECODE, PRECISION_BF16, 32.0));
}

Test(fitted_gqa, asks_the_kernels_that_are_for_so_many_heads)
{
    struct gpu_spec gpu = {.fitted_chosen = -1, .num_attention = 3};
    for (int32_t i = 0; i < gpu.num_attention; i++) {
        gpu.attention[i].phase = PHASE_MODULE_DECODE;
        gpu.attention[i].precision = PRECISION_FP8;
        gpu.attention[i].t0_ns = i;
        strcpy(gpu.attention[i].kernels, i < 2 ? "sglang_trtllm_mla" : "sglang_other");
    }
    gpu.attention[1].heads_min = 128.0;
    gpu.attention[2].heads_min = 64.0;

    static const double heads[] = {16.0, 64.0, 127.0, 128.0, 256.0};
    static const double wanted[] = {0.0, 0.0, 0.0, 1.0, 1.0};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        const struct attention_constants *found =
            fitted_find_attention(&gpu, PHASE_MODULE_DECODE, PRECISION_FP8, heads[i]);
        cr_expect_float_eq(found->t0_ns, wanted[i], 1e-9, "%g heads", heads[i]);
    }
}
