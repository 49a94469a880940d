/*
 * fitted -- experts: weight streaming joined with tiled arithmetic, constants from measurements.
 *
 * For the grouped GEMMs g (gate and up: N = 2 ffn_dim, K = hidden_dim; down: N = hidden_dim,
 * K = ffn_dim) over slots with m_e tokens, |x, y| = (x^p + y^p)^(1/p):
 *
 *     W_e = N K b / weight_bytes_per_s, where m_e > 0         tiles_e = ceil(m_e / M) ceil(N / 128)
 *     C   = min over tile heights M of  ceil( sum_e tiles_e / SMs )
 *                                       (2 (M + rows_lost) 128 K / (flops_per_s / SMs) + tile_ns)
 *     T_g = | sum_e |W_e, C tiles_e / sum tiles|, K depth_ns |, q instead of p
 *     T   = t0 + slots (slot_ns + ffn_dim slot_ffn_ns) + T_1 + T_2
 *           + copy bytes / activation_bytes_per_s + row bytes / row_bytes_per_s
 *           + choices (hidden_dim bytes / choice_hidden_bytes_per_s
 *                      + ffn_dim bytes / choice_ffn_bytes_per_s)
 *           + max m_e busiest_ns
 *
 *     T  -> | T, flops / (sustained_flops_per_s SMs / all SMs) |, 2 instead of p
 *
 * The minimum over M stands for a tuner; gpu/fitted_tiles.c has what others take. Triton's layers
 * quantise the intermediate of every choice of a token, other ranks' too, and sum them all.
 * TensorRT-LLM's masked layer (fused_moe_deepgemm.py @ 01738366) starts blocks by slots and ffn_dim
 * whether or not there are tokens, and as few for a busy slot as for an idle one.
 *
 * Kernels whose rows and columns come out of a table (SGLang's Triton in bf16) have a form of their
 * own: gpu/fitted_sglang.c. Of others, few_rows_share is how many times as fast weights stream
 * while a rank has no more tokens than experts, and how much shorter the pipeline of K is.
 *
 * Choices of up to 256 tokens are sorted by one kernel in TensorRT-LLM, those of more by three
 * (moe_kernels.cu, fusedBuildExpertMapsSortFirstToken).
 *
 * A collector that measures one layer over and over finds weights in L2 that fit into it: on an
 * H100 ranks of 8 experts of Qwen3-30B (38 MB) take 29 us, of 16 51 us, and of 32 77 us (fp8
 * blocks, 64 tokens). Engines, which have other layers between, do not.
 *
 * A roofline's two sides, then, but a wave is never started in part, small tiles cost more than
 * their share, near the ridge both sides count, and the streaming of idle experts does not hide
 * behind the arithmetic of busy ones (slots are summed in bins of like m_e). Left out: which tactic
 * a tuner really picks, L2 residency otherwise. All other phases: gpu/fitted_phases.h.
 */
#include "gpu/fitted.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "gpu/fitted_phases.h"
#include "gpu/fitted_products.h"
#include "gpu/fitted_sglang.h"
#include "gpu/fitted_tiles.h"
#include "gpu/gpu.h"

#define ACTIVATION_BYTES 2.0 /* bf16 between kernels */
#define LOAD_BLEND       2.0
#define SORTED_AT_ONCE   256.0 /* tokens */
#define LOOP_L2          0.8   /* of L2 that weights may fill */
#define LOOP_STEEP       8.0   /* how soon behind that a loop loses them */
#define LOOP_LATENCY     0.42  /* of a step along K, as SGLang's (gpu/fitted_sglang.c) */
#define VLLM_NEAR_ROWS   128.0 /* of a slot; above, 16 tiles of rows take turns on the columns */
#define VLLM_TILES_A_SM  2.0

void expert_load_add(struct expert_load *load, int64_t slot_tokens, double slots)
{
    load->slots += slots;
    if (slot_tokens <= 0) {
        return;
    }
    int32_t bin = 0;
    while (bin + 1 < FITTED_BINS && (int64_t)1 << bin < slot_tokens) {
        bin++;
    }
    load->active += slots;
    load->bin_active[bin] += slots;
    load->copies += slots * (double)slot_tokens;
    load->squares += slots * (double)slot_tokens * (double)slot_tokens;
    load->busiest = fmax(load->busiest, (double)slot_tokens);
    for (int32_t size = 0; size < FITTED_TILE_SIZES; size++) {
        double tiles = slots * ceil((double)slot_tokens / fitted_tile_rows[size]);
        load->row_tiles[size] += tiles;
        load->bin_tiles[bin][size] += tiles;
    }
}

double fitted_norm(double x, double y, double p)
{
    double longer = fmax(x, y);
    double shorter = fmin(x, y);
    if (shorter == 0.0) {
        return longer; /* as the powers say, that take a while */
    }
    return longer > 0.0 ? longer * pow(1.0 + pow(shorter / longer, p), 1.0 / p) : 0.0;
}

/* The share of a slot's weights that every tile of rows behind its first streams again. */
static double read_again(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                         const struct expert_load *load, double column_tiles)
{
    if (fitted->tile_rows != TILE_ROWS_VLLM) {
        return fitted->again_share;
    }
    bool is_far =
        fitted->precision != PRECISION_FP8 && floor(load->rows / load->slots) <= VLLM_NEAR_ROWS;
    return is_far ? fmin(1.0, column_tiles / (VLLM_TILES_A_SM * shape->num_sms)) : 0.0;
}

double fitted_lost_share(double bytes, double cache_bytes, double steep)
{
    return bytes > 0.0 ? 1.0 / (1.0 + pow(cache_bytes / bytes, steep)) : 0.0;
}

double fitted_active_bytes(const struct expert_shape *shape, const struct expert_load *load)
{
    return 3.0 * load->active * shape->hidden_dim * shape->ffn_dim * shape->weight_bytes;
}

/* Of the weights, what a loop of measurements finds in L2. */
static double kept_weights(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                           const struct expert_load *load)
{
    bool is_kept = shape->is_looped && shape->l2_bytes > 0.0 && fitted->loop_share > 0.0;
    double bytes = fitted_active_bytes(shape, load);
    return is_kept ? 1.0 - fitted_lost_share(bytes, LOOP_L2 * shape->l2_bytes, LOOP_STEEP) : 0.0;
}

double fitted_gemm_s(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                     const struct expert_load *load, double columns, double depth)
{
    if (fitted->tile_rows == TILE_ROWS_SGLANG) {
        return fitted_sglang_gemm_s(fitted, shape, load, columns, depth);
    }
    bool is_vllm = fitted->tile_rows == TILE_ROWS_VLLM;
    bool is_few = fitted->few_rows_share > 0.0 && load->rows > 0.0 &&
                  load->rows <= (is_vllm ? VLLM_FEW_ROWS : load->slots);
    double speed = is_few ? fitted->few_rows_share : 1.0;
    double kept = kept_weights(fitted, shape, load);
    double slot_s =
        (1.0 - kept * (1.0 - fitted->loop_share)) * columns * depth * shape->weight_bytes /
        (fitted->weight_bytes_per_s * (is_vllm ? 1.0 : speed) * (1.0 - shape->hbm_taken));
    double column_tiles = ceil(columns / TILE_COLUMNS);
    int32_t height = 0;
    double compute_s = fitted_tiles_s(&height, fitted, shape, load, column_tiles, depth);
    double again = read_again(fitted, shape, load, column_tiles);
    double sum_s = 0.0;
    for (int32_t bin = 0; bin < FITTED_BINS; bin++) {
        double active = load->bin_active[bin];
        double tiles = load->bin_tiles[bin][height];
        if (active > 0.0) {
            double streams = active + again * (tiles - active);
            sum_s += fitted_norm(streams * slot_s, tiles / load->row_tiles[height] * compute_s,
                                 fitted->blend);
        }
    }
    double depth_s = (1.0 - kept * (1.0 - LOOP_LATENCY)) * depth * fitted->depth_ns / speed * 1e-9;
    return fitted->depth_blend > 1.0 ? fitted_norm(sum_s, depth_s, fitted->depth_blend)
                                     : sum_s + depth_s;
}

double fitted_quotient(double amount, double amount_per_s)
{
    return amount_per_s > 0.0 ? amount / amount_per_s : 0.0;
}

double fitted_expert_ns(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                        const struct expert_load *load)
{
    if (load->active <= 0.0) {
        return 0.0;
    }
    double hidden = shape->hidden_dim;
    double ffn = shape->ffn_dim;
    /* A copy: hidden_dim in and out; the intermediate written twice and read once. */
    double copy_bytes = load->copies * (2.0 * hidden + 3.0 * ffn) * ACTIVATION_BYTES;
    double row_bytes = load->rows * hidden * ACTIVATION_BYTES;
    double choices = fmax(load->choices, load->copies);
    double moved_s =
        copy_bytes / fitted->activation_bytes_per_s + row_bytes / fitted->row_bytes_per_s +
        fitted_quotient(choices * hidden * ACTIVATION_BYTES, fitted->choice_hidden_bytes_per_s) +
        fitted_quotient(choices * ffn * ACTIVATION_BYTES, fitted->choice_ffn_bytes_per_s);
    double seconds = fitted_gemm_s(fitted, shape, load, 2.0 * ffn, hidden) +
                     fitted_gemm_s(fitted, shape, load, hidden, ffn) +
                     moved_s / (1.0 - shape->hbm_taken);
    double sort_ns = load->rows > SORTED_AT_ONCE ? fitted->sort_ns : 0.0;
    double phase_ns = fitted->t0_ns + sort_ns +
                      load->slots * (fitted->slot_ns + ffn * fitted->slot_ffn_ns) +
                      load->busiest * fitted->busiest_ns + seconds * 1e9;
    double share = shape->num_sms / shape->gpu_sms;
    double arithmetic_s =
        fitted_quotient(6.0 * load->copies * hidden * ffn, fitted->sustained_flops_per_s * share);
    return fitted_norm(phase_ns, arithmetic_s * 1e9, LOAD_BLEND);
}

/* Of engines whose copies arrive one by one, every copy is a row. */
static double expert_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double *table_ns)
{
    struct expert_load load = {0};
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        expert_load_add(&load, work->slot_tokens[slot], 1.0);
    }
    load.rows = work->token_rows > 0 ? work->token_rows : load.copies;
    const struct fitted_kernels *fitted =
        gpu_experts_of(gpu, &gpu->fitted[gpu->fitted_chosen], load.rows);
    load.choices = (double)work->token_rows * (double)work->model->top_k;
    load.experts = (double)work->model->num_experts;
    load.group_rows = (double)work->group_tokens;
    load.span = load.rows;
    const struct expert_shape shape = {
        .gpu = gpu->name,
        .hidden_dim = (double)work->model->hidden_dim,
        .ffn_dim = (double)work->model->expert_ffn_dim / (double)work->shards,
        .weight_bytes = precision_weight_bytes(work->model->precision_expert),
        .num_sms = gpu_gemm_sms(gpu, work),
        .gpu_sms = (double)gpu->num_sms,
        .hbm_taken = gpu_hbm_taken(gpu, work)};
    const struct measured_place place = measured_place_experts(&shape, &load, fitted->precision);
    return fitted_or_measured_ns(gpu, &place, fitted_expert_ns(fitted, &shape, &load), table_ns);
}

double fitted_work_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double *table_ns)
{
    bool is_fitted = work->phase == GPU_EXPERT && gpu->fitted_chosen >= 0;
    return is_fitted ? expert_ns(gpu, work, table_ns) : fitted_phase_ns(gpu, work, table_ns);
}

static double fitted_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    double table_ns = 0.0;
    return fitted_work_ns(gpu, work, &table_ns);
}

/* Experts of GEMMs that were measured alone: those asked for, or the first if there is nothing
 * else. */
static const struct gemm_constants *find_alone(const struct gpu_spec *gpu)
{
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        if (strcmp(gpu->gemm[i].kernels, gpu->kernels_alone) == 0) {
            return &gpu->gemm[i];
        }
    }
    return gpu->num_fitted == 0 && gpu->num_gemm > 0 ? &gpu->gemm[0] : NULL;
}

static bool fitted_evidence(struct gpu_evidence *evidence, const struct gpu_spec *gpu)
{
    bool is_chosen = gpu->fitted_chosen >= 0 && gpu->fitted_chosen < gpu->num_fitted;
    const struct fitted_kernels *fitted = is_chosen ? &gpu->fitted[gpu->fitted_chosen] : NULL;
    const struct gemm_constants *alone = gpu->fitted_chosen < 0 ? find_alone(gpu) : NULL;
    if (fitted == NULL && alone == NULL) {
        return false;
    }
    const struct fit_evidence *fit = fitted != NULL ? &fitted->fit : &alone->fit;
    *evidence = (struct gpu_evidence){.kernels = fitted != NULL ? fitted->kernels : alone->kernels,
                                      .fitted_on = fit->fitted_on,
                                      .error_median = fit->error_median};
    return true;
}

static double phase_error(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill)
{
    bool is_fitted = phase == GPU_EXPERT && gpu->fitted_chosen >= 0;
    return is_fitted ? gpu->fitted[gpu->fitted_chosen].fit.error_median
                     : fitted_phase_error(gpu, model, phase, prefill);
}

const struct gpu_model gpu_fitted = {
    .name = "fitted",
    .summary =
        "experts, GEMMs, attention: fitted to measured kernels of this GPU; the rest: roofline",
    .source = "moesim calibrate on kernel tables of ai-dynamo/aiconfigurator @ 095f58a51c4c, "
              "alibaba/InferSim and deepseek-ai/DeepGEMM",
    .kernels = "any",
    .fitted_on = "",
    .error_median = -1.0,
    .duration_ns = fitted_ns,
    .gemms_ns = fitted_gemms_ns,
    .evidence = fitted_evidence,
    .coverage = fitted_coverage,
    .phase_error = phase_error,
};
