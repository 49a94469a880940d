/* test_fitted_tiles.c -- tiles that a tuner found for even tokens, sorting, and loops of weights.
 */
#include <criterion/criterion.h>

#include "gpu/fitted.h"

#define NOTHING 1e30 /* a rate at which bytes and flops cost nothing */

static const struct fitted_kernels plain = {.t0_ns = 1000.0,
                                            .weight_bytes_per_s = NOTHING,
                                            .flops_per_s = NOTHING,
                                            .activation_bytes_per_s = NOTHING,
                                            .row_bytes_per_s = NOTHING,
                                            .blend = 50.0};
static const struct expert_shape small = {
    .hidden_dim = 128.0, .ffn_dim = 64.0, .weight_bytes = 2.0, .num_sms = 1.0, .gpu_sms = 1.0};

/* Rows that one slot of 64 tokens computes, of four experts a token chooses one of. */
static double even_rows(double rows, double group_rows)
{
    struct fitted_kernels fitted = plain;
    struct expert_load load = {0};
    expert_load_add(&load, 64, 1.0);
    load.rows = rows;
    load.group_rows = group_rows;
    load.choices = rows;
    load.experts = 4.0;
    fitted.flops_per_s = 1e9; /* a flop a nanosecond, on one SM */
    fitted.tile_rows_lost = 4.0;
    fitted.tile_rows = TILE_ROWS_EVEN;
    double flops_a_row = 2.0 * 128.0 * (128.0 + 64.0); /* a column tile of each GEMM */
    return (fitted_expert_ns(&fitted, &small, &load) - 1000.0) / flops_a_row;
}

Test(fitted_tiles, keep_the_height_that_suited_even_tokens_of_the_power_of_two_below)
{
    /* A tile of M rows takes the time of M + 4. */
    cr_expect_float_eq(even_rows(64.0, 0.0), 4.0 * 20.0, 1e-6);  /* 16 a slot: four tiles of 16 */
    cr_expect_float_eq(even_rows(127.0, 0.0), 4.0 * 20.0, 1e-6); /* still tuned for 64 tokens */
    cr_expect_float_eq(even_rows(128.0, 0.0), 2.0 * 36.0, 1e-6); /* 32 a slot: two of 32 */
    cr_expect_float_eq(even_rows(256.0, 0.0), 68.0, 1e-6);       /* 64 a slot: one */
    cr_expect_float_eq(even_rows(512.0, 0.0), 132.0, 1e-6);      /* 128 a slot, of which 64 are */
}

Test(fitted_tiles, go_by_the_tokens_of_the_group_where_an_exchange_brought_some)
{
    cr_expect_float_eq(even_rows(64.0, 256.0), 68.0, 1e-6);
}

Test(fitted_tiles, are_the_lowest_where_not_every_slot_has_a_token)
{
    cr_expect_float_eq(even_rows(2.0, 0.0), 4.0 * 20.0, 1e-6);
}

Test(fitted, sorts_the_choices_of_more_than_256_tokens_by_more_kernels)
{
    struct fitted_kernels fitted = plain;
    struct expert_load load = {0};
    expert_load_add(&load, 1, 1.0);
    fitted.sort_ns = 500.0;

    load.rows = 256.0;
    cr_expect_float_eq(fitted_expert_ns(&fitted, &small, &load), 1000.0, 1e-6);
    load.rows = 257.0;
    cr_expect_float_eq(fitted_expert_ns(&fitted, &small, &load), 1500.0, 1e-6);
}

Test(fitted, finds_weights_in_l2_in_a_loop_of_measurements_alone)
{
    struct fitted_kernels fitted = plain;
    struct expert_shape shape = small;
    struct expert_load load = {0};
    double slot_bytes = 3.0 * 128.0 * 64.0 * 2.0;
    expert_load_add(&load, 1, 1.0);
    load.rows = 1.0;
    fitted.weight_bytes_per_s = 1e9; /* a byte a nanosecond */
    fitted.loop_share = 0.5;
    shape.l2_bytes = slot_bytes / 0.8; /* weights are as large as what it keeps: half is lost */

    cr_expect_float_eq(fitted_expert_ns(&fitted, &shape, &load), 1000.0 + slot_bytes, 1e-6);
    shape.is_looped = true;
    cr_expect_float_eq(fitted_expert_ns(&fitted, &shape, &load), 1000.0 + 0.75 * slot_bytes, 1e-6);
    fitted.loop_share = 0.0;
    cr_expect_float_eq(fitted_expert_ns(&fitted, &shape, &load), 1000.0 + slot_bytes, 1e-6);
}
