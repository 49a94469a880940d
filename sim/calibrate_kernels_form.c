/* calibrate_kernels_form.c -- which constants of attention are fitted, from which start. */
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
static const struct fit_parameter attention[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, split_share), LOOSE, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
};
static const struct fit_parameter mla_decode[] = {
    {AT(attention_constants, t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, floor_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, kv_bytes_per_s), LOOSE, FIT_HBM},
    {AT(attention_constants, flops_per_s), LOOSE, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, alone_share), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, part_ns), FIT_PULL, FIT_PLAIN},
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
    {AT(attention_constants, flops_per_s), FIT_PULL, FIT_PEAK},
    {AT(attention_constants, overlap), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, part_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, row_tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, narrow_ns), FIT_PULL, FIT_PLAIN},
    /* of kernels that take heads one by one: left out where there are none */
    {AT(attention_constants, single_t0_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, single_merge_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, single_overlap), FIT_PULL, FIT_PLAIN},
};
#define NUM_SINGLE 3
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
    {AT(attention_constants, merge_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, part_ns), FIT_PULL, FIT_PLAIN},
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
    {AT(attention_constants, flops_per_s), FIT_PULL, FIT_PEAK},
    {AT(attention_constants, tile_ns), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, sequence_ns), FIT_PULL, FIT_PLAIN},
    {"blend", offsetof(struct attention_constants, blend), 1.0, LOOSE, FIT_PLAIN},
    {AT(attention_constants, weight_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, gemm_flops_per_s), FIT_PULL, FIT_PEAK},
    {AT(attention_constants, row_bytes_per_s), FIT_PULL, FIT_HBM},
    {AT(attention_constants, head_row_bytes_per_s), FIT_PULL, FIT_HBM},
    {"floor_blend", offsetof(struct attention_constants, floor_blend), 1.0, FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, slow_share), FIT_PULL, FIT_PLAIN},
    {AT(attention_constants, slow_ns), FIT_PULL, FIT_PLAIN},
};
#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))
_Static_assert(COUNT(engine_decode) <= KERNEL_CONSTANTS_MAX, "intervals have room for fewer");
_Static_assert(COUNT(engine_decode) <= FIT_PARAMETERS_MAX, "a fit has room for fewer");

enum form {
    FORM_ATTENTION,
    FORM_MLA_DECODE,
    FORM_GQA_DECODE,
    FORM_MODULE,
    FORM_FLASHINFER,
    FORM_MODULE_PREFILL,
    FORM_ENGINE_DECODE,
    FORM_ENGINE_SINGLES,
    FORM_ENGINE_PREFILL,
};

static const struct fit_form forms[] = {
    {attention, COUNT(attention), sizeof(struct attention_constants), 1.0},
    {mla_decode, COUNT(mla_decode), sizeof(struct attention_constants), 1.0},
    {gqa_decode, COUNT(gqa_decode), sizeof(struct attention_constants), 1.0},
    {module_decode, COUNT(module_decode), sizeof(struct attention_constants), 1.0},
    {flashinfer, COUNT(flashinfer), sizeof(struct attention_constants), 1.0},
    {module_prefill, COUNT(module_prefill), sizeof(struct attention_constants), 1.0},
    {engine_decode, COUNT(engine_decode) - NUM_SINGLE, sizeof(struct attention_constants), 1.0},
    {engine_decode, COUNT(engine_decode), sizeof(struct attention_constants), 1.0},
    {engine_prefill, COUNT(engine_prefill), sizeof(struct attention_constants), 1.0},
};

static bool is_module(enum attention_phase phase)
{
    return phase == PHASE_MODULE_DECODE || phase == PHASE_MODULE_PREFILL;
}

static enum form attention_form(const struct attention_constants *constants)
{
    bool is_engine = constants->splits == SPLITS_EVEN || constants->splits == SPLITS_XQA;
    switch ((enum attention_phase)constants->phase) {
    case PHASE_GQA_DECODE:
        return !is_engine                   ? FORM_GQA_DECODE
               : constants->group_max > 0.0 ? FORM_ENGINE_SINGLES
                                            : FORM_ENGINE_DECODE;
    case PHASE_MODULE_DECODE:
        return constants->splits == SPLITS_FLASHINFER ? FORM_FLASHINFER : FORM_MODULE;
    case PHASE_MODULE_PREFILL:
        return FORM_MODULE_PREFILL;
    case PHASE_GQA_PREFILL:
        return is_engine ? FORM_ENGINE_PREFILL : FORM_ATTENTION;
    case PHASE_MLA_DECODE:
        return FORM_MLA_DECODE;
    case PHASE_MLA_PREFILL:
    case ATTENTION_PHASE_COUNT:
        break;
    }
    return FORM_ATTENTION;
}

const struct fit_form *calibrate_kernels_form(const struct kernel_calibration *calibration)
{
    return calibration->class == KERNEL_GEMM
               ? calibrate_gemm_form((enum tile_choice)calibration->gemm.tiles,
                                     calibration->num_shapes)
               : &forms[attention_form(&calibration->attention)];
}

/* TensorRT-LLM's kernels for groups take up to 32 heads; before Blackwell, where other ones came,
 * they are XQA's, which take no groups of one. */
static void start_singles(struct attention_constants *start, const struct kernel_row *row,
                          const struct gpu_spec *gpu)
{
    if (strcmp(row->kernels, "trtllm") != 0) {
        return;
    }
    bool is_before = gpu->flops_per_s[PRECISION_NVFP4] <= 0.0;
    start->splits = is_before ? SPLITS_XQA : SPLITS_EVEN;
    start->group_min = is_before ? 2.0 : 1.0;
    start->group_max = 32.0;
    start->tile_ns = 1500.0;
    start->single_t0_ns = 6e3;
    start->single_merge_ns = 5000.0;
    start->single_overlap = 2.0;
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
        start.flops_per_s = 0.5 * calibrate_peak(gpu, PRECISION_BF16);
        start.overlap = 1.5;
        start.part_ns = 100.0;
        start.row_tile_ns = 20.0;
        start.narrow_ns = 1000.0;
        start_singles(&start, row, gpu);
    } else {
        start.floor_ns = 10e3;
        start.flops_per_s = 0.7 * calibrate_peak(gpu, PRECISION_BF16);
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

/* What parts of a sequence cost, where MLA is decoded in parts. */
static void start_parts(struct attention_constants *start)
{
    if (start->phase == PHASE_MLA_DECODE) {
        start->split_share = 0.0;
        start->alone_share = 0.1;
        start->part_ns = 200.0;
    } else if (start->phase == PHASE_MODULE_DECODE && start->splits == SPLITS_FILLING) {
        start->merge_ns = 2000.0;
        start->part_ns = 100.0;
    }
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
        .heads_min = row->heads_min,
        .t0_ns = !with_gemms  ? 15e3
                 : is_prefill ? 10e3
                              : MODULE_T0_NS,
        .floor_ns = !with_gemms  ? 25e3
                    : is_prefill ? 500e3
                                 : 0.0,
        .kv_bytes_per_s = 0.85 * gpu->hbm_bytes_per_s,
        .flops_per_s = 0.6 * gpu->flops_per_s[PRECISION_BF16],
        .splits = is_planned ? SPLITS_FLASHINFER : SPLITS_FILLING,
        .tile_ns = !is_prefill  ? 5000.0
                   : with_gemms ? 2000.0
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
        .gemm_flops_per_s = with_gemms ? 0.6 * calibrate_peak(gpu, row->precision) : 0.0,
        .row_bytes_per_s = with_gemms ? gpu->hbm_bytes_per_s : 0.0,
        .narrow_ns = with_gemms && !is_prefill ? 1000.0 : 0.0};
    if (with_gemms && is_prefill) {
        start.row_bytes_per_s = 4.0 * gpu->hbm_bytes_per_s;
        start.head_row_bytes_per_s = 0.3 * gpu->hbm_bytes_per_s;
        start.floor_blend = 2.0;
        start.slow_share = 0.1;
        start.slow_ns = 10e6;
    }
    start_parts(&start);
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}
