/* test_fitted_gemm.c -- the fitted GEMM and attention: known answers, laws, and the engine's
 * phases. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "gpu/fitted_attention.h"
#include "gpu/fitted_gemm.h"
#include "gpu/gpu.h"

#define NOTHING 1e30 /* a rate at which bytes and flops cost nothing */

static const struct gemm_constants plain = {.tiles = TILES_TUNED,
                                            .t0_ns = 1000.0,
                                            .weight_bytes_per_s = NOTHING,
                                            .flops_per_s = NOTHING,
                                            .feed_bytes_per_s = NOTHING,
                                            .prepare_bytes_per_s = NOTHING,
                                            .output_bytes_per_s = NOTHING,
                                            .split_ns = 1e9,
                                            .blend = 50.0};
static const struct gemm_shape square = {.rows = 256.0,
                                         .columns = 256.0,
                                         .depth = 128.0,
                                         .groups = 1.0,
                                         .weight_bytes = 2.0,
                                         .num_sms = 4.0,
                                         .gpu_sms = 4.0};

static struct error error;

Test(fitted_gemm, streams_weights_and_writes_outputs)
{
    struct gemm_constants constants = plain;
    constants.weight_bytes_per_s = 1e9; /* a byte a nanosecond */
    constants.output_bytes_per_s = 2e9;

    /* 1000 + 256 x 128 x 2 + 256 x 256 x 2 / 2 */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &square), 1000.0 + 65536.0 + 65536.0, 1e-6);
}

Test(fitted_gemm, starts_no_wave_in_part)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    constants.tile_ns = 100.0;
    shape.num_sms = 1.0;

    /* Tiles hold 256 x 128 at most: 256 x 256 needs two, one after the other. */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 2 * 100.0, 1e-6);
}

Test(fitted_gemm, takes_the_width_with_the_fewest_waves_where_the_library_does)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    shape.rows = 128.0;
    shape.columns = 1024.0;
    shape.num_sms = shape.gpu_sms = 16.0;
    constants.tiles = TILES_FEWEST_WAVES;
    constants.flops_per_s = 16e9; /* a flop a nanosecond and SM */

    /* 64 columns a tile: 16 tiles, one full wave of 2 x 128 x 64 x 128 */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 2097152.0, 1e-3);
}

Test(fitted_gemm, takes_the_same_tile_for_every_shape_where_the_library_does)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    constants.tiles = TILES_FIXED;
    constants.tile_ns = 100.0;
    shape.num_sms = 1.0;

    /* 256 rows are two tiles of 128 x 256, one after the other; a row more is a third. */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 2 * 100.0, 1e-6);
    shape.rows += 1.0;
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 3 * 100.0, 1e-6);
}

Test(fitted_gemm, is_no_faster_than_the_clocks_that_hold)
{
    struct gemm_constants constants = plain;
    constants.tiles = TILES_FIXED;
    constants.sustained_flops_per_s = 1e9; /* a flop a nanosecond */

    /* 2 x 256 x 256 x 128 */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &square), 1000.0 + 16777216.0, 1e-3);
}

Test(fitted_gemm, reads_input_again_that_the_cache_has_lost)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    constants.weight_bytes_per_s = 1e9;    /* a byte a nanosecond */
    constants.cache_bytes = 256 * 128 * 2; /* as much as the input: half of it is lost */

    double weights_ns = 256 * 128 * 2;
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + weights_ns + 65536 / 2.0, 1e-6);
    constants.cache_bytes = 1e9; /* it all fits */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + weights_ns, 1e-6);
    constants.cache_bytes = 1.0; /* none does */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + weights_ns + 65536, 1e-6);
}

/* bf16 input of an fp8 GEMM is read by what quantises it, which waits while nothing streams. */
Test(fitted_gemm, waits_for_lost_input_where_it_is_quantised)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    shape.weight_bytes = 1.0;
    constants.weight_bytes_per_s = 1e9;
    constants.cache_bytes = 1.0;
    constants.flops_per_s = 1e9; /* hides the stream of weights */

    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 16777216.0 + 65536, 1e-3);
}

/* Two sets of half the cache: half of them is lost, and the rest takes half the time. */
Test(fitted_gemm, reads_weights_that_come_again_from_the_cache)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    double weights_ns = 256 * 128 * 2;
    shape.rows = 1.0;
    shape.rounds = 2.0;
    constants.weight_bytes_per_s = 1e9;
    constants.cache_bytes = 2.0 * weights_ns;

    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 0.75 * weights_ns, 1e-6);
    shape.rounds = 0.0;
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + weights_ns, 1e-6);
}

Test(fitted_gemm, waits_for_tiles_beside_what_streams)
{
    struct gemm_constants constants = plain;
    constants.weight_bytes_per_s = 1e9;
    constants.tile_ns = 100.0;

    cr_expect_float_eq(fitted_gemm_ns(&constants, &square), 1000.0 + 65536.0 + 100.0, 1e-6);
}

/* 8 ms at full clocks: half of the loss is reached. */
Test(fitted_gemm, loses_clocks_in_long_kernels)
{
    struct gemm_constants constants = plain;
    constants.flops_per_s = 16777216.0 / 8e-3;
    constants.sink_share = 0.2;

    cr_expect_float_eq(fitted_gemm_ns(&constants, &square), 1000.0 + 8e6 * 1.1, 1e-3);
}

Test(fitted_gemm, splits_deep_products_only_where_the_library_does)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    shape.rows = 16.0;
    shape.columns = 64.0;
    shape.depth = 4096.0;
    constants.depth_ns = 1.0;
    constants.split_ns = 100.0;

    /* one tile on four SMs: in four parts, or as long as its depth */
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 1024.0 + 100.0, 1e-3);
    constants.tiles = TILES_TUNED_WHOLE;
    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape), 1000.0 + 4096.0, 1e-3);
}

Test(fitted_gemm, slows_by_what_communication_takes)
{
    struct gemm_constants constants = plain;
    struct gemm_shape shape = square;
    constants.flops_per_s = 1e12;
    shape.rows = 65536.0;
    double alone_ns = fitted_gemm_ns(&constants, &shape);
    shape.num_sms = 2.0;

    cr_expect_float_eq(fitted_gemm_ns(&constants, &shape) / alone_ns, 2.0, 0.01);
}

Test(fitted_gemm, takes_no_time_without_rows)
{
    struct gemm_shape shape = square;
    shape.rows = 0.0;

    cr_expect_eq(fitted_gemm_ns(&plain, &shape), 0.0);
}

static const struct attention_constants attention = {.phase = PHASE_GQA_DECODE,
                                                     .t0_ns = 1000.0,
                                                     .floor_ns = 0.0,
                                                     .kv_bytes_per_s = NOTHING,
                                                     .flops_per_s = NOTHING,
                                                     .blend = 50.0};
static const struct attention_shape one_head = {.sequences = 4.0,
                                                .tokens = 100.0,
                                                .q_heads = 1.0,
                                                .kv_heads = 1.0,
                                                .qk_dim = 64.0,
                                                .v_dim = 64.0,
                                                .kv_bytes = 256.0,
                                                .num_sms = 4.0,
                                                .gpu_sms = 4.0};

Test(fitted_attention, streams_the_cache)
{
    struct attention_constants constants = attention;
    constants.kv_bytes_per_s = 1e9;

    cr_expect_float_eq(fitted_attention_ns(&constants, &one_head), 1000.0 + 4 * 100 * 256, 1e-3);
}

Test(fitted_attention, computes_blocks_in_waves)
{
    struct attention_constants constants = attention;
    struct attention_shape shape = one_head;
    shape.sequences = 5.0;
    constants.flops_per_s = 4e9; /* a flop a nanosecond and SM */

    /* Five blocks on four SMs are two waves of 2 x 128 x 100 flops. */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 2 * 25600.0, 1e-3);
}

Test(fitted_attention, feeds_each_sm_and_adds_up_what_few_blocks_share)
{
    struct attention_constants constants = attention;
    struct attention_shape shape = one_head;
    shape.q_heads = 2.0;
    shape.num_sms = shape.gpu_sms = 5.0;
    constants.sm_bytes_per_s = 5e9; /* a byte a nanosecond and SM */
    constants.sum_bytes_per_s = 1e9;
    constants.alone_share = 0.5;

    /* Four blocks have an SM each: 1.5 x 100 x 256; sums: 4 x 2 heads x 64 x (4 + 4) bytes. */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 38400.0 + 4096.0, 1e-3);
}

/* The limits of FlashInfer's MLAPlan: an even share of up to 8 positions makes parts of 32. */
Test(fitted_attention, splits_as_flashinfer_plans)
{
    struct attention_constants constants = attention;
    struct attention_shape shape = {.sequences = 1.0,
                                    .tokens = 31.0,
                                    .q_heads = 128.0,
                                    .kv_heads = 1.0,
                                    .qk_dim = 192.0,
                                    .v_dim = 128.0,
                                    .kv_bytes = 1.0,
                                    .hidden_dim = 1.0,
                                    .num_sms = 16.0,
                                    .gpu_sms = 16.0};
    constants.phase = PHASE_MODULE_DECODE;
    constants.splits = SPLITS_FLASHINFER;
    constants.merge_ns = 500.0;
    constants.sum_bytes_per_s = 1e12;
    constants.weight_bytes_per_s = NOTHING;
    constants.gemm_flops_per_s = NOTHING;
    constants.row_bytes_per_s = NOTHING;

    /* 32 positions with the new one: one part, nothing to add up */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0, 1e-3);
    shape.tokens = 32.0;
    /* two parts of 128 heads x 128 x (4 + 4) bytes */
    cr_expect_float_eq(fitted_attention_ns(&constants, &shape), 1000.0 + 500.0 + 262.144, 1e-3);
}

Test(fitted_attention, takes_no_less_than_its_launch)
{
    struct attention_constants constants = attention;
    constants.floor_ns = 25e3;

    cr_expect_float_eq(fitted_attention_ns(&constants, &one_head), 25e3, 1.0);
}

static double phase_ns(const struct gpu_spec *gpu, const struct moe_model *model,
                       enum gpu_phase phase, int32_t tokens, int32_t sms_taken)
{
    const struct gpu_work work = {.phase = phase,
                                  .model = model,
                                  .tokens = tokens,
                                  .attended_tokens = (int64_t)tokens * 4096,
                                  .context_tokens = (int64_t)tokens * 4096,
                                  .shards = 1,
                                  .sms_taken = sms_taken};
    return gpu_find("fitted")->duration_ns(gpu, &work);
}

/* SGLang's module of DeepSeek-V3 on an H100: 238 us at batch 64 over 4096 positions of KV cache
 * (kernels.csv); the engine adds a norm. */
Test(fitted_phases, take_as_long_as_the_measured_module)
{
    struct gpu_spec gpu;
    struct moe_model model;
    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(model_load(&model, "deepseek-v3", &error), STATUS_OK, "%s", error.text);

    cr_expect_float_eq(phase_ns(&gpu, &model, GPU_ATTENTION, 64, 0) / 238e3, 1.0, 0.25);
}

Test(fitted_phases, are_never_faster_with_more_tokens_or_fewer_sms)
{
    static const enum gpu_phase phases[] = {GPU_ATTENTION, GPU_DENSE_FFN, GPU_GATE, GPU_SHARED,
                                            GPU_HEAD};
    struct gpu_spec gpu;
    struct moe_model model;
    cr_assert_eq(gpu_load(&gpu, "h200-sxm", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(model_load(&model, "deepseek-v3", &error), STATUS_OK, "%s", error.text);

    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        cr_expect_eq(phase_ns(&gpu, &model, phases[i], 0, 0), 0.0);
        for (int32_t tokens = 64; tokens <= 16384; tokens *= 4) {
            double ns = phase_ns(&gpu, &model, phases[i], tokens, 0);
            cr_expect_gt(phase_ns(&gpu, &model, phases[i], 4 * tokens, 0), 0.97 * ns);
            cr_expect_geq(phase_ns(&gpu, &model, phases[i], tokens, 32), 0.9 * ns);
        }
    }
}

Test(fitted_phases, tell_what_predicts_them)
{
    struct gpu_spec gpu;
    struct moe_model model;
    char text[256];
    cr_assert_eq(model_load(&model, "deepseek-v3", &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(gpu_load(&gpu, "h100-sxm", &error), STATUS_OK, "%s", error.text);
    gpu_find("fitted")->coverage(text, sizeof text, &gpu, &model, false);
    cr_expect_not_null(strstr(text, "attention module: sglang_"), "%s", text);

    cr_assert_eq(gpu_load(&gpu, "mi300x", &error), STATUS_OK, "%s", error.text);
    gpu_find("fitted")->coverage(text, sizeof text, &gpu, &model, false);
    cr_expect_str_eq(text, "attention: roofline; dense GEMMs: roofline; router and head: roofline");
}
