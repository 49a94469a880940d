/*
 * fitted_gemm.c -- weight streaming joined with tiled arithmetic, for one GEMM.
 *
 *     W = groups N K b / weight_bytes_per_s + groups m N 2 / output_bytes_per_s
 *     tile = |2 M T (K / s) / (flops_per_s / SMs), (M + T) (K / s) b / (feed_bytes_per_s / SMs)|_4
 *            + (K / s) depth_ns + tile_ns
 *     C = ceil(tiles s / SMs) tile + (s > 1) (split_ns + partial sums, written and read)
 *     lost(x) = 1 / (1 + (cache_bytes / x)^8)
 *     I = groups m K 2 / weight_bytes_per_s lost(input)
 *     P = |W + I, C|_blend
 *     T = t0 + P (1 + sink_share P / (P + 8 ms)) + groups m K 2 / prepare_bytes_per_s
 *
 * for tiles of M x T. Of a `tuned` library T is 64 or 128 and M a multiple of 8, and they and the
 * split s are those with the least C: names of cuBLASLt's kernels on Hopper tell such a menu, of
 * which it picks by heuristics. What those tiles wait (all of C but the norm) is hidden by no
 * stream: P = |W + I, the norm|_blend + the rest. `tuned_whole` takes s = 1, as CUTLASS and
 * DeepGEMM do. I is input that L2 has lost since the kernel before wrote it: a bf16 GEMM's time
 * jumps by what HBM takes for all of it where it outgrows L2 (aiconfigurator @ 095f58a51c4c, H100,
 * m 32768, n 32: 7 us at k 512, 28 us at k 1024). Kernels that quantise the input wait for it by
 * themselves, so there I stands outside the norm. Weights that a measurement meets again come from
 * L2, at twice HBM's rate, as far as all that it goes round is not lost: there, 3.7 us for 6.3 MB
 * of weights, but 6.7 us for 10.5 MB. sink_share is what clocks lose in kernels of milliseconds.
 * DeepGEMM states its rule (its get_best_configs at a6d97a1c; TensorRT-LLM's copy lets weights take
 * the rows below 32 tokens): M is 64 or 128, T the multiple of 8 with the fewest waves and then the
 * fullest last one, even where that is slower; widths that do not divide 128 pay uneven_share, and
 * where pairs of tiles do not share loads each missing row of the last tile pays pad_ns times the
 * depth. `fixed` libraries take 128 x 256 for every shape, as TensorRT-LLM's nvfp4 GEMM does where
 * it was not tuned: its measured times step where tiles of that size begin another wave, and
 * nowhere else. |T - t0, flops / sustained_flops_per_s|_4 then stands for clocks that sink under
 * load. What a library picks instead of the best is in gpu/library_picks.h, as a ratio to T.
 */
#include "gpu/fitted_gemm.h"

#include <math.h>
#include <stddef.h>

#include "gpu/fitted.h"
#include "gpu/library_picks.h"

#define OUTPUT_BYTES  2.0 /* bf16 */
#define PARTIAL_BYTES 8.0 /* fp32, written and read */
#define SPLIT_MAX     16.0
#define SWAP_ROWS     32.0
#define FIXED_HEIGHT  128.0
#define FIXED_WIDTH   256.0
#define CLOCK_BLEND   4.0
#define CACHE_BLEND   8.0
#define INPUT_BYTES   2.0 /* bf16 */
#define CACHE_SPEEDUP 2.0 /* L2 over HBM */
#define SINK_NS       8e6
#define WIDTH_MIN     16.0
#define WIDTH_MAX     128.0
#define WIDTH_STEP    8.0
#define ROWS_STEP     8.0
#define ROWS_MAX      256.0

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

/* A taller tile is worth it where there are fewer of them. */
static struct duration tuned(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    struct duration best = {HUGE_VAL, 0.0};
    double count = HUGE_VAL;
    for (double rows = ROWS_STEP; rows <= ROWS_MAX && count > 1.0; rows += ROWS_STEP) {
        double tried = ceil(shape->rows / rows);
        if (tried < count) {
            count = tried;
            best = shorter(best, tuned_tile(constants, shape, rows, 64.0));
            best = shorter(best, tuned_tile(constants, shape, rows, 128.0));
        }
    }
    return best;
}

/* Wider tiles are never more, so the widest need the fewest waves; of those that need no more, the
 * narrowest fill the last one best. */
static double fewest_waves_width(double row_tiles, double columns, double num_sms)
{
    double fewest = ceil(row_tiles * ceil(columns / WIDTH_MAX) / num_sms);
    double width = WIDTH_MIN;
    while (width < WIDTH_MAX && ceil(row_tiles * ceil(columns / width) / num_sms) > fewest) {
        width += WIDTH_STEP;
    }
    return width;
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
    double width = fewest_waves_width(row_tiles, columns, shape->num_sms);
    double tiles = row_tiles * ceil(columns / width);
    double waves = ceil(tiles / shape->num_sms);
    double last = tiles - (waves - 1.0) * shape->num_sms; /* tiles in the last wave */
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

/* What L2 does not keep of so many bytes. */
static double lost_share(const struct gemm_constants *constants, double bytes)
{
    return 1.0 / (1.0 + pow(constants->cache_bytes / bytes, CACHE_BLEND));
}

static double weights_s(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double bytes = shape->groups * shape->columns * shape->depth * shape->weight_bytes;
    bool is_cached = shape->rounds > 0.0 && constants->cache_bytes > 0.0;
    double lost = is_cached ? lost_share(constants, shape->rounds * bytes) : 1.0;
    return bytes * (lost + (1.0 - lost) / CACHE_SPEEDUP) / constants->weight_bytes_per_s;
}

/* Input that comes from HBM, because L2 has lost it; a quantised copy lies beside it. */
static double missed_s(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double values = shape->rows * shape->groups * shape->depth;
    double copy_bytes = shape->weight_bytes < INPUT_BYTES ? shape->weight_bytes : 0.0;
    double lost = constants->cache_bytes > 0.0
                      ? lost_share(constants, values * (INPUT_BYTES + copy_bytes))
                      : 0.0;
    return values * INPUT_BYTES * lost / constants->weight_bytes_per_s;
}

static double form_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    double rows = shape->rows * shape->groups;
    double stream_s = weights_s(constants, shape) +
                      rows * shape->columns * OUTPUT_BYTES / constants->output_bytes_per_s;
    double prepare_s = rows * shape->depth * INPUT_BYTES / constants->prepare_bytes_per_s;
    *(shape->weight_bytes < INPUT_BYTES ? &prepare_s : &stream_s) += missed_s(constants, shape);
    double left = 1.0 - shape->hbm_taken;
    struct duration tiles = compute(constants, shape);
    double both_ns =
        fitted_norm(stream_s / left * 1e9, tiles.flow_ns, constants->blend) + tiles.wait_ns;
    double clock_ns = sustained_ns(constants, shape);
    double product_ns = clock_ns > 0.0 ? fitted_norm(both_ns, clock_ns, CLOCK_BLEND) : both_ns;
    double sink = constants->sink_share * product_ns / (product_ns + SINK_NS);
    return constants->t0_ns + product_ns * (1.0 + sink) + prepare_s / left * 1e9;
}

double fitted_gemm_ns(const struct gemm_constants *constants, const struct gemm_shape *shape)
{
    if (shape->rows <= 0.0 || shape->groups <= 0.0) {
        return 0.0;
    }
    double ratio = shape->groups > 1.0
                       ? 1.0
                       : library_picks_ratio((enum library_picks)constants->picks, shape->rows,
                                             shape->columns, shape->depth);
    return form_ns(constants, shape) * ratio;
}
