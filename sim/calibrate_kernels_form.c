/* calibrate_kernels_form.c -- which constants of GEMMs and attention are fitted, from which start.
 */
#include <stdbool.h>
#include <string.h>

#include "calibrate_kernels_internal.h"

/* Few shapes are published of some kernels, so what a start is worth was tried: pulls as strong as
 * an error of so much in a row keep constants that the rows do not tell where others have them. */
#define LOOSE 0.1
#define USUAL 0.2
#define TIGHT 0.6 /* shares of peak and bandwidth */

/* A module of 128 heads alone does not tell a start from weights. Of 8 to 64 heads (aiconfigurator
 * @ 095f58a51c4c) a decode step takes 31 us and 0.57 us a head on H100, H200, B200 and GB200 alike.
 */
#define MODULE_T0_NS              31e3
#define MODULE_WEIGHT_BYTES_PER_S 2.6e12

#define AT(type, name)            #name, offsetof(struct type, name), 0.0
static const struct fit_parameter tuned[] = {
    {AT(gemm_constants, t0_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, weight_bytes_per_s), TIGHT, FIT_HBM},
    {AT(gemm_constants, flops_per_s), TIGHT, FIT_PEAK},
    {AT(gemm_constants, feed_bytes_per_s), USUAL, FIT_SMS},
    {AT(gemm_constants, prepare_bytes_per_s), LOOSE, FIT_HBM},
    {AT(gemm_constants, output_bytes_per_s), USUAL, FIT_HBM},
    {AT(gemm_constants, tile_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, split_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, depth_ns), USUAL, FIT_PLAIN},
    {"blend", offsetof(struct gemm_constants, blend), 1.0, USUAL, FIT_PLAIN},
};
static const struct fit_parameter fewest_waves[] = {
    {AT(gemm_constants, t0_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, weight_bytes_per_s), TIGHT, FIT_HBM},
    {AT(gemm_constants, flops_per_s), TIGHT, FIT_PEAK},
    {AT(gemm_constants, feed_bytes_per_s), USUAL, FIT_SMS},
    {AT(gemm_constants, prepare_bytes_per_s), LOOSE, FIT_HBM},
    {AT(gemm_constants, output_bytes_per_s), USUAL, FIT_HBM},
    {AT(gemm_constants, tile_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, depth_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, uneven_share), USUAL, FIT_PLAIN},
    {AT(gemm_constants, pad_ns), USUAL, FIT_PLAIN},
    {"blend", offsetof(struct gemm_constants, blend), 1.0, USUAL, FIT_PLAIN},
};
static const struct fit_parameter fixed[] = {
    {AT(gemm_constants, t0_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, weight_bytes_per_s), TIGHT, FIT_HBM},
    {AT(gemm_constants, flops_per_s), TIGHT, FIT_PEAK},
    {AT(gemm_constants, feed_bytes_per_s), USUAL, FIT_SMS},
    {AT(gemm_constants, prepare_bytes_per_s), LOOSE, FIT_HBM},
    {AT(gemm_constants, output_bytes_per_s), USUAL, FIT_HBM},
    {AT(gemm_constants, tile_ns), USUAL, FIT_PLAIN},
    {AT(gemm_constants, sustained_flops_per_s), USUAL, FIT_PEAK},
    {"blend", offsetof(struct gemm_constants, blend), 1.0, TIGHT, FIT_PLAIN},
};
static const struct fit_parameter attention[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, split_share), LOOSE, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
};
static const struct fit_parameter gqa_decode[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, sm_bytes_per_s), LOOSE, FIT_SMS},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, alone_share), LOOSE, FIT_PLAIN},
    {AT(attention_constants, sum_bytes_per_s), LOOSE, FIT_HBM},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
};
/* Engines' tables have hundreds of rows: a start is worth the order of magnitude. */
static const struct fit_parameter engine_decode[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, sm_bytes_per_s), FIT_PULL, FIT_SMS},
    {AT(attention_constants, single_sm_bytes_per_s), FIT_PULL, FIT_SMS},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, single_tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, dim_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, merge_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, sequence_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, row_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, cache_bytes), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, miss_ns), FIT_PULL, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, FIT_PULL, FIT_PLAIN},
    {"wave_blend", offsetof(struct attention_constants, wave_blend), 1.0, FIT_PULL, FIT_PLAIN},
};
static const struct fit_parameter engine_prefill[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, flops_per_s), FIT_PULL, FIT_PEAK},
    {AT(attention_constants, exps_per_s), FIT_PULL, FIT_SMS},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, sequence_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, row_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, kv_row_bytes_per_s), FIT_PULL, FIT_HBM},
    {"wave_blend", offsetof(struct attention_constants, wave_blend), 1.0, FIT_PULL, FIT_PLAIN},
};
/* Weights of projections are the floor of a module that a graph launches. */
static const struct fit_parameter module_decode[] = {
    {AT(attention_constants, t0_ns), TIGHT, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, split_share), LOOSE, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
    {AT(attention_constants, weight_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, gemm_flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, row_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, narrow_ns), LOOSE, FIT_PLAIN},
};
static const struct fit_parameter flashinfer[] = {
    {AT(attention_constants, t0_ns), TIGHT, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, sum_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, merge_ns), FIT_PULL, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
    {AT(attention_constants, weight_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, gemm_flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, row_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, narrow_ns), LOOSE, FIT_PLAIN},
};
static const struct fit_parameter module_prefill[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, sequence_ns), FIT_PULL, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
    {AT(attention_constants, weight_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, gemm_flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, row_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, narrow_ns), LOOSE, FIT_PLAIN},
};
#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

enum form {
    FORM_TUNED,
    FORM_DEEPGEMM,
    FORM_DEEPGEMM_COPY,
    FORM_FIXED,
    FORM_ATTENTION,
    FORM_GQA_DECODE,
    FORM_MODULE,
    FORM_FLASHINFER,
    FORM_MODULE_PREFILL,
    FORM_ENGINE_DECODE,
    FORM_ENGINE_PREFILL,
};

/* DeepGEMM alone was measured on many shapes, TensorRT-LLM's copy on four. */
static const struct fit_form forms[] = {
    {tuned, COUNT(tuned), sizeof(struct gemm_constants), 1.0},
    {fewest_waves, COUNT(fewest_waves), sizeof(struct gemm_constants), 0.5},
    {fewest_waves, COUNT(fewest_waves), sizeof(struct gemm_constants), 2.0},
    {fixed, COUNT(fixed), sizeof(struct gemm_constants), 1.0},
    {attention, COUNT(attention), sizeof(struct attention_constants), 1.0},
    {gqa_decode, COUNT(gqa_decode), sizeof(struct attention_constants), 1.0},
    {module_decode, COUNT(module_decode), sizeof(struct attention_constants), 1.0},
    {flashinfer, COUNT(flashinfer), sizeof(struct attention_constants), 1.0},
    {module_prefill, COUNT(module_prefill), sizeof(struct attention_constants), 1.0},
    {engine_decode, COUNT(engine_decode), sizeof(struct attention_constants), 1.0},
    {engine_prefill, COUNT(engine_prefill), sizeof(struct attention_constants), 1.0},
};

static bool is_module(enum attention_phase phase)
{
    return phase == PHASE_MODULE_DECODE || phase == PHASE_MODULE_PREFILL;
}

static enum form gemm_form(enum tile_choice tiles)
{
    switch (tiles) {
    case TILES_TUNED:
    case TILES_TUNED_EXPOSED:
        return FORM_TUNED;
    case TILES_FEWEST_WAVES:
        return FORM_DEEPGEMM;
    case TILES_FEWEST_WAVES_SWAPPED:
        return FORM_DEEPGEMM_COPY;
    case TILES_FIXED:
    case TILE_CHOICE_COUNT:
        break;
    }
    return FORM_FIXED;
}

static enum form attention_form(const struct attention_constants *constants)
{
    bool is_even = constants->splits == SPLITS_EVEN;
    switch ((enum attention_phase)constants->phase) {
    case PHASE_GQA_DECODE:
        return is_even ? FORM_ENGINE_DECODE : FORM_GQA_DECODE;
    case PHASE_MODULE_DECODE:
        return constants->splits == SPLITS_FLASHINFER ? FORM_FLASHINFER : FORM_MODULE;
    case PHASE_MODULE_PREFILL:
        return FORM_MODULE_PREFILL;
    case PHASE_GQA_PREFILL:
        return is_even ? FORM_ENGINE_PREFILL : FORM_ATTENTION;
    case PHASE_MLA_DECODE:
    case PHASE_MLA_PREFILL:
    case ATTENTION_PHASE_COUNT:
        break;
    }
    return FORM_ATTENTION;
}

const struct fit_form *calibrate_kernels_form(const struct kernel_calibration *calibration)
{
    return &forms[calibration->class == KERNEL_GEMM
                      ? gemm_form((enum tile_choice)calibration->gemm.tiles)
                      : attention_form(&calibration->attention)];
}

static double peak_of(const struct gpu_spec *gpu, enum precision precision)
{
    double peak = gpu->flops_per_s[precision];
    return peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16];
}

/* Orders of magnitude, once for all GPUs: what quantising kernels before a GEMM cost, and how a
 * tile's loop waits, differ by format. */
struct gemm_constants calibrate_start_gemm(const struct kernel_row *row, const struct gpu_spec *gpu)
{
    bool is_alone = strncmp(row->kernels, "trtllm", 6) != 0; /* the input comes quantised */
    bool is_tensor = strstr(row->kernels, "_fp8_tensor") != NULL;
    bool is_bf16 = row->precision == PRECISION_BF16;
    bool is_block = row->precision == PRECISION_FP8 && !is_tensor;
    bool is_fp4 = row->precision == PRECISION_NVFP4;
    bool is_copy = row->tiles == TILES_FEWEST_WAVES_SWAPPED;
    bool is_int = strstr(row->kernels, "_weight_only") != NULL ||
                  strstr(row->kernels, "_smoothquant") != NULL;
    struct gemm_constants start = {.precision = row->precision,
                                   .tiles = (int32_t)row->tiles,
                                   .t0_ns = is_alone              ? 3400.0
                                            : is_bf16             ? 2200.0
                                            : is_tensor || is_int ? 12200.0
                                                                  : 4200.0,
                                   .weight_bytes_per_s = 0.8 * gpu->hbm_bytes_per_s,
                                   .flops_per_s =
                                       (is_copy ? 0.76 : 0.8) * peak_of(gpu, row->precision),
                                   .feed_bytes_per_s = 0.25e12 * (double)gpu->num_sms,
                                   .prepare_bytes_per_s = (is_alone || is_bf16 || is_int ? 10.0
                                                           : is_tensor                   ? 0.25
                                                                                         : 0.4) *
                                                          gpu->hbm_bytes_per_s,
                                   .output_bytes_per_s = gpu->hbm_bytes_per_s,
                                   .tile_ns = 1000.0,
                                   .split_ns = is_fp4     ? 20e3
                                               : is_block ? 5e3
                                                          : 2400.0,
                                   .depth_ns = is_fp4                                  ? 1.6
                                               : is_block && row->tiles == TILES_TUNED ? 0.58
                                               : is_int                                ? 0.4
                                               : is_copy                               ? 0.3
                                                                                       : 0.17,
                                   .uneven_share = 0.15,
                                   .pad_ns = 0.017,
                                   .blend = row->tiles == TILES_TUNED_EXPOSED ? 8.0 : 2.0};
    if (row->tiles == TILES_FIXED) {
        start.t0_ns = 5e3;
        start.flops_per_s = 0.65 * peak_of(gpu, row->precision);
        start.sustained_flops_per_s = 0.6 * peak_of(gpu, row->precision);
        start.tile_ns = 600.0;
        start.depth_ns = 0.0;
        start.blend = 1.5;
    }
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}

static struct attention_constants start_engine(const struct kernel_row *row,
                                               const struct gpu_spec *gpu)
{
    bool is_decode = row->phase == PHASE_GQA_DECODE;
    double num_sms = (double)gpu->num_sms;
    struct attention_constants start = {.precision = row->precision,
                                        .phase = (int32_t)row->phase,
                                        .splits = SPLITS_EVEN,
                                        .t0_ns = is_decode ? 8e3 : 11e3,
                                        .wave_blend = 3.0,
                                        .row_bytes_per_s = 0.6 * gpu->hbm_bytes_per_s};
    if (is_decode) {
        start.kv_bytes_per_s = 0.85 * gpu->hbm_bytes_per_s;
        start.sm_bytes_per_s = 0.07e12 * num_sms;
        start.single_sm_bytes_per_s = start.sm_bytes_per_s;
        start.tile_ns = 3000.0;
        start.single_tile_ns = start.tile_ns;
        start.dim_ns = 8.0;
        start.merge_ns = 2000.0;
        start.sequence_ns = 5.0;
        start.cache_bytes = 50e6;
        start.miss_ns = 8000.0;
        start.blend = 3.0;
    } else {
        start.floor_ns = 10e3;
        start.flops_per_s = 0.7 * peak_of(gpu, PRECISION_BF16);
        start.exps_per_s = 0.04e12 * num_sms;
        start.tile_ns = 1000.0;
        start.sequence_ns = 10.0;
        start.kv_row_bytes_per_s = 0.3 * gpu->hbm_bytes_per_s;
    }
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}

static bool is_engine(const struct kernel_row *row)
{
    bool is_gqa = row->phase == PHASE_GQA_DECODE || row->phase == PHASE_GQA_PREFILL;
    return is_gqa && strcmp(row->kernels, "flash") != 0;
}

struct attention_constants calibrate_start_attention(const struct kernel_row *row,
                                                     const struct gpu_spec *gpu)
{
    if (is_engine(row)) {
        return start_engine(row, gpu);
    }
    bool is_prefill = row->phase == PHASE_GQA_PREFILL || row->phase == PHASE_MLA_PREFILL ||
                      row->phase == PHASE_MODULE_PREFILL;
    bool with_gemms = is_module(row->phase);
    bool is_gqa_decode = row->phase == PHASE_GQA_DECODE;
    bool is_planned =
        row->phase == PHASE_MODULE_DECODE && strstr(row->kernels, "flashinfer") != NULL;
    struct attention_constants start = {
        .precision = row->precision,
        .phase = (int32_t)row->phase,
        .t0_ns = !with_gemms  ? 15e3
                 : is_prefill ? 100e3
                              : MODULE_T0_NS,
        .floor_ns = !with_gemms  ? 25e3
                    : is_prefill ? 500e3
                                 : 0.0,
        .kv_bytes_per_s = 0.85 * gpu->hbm_bytes_per_s,
        .flops_per_s = 0.6 * gpu->flops_per_s[PRECISION_BF16],
        .splits = is_planned ? SPLITS_FLASHINFER : SPLITS_FILLING,
        .tile_ns = !is_prefill  ? 5000.0
                   : with_gemms ? 300.0
                                : 1000.0,
        .split_share = is_gqa_decode ? 0.0 : 0.1,
        .sm_bytes_per_s = is_gqa_decode ? 0.1e12 * (double)gpu->num_sms : 0.0,
        .alone_share = is_gqa_decode ? 0.1 : 0.0,
        .sum_bytes_per_s = is_gqa_decode ? 0.3 * gpu->hbm_bytes_per_s
                           : is_planned  ? gpu->hbm_bytes_per_s
                                         : 0.0,
        .merge_ns = is_planned ? 5000.0 : 0.0,
        .sequence_ns = is_prefill && with_gemms ? 1000.0 : 0.0,
        .blend = 3.0,
        .weight_bytes_per_s = !with_gemms  ? 0.0
                              : is_prefill ? 0.8 * gpu->hbm_bytes_per_s
                                           : MODULE_WEIGHT_BYTES_PER_S,
        .gemm_flops_per_s = with_gemms ? 0.6 * peak_of(gpu, row->precision) : 0.0,
        .row_bytes_per_s = with_gemms ? gpu->hbm_bytes_per_s : 0.0,
        .narrow_ns = with_gemms ? 1000.0 : 0.0};
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}
