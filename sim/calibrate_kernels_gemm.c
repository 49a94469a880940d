/*
 * calibrate_kernels_gemm.c -- which constants of GEMMs are fitted, from which start.
 *
 * Tables of a library hold few n x k, and those all deep: what outputs, short depths and splits of
 * deep products cost cannot be told from them. Starts are what aiconfigurator's public tables say
 * @ 095f58a51c4c (TensorRT-LLM 1.3.0rc20, on A100 1.0.0): 440 to 483 n x k from 32 to 65536, half
 * of them taken, by their names' hash, so that the other half can judge; in shares of what the GPU
 * has, the mean of a generation's two GPUs. Pulls keep them where the rows fitted do not say
 * otherwise.
 */
#include <stdbool.h>
#include <string.h>

#include "calibrate_kernels_internal.h"

/* A factor of e off the start weighs like such an error in a row. */
#define LOOSE          0.1
#define USUAL          0.2
#define TIGHT          0.6

#define AT(name, unit) #name, offsetof(struct gemm_constants, name), 0.0, USUAL, unit
#define SHARE(name, unit)                                                                          \
#name, offsetof(struct gemm_constants, name), 0.0, TIGHT, unit /* of peak and bandwidth */
#define PREPARE                                                                                    \
    "prepare_bytes_per_s", offsetof(struct gemm_constants, prepare_bytes_per_s), 0.0, LOOSE, FIT_HBM
#define BLEND "blend", offsetof(struct gemm_constants, blend), 1.0

#define EVERY_FORM                                                                                 \
    {AT(t0_ns, FIT_PLAIN)}, {SHARE(weight_bytes_per_s, FIT_HBM)}, {SHARE(flops_per_s, FIT_PEAK)},  \
        {AT(feed_bytes_per_s, FIT_SMS)}, {PREPARE}, {AT(output_bytes_per_s, FIT_HBM)},             \
    {                                                                                              \
        AT(tile_ns, FIT_PLAIN)                                                                     \
    }

/* A constant whose start is 0 is not fitted. */
static const struct fit_parameter tuned[] = {EVERY_FORM,
                                             {AT(split_ns, FIT_PLAIN)},
                                             {AT(depth_ns, FIT_PLAIN)},
                                             {AT(cache_bytes, FIT_PLAIN)},
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
    [TILES_TUNED] = FORM(tuned, 5.0),
    [TILES_FEWEST_WAVES] = FORM(fewest_waves, 0.5),
    [TILES_FEWEST_WAVES_SWAPPED] = FORM(fewest_waves, 6.0),
    [TILES_FIXED] = FORM(fixed, 1.5),
    [TILES_TUNED_EXPOSED] = FORM(tuned, 5.0),
    [TILES_TUNED_WHOLE] = FORM(tuned, 10.0)};
static const struct fit_form many_shapes[TILE_CHOICE_COUNT] = {
    [TILES_TUNED] = FORM(tuned, 1.0),
    [TILES_FEWEST_WAVES] = FORM(fewest_waves, 0.5),
    [TILES_FEWEST_WAVES_SWAPPED] = FORM(fewest_waves, 1.0),
    [TILES_FIXED] = FORM(fixed, 1.0),
    [TILES_TUNED_EXPOSED] = FORM(tuned, 1.0),
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

/* Shares are of the HBM's bandwidth and of peak; `feed` is bytes a second and SM. */
struct start {
    const char *suffix; /* of the kernels' names; of several that fit the first is taken */
    enum generation generation;
    enum precision precision;
    double t0_ns, weight, flops, feed, prepare, output, tile_ns, split_ns, depth_ns;
    double cache_bytes, sustained, blend;
};

/* What input is not quantised on the way is not prepared: a rate of ten times HBM's. */
static const struct start starts[] = {
    {"", HOPPER, PRECISION_BF16, 1600, 0.87, 0.87, 0.175e12, 10, 0.82, 1100, 2270, 0.33, 37e6, 0,
     4},
    {"_fp8_tensor", HOPPER, PRECISION_FP8, 11.1e3, 0.87, 0.81, 0.215e12, 0.31, 0.84, 1330, 2340,
     0.16, 20e6, 0, 2.9},
    {"", HOPPER, PRECISION_FP8, 3630, 0.865, 0.835, 0.31e12, 0.29, 0.43, 776, 0, 0.57, 0, 0, 1.75},
    {"", BLACKWELL, PRECISION_BF16, 2090, 0.78, 0.78, 0.29e12, 10, 0.7, 10, 3100, 0.36, 90e6, 0, 2},
    {"_fp8_tensor", BLACKWELL, PRECISION_FP8, 13.9e3, 0.81, 0.755, 0.24e12, 0.21, 0.655, 5, 4550,
     0.215, 0, 0, 1.73},
    {"", BLACKWELL, PRECISION_FP8, 5600, 0.845, 0.835, 0.33e12, 0.5, 0.385, 1, 0, 0.505, 0, 0, 2.3},
    {"", BLACKWELL, PRECISION_NVFP4, 5450, 1, 0.75, 0.4e12, 0.345, 0.72, 910, 0, 0, 0, 0.643, 1.53},
    {"", AMPERE, PRECISION_BF16, 3000, 0.83, 0.9, 0.062e12, 10, 0.55, 900, 1550, 0.42, 26e6, 0,
     1.9},
    {"_weight_only", AMPERE, PRECISION_INT8, 7700, 0.85, 0.485, 0.083e12, 8.4, 0.47, 1860, 9.1e3,
     4.3, 0, 0, 3},
    {"_weight_only", AMPERE, PRECISION_MXFP4, 9100, 0.85, 0.9, 0.45e12, 2.7, 0.7, 200, 10.7e3, 3.3,
     0, 0, 1.54},
    {"_smoothquant", AMPERE, PRECISION_INT8, 9300, 0.85, 0.88, 0.93e12, 2.4, 0.48, 1600, 59e3, 1.5,
     0, 0, 2.15},
};

/* DeepGEMM alone, on quantised input. */
static const struct start usual = {"",  HOPPER, PRECISION_FP8, 3400, 0.8, 0.8, 0.25e12, 10,
                                   1.0, 1000,   2400,          0.17, 0,   0,   2};

static const struct start *find_start(const char *kernels, enum generation generation,
                                      enum precision precision)
{
    const char *linear = strstr(kernels, "_linear");
    const char *suffix = strchr(linear != NULL ? linear + 1 : kernels, '_');
    for (int32_t i = 0; i < COUNT(starts); i++) {
        if (starts[i].generation == generation && starts[i].precision == precision &&
            strcmp(starts[i].suffix, suffix != NULL ? suffix : "") == 0) {
            return &starts[i];
        }
    }
    return &usual;
}

struct gemm_constants calibrate_start_gemm(const struct kernel_row *row, const struct gpu_spec *gpu)
{
    bool is_alone = strncmp(row->kernels, "deepgemm", 8) == 0;
    const struct start *start =
        is_alone ? &usual : find_start(row->kernels, generation_of(gpu), row->precision);
    double peak = calibrate_peak(gpu, row->precision);
    struct gemm_constants constants = {.precision = row->precision,
                                       .tiles = (int32_t)row->tiles,
                                       .t0_ns = start->t0_ns,
                                       .weight_bytes_per_s = start->weight * gpu->hbm_bytes_per_s,
                                       .flops_per_s = start->flops * peak,
                                       .feed_bytes_per_s = start->feed * (double)gpu->num_sms,
                                       .prepare_bytes_per_s = start->prepare * gpu->hbm_bytes_per_s,
                                       .output_bytes_per_s = start->output * gpu->hbm_bytes_per_s,
                                       .tile_ns = start->tile_ns,
                                       .split_ns = start->split_ns,
                                       .depth_ns = start->depth_ns,
                                       .uneven_share = is_alone ? 0.15 : 0.1,
                                       .pad_ns = is_alone ? 0.017 : 0.021,
                                       .sustained_flops_per_s = start->sustained * peak,
                                       .cache_bytes = start->cache_bytes,
                                       .blend = start->blend};
    memcpy(constants.kernels, row->kernels, sizeof constants.kernels);
    return constants;
}
