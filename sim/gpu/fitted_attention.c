/*
 * fitted_attention.c -- KV streaming joined with arithmetic, over what the launch takes at least.
 *
 *     D = |bytes of KV / kv_bytes_per_s, waves flops of a block / (flops_per_s / SMs)|_blend
 *         + blocks tile_ns / SMs
 *     P = |bytes, causal flops / flops_per_s| + blocks of 128 queries tile_ns / SMs
 *     T = |floor, t0 + D or P + projections|_8
 *
 * A block is the work of one KV head and 64 query heads over one sequence. Blocks that fill less
 * than 0.8 of the SMs are split along the sequence, as little as comes within 0.85 of the best
 * filling (the rule of flash-attention's num_splits_heuristic, hopper/heuristics.h); what splitting
 * loses besides, the sums that meet in memory among it, is split_share. Projections are streaming
 * joined with arithmetic as well. Sequences count as equally long. Left out: paging, and which
 * library serves which shape where one name covers several.
 */
#include "gpu/fitted_attention.h"

#include <math.h>
#include <stdbool.h>

#include "gpu/fitted.h"

#define BLOCK_HEADS   64.0
#define BLOCK_QUERIES 128.0
#define SPLIT_TOKENS  128.0
#define SPLITS_MAX    128.0
#define FLOOR_BLEND   8.0
#define ROW_PASSES    10.0 /* over hidden_dim: norms, quantisation, residual, queries, output */
#define NARROW_TOKENS 8.0

static double filling(double blocks, double num_sms)
{
    return blocks / num_sms / ceil(blocks / num_sms);
}

static double num_splits(double blocks, double tokens, double num_sms)
{
    if (blocks >= 0.8 * num_sms) {
        return 1.0;
    }
    double max = fmin(SPLITS_MAX, fmax(1.0, ceil(tokens / SPLIT_TOKENS)));
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

static double decode_s(const struct attention_constants *constants,
                       const struct attention_shape *shape)
{
    double group = shape->q_heads / shape->kv_heads;
    double parts = ceil(group / BLOCK_HEADS);
    double blocks = shape->sequences * shape->kv_heads * parts;
    double splits = num_splits(blocks, shape->tokens, shape->num_sms);
    double waves = ceil(blocks * splits / shape->num_sms) / splits;
    double block_flops = 2.0 * group / parts * (shape->qk_dim + shape->v_dim) * shape->tokens;
    double loss = splits > 1.0 ? 1.0 + constants->split_share : 1.0;
    double compute_s = waves * block_flops * loss * shape->gpu_sms / constants->flops_per_s;
    double stream_s = shape->sequences * shape->tokens * shape->kv_bytes /
                      (constants->kv_bytes_per_s * (1.0 - shape->hbm_taken));
    return fitted_norm(stream_s, compute_s, constants->blend) +
           blocks * constants->tile_ns * 1e-9 / shape->num_sms;
}

static double prefill_s(const struct attention_constants *constants,
                        const struct attention_shape *shape)
{
    double heads = shape->sequences * shape->q_heads;
    double flops = heads * (shape->qk_dim + shape->v_dim) * shape->tokens * shape->tokens;
    double stream_s = shape->sequences * shape->tokens * shape->kv_bytes /
                      (constants->kv_bytes_per_s * (1.0 - shape->hbm_taken));
    return fitted_norm(stream_s, flops / (constants->flops_per_s * shape->num_sms / shape->gpu_sms),
                       constants->blend) +
           heads * ceil(shape->tokens / BLOCK_QUERIES) * constants->tile_ns * 1e-9 / shape->num_sms;
}

static double projections_s(const struct attention_constants *constants,
                            const struct attention_shape *shape, bool is_decode)
{
    double rows = shape->sequences * (is_decode ? 1.0 : shape->tokens);
    double left = 1.0 - shape->hbm_taken;
    double num_sms = shape->gemm_sms > 0.0 ? shape->gemm_sms : shape->num_sms;
    double stream_s = shape->projection_bytes / (constants->weight_bytes_per_s * left);
    double compute_s = 2.0 * shape->projection_params * rows * shape->gpu_sms /
                       (constants->gemm_flops_per_s * num_sms);
    return fitted_norm(stream_s, compute_s, constants->blend) +
           rows * shape->hidden_dim * 2.0 * ROW_PASSES / (constants->row_bytes_per_s * left) +
           (rows < NARROW_TOKENS ? constants->narrow_ns * 1e-9 : 0.0);
}

double fitted_attention_ns(const struct attention_constants *constants,
                           const struct attention_shape *shape)
{
    if (shape->sequences <= 0.0 || shape->tokens <= 0.0) {
        return 0.0;
    }
    bool is_decode = constants->phase == PHASE_GQA_DECODE || constants->phase == PHASE_MLA_DECODE ||
                     constants->phase == PHASE_MODULE_DECODE;
    bool is_module =
        constants->phase == PHASE_MODULE_DECODE || constants->phase == PHASE_MODULE_PREFILL;
    double seconds = is_decode ? decode_s(constants, shape) : prefill_s(constants, shape);
    if (is_module) {
        seconds += projections_s(constants, shape, is_decode);
    }
    return fitted_norm(constants->floor_ns, constants->t0_ns + seconds * 1e9, FLOOR_BLEND);
}
