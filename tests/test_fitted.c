/* test_fitted.c -- the fitted GPU model: its arithmetic, its laws, and how scenarios choose it. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/fitted.h"
#include "gpu/gpu.h"
#include "rng.h"
#include "scenario.h"

#define NOTHING 1e30 /* a rate at which bytes and flops cost nothing */

static const struct fitted_kernels plain = {.t0_ns = 1000.0,
                                            .weight_bytes_per_s = NOTHING,
                                            .flops_per_s = NOTHING,
                                            .activation_bytes_per_s = NOTHING,
                                            .row_bytes_per_s = NOTHING,
                                            .blend = 50.0};
static const struct expert_shape small = {
    .hidden_dim = 128.0, .ffn_dim = 64.0, .weight_bytes = 2.0, .num_sms = 1.0, .gpu_sms = 1.0};

/* An H100 with round constants. */
static const struct fitted_kernels usual = {.t0_ns = 25e3,
                                            .weight_bytes_per_s = 3e12,
                                            .flops_per_s = 1e15,
                                            .activation_bytes_per_s = 1.5e12,
                                            .row_bytes_per_s = 1.5e12,
                                            .tile_ns = 500.0,
                                            .tile_rows_lost = 40.0,
                                            .blend = 2.5};
static const struct expert_shape qwen = {.hidden_dim = 2048.0,
                                         .ffn_dim = 768.0,
                                         .weight_bytes = 2.0,
                                         .num_sms = 132.0,
                                         .gpu_sms = 132.0};

static struct error error;

static double time_ns(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                      const int32_t *slot_tokens, int32_t num_slots)
{
    struct expert_load load = {0};
    for (int32_t slot = 0; slot < num_slots; slot++) {
        expert_load_add(&load, slot_tokens[slot], 1.0);
    }
    load.rows = load.copies;
    return fitted_expert_ns(fitted, shape, &load);
}

Test(fitted, streams_the_weights_of_slots_that_have_tokens)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {1, 0, 7};
    fitted.weight_bytes_per_s = 1e9; /* a byte a nanosecond */

    /* 1000 + 2 active x 3 matrices x 128 x 64 x 2 bytes */
    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 3), 99304.0, 1e-6);
}

Test(fitted, computes_whole_tiles_of_the_cheapest_size)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {16};
    fitted.flops_per_s = 1e9; /* a flop a nanosecond, on one SM */
    fitted.tile_rows_lost = 16.0;
    fitted.tile_ns = 100.0;

    /* Gate and up: 128 columns, one tile of 16 rows that takes the time of 32: 2 x 32 x 128 x 128.
     * Down: 2 x 32 x 128 x 64. Each with 100 ns of tile, and 1000 of launches. */
    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 1048576 + 524288 + 1200, 1e-6);
}

Test(fitted, starts_no_wave_in_part)
{
    struct fitted_kernels fitted = plain;
    struct expert_shape shape = small;
    const int32_t slot_tokens[] = {16, 16, 16};
    fitted.tile_ns = 100.0;
    shape.num_sms = 2.0;

    /* Three tiles on two SMs are two waves, in each of two GEMMs. */
    cr_expect_float_eq(time_ns(&fitted, &shape, slot_tokens, 3), 1000.0 + 4 * 100.0, 1e-6);
}

Test(fitted, moves_copies_and_rows)
{
    struct fitted_kernels fitted = plain;
    struct expert_load load = {0};
    fitted.activation_bytes_per_s = 1e9;
    fitted.row_bytes_per_s = 0.5e9;
    expert_load_add(&load, 10, 1.0);
    load.rows = 4.0;

    /* 10 copies x (2 x 128 + 3 x 64) x 2 bytes, 4 rows x 128 x 2 bytes at half the rate */
    cr_expect_float_eq(fitted_expert_ns(&fitted, &small, &load), 1000.0 + 8960.0 + 2048.0, 1e-6);
}

Test(fitted, joins_both_sides_by_their_norm)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {16};
    fitted.blend = 2.0;
    fitted.weight_bytes_per_s = 32768.0 / 3e-6; /* gate and up: 3 us, down: 1.5 us */
    fitted.flops_per_s = 524288.0 / 4e-6;       /* gate and up: 4 us, down: 2 us */

    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 1000.0 + 5000.0 + 2500.0, 1e-6);
}

Test(fitted, takes_no_time_without_tokens)
{
    const int32_t slot_tokens[] = {0, 0};

    cr_expect_eq(time_ns(&usual, &qwen, slot_tokens, 2), 0.0);
}

/* Up to what binning loses: a slot that moves on to the next bin is averaged with other ones. */
#define BINNING 0.01

Test(fitted, is_never_faster_with_one_token_more)
{
    gsl_rng *rng = rng_stream(1, "test fitted", 0);
    int32_t slot_tokens[16] = {0};
    double before_ns = 0.0;

    for (int32_t added = 0; added < 20000; added++) {
        slot_tokens[gsl_rng_uniform_int(rng, 16)]++;
        double after_ns = time_ns(&usual, &qwen, slot_tokens, 16);
        cr_assert_geq(after_ns, before_ns * (1.0 - BINNING), "token %d", (int)added);
        before_ns = fmax(before_ns, after_ns);
    }
    gsl_rng_free(rng);
}

/* Even loads of whole tiles are the least work that many tokens can be; what is not a multiple of
 * a tile may pack better unevenly (17 and 17 rows need four tiles of 16, 32 and 2 need three). */
Test(fitted, is_never_cheaper_when_skewed_over_the_same_slots)
{
    gsl_rng *rng = rng_stream(2, "test fitted", 0);

    for (int32_t round = 0; round < 2000; round++) {
        int32_t even[8];
        int32_t skewed[8];
        for (int32_t slot = 0; slot < 8; slot++) {
            even[slot] = skewed[slot] = 256 * (1 + round % 8);
        }
        for (int32_t moved = 0; moved < 4; moved++) {
            unsigned long from = gsl_rng_uniform_int(rng, 8);
            int32_t tokens = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)skewed[from]);
            skewed[from] -= tokens;
            skewed[gsl_rng_uniform_int(rng, 8)] += tokens;
        }
        cr_assert_geq(time_ns(&usual, &qwen, skewed, 8),
                      time_ns(&usual, &qwen, even, 8) * (1.0 - BINNING));
    }
    gsl_rng_free(rng);
}

Test(fitted, streams_faster_while_there_are_no_more_rows_than_slots)
{
    struct fitted_kernels fitted = plain;
    const int32_t few[] = {1, 0, 1};
    const int32_t many[] = {1, 0, 7};
    fitted.weight_bytes_per_s = 1e9;
    fitted.few_rows_share = 2.0;

    /* as above: 98,304 bytes of two experts; half the time for two rows in three slots */
    cr_expect_float_eq(time_ns(&fitted, &small, few, 3), 1000.0 + 49152.0, 1e-6);
    cr_expect_float_eq(time_ns(&fitted, &small, many, 3), 99304.0, 1e-6);
}

Test(fitted, reads_every_choice_of_a_token_where_the_layer_does)
{
    struct fitted_kernels fitted = plain;
    struct expert_load load = {0};
    fitted.choice_hidden_bytes_per_s = 1e9;
    fitted.choice_ffn_bytes_per_s = 0.5e9;
    expert_load_add(&load, 10, 1.0);
    load.rows = 10.0;
    load.choices = 40.0; /* of which 30 are other ranks' */

    /* 40 choices x (128 + 2 x 64) x 2 bytes */
    cr_expect_float_eq(fitted_expert_ns(&fitted, &small, &load), 1000.0 + 20480.0, 1e-6);
}

Test(fitted, takes_the_one_tile_that_kernels_know)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {16};
    fitted.flops_per_s = 1e9;
    fitted.tile_rows = TILE_ROWS_64;

    /* As above, but a tile of 64 rows: 2 x 64 x 128 x (128 + 64). */
    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 1000.0 + 3145728.0, 1e-6);
}

/* Arithmetic of one slot alone, whose rows are the rank's. */
static double vllm_rows(enum precision precision, int32_t slot_tokens)
{
    struct fitted_kernels fitted = plain;
    fitted.flops_per_s = 1e9;
    fitted.precision = precision;
    fitted.tile_rows = TILE_ROWS_VLLM;
    double flops_a_row = 2.0 * 128.0 * (128.0 + 64.0); /* a column tile of each GEMM */
    return (time_ns(&fitted, &small, &slot_tokens, 1) - 1000.0) / flops_a_row;
}

Test(fitted, takes_vllms_tiles_by_the_rows_of_the_rank)
{
    cr_expect_float_eq(vllm_rows(PRECISION_BF16, 32), 32.0, 1e-6);
    cr_expect_float_eq(vllm_rows(PRECISION_BF16, 33), 64.0, 1e-6);   /* two tiles of 32 */
    cr_expect_float_eq(vllm_rows(PRECISION_BF16, 97), 128.0, 1e-6);  /* two of 64 */
    cr_expect_float_eq(vllm_rows(PRECISION_BF16, 513), 640.0, 1e-6); /* five of 128 */
    cr_expect_float_eq(vllm_rows(PRECISION_FP8, 64), 64.0, 1e-6);    /* four of 16 */
    cr_expect_float_eq(vllm_rows(PRECISION_FP8, 65), 128.0, 1e-6);   /* two of 64 */
}

Test(fitted, streams_weights_again_for_vllms_second_tile_of_rows)
{
    struct fitted_kernels fitted = plain;
    const int32_t once[] = {64, 1, 1, 1};
    const int32_t twice[] = {65, 0, 0, 0};
    const int32_t grouped[] = {129};
    struct expert_shape shape = small;
    fitted.weight_bytes_per_s = 1e9;
    fitted.tile_rows = TILE_ROWS_VLLM;
    fitted.precision = PRECISION_BF16;
    shape.hidden_dim = 256.0; /* down: two column tiles, gate and up: one; two run at once */
    double slot_ns = 3.0 * 256.0 * 64.0 * 2.0;

    /* 67 rows: tiles of 32, so the busy slot has two */
    cr_expect_float_eq(time_ns(&fitted, &shape, once, 4),
                       1000.0 + 4.0 * slot_ns + (2.0 / 3.0 * 0.5 + 1.0 / 3.0) * slot_ns, 1e-6);
    /* three tiles of 32 */
    cr_expect_float_eq(time_ns(&fitted, &shape, twice, 4),
                       1000.0 + slot_ns + 2.0 * (2.0 / 3.0 * 0.5 + 1.0 / 3.0) * slot_ns, 1e-6);
    /* more than 128 rows a slot: tiles of rows take turns on the columns */
    cr_expect_float_eq(time_ns(&fitted, &shape, grouped, 1), 1000.0 + slot_ns, 1e-6);
    fitted.precision = PRECISION_FP8;
    cr_expect_float_eq(time_ns(&fitted, &shape, twice, 4), 1000.0 + slot_ns, 1e-6);
}

Test(fitted, shortens_vllms_pipelines_up_to_64_rows)
{
    struct fitted_kernels fitted = plain;
    const int32_t few[] = {64};
    const int32_t many[] = {65};
    fitted.tile_rows = TILE_ROWS_VLLM;
    fitted.depth_ns = 10.0;
    fitted.few_rows_share = 2.0;

    /* K of both GEMMs, 128 + 64; the weights' rate is not touched */
    cr_expect_float_eq(time_ns(&fitted, &small, few, 1), 1000.0 + 960.0, 1e-6);
    cr_expect_float_eq(time_ns(&fitted, &small, many, 1), 1000.0 + 1920.0, 1e-6);
}

/* Arithmetic of num_sms slots, in rows of the tiles of one; 8 experts, mean: choices of each. */
static double tiled_rows(enum tile_height tile_rows, int64_t slot_tokens, double mean,
                         double num_sms)
{
    struct fitted_kernels fitted = plain;
    struct expert_shape shape = small;
    struct expert_load load = {0};
    fitted.flops_per_s = 1e9 * num_sms;
    fitted.tile_rows = tile_rows;
    shape.num_sms = num_sms;
    shape.gpu_sms = num_sms;
    expert_load_add(&load, slot_tokens, num_sms); /* a tile of rows an SM */
    load.choices = 8.0 * mean;
    load.experts = mean > 0.0 ? 8.0 : 0.0;
    double flops_a_row = 2.0 * 128.0 * (128.0 + 64.0); /* a column tile of each GEMM */
    return (fitted_expert_ns(&fitted, &shape, &load) - 1000.0) / flops_a_row;
}

Test(fitted, takes_deepgemms_tiles_by_the_mean_tokens_of_an_expert)
{
    const enum tile_height rule = TILE_ROWS_DEEPGEMM;
    cr_expect_float_eq(tiled_rows(rule, 96, 15.1, 1.0), 96.0, 1e-6);  /* tiles of 16 */
    cr_expect_float_eq(tiled_rows(rule, 96, 31.0, 1.0), 96.0, 1e-6);  /* of 32 */
    cr_expect_float_eq(tiled_rows(rule, 96, 31.5, 1.0), 128.0, 1e-6); /* of 64 */
    cr_expect_float_eq(tiled_rows(rule, 96, 64.5, 1.0), 128.0, 1e-6); /* of 128 */
    cr_expect_float_eq(tiled_rows(rule, 97, 31.0, 1.0), 128.0, 1e-6);
    cr_expect_float_eq(tiled_rows(rule, 97, 32.0, 78.0), 128.0, 1e-6); /* an H20's, still of 32 */
    cr_expect_float_eq(tiled_rows(rule, 66, 0.0, 1.0), 128.0, 1e-6);   /* its own tokens */
}

Test(fitted, takes_mxfp4s_tiles_by_the_choices_that_a_rank_is_shown)
{
    const enum tile_height rule = TILE_ROWS_CHOICES;
    cr_expect_float_eq(tiled_rows(rule, 9, 16.9 / 8.0, 1.0), 16.0, 1e-6);
    cr_expect_float_eq(tiled_rows(rule, 9, 17.0 / 8.0, 1.0), 32.0, 1e-6);
    cr_expect_float_eq(tiled_rows(rule, 9, 33.0 / 8.0, 1.0), 64.0, 1e-6);
    cr_expect_float_eq(tiled_rows(rule, 9, 65.0 / 8.0, 1.0), 128.0, 1e-6);
    cr_expect_float_eq(tiled_rows(rule, 9, 4096.0, 1.0), 128.0, 1e-6); /* never higher */
    cr_expect_float_eq(tiled_rows(rule, 9, 4.0, 2.0), 16.0, 1e-6);     /* 32 over two slots */
    cr_expect_float_eq(tiled_rows(rule, 33, 0.0, 1.0), 64.0, 1e-6);    /* its own tokens */
}

Test(fitted, streams_a_share_of_the_weights_again_for_each_further_tile_of_rows)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {33, 1, 1, 1}; /* a mean of 9: tiles of 16, three and one */
    fitted.weight_bytes_per_s = 1e9;
    fitted.tile_rows = TILE_ROWS_DEEPGEMM;
    fitted.again_share = 0.25;
    double slot_ns = 3.0 * 128.0 * 64.0 * 2.0;

    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 4), 1000.0 + 4.5 * slot_ns, 1e-6);
}

Test(fitted, takes_longer_where_arithmetic_sinks_the_clocks)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {10};
    fitted.t0_ns = 3000.0;
    fitted.sustained_flops_per_s = 6.0 * 10.0 * 128.0 * 64.0 / 4e-6; /* 4 us of arithmetic */

    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 5000.0, 1e-6); /* 3, 4, 5 */
}

Test(fitted, charges_slots_by_their_width_and_the_busiest_by_its_tokens)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {3, 0, 8};
    fitted.slot_ffn_ns = 0.5;
    fitted.busiest_ns = 10.0;

    /* 3 slots x 64 x 0.5 ns, 8 tokens x 10 ns */
    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 3), 1000.0 + 96.0 + 80.0, 1e-6);
}

Test(fitted, hides_part_of_a_pipeline_behind_the_weights)
{
    struct fitted_kernels fitted = plain;
    const int32_t slot_tokens[] = {1};
    fitted.weight_bytes_per_s = 32768.0 / 3e-6; /* gate and up: 3 us, down: 1.5 us */
    fitted.depth_ns = 4000.0 / 128.0;           /* gate and up: 4 us, down: 2 us */

    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 1000.0 + 7000.0 + 3500.0, 1e-6);
    fitted.depth_blend = 2.0;
    cr_expect_float_eq(time_ns(&fitted, &small, slot_tokens, 1), 1000.0 + 5000.0 + 2500.0, 1e-6);
}

static enum status load_with(struct scenario *scenario, const char *first, const char *second)
{
    const char *overrides[] = {"compute.model=fitted", first, second};
    return scenario_load(scenario,
                         SOURCE_DIRECTORY "/scenarios/studies/llama_2_70b_decode_8xh100.yaml",
                         overrides, 3, &error);
}

Test(fitted, is_chosen_by_kernels_and_precision)
{
    struct scenario scenario = {0};

    cr_assert_eq(load_with(&scenario, "precision.expert=bf16", "compute.kernels=vllm"), STATUS_OK,
                 "%s", error.text);

    const struct gpu_spec *gpu = &scenario.cluster.gpu;
    struct gpu_evidence evidence = gpu_model_evidence(scenario.gpu_model, gpu);
    cr_expect_str_eq(gpu->fitted[gpu->fitted_chosen].kernels, "vllm");
    cr_expect_eq(gpu->fitted[gpu->fitted_chosen].precision, PRECISION_BF16);
    cr_expect_gt(evidence.error_median, 0.0);
    cr_expect_gt(strlen(evidence.fitted_on), 0);
    scenario_free(&scenario);
}

Test(fitted, says_what_there_is_when_it_has_no_constants)
{
    struct scenario scenario = {0};

    cr_expect_eq(load_with(&scenario, "precision.expert=bf16", "compute.kernels=ours"),
                 STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "no constants for h100-sxm with kernels 'ours' in bf16"));
    cr_expect_not_null(strstr(error.text, "trtllm in bf16"));
    scenario_free(&scenario);
}

Test(fitted, knows_phases_without_constants_no_better_than_the_roofline)
{
    struct gpu_spec gpu;
    struct moe_model model;
    cr_assert_eq(gpu_load(&gpu, "mi300x", &error), STATUS_OK);
    cr_assert_eq(model_load(&model, "qwen3-30b-a3b", &error), STATUS_OK);
    struct gpu_work work = {.phase = GPU_GATE, .model = &model, .tokens = 100, .shards = 1};

    cr_expect_eq(gpu_find("fitted")->duration_ns(&gpu, &work),
                 gpu_find("roofline")->duration_ns(&gpu, &work));
}
