/*
 * fitted_attention.c -- KV streaming joined with arithmetic, over what the launch takes at least.
 *
 *     D = |bytes of KV / kv_bytes_per_s, C|_blend + blocks tile_ns / SMs + sums
 *     C = waves (flops of a block / (flops_per_s / SMs) + its bytes / (sm_bytes_per_s / SMs))
 *     P = |bytes, causal flops / flops_per_s| + blocks of 128 queries tile_ns / SMs
 *         + sequences sequence_ns
 *     T = |floor, t0 + D or P + projections|_8
 *
 * A module's prefill waits for the host now and then, as its kernels are launched one by one; and
 * work of milliseconds runs slower than work of microseconds, presumably at lower clocks (twice the
 * prompts take up to 2.05 times as long on B200s):
 *
 *     W = P + projections;  T = |floor, t0 + W (1 + slow_share W / (W + slow_ns))|_floor_blend
 *
 * A block is the work of one KV head and 64 query heads over one sequence; a module's tile of heads
 * is computed whole, however few of them a GPU has. Blocks that fill less than 0.8 of the SMs are
 * split along the sequence: a module's as little as comes within 0.85 of the best filling (the rule
 * of flash-attention's num_splits_heuristic, hopper/heuristics.h), kernels measured by themselves
 * into as many parts as SMs idle (on H20s 16 and 32 sequences of MLA take the same time a wave).
 * What splitting loses besides is split_share, merge_ns and part_ns of each part, which one block
 * adds up after the other, or what partial sums of all heads cost where blocks are fewer than SMs
 * (sum_bytes_per_s). Blocks that have their SM to themselves take alone_share longer: nothing runs
 * while one waits.
 *
 * FlashInfer deals MLA to pairs of SMs (MLAPlan in include/flashinfer/attention/scheduler.cuh at
 * 24fd9fc7): sequences longer than a pair's even share, rounded up in steps, are split, and then a
 * second kernel adds the parts up. Ours takes the longest part or the even share for the busiest
 * pair, where theirs keeps a heap.
 *
 * Engines' grouped-query attention (splits: even, xqa) has a form of its own, gpu/fitted_gqa.c.
 *
 * Projections are streaming joined with arithmetic as well; what is read and written besides goes
 * by tokens (row_bytes_per_s) and, in prefill, by heads too (head_row_bytes_per_s): a GPU with an
 * eighth of the heads has an eighth of that. Sequences count as equally long. Left out: paging, and
 * which library serves which shape where one name covers several.
 */
#include "gpu/fitted_attention.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "gpu/fitted.h"
#include "gpu/fitted_gqa.h"

#define BLOCK_HEADS   64.0
#define BLOCK_QUERIES 128.0
#define SPLIT_TOKENS  128.0
#define SPLITS_MAX    128.0
#define FLOOR_BLEND   8.0
#define ROW_PASSES    10.0 /* over hidden_dim: norms, quantisation, residual, queries, output */
#define NARROW_TOKENS 8.0
#define SUM_BYTES     8.0 /* fp32, written and read */

static double filling(double blocks, double num_sms)
{
    return blocks / num_sms / ceil(blocks / num_sms);
}

static double num_splits(double blocks, double tokens, double num_sms, bool is_module)
{
    if (blocks >= 0.8 * num_sms) {
        return 1.0;
    }
    double max = fmin(SPLITS_MAX, fmax(1.0, ceil(tokens / SPLIT_TOKENS)));
    if (!is_module) {
        return fmax(1.0, fmin(max, floor(num_sms / blocks)));
    }
    double best = 0.0;
    for (double splits = 1.0; splits <= max; splits += 1.0) {
        best = fmax(best, filling(blocks * splits, num_sms));
    }
    double splits = 1.0;
    while (splits < max && filling(blocks * splits, num_sms) < 0.85 * best) {
        splits += 1.0;
    }
    return splits;
}

static double stream_s(const struct attention_constants *constants,
                       const struct attention_shape *shape)
{
    return shape->sequences * shape->tokens * shape->kv_bytes /
           (constants->kv_bytes_per_s * (1.0 - shape->hbm_taken));
}

static double decode_s(const struct attention_constants *constants,
                       const struct attention_shape *shape)
{
    double group = shape->q_heads / shape->kv_heads;
    double parts = ceil(group / BLOCK_HEADS);
    double blocks = shape->sequences * shape->kv_heads * parts;
    bool is_module = constants->phase == PHASE_MODULE_DECODE;
    double splits = num_splits(blocks, shape->tokens, shape->num_sms, is_module);
    double waves = ceil(blocks * splits / shape->num_sms);
    double rows = is_module ? BLOCK_HEADS : group / parts;
    double block_flops = 2.0 * rows * (shape->qk_dim + shape->v_dim) * shape->tokens;
    double block_s = block_flops * shape->gpu_sms / constants->flops_per_s;
    if (constants->sm_bytes_per_s > 0.0) {
        double block_bytes = shape->kv_bytes / shape->kv_heads * shape->tokens;
        block_s += block_bytes * shape->gpu_sms / constants->sm_bytes_per_s;
    }
    double loss = (splits > 1.0 ? 1.0 + constants->split_share : 1.0) *
                  (waves <= 1.0 ? 1.0 + constants->alone_share : 1.0);
    bool has_sums =
        constants->sum_bytes_per_s > 0.0 && shape->sequences * shape->kv_heads < shape->num_sms;
    double sums_s = has_sums ? shape->sequences * shape->q_heads * shape->v_dim * SUM_BYTES /
                                   constants->sum_bytes_per_s
                             : 0.0;
    return fitted_norm(stream_s(constants, shape), waves / splits * block_s * loss,
                       constants->blend) +
           blocks * constants->tile_ns * 1e-9 / shape->num_sms + sums_s +
           (splits > 1.0 ? constants->merge_ns + (splits - 1.0) * constants->part_ns : 0.0) * 1e-9;
}

/* FlashInfer's steps: the positions that a pair of SMs takes at once. */
static double longest_part(double even_share)
{
    static const double steps[][2] = {{8.0, 32.0}, {16.0, 64.0}, {32.0, 128.0}, {64.0, 192.0}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (even_share <= steps[i][0]) {
            return steps[i][1];
        }
    }
    return ceil(even_share / 256.0) * 256.0;
}

static double flashinfer_decode_s(const struct attention_constants *constants,
                                  const struct attention_shape *shape)
{
    double tiles = ceil(shape->q_heads / (2.0 * BLOCK_HEADS)); /* of queries: a pair's each */
    double pairs = fmax(1.0, floor(shape->num_sms / 2.0));
    double tokens = shape->tokens + 1.0; /* the new one is in the cache already */
    double even_share = shape->sequences * tiles * tokens / pairs;
    double limit = longest_part(fmax(ceil(even_share), 1.0));
    double parts = ceil(tokens / limit);
    double busiest = fmax(fmin(limit, tokens), even_share);
    double flops = 2.0 * shape->q_heads / tiles * (shape->qk_dim + shape->v_dim) * busiest;
    double compute_s = flops * shape->gpu_sms / (2.0 * constants->flops_per_s);
    double sums = shape->sequences * shape->q_heads * shape->v_dim * parts * SUM_BYTES;
    double merge_s =
        parts > 1.0 ? constants->merge_ns * 1e-9 + sums / constants->sum_bytes_per_s : 0.0;
    return fitted_norm(stream_s(constants, shape), compute_s, constants->blend) +
           2.0 * tiles * shape->sequences * constants->tile_ns * 1e-9 / shape->num_sms + merge_s;
}

static double prefill_s(const struct attention_constants *constants,
                        const struct attention_shape *shape)
{
    double heads = shape->sequences * shape->q_heads;
    double flops = heads * (shape->qk_dim + shape->v_dim) * shape->tokens * shape->tokens;
    double compute_s = flops / (constants->flops_per_s * shape->num_sms / shape->gpu_sms);
    return fitted_norm(stream_s(constants, shape), compute_s, constants->blend) +
           heads * ceil(shape->tokens / BLOCK_QUERIES) * constants->tile_ns * 1e-9 /
               shape->num_sms +
           shape->sequences * constants->sequence_ns * 1e-9;
}

/* Queries and keys three times (made, turned, read), values and outputs twice. */
static double head_row_bytes(const struct attention_shape *shape)
{
    return 2.0 * shape->q_heads * (3.0 * shape->qk_dim + 4.0 * shape->v_dim);
}

static double projections_s(const struct attention_constants *constants,
                            const struct attention_shape *shape, bool is_decode)
{
    double rows = shape->sequences * (is_decode ? 1.0 : shape->tokens);
    double left = 1.0 - shape->hbm_taken;
    double num_sms = shape->gemm_sms > 0.0 ? shape->gemm_sms : shape->num_sms;
    double weights_s = shape->projection_bytes / (constants->weight_bytes_per_s * left);
    double compute_s = 2.0 * shape->projection_params * rows * shape->gpu_sms /
                       (constants->gemm_flops_per_s * num_sms);
    double heads_s = constants->head_row_bytes_per_s > 0.0
                         ? rows * head_row_bytes(shape) / (constants->head_row_bytes_per_s * left)
                         : 0.0;
    return fitted_norm(weights_s, compute_s, constants->blend) +
           rows * shape->hidden_dim * 2.0 * ROW_PASSES / (constants->row_bytes_per_s * left) +
           heads_s + (rows < NARROW_TOKENS ? constants->narrow_ns * 1e-9 : 0.0);
}

double fitted_attention_ns(const struct attention_constants *constants,
                           const struct attention_shape *shape)
{
    if (shape->sequences <= 0.0 || shape->tokens <= 0.0) {
        return 0.0;
    }
    if (constants->splits == SPLITS_EVEN || constants->splits == SPLITS_XQA) {
        return constants->phase == PHASE_GQA_DECODE ? fitted_gqa_decode_ns(constants, shape)
                                                    : fitted_gqa_prefill_ns(constants, shape);
    }
    bool is_decode = constants->phase == PHASE_GQA_DECODE || constants->phase == PHASE_MLA_DECODE ||
                     constants->phase == PHASE_MODULE_DECODE;
    bool is_module =
        constants->phase == PHASE_MODULE_DECODE || constants->phase == PHASE_MODULE_PREFILL;
    double seconds = !is_decode ? prefill_s(constants, shape)
                     : constants->splits == SPLITS_FLASHINFER
                         ? flashinfer_decode_s(constants, shape)
                         : decode_s(constants, shape);
    if (is_module) {
        seconds += projections_s(constants, shape, is_decode);
    }
    if (is_module && !is_decode) {
        double slow_s = constants->slow_ns * 1e-9;
        seconds *= 1.0 + constants->slow_share * seconds / (seconds + slow_s);
    }
    return fitted_norm(constants->floor_ns, constants->t0_ns + seconds * 1e9,
                       is_module && !is_decode ? constants->floor_blend : FLOOR_BLEND);
}
