/*
 * fitted_tiles.c -- how many rows a tile of experts has, by the engine's own rule.
 *
 * Kernels that know one height (tile_rows) take that: DeepGEMM's masked kernels on Blackwell 128,
 * Triton's in fp8 by default 64.
 *
 * vLLM's go by the rank's rows alone (get_default_config, fused_moe.py @ 2cf0a6915): 16 rows a tile
 * up to 32, then 32, 64 above 96 and 128 above 512; in blocks of fp8 16 up to 64, then 64. Up to 64
 * rows a step along K is twice as deep. While a slot has no more than 128 rows, its tiles run
 * column by column: a second tile of rows streams the weights again, unless all columns run at
 * once.
 *
 * TensorRT-LLM's on Hopper go by the mean tokens of an expert, however uneven they are
 * (grouped_gemm_dispatch, fp8_blockscale_gemm_kernel.cuh @ 1.3.0rc20): below 32 the weights' rows
 * are the tile's and tokens its columns, 16 or 32 of them; then 64 rows of tokens up to 64, 128
 * above. A busy expert's further tiles stream again_share of its weights once more.
 *
 * Experts of weights in mxfp4 go by the choices that a rank is shown, other ranks' too, over its
 * slots: the next power of two, in OpenAI's library triton_kernels from 16 to 128
 * (make_default_opt_flags_nvidia, opt_flags.py; under vLLM and TensorRT-LLM on Hopper), and
 * likewise in TensorRT-LLM's kernels for Blackwell with activations in mxfp8 (computeSelectedTileN,
 * trtllm_fused_moe_kernel_launcher.cu of FlashInfer). So with EP tiles are higher than experts
 * need.
 *
 * TensorRT-LLM's CUTLASS kernels were tuned for the tokens of the whole group, down to a power of
 * two (MoERunner.tuning_config, torch_custom_ops.py @ 000af3a1e), which we take as dealt out
 * evenly, and keep that tile however uneven tokens are: a busy slot then takes many small ones.
 * Rank 0 of eight takes 342 us of Mixtral-8x7B with 160 skewed tokens, and 227 us with 256, where
 * the next power of two begins (H100, bf16, in the tables of ai-dynamo/aiconfigurator @
 * 095f58a51c4c).
 */
#include "gpu/fitted_tiles.h"

#include <math.h>
#include <stdbool.h>

#define H20_SMS 78.0

const double fitted_tile_rows[FITTED_TILE_SIZES] = {16.0, 32.0, 64.0, 128.0, 256.0};

/* Tiles of vLLM's Triton kernels, and when their pipelines are short. */
static int32_t vllm_tile(const struct fitted_kernels *fitted, double rows)
{
    if (fitted->precision == PRECISION_FP8) {
        return rows <= VLLM_FEW_ROWS ? 0 : 2;
    }
    return rows <= 32.0 ? 0 : rows <= 96.0 ? 1 : rows <= 512.0 ? 2 : 3;
}

/* Tiles of TensorRT-LLM's DeepGEMM on Hopper. */
static int32_t deepgemm_tile(const struct expert_shape *shape, const struct expert_load *load)
{
    bool knows_choices = load->experts > 0.0 && load->choices > 0.0;
    double mean = ceil(knows_choices ? load->choices / load->experts : load->copies / load->slots);
    double swapped_below = shape->gpu_sms == H20_SMS ? 64.0 : 32.0;
    if (mean < swapped_below) {
        return mean <= 16.0 ? 0 : mean <= 32.0 ? 1 : 2;
    }
    return mean <= 64.0 ? 2 : 3;
}

/* Tiles by the mean choices of a slot, to the next power of two. */
static int32_t choices_tile(const struct expert_load *load)
{
    double mean = floor(fmax(load->choices, load->copies) / load->slots);
    return mean <= 16.0 ? 0 : mean <= 32.0 ? 1 : mean <= 64.0 ? 2 : 3;
}

/* Tokens of a slot that a tuner saw: those of the group, down to a power of two, dealt out evenly.
 * Below 1 it is the share of slots that have one. */
static double even_tokens(const struct expert_load *load)
{
    bool knows_choices = load->experts > 0.0 && load->choices > 0.0 && load->rows > 0.0;
    double rows = load->rows > 0.0 ? load->rows : load->copies;
    double a_row =
        knows_choices ? load->choices / load->experts / rows : load->copies / load->slots / rows;
    double group_rows = load->group_rows > 0.0 ? load->group_rows : rows;
    double seen = 1.0;
    while (2.0 * seen <= group_rows) {
        seen *= 2.0;
    }
    return seen * a_row;
}

/* Tiles of rows of all slots as a tuner saw them. */
static double even_row_tiles(const struct expert_load *load, double rows)
{
    double tokens = even_tokens(load);
    return load->slots * (tokens < 1.0 ? tokens : ceil(tokens / rows));
}

/* Index of the tile's height; of those that a tuner chooses, the first it tries. */
static int32_t first_tile(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                          const struct expert_load *load)
{
    switch (fitted->tile_rows) {
    case TILE_ROWS_TUNED:
    case TILE_ROWS_EVEN:
        return 0;
    case TILE_ROWS_16:
    case TILE_ROWS_32:
    case TILE_ROWS_64:
    case TILE_ROWS_128:
    case TILE_ROWS_256:
        break;
    case TILE_ROWS_VLLM:
        return vllm_tile(fitted, load->rows);
    case TILE_ROWS_DEEPGEMM:
        return deepgemm_tile(shape, load);
    case TILE_ROWS_CHOICES:
        return choices_tile(load);
    case TILE_ROWS_SGLANG: /* a form of its own */
        break;
    }
    return (int32_t)fitted->tile_rows - (int32_t)TILE_ROWS_16;
}

double fitted_tiles_s(int32_t *height, const struct fitted_kernels *fitted,
                      const struct expert_shape *shape, const struct expert_load *load,
                      double column_tiles, double depth)
{
    double sm_flops_per_s = fitted->flops_per_s / shape->gpu_sms;
    bool is_even = fitted->tile_rows == TILE_ROWS_EVEN;
    bool is_tuned = is_even || fitted->tile_rows == TILE_ROWS_TUNED;
    int32_t first = first_tile(fitted, shape, load);
    int32_t last = is_tuned ? FITTED_TILE_SIZES - 1 : first;
    double least_s = HUGE_VAL;
    double taken_s = 0.0;
    *height = first;
    for (int32_t size = first; size <= last; size++) {
        double tile_s = 2.0 * (fitted_tile_rows[size] + fitted->tile_rows_lost) * TILE_COLUMNS *
                            depth / sm_flops_per_s +
                        fitted->tile_ns * 1e-9;
        double waves = ceil(load->row_tiles[size] * column_tiles / shape->num_sms);
        double seen =
            is_even
                ? ceil(even_row_tiles(load, fitted_tile_rows[size]) * column_tiles / shape->num_sms)
                : waves;
        if (seen * tile_s < least_s) {
            least_s = seen * tile_s;
            taken_s = waves * tile_s;
            *height = size;
        }
    }
    return taken_s;
}
