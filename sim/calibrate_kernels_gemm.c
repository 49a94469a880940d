/*
 * calibrate_kernels_gemm.c -- which constants of GEMMs are fitted, from which start.
 *
 * Tables of a library hold few n x k, and those all deep: what outputs, short depths and splits of
 * deep products cost cannot be told from them. Starts are what aiconfigurator's public tables say
 * @ 095f58a51c4c (TensorRT-LLM 1.3.0rc20, on A100 1.0.0): 2000 rows of each format, of all n x k
 * from 32 to 65536 but the four in kernels.csv; in shares of what the GPU has, the mean of a
 * generation's two GPUs. What input and output cost goes with the SMs there, not with HBM. Pulls
 * keep starts where the rows fitted do not say otherwise.
 */
#include <stdbool.h>
#include <string.h>

#include "calibrate_kernels_internal.h"
#include "gpu/library_picks.h"

/* A factor of e off the start weighs like such an error in a row. */
#define LOOSE          0.1
#define USUAL          0.2
#define TIGHT          0.6

#define AT(name, unit) #name, offsetof(struct gemm_constants, name), 0.0, USUAL, unit
#define SHARE(name, unit)                                                                          \
#name, offsetof(struct gemm_constants, name), 0.0, TIGHT, unit /* of peak and bandwidth */
#define PREPARE                                                                                    \
    "prepare_bytes_per_s", offsetof(struct gemm_constants, prepare_bytes_per_s), 0.0, LOOSE, FIT_SMS
#define BLEND "blend", offsetof(struct gemm_constants, blend), 1.0

#define EVERY_FORM                                                                                 \
    {AT(t0_ns, FIT_PLAIN)}, {SHARE(weight_bytes_per_s, FIT_HBM)}, {SHARE(flops_per_s, FIT_PEAK)},  \
        {AT(feed_bytes_per_s, FIT_SMS)}, {PREPARE}, {AT(output_bytes_per_s, FIT_SMS)},             \
    {                                                                                              \
        AT(tile_ns, FIT_PLAIN)                                                                     \
    }

/* A constant whose start is 0 is not fitted. */
static const struct fit_parameter tuned[] = {EVERY_FORM,
                                             {AT(split_ns, FIT_PLAIN)},
                                             {AT(depth_ns, FIT_PLAIN)},
                                             {AT(cache_bytes, FIT_PLAIN)},
                                             {AT(sink_share, FIT_PLAIN)},
                                             {BLEND, USUAL, FIT_PLAIN}};
static const struct fit_parameter fewest_waves[] = {EVERY_FORM,
                                                    {AT(depth_ns, FIT_PLAIN)},
                                                    {AT(uneven_share, FIT_PLAIN)},
                                                    {AT(pad_ns, FIT_PLAIN)},
                                                    {BLEND, USUAL, FIT_PLAIN}};
static const struct fit_parameter fixed[] = {
    EVERY_FORM, {AT(sustained_flops_per_s, FIT_PEAK)}, {BLEND, TIGHT, FIT_PLAIN}};
#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

/* Few n x k tell nothing about most constants, so pulls are strong, but where rows tell waves of
 * one tile apart. Many do, and DeepGEMM's start says no more than the order of magnitude. */
#define SHAPES_FEW 4
#define FORM(parameters, pull)                                                                     \
    {                                                                                              \
        parameters, COUNT(parameters), sizeof(struct gemm_constants), pull                         \
    }
static const struct fit_form few_shapes[TILE_CHOICE_COUNT] = {
    [TILES_TUNED] = FORM(tuned, 40.0),
    [TILES_FEWEST_WAVES] = FORM(fewest_waves, 0.5),
    [TILES_FEWEST_WAVES_SWAPPED] = FORM(fewest_waves, 40.0),
    [TILES_FIXED] = FORM(fixed, 40.0),
    [TILES_TUNED_WHOLE] = FORM(tuned, 40.0)};
static const struct fit_form many_shapes[TILE_CHOICE_COUNT] = {
    [TILES_TUNED] = FORM(tuned, 1.0),
    [TILES_FEWEST_WAVES] = FORM(fewest_waves, 0.5),
    [TILES_FEWEST_WAVES_SWAPPED] = FORM(fewest_waves, 1.0),
    [TILES_FIXED] = FORM(fixed, 1.0),
    [TILES_TUNED_WHOLE] = FORM(tuned, 1.0)};

const struct fit_form *calibrate_gemm_form(enum tile_choice tiles, int32_t num_shapes)
{
    return num_shapes > SHAPES_FEW ? &many_shapes[tiles] : &few_shapes[tiles];
}

double calibrate_peak(const struct gpu_spec *gpu, enum precision precision)
{
    double peak = gpu->flops_per_s[precision];
    return peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16];
}

enum generation { AMPERE, HOPPER, BLACKWELL };

/* Tensor cores tell: those of Hopper know fp8, those of Blackwell nvfp4. */
static enum generation generation_of(const struct gpu_spec *gpu)
{
    return gpu->flops_per_s[PRECISION_NVFP4] > 0.0 ? BLACKWELL
           : gpu->flops_per_s[PRECISION_FP8] > 0.0 ? HOPPER
                                                   : AMPERE;
}

/* Shares are of HBM's bandwidth and of peak; feed, prepare and output are bytes a second and SM. */
struct start {
    const char *suffix; /* of the kernels' names; of several that fit the first is taken */
    enum generation generation;
    enum precision precision;
    double t0_ns, weight, flops, feed, prepare, output, tile_ns, split_ns, depth_ns;
    double cache_bytes, sink_share, sustained, blend;
    enum library_picks picks;
};

/* What input is not quantised on the way is not prepared: a rate far above HBM's. */
static const struct start starts[] = {
    {"", HOPPER, PRECISION_BF16, 2000, 0.913, 0.894, 193e9, 1e12, 25.5e9, 763, 2490, 0.493, 39e6,
     0.22, 0, 3.27, PICKS_hopper_bf16},
    {"_fp8_tensor", HOPPER, PRECISION_FP8, 11.6e3, 0.884, 0.827, 170e9, 8.71e9, 24.8e9, 927, 2540,
     0.139, 40e6, 0.17, 0, 2.93, PICKS_hopper_fp8_tensor},
    {"", HOPPER, PRECISION_FP8, 3530, 0.891, 0.823, 262e9, 8.63e9, 13.5e9, 858, 0, 0.49, 0, 0, 0,
     1.71, PICKS_hopper_fp8_block},
    {"", BLACKWELL, PRECISION_BF16, 2060, 0.877, 0.803, 323e9, 1e12, 36.6e9, 44, 2750, 0.48, 91e6,
     0.33, 0, 2.26, PICKS_blackwell_bf16},
    {"_fp8_tensor", BLACKWELL, PRECISION_FP8, 14.0e3, 0.954, 0.808, 214e9, 12.6e9, 37.1e9, 46, 3750,
     0.208, 82e6, 0.2, 0, 1.55, PICKS_blackwell_fp8_tensor},
    {"", BLACKWELL, PRECISION_FP8, 5710, 1.07, 0.911, 331e9, 27.3e9, 21.1e9, 5, 0, 0.491, 107e6,
     0.85, 0, 2.15, PICKS_blackwell_fp8_block},
    {"", BLACKWELL, PRECISION_NVFP4, 5290, 1.01, 0.613, 392e9, 17.9e9, 40.4e9, 1030, 0, 0, 0, 0,
     0.68, 1.52, PICKS_blackwell_nvfp4},
    {"", AMPERE, PRECISION_BF16, 3110, 0.878, 0.901, 69e9, 333e9, 11.2e9, 904, 1430, 0.937, 29e6, 0,
     0, 2.44, PICKS_ampere_bf16},
    {"_weight_only", AMPERE, PRECISION_INT8, 8700, 1.06, 0.456, 41e9, 34.7e9, 11.5e9, 1500, 13.6e3,
     1.35, 0, 0, 0, 4.87, PICKS_ampere_int8_weights},
    {"_weight_only", AMPERE, PRECISION_MXFP4, 9670, 2.02, 0.908, 451e9, 24.3e9, 14.4e9, 193, 14.1e3,
     2.16, 0, 0, 0, 1.52, PICKS_ampere_int4_weights},
    {"_smoothquant", AMPERE, PRECISION_INT8, 9160, 1.26, 0.97, 162e9, 26.8e9, 11.7e9, 1460, 114e3,
     1.36, 0, 0, 0, 1.58, PICKS_ampere_smoothquant},
};

/* DeepGEMM alone, on quantised input. */
static const struct start usual = {"",    HOPPER, PRECISION_FP8, 3400, 0.8,  0.8, 250e9,
                                   300e9, 25e9,   1000,          2400, 0.17, 0,   0,
                                   0,     2,      PICKS_none};

/* CUTLASS and DeepGEMM of vLLM and SGLang, in any format. */
static const struct start engines[] = {{"", HOPPER, PRECISION_FP8, 5000, 0.9, 0.8, 250e9, 15e9,
                                        15e9, 300, 0, 0.4, 40e6, 0.2, 0, 1.8, PICKS_none},
                                       {"", BLACKWELL, PRECISION_FP8, 6000, 0.9, 0.8, 400e9, 20e9,
                                        25e9, 300, 0, 0.4, 90e6, 0.2, 0, 1.6, PICKS_none}};

static const struct start *find_start(const char *kernels, enum generation generation,
                                      enum precision precision)
{
    const char *suffix =
        strchr(strstr(kernels, "linear") != NULL ? strstr(kernels, "linear") : kernels, '_');
    for (int32_t i = 0; i < COUNT(starts); i++) {
        if (starts[i].generation == generation && starts[i].precision == precision &&
            strcmp(starts[i].suffix, suffix != NULL ? suffix : "") == 0) {
            return &starts[i];
        }
    }
    return &usual;
}

static const struct start *start_of(const struct kernel_row *row, const struct gpu_spec *gpu)
{
    enum generation generation = generation_of(gpu);
    if (strncmp(row->kernels, "deepgemm", 8) == 0) {
        return &usual;
    }
    if (strncmp(row->kernels, "trtllm", 6) != 0 && row->tiles == TILES_TUNED_WHOLE) {
        return &engines[generation == BLACKWELL ? 1 : 0];
    }
    return find_start(row->kernels, generation, row->precision);
}

struct gemm_constants calibrate_start_gemm(const struct kernel_row *row, const struct gpu_spec *gpu)
{
    const struct start *start = start_of(row, gpu);
    /* bf16 is cuBLAS's everywhere; other formats have kernels of the engine's own */
    bool has_picks = row->precision == PRECISION_BF16 || strncmp(row->kernels, "trtllm", 6) == 0;
    bool is_alone = start == &usual;
    double peak = calibrate_peak(gpu, row->precision);
    struct gemm_constants constants = {.precision = row->precision,
                                       .tiles = (int32_t)row->tiles,
                                       .picks = has_picks ? (int32_t)start->picks : PICKS_none,
                                       .t0_ns = start->t0_ns,
                                       .weight_bytes_per_s = start->weight * gpu->hbm_bytes_per_s,
                                       .flops_per_s = start->flops * peak,
                                       .feed_bytes_per_s = start->feed * (double)gpu->num_sms,
                                       .prepare_bytes_per_s = start->prepare * (double)gpu->num_sms,
                                       .output_bytes_per_s = start->output * (double)gpu->num_sms,
                                       .tile_ns = start->tile_ns,
                                       .split_ns = start->split_ns,
                                       .depth_ns = start->depth_ns,
                                       .uneven_share = is_alone ? 0.15 : 0.1,
                                       .pad_ns = is_alone ? 0.017 : 0.021,
                                       .sustained_flops_per_s = start->sustained * peak,
                                       .cache_bytes = start->cache_bytes,
                                       .sink_share = start->sink_share,
                                       .blend = start->blend};
    memcpy(constants.kernels, row->kernels, sizeof constants.kernels);
    return constants;
}
