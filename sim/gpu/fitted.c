/*
 * fitted -- experts: weight streaming joined with tiled arithmetic, constants from measurements.
 *
 * For the grouped GEMMs g (gate and up: N = 2 ffn_dim, K = hidden_dim; down: N = hidden_dim,
 * K = ffn_dim) over slots with m_e tokens:
 *
 *     W_g = active N K b / weight_bytes_per_s
 *     C_g = min over tiles of M rows:  ceil( sum_e ceil(m_e / M) ceil(N / 128) / SMs )
 *                                      (2 (M + rows_lost) 128 K / (flops_per_s / SMs) + tile_ns)
 *     T   = t0 + sum_g (W_g^p + C_g^p)^(1/p) + copy bytes / activation_bytes_per_s
 *              + row bytes / row_bytes_per_s
 *
 * A roofline's two sides, but a wave of tiles is never started in part, small tiles cost more than
 * their share (M + rows_lost), and near the ridge both sides count (the p-norm). The minimum over
 * tiles stands for the kernels' autotuner. Left out: which tactic it really picked, L2 residency,
 * clocks that sink under load. All other phases: the roofline, until they are fitted too.
 */
#include "gpu/fitted.h"

#include <math.h>
#include <stddef.h>

#include "gpu/gpu.h"

#define TILE_COLUMNS     128.0
#define ACTIVATION_BYTES 2.0 /* bf16 between kernels */

static const double tile_rows[FITTED_TILE_SIZES] = {16.0, 32.0, 64.0, 128.0, 256.0};

void expert_load_add(struct expert_load *load, int64_t slot_tokens, double slots)
{
    if (slot_tokens <= 0) {
        return;
    }
    load->active += slots;
    load->copies += slots * (double)slot_tokens;
    for (int32_t size = 0; size < FITTED_TILE_SIZES; size++) {
        load->row_tiles[size] += slots * ceil((double)slot_tokens / tile_rows[size]);
    }
}

static double gemm_s(const struct fitted_kernels *fitted, const struct expert_shape *shape,
                     const struct expert_load *load, double columns, double depth)
{
    double stream_s =
        load->active * columns * depth * shape->weight_bytes / fitted->weight_bytes_per_s;
    double sm_flops_per_s = fitted->flops_per_s / shape->num_sms;
    double compute_s = INFINITY;
    for (int32_t size = 0; size < FITTED_TILE_SIZES; size++) {
        double tiles = load->row_tiles[size] * ceil(columns / TILE_COLUMNS);
        double tile_s = 2.0 * (tile_rows[size] + fitted->tile_rows_lost) * TILE_COLUMNS * depth /
                            sm_flops_per_s +
                        fitted->tile_ns * 1e-9;
        compute_s = fmin(compute_s, ceil(tiles / shape->num_sms) * tile_s);
    }
    double longer_s = fmax(stream_s, compute_s);
    double ratio = fmin(stream_s, compute_s) / longer_s;
    return longer_s * pow(1.0 + pow(ratio, fitted->blend), 1.0 / fitted->blend);
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
    double seconds =
        gemm_s(fitted, shape, load, 2.0 * ffn, hidden) + gemm_s(fitted, shape, load, hidden, ffn) +
        copy_bytes / fitted->activation_bytes_per_s + row_bytes / fitted->row_bytes_per_s;
    return fitted->t0_ns + seconds * 1e9;
}

/* Of engines whose copies arrive one by one, every copy is a row. */
static double expert_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    struct expert_load load = {0};
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        expert_load_add(&load, work->slot_tokens[slot], 1.0);
    }
    load.rows = work->token_rows > 0 ? (double)work->token_rows : load.copies;
    const struct expert_shape shape = {.hidden_dim = (double)work->model->hidden_dim,
                                       .ffn_dim = (double)work->model->expert_ffn_dim,
                                       .weight_bytes =
                                           precision_weight_bytes(work->model->precision_expert),
                                       .num_sms = (double)(gpu->num_sms - work->sms_taken)};
    return fitted_expert_ns(&gpu->fitted[gpu->fitted_chosen], &shape, &load);
}

static double fitted_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    return work->phase == GPU_EXPERT ? expert_ns(gpu, work) : gpu_roofline.duration_ns(gpu, work);
}

static bool fitted_evidence(struct gpu_evidence *evidence, const struct gpu_spec *gpu)
{
    if (gpu->fitted_chosen < 0 || gpu->fitted_chosen >= gpu->num_fitted) {
        return false;
    }
    const struct fitted_kernels *fitted = &gpu->fitted[gpu->fitted_chosen];
    *evidence =
        (struct gpu_evidence){.fitted_on = fitted->fitted_on, .error_median = fitted->error_median};
    return true;
}

const struct gpu_model gpu_fitted = {
    .name = "fitted",
    .summary = "experts: fitted to measured MoE kernels of this GPU; all other phases: roofline",
    .source = "moesim calibrate on ai-dynamo/aiconfigurator's MoE tables @ 095f58a51c4c",
    .kernels = "any",
    .fitted_on = "",
    .error_median = -1.0,
    .duration_ns = fitted_ns,
    .evidence = fitted_evidence,
};
