/*
 * fitted_gqa.c -- blocks of work on SMs joined with what streams, over a launch.
 *
 * Decode, heads in groups: a block is one KV head and up to 64 query heads over one sequence.
 * Where SMs idle, sequences are split into as many parts as there are SMs, of 256 positions at
 * least; of TensorRT-LLM before Blackwell by its own rule (splits: xqa; computeMultiBlockCount in
 * decoderXQAImplCommon.h): parts of 128 positions, fewer of long sequences, as many blocks as eight
 * waves at most.
 *
 *     one = tile_ns + dim_ns head_dim + row_tile_ns rows head_dim / 128
 *           + positions of a part (bytes / sm_bytes_per_s + 4 rows head_dim / flops_per_s) SMs
 *     C = |one, blocks parts one / (SMs overlap)|_wave_blend
 *     S = bytes / kv_bytes_per_s + miss_ns bytes^4 / (bytes^4 + cache_bytes^4)
 *     T = |floor_ns, t0_ns + |S, C|_blend + sequences sequence_ns + queries' bytes /
 * row_bytes_per_s
 *         + merge_ns + part_ns (parts - 1) where sequences are split
 *         + narrow_ns where a key and its value have less than 256 bytes|_8
 *
 * rows: the block's query heads, padded to 8, 16, 32 or 64 as tensor cores take them. A block takes
 * its time on however few tokens. Loops of measurements read the same KV again and again, so what
 * fits into the L2 waits less: miss_ns is the rest's.
 *
 * Query heads that have KV of their own (groups of one) take single_tile_ns and
 * single_sm_bytes_per_s. In TensorRT-LLM they are served by MMHA, which takes heads one by one: a
 * block is a query head over one sequence and reads the KV for itself. MMHA serves whatever XQA
 * does not: groups of less than group_min or more than group_max heads, and bf16 KV where parts of
 * 128 positions would be less than a quarter of the SMs (mayHavePerfGain in
 * decoderXQAImplJIT.cpp). It splits sequences of more than 256 positions until every SM has a
 * block or parts have 64, and has single_overlap, single_merge_ns and single_t0_ns. XQA of an fp8
 * cache is always taken: Hopper has warp-specialised kernels for it.
 *
 * Prefill: a block is 128 queries of one head. A pair of query and key costs its products and one
 * exponential, which bounds narrow heads.
 *
 *     pair = 2 (qk_dim + v_dim) / flops_per_s + 1 / exps_per_s
 *     one = tile_ns + pairs of the last block pair SMs
 *     C = |one, causal pairs pair + blocks tile_ns / SMs|_wave_blend
 *     T = |floor_ns, t0_ns + C + bytes of queries and outputs / row_bytes_per_s
 *         + bytes of KV / kv_row_bytes_per_s + sequences sequence_ns|_8
 *
 * Sequences count as equally long. Left out: windows of attention, pages, chunks of a prompt that
 * look back on others, and where a library changes its kernel between shapes for other reasons.
 */
#include "gpu/fitted_gqa.h"

#include <math.h>
#include <stdbool.h>

#include "gpu/fitted.h"

#define BLOCK_HEADS   64.0
#define BLOCK_QUERIES 128.0
#define PART_TOKENS   256.0
#define ROWS_MIN      8.0
#define NARROW_BYTES  256.0
#define FLOOR_BLEND   8.0
#define ROW_BYTES     2.0 /* queries and outputs are bf16 */

/* XQA's */
#define XQA_PART_TOKENS  128.0
#define XQA_PARTS        8.0 /* of n parts of 128 positions, sqrt(8 n) remain */
#define XQA_WAVES        8.0
#define XQA_SMS          4.0 /* a quarter of the SMs has to have a block */

#define MMHA_PART_TOKENS 64.0

/* Work in blocks that are alike. */
struct blocks {
    double count;
    double parts;
    double tile_s;
    double token_s; /* of a block, on one SM */
    double overlap; /* blocks that an SM runs at once */
};

static double over_floor(const struct attention_constants *constants, double t0_ns, double seconds)
{
    return fitted_norm(constants->floor_ns, t0_ns + seconds * 1e9, FLOOR_BLEND);
}

/* Parts of a sequence. */
static double even_parts(double blocks, double tokens, double num_sms)
{
    if (blocks >= 0.8 * num_sms) {
        return 1.0;
    }
    return fmax(1.0, fmin(ceil(tokens / PART_TOKENS), floor(num_sms / blocks)));
}

/* The library counts the GPU's SMs, whoever has them. */
static double xqa_parts(double blocks, double tokens, double gpu_sms)
{
    double parts = floor(tokens / XQA_PART_TOKENS);
    parts = fmax(1.0, fmin(parts, round(sqrt(XQA_PARTS * parts))));
    double excess = blocks * parts / gpu_sms / XQA_WAVES;
    return excess > 1.0 ? fmax(1.0, floor(parts / excess)) : parts;
}

static double mmha_parts(double blocks, double tokens, double num_sms)
{
    return tokens > PART_TOKENS ? fmin(ceil(num_sms / blocks), ceil(tokens / MMHA_PART_TOKENS))
                                : 1.0;
}

static bool takes_heads_one_by_one(const struct attention_constants *constants,
                                   const struct attention_shape *shape, double group)
{
    if (constants->group_max <= 0.0) {
        return false;
    }
    double parts = fmax(1.0, floor(shape->tokens / XQA_PART_TOKENS));
    bool is_optional = constants->splits == SPLITS_XQA && constants->precision == PRECISION_BF16;
    bool are_few = shape->sequences * shape->kv_heads * parts * XQA_SMS < shape->gpu_sms;
    return group > constants->group_max || group < constants->group_min || (is_optional && are_few);
}

static double padded_rows(double heads)
{
    double rows = ROWS_MIN;
    while (rows < heads) {
        rows *= 2.0;
    }
    return rows;
}

static double blocks_s(const struct blocks *blocks, const struct attention_constants *constants,
                       const struct attention_shape *shape)
{
    double one_s = blocks->tile_s + shape->tokens / blocks->parts * blocks->token_s;
    double overlap = blocks->overlap > 0.0 ? blocks->overlap : 1.0;
    return fitted_norm(one_s, blocks->count * blocks->parts * one_s / (shape->num_sms * overlap),
                       constants->wave_blend);
}

static struct blocks single_blocks(const struct attention_constants *constants,
                                   const struct attention_shape *shape)
{
    double count = shape->sequences * shape->q_heads;
    double bytes = shape->kv_bytes / shape->kv_heads;
    return (struct blocks){.count = count,
                           .parts = mmha_parts(count, shape->tokens, shape->num_sms),
                           .tile_s = constants->single_tile_ns * 1e-9,
                           .token_s = bytes * shape->gpu_sms / constants->single_sm_bytes_per_s,
                           .overlap = constants->single_overlap};
}

static struct blocks grouped_blocks(const struct attention_constants *constants,
                                    const struct attention_shape *shape, double group)
{
    bool is_single = group <= 1.0 && constants->group_max <= 0.0;
    double tiles = ceil(group / BLOCK_HEADS);
    double count = shape->sequences * shape->kv_heads * tiles;
    double rows = padded_rows(group / tiles);
    double bytes = shape->kv_bytes / shape->kv_heads;
    double flops = 2.0 * rows * (shape->qk_dim + shape->v_dim);
    double flops_s = constants->flops_per_s > 0.0 ? flops / constants->flops_per_s : 0.0;
    double bytes_s =
        bytes / (is_single ? constants->single_sm_bytes_per_s : constants->sm_bytes_per_s);
    double tile_ns = (is_single ? constants->single_tile_ns : constants->tile_ns) +
                     constants->dim_ns * shape->qk_dim +
                     constants->row_tile_ns * rows * shape->qk_dim / BLOCK_QUERIES;
    return (struct blocks){.count = count,
                           .parts = constants->splits == SPLITS_XQA
                                        ? xqa_parts(count, shape->tokens, shape->gpu_sms)
                                        : even_parts(count, shape->tokens, shape->num_sms),
                           .tile_s = tile_ns * 1e-9,
                           .token_s = (bytes_s + flops_s) * shape->gpu_sms,
                           .overlap = constants->overlap};
}

static double stream_s(const struct attention_constants *constants, double bytes, double hbm_taken)
{
    double share = constants->cache_bytes / bytes;
    double misses = 1.0 / (1.0 + share * share * share * share);
    return bytes / (constants->kv_bytes_per_s * (1.0 - hbm_taken)) +
           misses * constants->miss_ns * 1e-9;
}

double fitted_gqa_decode_ns(const struct attention_constants *constants,
                            const struct attention_shape *shape)
{
    double group = shape->q_heads / shape->kv_heads;
    bool is_mmha = takes_heads_one_by_one(constants, shape, group);
    const struct blocks blocks =
        is_mmha ? single_blocks(constants, shape) : grouped_blocks(constants, shape, group);
    double kv_bytes = shape->sequences * shape->tokens * shape->kv_bytes;
    double row_bytes = shape->sequences * shape->q_heads * shape->v_dim * ROW_BYTES;
    double more_ns = shape->sequences * constants->sequence_ns;
    if (blocks.parts > 1.0) {
        more_ns += is_mmha ? constants->single_merge_ns
                           : constants->merge_ns + constants->part_ns * (blocks.parts - 1.0);
    }
    if (!is_mmha && shape->kv_bytes / shape->kv_heads < NARROW_BYTES) {
        more_ns += constants->narrow_ns;
    }
    double seconds = fitted_norm(stream_s(constants, kv_bytes, shape->hbm_taken),
                                 blocks_s(&blocks, constants, shape), constants->blend) +
                     row_bytes / (constants->row_bytes_per_s * (1.0 - shape->hbm_taken)) +
                     more_ns * 1e-9;
    return over_floor(constants, is_mmha ? constants->single_t0_ns : constants->t0_ns, seconds);
}

double fitted_gqa_prefill_ns(const struct attention_constants *constants,
                             const struct attention_shape *shape)
{
    double tokens = shape->tokens;
    double heads = shape->sequences * shape->q_heads;
    double pair_s = (2.0 * (shape->qk_dim + shape->v_dim) / constants->flops_per_s +
                     1.0 / constants->exps_per_s) *
                    shape->gpu_sms; /* on one SM */
    double tile_s = constants->tile_ns * 1e-9;
    double one_s = tile_s + fmin(tokens, BLOCK_QUERIES) * tokens * pair_s;
    double all_s =
        heads * (ceil(tokens / BLOCK_QUERIES) * tile_s + tokens * (tokens + 1.0) / 2.0 * pair_s);
    double rows = shape->sequences * tokens / (1.0 - shape->hbm_taken);
    double row_bytes = rows * shape->q_heads * (shape->qk_dim + shape->v_dim) * ROW_BYTES;
    double kv_bytes = rows * shape->kv_bytes;
    double seconds = fitted_norm(one_s, all_s / shape->num_sms, constants->wave_blend) +
                     row_bytes / constants->row_bytes_per_s +
                     kv_bytes / constants->kv_row_bytes_per_s +
                     shape->sequences * constants->sequence_ns * 1e-9;
    return over_floor(constants, constants->t0_ns, seconds);
}
