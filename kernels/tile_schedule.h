/*
 * tile_schedule.h -- which block computes which tile of a grouped GEMM, for GPU and CPU.
 *
 * A tile is TILE_TOKENS rows of x by TILE_WEIGHTS rows of one expert's weights. Kernels number all
 * tiles of all groups, group after group, and every block derives from a number where its tile is.
 * The functions are plain arithmetic so that tests on the CPU can count every tile.
 */
#ifndef MOESIM_TILE_SCHEDULE_H
#define MOESIM_TILE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define TILE_FUNCTION static __host__ __device__ __forceinline__
#else
#define TILE_FUNCTION static inline
#endif

#define TILE_TOKENS  128
#define TILE_WEIGHTS 256

struct tile {
    int32_t token;  /* tile of the group's rows */
    int32_t weight; /* tile of the weights' rows */
};

TILE_FUNCTION int32_t tile_count(int32_t rows, int32_t tile_rows)
{
    return (rows + tile_rows - 1) / tile_rows;
}

/* Token tiles run fastest within a band, so that the blocks at work at one time read few weight
 * tiles, each from L2. A wave of 132 blocks is then about square: 8 x 16 or, of narrow weights,
 * 16 x 8. */
TILE_FUNCTION int32_t band_tiles(int32_t weight_tiles)
{
    return weight_tiles < 16 ? 16 : 8;
}

TILE_FUNCTION struct tile tile_in_bands(int32_t index, int32_t token_tiles, int32_t weight_tiles,
                                        int32_t band)
{
    int32_t first = index / (band * weight_tiles) * band;
    int32_t width = token_tiles - first < band ? token_tiles - first : band;
    int32_t within = index - first * weight_tiles;
    struct tile tile = {first + within % width, within / width};
    return tile;
}

/* Two blocks of a cluster work side by side and each loads half of what both need: on two token
 * tiles and one weight tile, or, where a group's last token tile is left over, on that and two
 * weight tiles (the second of which may lie beyond the last; it is then zeros and stored nowhere).
 */
struct pair {
    struct tile first; /* of block 0 */
    bool shares_weights;
};

TILE_FUNCTION int32_t pair_count(int32_t token_tiles, int32_t weight_tiles)
{
    return token_tiles / 2 * weight_tiles + token_tiles % 2 * ((weight_tiles + 1) / 2);
}

TILE_FUNCTION struct pair pair_in_group(int32_t index, int32_t token_tiles, int32_t weight_tiles)
{
    int32_t even = token_tiles / 2 * weight_tiles;
    struct pair pair;
    pair.shares_weights = index < even;
    if (pair.shares_weights) {
        pair.first =
            tile_in_bands(index, token_tiles / 2, weight_tiles, band_tiles(weight_tiles) / 2);
        pair.first.token *= 2;
    } else {
        pair.first.token = token_tiles - 1;
        pair.first.weight = 2 * (index - even);
    }
    return pair;
}

TILE_FUNCTION struct tile tile_of_pair(struct pair pair, int32_t rank)
{
    struct tile tile = {pair.first.token + (pair.shares_weights ? rank : 0),
                        pair.first.weight + (pair.shares_weights ? 0 : rank)};
    return tile;
}

/* --- few rows an expert: even shares of tiles x steps of K ---
 *
 * Every block gets as many whole tiles as all can have, save one; what is left, one to two tiles a
 * block, is cut into equal shares of K steps, whatever tile they fall into (stream-K: Osama et al.,
 * arXiv 2301.03598). A tile that several blocks have a part of is summed up by the last of them to
 * arrive, in the order of the parts. Ours cuts shares no shorter than STREAM_STEPS_MIN, and shares
 * come before whole tiles, so that summing up hides behind other blocks' work.
 */
#define STREAM_STEPS_MIN 4

struct stream_plan {
    int32_t steps;       /* K steps of a tile */
    int32_t num_blocks;  /* blocks at work */
    int32_t share_tiles; /* tiles 0 .. share_tiles - 1 are cut into shares */
    int32_t num_shares;  /* blocks that have one */
    int32_t whole;       /* whole tiles of each block */
};

struct stream_item {
    int32_t tile;
    int32_t first_step;
    int32_t num_steps; /* == steps: the tile is this block's alone */
};

TILE_FUNCTION struct stream_plan stream_plan(int32_t num_tiles, int32_t steps, int32_t num_blocks)
{
    struct stream_plan plan = {steps, num_blocks, num_tiles, 0, 0};
    if (num_tiles == 0) {
        return plan;
    }
    plan.whole = num_tiles / num_blocks;
    if (plan.whole > 0 && num_tiles % num_blocks != 0) {
        plan.whole--;
    }
    plan.share_tiles = num_tiles - plan.whole * num_blocks;
    int64_t shares = (int64_t)plan.share_tiles * steps / STREAM_STEPS_MIN;
    shares = shares < plan.share_tiles ? plan.share_tiles : shares; /* K shorter than the minimum */
    plan.num_shares = shares < num_blocks ? (int32_t)shares : num_blocks;
    return plan;
}

TILE_FUNCTION int64_t stream_share_begin(struct stream_plan plan, int32_t share)
{
    return (int64_t)plan.share_tiles * plan.steps * share / plan.num_shares;
}

/* The share, so the block, that step `step` of all shared tiles belongs to. */
TILE_FUNCTION int32_t stream_share_of(struct stream_plan plan, int64_t step)
{
    return (int32_t)(((step + 1) * plan.num_shares - 1) / ((int64_t)plan.share_tiles * plan.steps));
}

/* What block `block` does, item after item: at most three parts of shared tiles, then whole tiles.
 * false: no more. */
TILE_FUNCTION bool stream_item(struct stream_plan plan, int32_t block, int32_t index,
                               struct stream_item *item)
{
    if (block < plan.num_shares) {
        int64_t begin = stream_share_begin(plan, block);
        int64_t end = stream_share_begin(plan, block + 1);
        int32_t first_tile = (int32_t)(begin / plan.steps);
        int32_t parts = (int32_t)((end - 1) / plan.steps) - first_tile + 1;
        if (index < parts) {
            int64_t tile_begin = (int64_t)(first_tile + index) * plan.steps;
            int64_t from = begin > tile_begin ? begin : tile_begin;
            int64_t to = end < tile_begin + plan.steps ? end : tile_begin + plan.steps;
            item->tile = first_tile + index;
            item->first_step = (int32_t)(from - tile_begin);
            item->num_steps = (int32_t)(to - from);
            return true;
        }
        index -= parts;
    }
    item->tile = plan.share_tiles + index * plan.num_blocks + block;
    item->first_step = 0;
    item->num_steps = plan.steps;
    return index < plan.whole;
}

/* Blocks first .. first + count - 1 share the tile; part p lies in slot stream_slot of block
 * first + p. */
struct stream_parts {
    int32_t first;
    int32_t count;
};

TILE_FUNCTION struct stream_parts stream_parts(struct stream_plan plan, int32_t tile)
{
    int64_t begin = (int64_t)tile * plan.steps;
    struct stream_parts parts;
    parts.first = stream_share_of(plan, begin);
    parts.count = stream_share_of(plan, begin + plan.steps - 1) - parts.first + 1;
    return parts;
}

/* A block keeps at most two parts: the end of a tile that an earlier block began, and the beginning
 * of one that a later block ends. */
TILE_FUNCTION int32_t stream_slot(int32_t block, int32_t part)
{
    return 2 * block + (part == 0 ? 1 : 0);
}

/* Columns of d that a tile of so many tokens is multiplied with: the N of wgmma. */
TILE_FUNCTION int32_t stream_columns(int32_t tokens)
{
    return tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : tokens <= 64 ? 64 : 128;
}

#endif
