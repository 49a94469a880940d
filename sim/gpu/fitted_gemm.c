/*
 * fitted_gemm.c -- weight streaming joined with tiled arithmetic, for one GEMM.
 *
 *     W = groups N K b / weight_bytes_per_s + groups m N 2 / output_bytes_per_s
 *     tile = |2 M T (K / s) / (flops_per_s / SMs), (M + T) (K / s) b / (feed_bytes_per_s / SMs)|_4
 *            + (K / s) depth_ns + tile_ns
 *     C = ceil(tiles s / SMs) tile + (s > 1) (split_ns + partial sums, written and read)
 *     I = groups m K 2 / weight_bytes_per_s / (1 + (cache_bytes / (groups m K 2))^8)
 *     T = t0 + |W + I, C|_blend + groups m K 2 / prepare_bytes_per_s
 *
 * for tiles of M x T. Of a `tuned` library M, T and the split s are those with the least C:
 * cuBLASLt and CUTLASS pick among such tiles by heuristics or by trying. `tuned_exposed` differs in
 * that what tiles wait (all of C but the norm) is hidden by no stream: T = t0 + |W, the norm|_blend
 * + the rest. So measured times are on Hopper; on Blackwell accumulators lie in a memory of their
 * own, and the end of a tile runs beside the next. `tuned_whole` takes s = 1, as DeepGEMM does
 * there. I is input that L2 has lost since the kernel before wrote it: a bf16 GEMM's time jumps by
 * what HBM takes for all of it where it outgrows L2 (aiconfigurator @ 095f58a51c4c, H100, m 32768,
 * n 32: 7 us at k 512, 28 us at k 1024). Kernels that quantise the input wait for it by themselves,
 * so there I stands outside the norm. DeepGEMM states its rule (its get_best_configs at a6d97a1c;
 * TensorRT-LLM's copy lets weights take the rows below 32 tokens): M is 64 or 128, T the multiple
 * of 8 with the fewest waves and then the fullest last one, even where that is slower; widths that
 * do not divide 128 pay uneven_share, and where pairs of tiles do not share loads each missing row
 * of the last tile pays pad_ns times the depth. `fixed` libraries take 128 x 256 for every shape,
 * as TensorRT-LLM's nvfp4 GEMM does where it was not tuned: its measured times step where tiles of
 * that size begin another wave, and nowhere else. |T - t0, flops / sustained_flops_per_s|_4 then
 * stands for clocks that sink under load. Left out: what a tuner really picks, L2 hits, and such
 * clocks elsewhere.
 */
#include "gpu/fitted_gemm.h"

#include <math.h>
#include <stddef.h>

#include "gpu/fitted.h"

#define OUTPUT_BYTES  2.0 /* bf16 */
#define PARTIAL_BYTES 8.0 /* fp32, written and read */
#define SPLIT_MAX     16.0
#define SWAP_ROWS     32.0
#define AREA_MAX      (256.0 * 192.0) /* accumulators of a tile must fit into its registers */
#define FIXED_HEIGHT  128.0
#define FIXED_WIDTH   256.0
#define CLOCK_BLEND   4.0
#define CACHE_BLEND   8.0
#define INPUT_BYTES   2.0 /* bf16 */

static const double heights[] = {64.0, 128.0, 192.0, 256.0};
static const double widths[] = {16.0, 32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 256.0};
#define NUM_HEIGHTS (sizeof heights / sizeof heights[0])
#define NUM_WIDTHS  (sizeof widths / sizeof widths[0])

/* Of all waves. */
struct duration {
    double flow_ns; /* arithmetic, or the feed that it waits for */
    double wait_ns; /* latencies, begin and end of tiles, sums of parts */
};

static double loop_ns(const struct gemm_constants *constants, const struct gemm_shape *shape,
                      double height, double width, double depth)
{
    double flops_s = 2.0 * height * width * depth * shape->gpu_sms / constants->flops_per_s;
    double feed_s = (height + width) * depth * shape->weight_bytes * shape->gpu_sms /
                    constants->feed_bytes_per_s;
    double both = flops_s * flops_s * flops_s * flops_s + feed_s * feed_s * feed_s * feed_s;
    return sqrt(sqrt(both)) * 1e9;
}

static struct duration shorter(struct duration a, struct duration b)
{
    return b.flow_ns + b.wait_ns < a.flow_ns + a.wait_ns ? b : a;
}

/* The best split of tiles of one size; none where the tiles already fill the GPU. */
static struct duration tuned_tile(const struct gemm_constants *constants,
                                  const struct gemm_shape *shape, double height, double width)
{
    double tiles = ceil(shape->rows / height) * ceil(shape->columns / width) * shape->groups;
    struct duration best = {HUGE_VAL, 0.0};
    double split_max = constants->tiles == TILES_TUNED_WHOLE ? 1.0 : SPLIT_MAX;
    for (double split = 1.0; split <= split_max; split *= 2.0) {
        double depth = shape->depth / split;
        double waves = ceil(tiles * split / shape->num_sms);
        struct duration tried = {waves * loop_ns(constants, shape, height, width, depth),
                                 waves * (depth * constants->depth_ns + constants->tile_ns)};
        if (split > 1.0) {
            tried.wait_ns += constants->split_ns + tiles * height * width * split * PARTIAL_BYTES /
                                                       (2.0 * constants->output_bytes_per_s) * 1e9;
        }
        best = shorter(best, tried);
        if (tiles * split >= shape->num_sms) {
            break;
        }
    }
    return best;
}

static struct duration tuned(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    struct duration best = {HUGE_VAL, 0.0};
    for (size_t i = 0; i < NUM_HEIGHTS; i++) {
        for (size_t j = 0; j < NUM_WIDTHS; j++) {
            if (heights[i] * widths[j] > AREA_MAX) {
                continue;
            }
            best = shorter(best, tuned_tile(constants, shape, heights[i], widths[j]));
            best = shorter(best, tuned_tile(constants, shape, widths[j], heights[i]));
        }
    }
    return best;
}

static double fewest_waves_ns(const struct gemm_constants *constants,
                              const struct gemm_shape *shape)
{
    bool is_swapped = constants->tiles == TILES_FEWEST_WAVES_SWAPPED && shape->rows < SWAP_ROWS;
    double rows = is_swapped ? shape->columns : shape->rows;
    double columns = is_swapped ? shape->rows : shape->columns;
    double height = rows <= 64.0 && !shape->is_ragged ? 64.0 : 128.0;
    double row_tiles =
        shape->row_tiles > 0.0 ? shape->row_tiles : ceil(rows / height) * shape->groups;
    double waves = HUGE_VAL;
    double last = 0.0; /* tiles in the last wave */
    double width = 0.0;
    for (double tried = 16.0; tried <= 128.0; tried += 8.0) {
        double tiles = row_tiles * ceil(columns / tried);
        double tried_waves = ceil(tiles / shape->num_sms);
        double tried_last = tiles - (tried_waves - 1.0) * shape->num_sms;
        if (tried_waves < waves || (tried_waves <= waves && tried_last > last)) {
            waves = tried_waves;
            last = tried_last;
            width = tried;
        }
    }
    bool is_uneven = fmod(128.0, width) > 0.0;
    bool is_shared =
        !is_swapped && shape->groups <= 1.0 && rows >= 1024.0 && fmod(columns, 2.0 * width) <= 0.0;
    double tile_ns = loop_ns(constants, shape, height, width, shape->depth) *
                         (1.0 + (is_uneven ? constants->uneven_share : 0.0)) +
                     shape->depth * constants->depth_ns + constants->tile_ns;
    double missing =
        is_swapped || is_shared || shape->groups > 1.0 ? 0.0 : ceil(rows / height) * height - rows;
    double full = last / shape->num_sms; /* loads of idle SMs would hide the padding */
    return waves * tile_ns + missing * shape->depth * constants->pad_ns * full * full;
}

static double fixed_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double row_tiles = shape->row_tiles > 0.0 ? shape->row_tiles
                                              : ceil(shape->rows / FIXED_HEIGHT) * shape->groups;
    double tiles = row_tiles * ceil(shape->columns / FIXED_WIDTH);
    double tile_ns = loop_ns(constants, shape, FIXED_HEIGHT, FIXED_WIDTH, shape->depth) +
                     shape->depth * constants->depth_ns + constants->tile_ns;
    return ceil(tiles / shape->num_sms) * tile_ns;
}

static struct duration compute(const struct gemm_constants *constants,
                               const struct gemm_shape *shape)
{
    switch ((enum tile_choice)constants->tiles) {
    case TILES_TUNED:
    case TILES_TUNED_EXPOSED:
    case TILES_TUNED_WHOLE:
        return tuned(constants, shape);
    case TILES_FEWEST_WAVES:
    case TILES_FEWEST_WAVES_SWAPPED:
        return (struct duration){fewest_waves_ns(constants, shape), 0.0};
    case TILES_FIXED:
    case TILE_CHOICE_COUNT:
        break;
    }
    return (struct duration){fixed_ns(constants, shape), 0.0};
}

/* What the whole GEMM takes at the clocks that the GPU can hold. */
static double sustained_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double flops = 2.0 * shape->rows * shape->groups * shape->columns * shape->depth;
    double share = shape->num_sms / shape->gpu_sms;
    return constants->sustained_flops_per_s > 0.0
               ? flops / (constants->sustained_flops_per_s * share) * 1e9
               : 0.0;
}

/* Input that comes from HBM, because L2 has lost it. */
static double missed_bytes(const struct gemm_constants *constants, double input_bytes)
{
    double fit = constants->cache_bytes / input_bytes;
    return constants->cache_bytes > 0.0 ? input_bytes / (1.0 + pow(fit, CACHE_BLEND)) : 0.0;
}

double fitted_gemm_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    if (shape->rows <= 0.0 || shape->groups <= 0.0) {
        return 0.0;
    }
    double rows = shape->rows * shape->groups;
    double left = 1.0 - shape->hbm_taken;
    double stream_s = (shape->groups * shape->columns * shape->depth * shape->weight_bytes /
                           constants->weight_bytes_per_s +
                       rows * shape->columns * OUTPUT_BYTES / constants->output_bytes_per_s) /
                      left;
    double input_bytes = rows * shape->depth * INPUT_BYTES;
    double prepare_s = input_bytes / (constants->prepare_bytes_per_s * left);
    double missed_s = missed_bytes(constants, input_bytes) / (constants->weight_bytes_per_s * left);
    *(shape->weight_bytes < INPUT_BYTES ? &prepare_s : &stream_s) += missed_s;
    struct duration tiles = compute(constants, shape);
    double exposed_ns = constants->tiles == TILES_TUNED_EXPOSED ? tiles.wait_ns : 0.0;
    double hidden_ns = tiles.flow_ns + tiles.wait_ns - exposed_ns;
    double both_ns = fitted_norm(stream_s * 1e9, hidden_ns, constants->blend) + exposed_ns;
    double sink_ns = sustained_ns(constants, shape);
    double product_ns = sink_ns > 0.0 ? fitted_norm(both_ns, sink_ns, CLOCK_BLEND) : both_ns;
    return constants->t0_ns + product_ns + prepare_s * 1e9;
}
