/* test_fitted_module.c -- MLA with its projections: what heads, tiles and long work cost. */
#include <criterion/criterion.h>
#include <math.h>

#include "cluster.h"
#include "gpu/fitted_attention.h"
#include "small_attention.h"

static const struct attention_shape prompt = {.sequences = 2.0,
                                              .tokens = 100.0,
                                              .q_heads = 16.0,
                                              .kv_heads = 16.0,
                                              .qk_dim = 192.0,
                                              .v_dim = 128.0,
                                              .kv_bytes = 576.0,
                                              .hidden_dim = 7168.0,
                                              .projection_bytes = 1e6,
                                              .projection_params = 1e6,
                                              .num_sms = 4.0,
                                              .gpu_sms = 4.0};
static const struct attention_constants prefill = {.phase = PHASE_MODULE_PREFILL,
                                                   .t0_ns = 1000.0,
                                                   .kv_bytes_per_s = NOTHING,
                                                   .flops_per_s = NOTHING,
                                                   .blend = LARGER,
                                                   .weight_bytes_per_s = NOTHING,
                                                   .gemm_flops_per_s = NOTHING,
                                                   .row_bytes_per_s = NOTHING,
                                                   .head_row_bytes_per_s = NOTHING,
                                                   .floor_blend = LARGER,
                                                   .slow_ns = 1.0};

Test(fitted_module, moves_rows_of_its_own_heads_only)
{
    struct attention_constants constants = prefill;
    struct attention_shape half = prompt;
    /* 200 tokens x 16 heads x (3 x 192 + 4 x 128) x 2 bytes */
    double bytes = 200.0 * 16.0 * 1088.0 * 2.0;
    constants.head_row_bytes_per_s = 1e9; /* a byte a nanosecond */
    half.q_heads = 8.0;

    cr_expect_float_eq(fitted_attention_ns(&constants, &prompt), 1000.0 + bytes, 1e-3);
    cr_expect_float_eq(fitted_attention_ns(&constants, &half), 1000.0 + bytes / 2.0, 1e-3);
}

Test(fitted_module, slows_down_in_long_work)
{
    struct attention_constants constants = prefill;
    constants.sequence_ns = 5000.0; /* of both: 10 us of work */
    constants.slow_share = 0.2;
    constants.slow_ns = 10000.0;

    cr_expect_float_eq(fitted_attention_ns(&constants, &prompt), 1000.0 + 10000.0 * 1.1, 1e-3);
    constants.slow_ns = 1e-3; /* all work is long */
    cr_expect_float_eq(fitted_attention_ns(&constants, &prompt), 1000.0 + 10000.0 * 1.2, 1.0);
}

Test(fitted_module, joins_the_floor_of_its_launches_with_its_work)
{
    struct attention_constants constants = prefill;
    constants.floor_ns = 3000.0;
    constants.sequence_ns = 1500.0; /* 1000 + 3000 of work */
    constants.floor_blend = 2.0;

    /* |3000, 4000|_2 */
    cr_expect_float_eq(fitted_attention_ns(&constants, &prompt), 5000.0, 1e-3);
}

/* Scores of few heads are computed in a tile of 64 all the same. */
Test(fitted_module, decodes_few_heads_in_whole_tiles)
{
    struct attention_constants constants = prefill;
    struct attention_shape decoded = prompt;
    constants.phase = PHASE_MODULE_DECODE;
    constants.flops_per_s = 4e9; /* a flop a nanosecond and SM */
    decoded.sequences = 8.0;
    decoded.kv_heads = 1.0;
    decoded.qk_dim = 576.0;
    decoded.v_dim = 512.0;

    /* 8 blocks on 4 SMs: two waves of 2 x 64 heads x (576 + 512) x 100 positions */
    double expected = 1000.0 + 2.0 * 2.0 * 64.0 * 1088.0 * 100.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &decoded), expected, 1e-2);
    decoded.q_heads = 64.0;
    cr_expect_float_eq(fitted_attention_ns(&constants, &decoded), expected, 1e-2);
}

/* 4 blocks on 10 SMs: two parts of each leave two SMs idle, five fill two waves. */
Test(fitted_module, adds_up_as_many_parts_as_its_library_makes)
{
    const struct attention_shape latents = {.sequences = 2.0,
                                            .tokens = 1024.0,
                                            .q_heads = 128.0,
                                            .kv_heads = 1.0,
                                            .qk_dim = 576.0,
                                            .v_dim = 512.0,
                                            .kv_bytes = 1152.0,
                                            .num_sms = 10.0,
                                            .gpu_sms = 10.0};
    struct attention_constants constants = prefill;
    constants.merge_ns = 3000.0;
    constants.part_ns = 100.0;

    constants.phase = PHASE_MLA_DECODE;
    cr_expect_float_eq(fitted_attention_ns(&constants, &latents), 1000.0 + 3000.0 + 100.0, 1e-3);
    constants.phase = PHASE_MODULE_DECODE;
    cr_expect_float_eq(fitted_attention_ns(&constants, &latents), 1000.0 + 3000.0 + 400.0, 1e-3);

    struct attention_shape many = latents;
    many.sequences = 40.0; /* none is split */
    cr_expect_float_eq(fitted_attention_ns(&constants, &many), 1000.0, 1e-3);
}
