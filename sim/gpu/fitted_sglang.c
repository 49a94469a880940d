/*
 * fitted_sglang.c -- grouped GEMMs whose tiles of M x N and steps D along K come out of a table.
 *
 * A tile reads M + N strips of K from L2 whatever it computes, and rows that are not there are not
 * read, so that with l = tile_rows_lost and m the tokens of all tiles
 *
 *     C   = ceil( sum_e tiles_e / SMs ) (2 (M + l) N K / (flops_per_s / SMs) + tile_ns)
 *     A   = m ceil(columns / N) K bytes                  that all tiles read of tokens' rows
 *     T_g = | sum_e |W_e, C tiles_e / sum tiles| + A l / flops_per_s + lost, K depth_ns 32 / D |
 *
 * l is larger than any tile, for L2 feeds the SMs more slowly than they compute: 64 x 64 tiles
 * reach 240 TFLOP/s on an H100, 128 x 256 up to 670 (aiconfigurator @ 095f58a51c4c, all tables
 * of sglang 0.5.14). The default's short steps stream weights more slowly than
 * all other tiles, few_rows_share.
 *
 * Of the default's tiles, A is read from further away where L2 has lost the rows, as 1 / (1 +
 * (L2 / bytes)^2): at gather_bytes_per_s as far as a slot's own rows outgrow it; and before Hopper,
 * in the first GEMM, at scatter_bytes_per_s as far as what these rows lie between does. On an A100
 * 16,384 tokens of DeepSeek-V3 take 1.4 times as long where an expert's tokens lie 32 apart as
 * where they lie together.
 *
 * A collector that measures one layer over and over finds small weights in L2: a step then waits
 * 0.3 to 0.5 times as long (ranks of an expert or two of Qwen3-30B, against Llama 4's).
 *
 * Left out: that some counts of tiles of rows go badly with the order of tiles (up to 20 % where a
 * rank has a slot or two and few tokens).
 */
#include "gpu/fitted_sglang.h"

#include <math.h>

#include "gpu/sglang_tiles.h"

#define ROW_BYTES     2.0  /* bf16 */
#define L2_BYTES      25e6 /* of Hopper's 50 MB, as either half keeps its own copy */
#define SPAN_BYTES    40e6 /* the A100's L2 */
#define LOOP_STEEP    4.0  /* how soon behind L2_BYTES a loop loses its weights */
#define LOOP_LATENCY  0.42 /* of L2 over HBM's */
#define LOOP_STREAM   0.7
#define DEFAULT_DEPTH 32.0

/* Of the weights, where a loop of measurements meets them again. */
static double lost_weights(const struct expert_shape *shape, const struct expert_load *load)
{
    double bytes = fitted_active_bytes(shape, load);
    return shape->is_looped ? fitted_lost_share(bytes, L2_BYTES, LOOP_STEEP) : 1.0;
}

/* Seconds for rows of tokens that tiles read and L2 has lost. */
static double lost_rows_s(const struct fitted_kernels *fitted, const struct expert_load *load,
                          double hidden_dim, double read_bytes, bool is_first)
{
    double own_bytes = load->squares / load->copies * hidden_dim * ROW_BYTES;
    double span_bytes = load->span * hidden_dim * ROW_BYTES;
    double seconds = fitted_lost_share(own_bytes, L2_BYTES, 2.0) *
                     fitted_quotient(read_bytes, fitted->gather_bytes_per_s);
    return is_first ? seconds + fitted_lost_share(span_bytes, SPAN_BYTES, 2.0) *
                                    fitted_quotient(read_bytes, fitted->scatter_bytes_per_s)
                    : seconds;
}

/* Index of the tile's height among those that a load is counted for. */
static int32_t find_height(int32_t rows)
{
    int32_t height = 0;
    while (height + 1 < FITTED_TILE_SIZES && 16 << height < rows) {
        height++;
    }
    return height;
}

double fitted_sglang_gemm_s(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                            const struct expert_load *load, double columns, double depth)
{
    const struct sglang_lookup lookup = {shape->gpu, (int32_t)load->slots, (int32_t)shape->ffn_dim,
                                         load->rows};
    const struct sglang_tile tile = sglang_find_tile(&lookup);
    bool is_default = tile.depth == sglang_default_tile.depth;
    int32_t height = find_height(tile.rows);
    double lost = lost_weights(shape, load);
    double streamed = lost + (1.0 - lost) * LOOP_STREAM;
    bool is_slower = is_default || fitted->few_rows_share <= 0.0;
    double speed = is_slower ? 1.0 : fitted->few_rows_share;
    double slot_s = columns * depth * shape->weight_bytes * streamed /
                    (fitted->weight_bytes_per_s * speed * (1.0 - shape->hbm_taken));

    double column_tiles = ceil(columns / tile.columns);
    double waves = ceil(load->row_tiles[height] * column_tiles / shape->num_sms);
    double tile_s = 2.0 * (tile.rows + fitted->tile_rows_lost) * tile.columns * depth /
                        (fitted->flops_per_s / shape->gpu_sms) +
                    fitted->tile_ns * 1e-9;
    double read_bytes = load->copies * column_tiles * depth * ROW_BYTES;
    double sum_s = read_bytes * fitted->tile_rows_lost /
                   (fitted->flops_per_s * shape->num_sms / shape->gpu_sms);
    if (is_default) {
        bool is_first = columns == 2.0 * shape->ffn_dim && depth == shape->hidden_dim;
        sum_s += lost_rows_s(fitted, load, shape->hidden_dim, read_bytes, is_first);
    }
    for (int32_t bin = 0; bin < FITTED_BINS; bin++) {
        double tiles = load->bin_tiles[bin][height] / load->row_tiles[height];
        sum_s += fitted_norm(load->bin_active[bin] * slot_s, tiles * waves * tile_s, fitted->blend);
    }
    double latency = (lost + (1.0 - lost) * LOOP_LATENCY) * DEFAULT_DEPTH / tile.depth;
    double depth_s = depth * fitted->depth_ns * latency * 1e-9;
    return fitted->depth_blend > 1.0 ? fitted_norm(sum_s, depth_s, fitted->depth_blend)
                                     : sum_s + depth_s;
}
