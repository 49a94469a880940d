/* test_fitted_sglang.c -- the arithmetic of SGLang's Triton kernels, by hand. */
#include <criterion/criterion.h>
#include <math.h>

#include "gpu/fitted.h"

#define NOTHING 1e30 /* a rate at which bytes and flops cost nothing */

static const struct fitted_kernels plain = {.t0_ns = 1000.0,
                                            .weight_bytes_per_s = NOTHING,
                                            .flops_per_s = NOTHING,
                                            .activation_bytes_per_s = NOTHING,
                                            .row_bytes_per_s = NOTHING,
                                            .tile_rows = TILE_ROWS_SGLANG,
                                            .depth_blend = 50.0,
                                            .blend = 50.0};
static const struct expert_shape small = {
    .hidden_dim = 128.0, .ffn_dim = 64.0, .weight_bytes = 2.0, .num_sms = 1.0, .gpu_sms = 1.0};

static double time_ns(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                      int64_t slot_tokens)
{
    struct expert_load load = {0};
    expert_load_add(&load, slot_tokens, 1.0);
    load.rows = load.copies;
    return fitted_expert_ns(fitted, shape, &load);
}

/* One slot alone, whose rows are the rank's, on a GPU of one SM. */
static double sglang_ns(const struct fitted_kernels *fitted, const char *gpu, double ffn_dim,
                        int32_t slot_tokens)
{
    struct expert_shape shape = small;
    shape.gpu = gpu;
    shape.ffn_dim = ffn_dim;
    return time_ns(fitted, &shape, slot_tokens) - 1000.0;
}

Test(fitted_sglang, takes_sglangs_default_tile_above_a_token_a_slot)
{
    struct fitted_kernels fitted = plain;
    fitted.flops_per_s = 1e9;

    /* one tile of 16 rows, then of 64, in whole columns of both GEMMs: 128 x 128 + 128 x 64 */
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 1), 2.0 * 16.0 * 24576.0, 1e-6);
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 2), 2.0 * 64.0 * 24576.0, 1e-6);
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 65), 2.0 * 128.0 * 24576.0, 1e-6);
}

Test(fitted_sglang, takes_the_tiles_that_sglang_tuned_for_a_gpu)
{
    struct fitted_kernels fitted = plain;
    fitted.flops_per_s = 1e9;
    double flops_a_row = 2.0 * 128.0 * 3.0 * 14336.0;

    /* one slot of 14336 on an A100: 16 rows up to 20 tokens, then 32, at last 128 */
    cr_expect_float_eq(sglang_ns(&fitted, "a100-sxm-80gb", 14336.0, 20), 32.0 * flops_a_row, 1e-3);
    cr_expect_float_eq(sglang_ns(&fitted, "a100-sxm-80gb", 14336.0, 21), 32.0 * flops_a_row, 1e-3);
    cr_expect_float_eq(sglang_ns(&fitted, "a100-sxm-80gb", 14336.0, 193), 256.0 * flops_a_row,
                       1e-3);
    cr_expect_float_eq(sglang_ns(&fitted, "h100-sxm", 14336.0, 20), 64.0 * flops_a_row, 1e-3);
}

Test(fitted_sglang, feeds_sglangs_tiles_with_rows_and_columns)
{
    struct fitted_kernels fitted = plain;
    fitted.flops_per_s = 1e9;
    fitted.tile_rows_lost = 10.0;

    /* a tile of 64 rows: 64 + 10 for its columns; and, for each column tile of 64 of both GEMMs,
     * two tokens' rows of K, 128 and 64: 2 x 10 (2 x 2 x 128 + 2 x 2 x 64) */
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 2),
                       2.0 * 74.0 * 24576.0 + 2.0 * 10.0 * (512.0 + 256.0), 1e-6);
}

Test(fitted_sglang, streams_weights_of_sglangs_default_tile_more_slowly)
{
    struct fitted_kernels fitted = plain;
    fitted.weight_bytes_per_s = 1e9;
    fitted.few_rows_share = 2.0;
    double slot_ns = 3.0 * 128.0 * 64.0 * 2.0;

    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 1), slot_ns / 2.0, 1e-6);
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 2), slot_ns, 1e-6);
}

Test(fitted_sglang, waits_for_as_many_steps_as_sglangs_tile_takes_along_k)
{
    struct fitted_kernels fitted = plain;
    fitted.depth_ns = 10.0;

    /* K of both GEMMs, 128 + 64, in steps of 64, then of 32 */
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 1), 960.0, 1e-6);
    cr_expect_float_eq(sglang_ns(&fitted, NULL, 64.0, 2), 1920.0, 1e-6);
}

/* A rank of one slot; what its tiles read of tokens' rows costs a nanosecond a byte, once lost. */
static double lost_rows_ns(const struct fitted_kernels *fitted, int64_t tokens, double span)
{
    const struct expert_shape shape = {
        .hidden_dim = 1024.0, .ffn_dim = 32.0, .weight_bytes = 2.0, .num_sms = 1.0, .gpu_sms = 1.0};
    struct expert_load load = {0};
    expert_load_add(&load, tokens, 1.0);
    load.rows = load.copies;
    load.span = span;
    return fitted_expert_ns(fitted, &shape, &load) - 1000.0;
}

Test(fitted_sglang, reads_rows_again_that_l2_has_lost_of_sglangs_default_tile)
{
    struct fitted_kernels fitted = plain;
    fitted.gather_bytes_per_s = 1e9;
    double own_share = 1.0 / (1.0 + pow(25e6 / (8192.0 * 2048.0), 2.0));
    double first_bytes = 8192.0 * 2048.0;             /* one tile of columns: 2 x 32 */
    double second_bytes = 8192.0 * 16.0 * 32.0 * 2.0; /* 16 of 64, K is 32 */

    /* own rows: both GEMMs */
    cr_expect_float_eq(lost_rows_ns(&fitted, 8192, 0.0), own_share * (first_bytes + second_bytes),
                       1.0);
    /* rows between others: the first */
    fitted.gather_bytes_per_s = 0.0;
    fitted.scatter_bytes_per_s = 1e9;
    double span_share = 1.0 / (1.0 + pow(40e6 / (16384.0 * 2048.0), 2.0));
    cr_expect_float_eq(lost_rows_ns(&fitted, 8192, 16384.0), span_share * first_bytes, 1.0);
    cr_expect_float_eq(lost_rows_ns(&fitted, 8192, 0.0), 0.0, 1.0);
}

Test(fitted_sglang, finds_small_weights_of_a_loop_in_l2)
{
    struct fitted_kernels fitted = plain;
    struct expert_shape shape = small;
    fitted.weight_bytes_per_s = 1e9;
    double slot_ns = 3.0 * 128.0 * 64.0 * 2.0;

    cr_expect_float_eq(time_ns(&fitted, &shape, 2), 1000.0 + slot_ns, 1e-6);
    shape.is_looped = true;
    cr_expect_float_eq(time_ns(&fitted, &shape, 2), 1000.0 + 0.7 * slot_ns, 1e-3);
}
