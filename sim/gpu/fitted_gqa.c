/*
 * fitted_gqa.c -- blocks of work on SMs joined with what streams, over a launch.
 *
 * Decode: a block is one KV head and up to 64 query heads over one sequence. Where SMs idle,
 * sequences are split into as many parts as there are SMs, of 256 positions at least.
 *
 *     one = tile_ns + dim_ns head_dim + bytes of a part / (sm_bytes_per_s / SMs)
 *     C = |one, blocks parts one / SMs|_wave_blend
 *     S = bytes / kv_bytes_per_s + miss_ns bytes^4 / (bytes^4 + cache_bytes^4)
 *     T = |floor_ns, t0_ns + |S, C|_blend + sequences sequence_ns + queries' bytes /
 * row_bytes_per_s
 *         + merge_ns where sequences are split|_8
 *
 * A block takes its time on however few tokens: a tile of queries is padded, and so is one of keys.
 * Query heads that have KV of their own (groups of one) run in kernels of their own in TensorRT-LLM
 * (MMHA in place of XQA): single_tile_ns and single_sm_bytes_per_s. Loops of measurements read the
 * same KV again and again, so what fits into the L2 waits less: miss_ns is the rest's.
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
 * look back on others, and where a library changes its kernel between shapes: of more than 32 query
 * heads a KV head TensorRT-LLM's decode takes 4 to 8 times as long as this says.
 */
#include "gpu/fitted_gqa.h"

#include <math.h>
#include <stdbool.h>

#include "gpu/fitted.h"

#define BLOCK_HEADS   64.0
#define BLOCK_QUERIES 128.0
#define PART_TOKENS   256.0
#define FLOOR_BLEND   8.0
#define ROW_BYTES     2.0 /* queries and outputs are bf16 */

static double over_floor(const struct attention_constants *constants, double seconds)
{
    return fitted_norm(constants->floor_ns, constants->t0_ns + seconds * 1e9, FLOOR_BLEND);
}

/* Parts of a sequence. */
static double parts_of(double blocks, double tokens, double num_sms)
{
    if (blocks >= 0.8 * num_sms) {
        return 1.0;
    }
    return fmax(1.0, fmin(ceil(tokens / PART_TOKENS), floor(num_sms / blocks)));
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
    bool is_single = group <= 1.0;
    double sm_bytes_per_s =
        is_single ? constants->single_sm_bytes_per_s : constants->sm_bytes_per_s;
    double tile_ns = is_single ? constants->single_tile_ns : constants->tile_ns;
    double blocks = shape->sequences * shape->kv_heads * ceil(group / BLOCK_HEADS);
    double parts = parts_of(blocks, shape->tokens, shape->num_sms);
    double part_bytes = shape->kv_bytes / shape->kv_heads * shape->tokens / parts;
    double one_s = (tile_ns + constants->dim_ns * shape->qk_dim) * 1e-9 +
                   part_bytes * shape->gpu_sms / sm_bytes_per_s;
    double compute_s =
        fitted_norm(one_s, blocks * parts * one_s / shape->num_sms, constants->wave_blend);
    double kv_bytes = shape->sequences * shape->tokens * shape->kv_bytes;
    double row_bytes = shape->sequences * shape->q_heads * shape->v_dim * ROW_BYTES;
    double merge_ns = parts > 1.0 ? constants->merge_ns : 0.0;
    return over_floor(
        constants,
        fitted_norm(stream_s(constants, kv_bytes, shape->hbm_taken), compute_s, constants->blend) +
            row_bytes / (constants->row_bytes_per_s * (1.0 - shape->hbm_taken)) +
            (shape->sequences * constants->sequence_ns + merge_ns) * 1e-9);
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
    return over_floor(constants, fitted_norm(one_s, all_s / shape->num_sms, constants->wave_blend) +
                                     row_bytes / constants->row_bytes_per_s +
                                     kv_bytes / constants->kv_row_bytes_per_s +
                                     shape->sequences * constants->sequence_ns * 1e-9);
}
