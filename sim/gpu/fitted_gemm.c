/*
 * fitted_gemm.c -- weight streaming joined with tiled arithmetic, for one GEMM.
 *
 *     W = groups N K b / weight_bytes_per_s + groups m N 2 / output_bytes_per_s
 *     tile = |2 M T (K / s) / (flops_per_s / SMs), (M + T) (K / s) b / (feed_bytes_per_s / SMs)|_4
 *            + (K / s) depth_ns + tile_ns
 *     C = ceil(tiles s / SMs) tile + (s > 1) (split_ns + partial sums, written and read)
 *     T = t0 + |W, C|_blend + groups m K 2 / prepare_bytes_per_s
 *
 * for tiles of M x T. Of a `tuned` library M, T and the split s are those with the least C:
 * cuBLASLt and CUTLASS pick among such tiles by heuristics or by trying. DeepGEMM states its rule
 * (its get_best_configs at a6d97a1c; TensorRT-LLM's copy lets weights take the rows below 32
 * tokens): M is 64 or 128, T the multiple of 8 with the fewest waves and then the fullest last one,
 * even where that is slower; widths that do not divide 128 pay uneven_share, and where pairs of
 * tiles do not share loads each missing row of the last tile pays pad_ns times the depth. Left out:
 * what a tuner really picks, L2 hits, clocks that sink under load.
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

static const double heights[] = {64.0, 128.0, 192.0, 256.0};
static const double widths[] = {16.0, 32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 256.0};
#define NUM_HEIGHTS (sizeof heights / sizeof heights[0])
#define NUM_WIDTHS  (sizeof widths / sizeof widths[0])

static double loop_ns(const struct gemm_constants *constants, const struct gemm_shape *shape,
                      double height, double width, double depth)
{
    double flops_s = 2.0 * height * width * depth * shape->gpu_sms / constants->flops_per_s;
    double feed_s = (height + width) * depth * shape->weight_bytes * shape->gpu_sms /
                    constants->feed_bytes_per_s;
    double both = flops_s * flops_s * flops_s * flops_s + feed_s * feed_s * feed_s * feed_s;
    return sqrt(sqrt(both)) * 1e9;
}

/* The best split of tiles of one size; none where the tiles already fill the GPU. */
static double tuned_tile_ns(const struct gemm_constants *constants, const struct gemm_shape *shape,
                            double height, double width)
{
    double tiles = ceil(shape->rows / height) * ceil(shape->columns / width) * shape->groups;
    double best_ns = HUGE_VAL;
    for (double split = 1.0; split <= SPLIT_MAX; split *= 2.0) {
        double depth = shape->depth / split;
        double tile_ns = loop_ns(constants, shape, height, width, depth) +
                         depth * constants->depth_ns + constants->tile_ns;
        double ns = ceil(tiles * split / shape->num_sms) * tile_ns;
        if (split > 1.0) {
            ns += constants->split_ns + tiles * height * width * split * PARTIAL_BYTES /
                                            (2.0 * constants->output_bytes_per_s) * 1e9;
        }
        best_ns = fmin(best_ns, ns);
        if (tiles * split >= shape->num_sms) {
            break;
        }
    }
    return best_ns;
}

static double tuned_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double best_ns = HUGE_VAL;
    for (size_t i = 0; i < NUM_HEIGHTS; i++) {
        for (size_t j = 0; j < NUM_WIDTHS; j++) {
            if (heights[i] * widths[j] > AREA_MAX) {
                continue;
            }
            best_ns = fmin(best_ns, tuned_tile_ns(constants, shape, heights[i], widths[j]));
            best_ns = fmin(best_ns, tuned_tile_ns(constants, shape, widths[j], heights[i]));
        }
    }
    return best_ns;
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
    double prepare_s = rows * shape->depth * 2.0 / (constants->prepare_bytes_per_s * left);
    double compute_ns = constants->tiles == TILES_TUNED ? tuned_ns(constants, shape)
                                                        : fewest_waves_ns(constants, shape);
    return constants->t0_ns + fitted_norm(stream_s * 1e9, compute_ns, constants->blend) +
           prepare_s * 1e9;
}
