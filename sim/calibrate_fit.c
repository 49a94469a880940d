/*
 * calibrate_fit.c -- one fit of constants that lie in a struct, by robust_fit.
 *
 * A weak pull towards the start keeps what the rows do not tell.
 */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_internal.h"
#include "robust_fit.h"

/* Every shape has a different part of t0 and of the pipelines in its floor, so shapes that do not
 * vary it leave both to where they usually lie: a factor of e off is like 40 or 13 % in a row. */
#define T0_PULL    0.4
#define DEPTH_PULL 0.13

/* Where an engine fixes the tile, launches and a tile's begin and end are alike from model to
 * model; left to few models' rows, each takes what belongs to the other. Both starts are what ranks
 * with an expert or two and few tokens take in tables of other models (aiconfigurator @
 * 095f58a51c4c). */
#define RULED_T0_PULL   1.0
#define RULED_TILE_PULL 0.3
#define RULED_T0_NS     21e3
#define DEEPGEMM_T0_NS  18.5e3
#define RULED_TILE_NS   200.0

/* Of TensorRT-LLM's layers on Hopper in blocks of fp8, and of its CUTLASS kernels in bf16 and fp8,
 * launches are held fast: one model of the data folder is small enough to show what they take, and
 * predicted by the others it came out 20 % slow. All starts are what tables of other models show
 * (aiconfigurator @ 095f58a51c4c): of hidden_dim 2048 and ffn_dim 512, a rank of one to four
 * experts takes as long on H100, H200, B200 and GB200; the rest are constants fitted to nine models
 * on H100 and GB200. */
#define HELD_PULL       10.0
#define CUTLASS_T0_NS   20.5e3
#define CUTLASS_FP8_NS  25.5e3
#define CUTLASS_SORT_NS 5e3
#define CUTLASS_SLOT_NS 30.0  /* on Blackwell */
#define CUTLASS_LOST    100.0 /* rows: L2 feeds tiles more slowly than they compute */
#define CUTLASS_PEAK    1.8   /* of peak, that many such rows add up to */
#define LOOP_SHARE      0.7   /* as SGLang's (gpu/fitted_sglang.c) */

/* Choices of other ranks' experts cost SGLang's layer, and models of one choice a token cannot say
 * whether by hidden_dim or by ffn_dim: a factor of e off is like 30 % in a row. */
#define CHOICE_PULL 0.3

#define PLAIN(name)                                                                                \
    {                                                                                              \
#name, offsetof(struct fitted_kernels, name), 0.0, FIT_PULL, FIT_PLAIN                     \
    }
#define PULLED(name, pull, unit)                                                                   \
    {                                                                                              \
#name, offsetof(struct fitted_kernels, name), 0.0, pull, unit                              \
    }
#define RATE(name, unit)                                                                           \
    {                                                                                              \
#name, offsetof(struct fitted_kernels, name), 0.0, FIT_PULL, unit                          \
    }

/* What a phase of moe-bench has too comes first. */
#define PARAMETERS(t0_pull, depth_pull, tile_pull, choice_pull)                                    \
    {                                                                                              \
        PULLED(t0_ns, t0_pull, FIT_PLAIN), RATE(weight_bytes_per_s, FIT_HBM),                      \
            RATE(flops_per_s, FIT_PEAK), RATE(activation_bytes_per_s, FIT_HBM),                    \
            RATE(row_bytes_per_s, FIT_HBM), PLAIN(slot_ns),                                        \
            PULLED(depth_ns, depth_pull, FIT_PLAIN), PULLED(tile_ns, tile_pull, FIT_PLAIN),        \
            PLAIN(tile_rows_lost), PLAIN(few_rows_share),                                          \
            {"blend", offsetof(struct fitted_kernels, blend), 1.0, FIT_PULL, FIT_PLAIN},           \
            PULLED(choice_hidden_bytes_per_s, choice_pull, FIT_HBM),                               \
            PULLED(choice_ffn_bytes_per_s, choice_pull, FIT_HBM), PLAIN(slot_ffn_ns),              \
            PLAIN(busiest_ns),                                                                     \
            {"depth_blend", offsetof(struct fitted_kernels, depth_blend), 1.0, DEPTH_PULL,         \
             FIT_PLAIN},                                                                           \
            PLAIN(again_share), RATE(sustained_flops_per_s, FIT_PEAK),                             \
            RATE(gather_bytes_per_s, FIT_HBM), RATE(scatter_bytes_per_s, FIT_HBM),                 \
            PULLED(loop_share, HELD_PULL, FIT_PLAIN), PULLED(sort_ns, RULED_T0_PULL, FIT_PLAIN)    \
    }
#define NUM_PHASE_PARAMETERS 11

static const struct fit_parameter experts[CALIBRATE_PARAMS] =
    PARAMETERS(T0_PULL, DEPTH_PULL, FIT_PULL, FIT_PULL);
static const struct fit_parameter ruled[CALIBRATE_PARAMS] =
    PARAMETERS(RULED_T0_PULL, DEPTH_PULL, RULED_TILE_PULL, FIT_PULL);
static const struct fit_parameter deepgemm[CALIBRATE_PARAMS] =
    PARAMETERS(HELD_PULL, DEPTH_PULL, RULED_TILE_PULL, FIT_PULL);
static const struct fit_parameter cutlass[CALIBRATE_PARAMS] =
    PARAMETERS(HELD_PULL, DEPTH_PULL, FIT_PULL, FIT_PULL);
static const struct fit_parameter sglang[CALIBRATE_PARAMS] =
    PARAMETERS(RULED_T0_PULL, DEPTH_PULL, RULED_TILE_PULL, CHOICE_PULL);
static const struct fit_parameter weak[CALIBRATE_PARAMS] =
    PARAMETERS(FIT_PULL, FIT_PULL, FIT_PULL, FIT_PULL);

const struct fit_form fit_experts = {experts, CALIBRATE_PARAMS, sizeof(struct fitted_kernels), 1.0};
const struct fit_form fit_ruled = {ruled, CALIBRATE_PARAMS, sizeof(struct fitted_kernels), 1.0};
static const struct fit_form fit_deepgemm = {deepgemm, CALIBRATE_PARAMS,
                                             sizeof(struct fitted_kernels), 1.0};
static const struct fit_form fit_cutlass = {cutlass, CALIBRATE_PARAMS,
                                            sizeof(struct fitted_kernels), 1.0};
const struct fit_form fit_sglang = {sglang, CALIBRATE_PARAMS, sizeof(struct fitted_kernels), 1.0};
const struct fit_form fit_exchanged = {weak, CALIBRATE_PARAMS, sizeof(struct fitted_kernels), 1.0};
const struct fit_form fit_phases = {weak, NUM_PHASE_PARAMETERS, sizeof(struct fitted_kernels), 1.0};

double *fit_constant(const struct fit_form *form, void *constants, int32_t index)
{
    return (double *)(void *)((char *)constants + form->parameter[index].offset);
}

static double constant_of(const struct fit_form *form, const void *constants, int32_t index)
{
    return *(const double *)(const void *)((const char *)constants + form->parameter[index].offset);
}

void fit_rescale(const struct fit_form *form, void *constants, const struct gpu_spec *gpu,
                 enum precision precision, bool to_shares)
{
    double peak = gpu->flops_per_s[precision];
    peak = peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16];
    for (int32_t i = 0; i < form->count; i++) {
        double whole = 1.0;
        switch (form->parameter[i].unit) {
        case FIT_PLAIN:
            break;
        case FIT_HBM:
            whole = gpu->hbm_bytes_per_s;
            break;
        case FIT_PEAK:
            whole = peak;
            break;
        case FIT_SMS:
            whole = (double)gpu->num_sms;
            break;
        }
        *fit_constant(form, constants, i) *= to_shares ? 1.0 / whole : whole;
    }
}

/* Families of kernels, of which the rows say which theirs is: those that a tuner chose, whose
 * pipelines are paid in full or hidden in part; Triton's with the one tile of its default; and
 * DeepGEMM's masked ones with theirs, in whose layers slots cost something by their width and the
 * busiest one by itself. 0: the family has no such cost. */
static const struct family {
    enum tile_height tile_rows;
    double depth_blend;
    double slot_ffn_ns;
    double busiest_ns;
    double load_share; /* of peak */
} families[CALIBRATE_STARTS_MAX] = {{TILE_ROWS_TUNED, 0.0, 0.0, 0.0, 0.0},
                                    {TILE_ROWS_TUNED, 1.5, 0.0, 0.0, 0.0},
                                    {TILE_ROWS_64, 1.5, 0.0, 0.0, 0.0},
                                    {TILE_ROWS_128, 0.0, 0.02, 1.0, 0.0}};

/* Kernels whose tiles are known take those, and the last of these has clocks that sink under load.
 */
#define NUM_KNOWN 3

static const struct family known_families[NUM_KNOWN] = {{TILE_ROWS_TUNED, 0.0, 0.0, 0.0, 0.0},
                                                        {TILE_ROWS_TUNED, 1.5, 0.0, 0.0, 0.0},
                                                        {TILE_ROWS_TUNED, 1.5, 0.0, 0.0, 0.7}};

/* TensorRT-LLM's DeepGEMM leaves other ranks' choices out before it does anything else. */
static const struct family deepgemm_family = {TILE_ROWS_DEEPGEMM, 0.0, 0.0, 0.0, 0.0};
#define AGAIN_SHARE 0.3

/* Kernels behind an exchange are tuned. All choices that they see are copies of their rank: what
 * the ones cost cannot be told from what the others do, and a fit of both errs on other shapes. */
#define NUM_EXCHANGED 2

/* A start in the right order of magnitude, from the preset alone. */
static struct fitted_kernels usual_start(const struct gpu_spec *gpu, const struct moe_row *row)
{
    double peak = gpu->flops_per_s[moe_row_arithmetic(row)];
    struct fitted_kernels start = {.precision = row->precision,
                                   .t0_ns = 22e3,
                                   .weight_bytes_per_s = gpu->hbm_bytes_per_s * gpu->hbm_fraction,
                                   .flops_per_s =
                                       peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16],
                                   .activation_bytes_per_s = 0.5 * gpu->hbm_bytes_per_s,
                                   .row_bytes_per_s = 0.5 * gpu->hbm_bytes_per_s,
                                   .slot_ns = 10.0,
                                   .depth_ns = 0.7,
                                   .tile_ns = 500.0,
                                   .tile_rows_lost = 40.0,
                                   .few_rows_share = 1.0,
                                   .choice_hidden_bytes_per_s = 2.0 * gpu->hbm_bytes_per_s,
                                   .choice_ffn_bytes_per_s = 2.0 * gpu->hbm_bytes_per_s,
                                   .blend = 3.0};
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}

const struct fit_form *calibrate_form(const struct moe_row *row)
{
    bool is_far = row->is_exchanged || row->tile_rows == TILE_ROWS_CHOICES;
    bool is_ruled = row->drops_choices ||
                    (row->tile_rows != TILE_ROWS_TUNED && row->tile_rows != TILE_ROWS_VLLM);
    return is_far                                 ? &fit_exchanged
           : row->tile_rows == TILE_ROWS_SGLANG   ? &fit_sglang
           : row->tile_rows == TILE_ROWS_DEEPGEMM ? &fit_deepgemm
           : row->tile_rows == TILE_ROWS_EVEN     ? &fit_cutlass
           : is_ruled                             ? &fit_ruled
                                                  : &fit_experts;
}

/* SGLang's Triton kernels in bf16, as in the engine's tables of models that are not in the data
 * folder: nine of H100 and H200, eight of A100 (aiconfigurator @ 095f58a51c4c). Hopper's tensor
 * cores outrun its L2 by more. Ranks of 0.5.10's collector have no choices of other ranks'. */
static struct fitted_kernels sglang_start(const struct gpu_spec *gpu, const struct moe_row *row)
{
    bool is_hopper = gpu->flops_per_s[PRECISION_FP8] > 0.0;
    struct fitted_kernels start = usual_start(gpu, row);
    double hbm_bytes_per_s = gpu->hbm_bytes_per_s;
    start.tile_rows = TILE_ROWS_SGLANG;
    start.t0_ns = 19e3;
    start.slot_ns = 4.0;
    start.depth_ns = 13.0;
    start.depth_blend = 2.5;
    start.tile_ns = 190.0;
    start.tile_rows_lost = is_hopper ? 200.0 : 60.0;
    start.flops_per_s *= is_hopper ? 1.8 : 1.4;
    start.weight_bytes_per_s = 0.62 * hbm_bytes_per_s;
    start.few_rows_share = 1.45;
    start.blend = 4.0;
    start.activation_bytes_per_s = (row->drops_choices ? 1.0 : 4.0) * hbm_bytes_per_s;
    start.choice_hidden_bytes_per_s = row->drops_choices ? 0.0 : 0.31 * hbm_bytes_per_s;
    start.choice_ffn_bytes_per_s = row->drops_choices ? 0.0 : 0.43 * hbm_bytes_per_s;
    start.gather_bytes_per_s = is_hopper ? 4.0 * hbm_bytes_per_s : 0.0;
    start.scatter_bytes_per_s = is_hopper ? 0.0 : hbm_bytes_per_s;
    return start;
}

/* Turns a usual start into one of TensorRT-LLM's CUTLASS kernels. */
static void start_cutlass(struct fitted_kernels *start, const struct gpu_spec *gpu)
{
    bool is_blackwell = gpu->flops_per_s[PRECISION_NVFP4] > 0.0;
    start->t0_ns = start->precision == PRECISION_BF16 ? CUTLASS_T0_NS : CUTLASS_FP8_NS;
    start->tile_rows_lost = CUTLASS_LOST;
    start->flops_per_s *= CUTLASS_PEAK;
    start->slot_ns = is_blackwell ? CUTLASS_SLOT_NS : start->slot_ns;
    start->sort_ns = CUTLASS_SORT_NS;
    start->loop_share = LOOP_SHARE;
}

int32_t calibrate_starts(struct fitted_kernels start[CALIBRATE_STARTS_MAX],
                         const struct gpu_spec *gpu, const struct moe_row *row)
{
    if (row->tile_rows == TILE_ROWS_SGLANG) {
        start[0] = sglang_start(gpu, row);
        return 1;
    }
    bool is_known = row->tile_rows != TILE_ROWS_TUNED;
    bool is_deepgemm = row->tile_rows == TILE_ROWS_DEEPGEMM;
    bool is_ruled = is_deepgemm || calibrate_form(row) == &fit_ruled;
    const struct family *family = is_deepgemm ? &deepgemm_family
                                  : is_known  ? known_families
                                              : families;
    int32_t count = row->is_exchanged ? NUM_EXCHANGED
                    : is_deepgemm     ? 1
                    : is_known        ? NUM_KNOWN
                                      : CALIBRATE_STARTS_MAX;
    for (int32_t i = 0; i < count; i++) {
        start[i] = usual_start(gpu, row);
        start[i].tile_rows = is_known ? row->tile_rows : family[i].tile_rows;
        start[i].depth_blend = family[i].depth_blend;
        start[i].slot_ffn_ns = family[i].slot_ffn_ns;
        start[i].busiest_ns = family[i].busiest_ns;
        start[i].sustained_flops_per_s = family[i].load_share * start[i].flops_per_s;
        start[i].again_share = is_deepgemm ? AGAIN_SHARE : 0.0;
        if (row->tile_rows == TILE_ROWS_CHOICES) {
            start[i].few_rows_share = 0.0; /* few tokens change the tile alone */
        }
        if (row->tile_rows == TILE_ROWS_EVEN) {
            start_cutlass(&start[i], gpu);
        }
        if (is_ruled) {
            start[i].t0_ns = row->drops_choices ? DEEPGEMM_T0_NS : RULED_T0_NS;
            start[i].tile_ns = RULED_TILE_NS;
        }
        if (row->is_exchanged || row->drops_choices) {
            start[i].choice_hidden_bytes_per_s = 0.0;
            start[i].choice_ffn_bytes_per_s = 0.0;
        }
    }
    return count;
}

static double predicted(const void *context, int64_t row, const double *value)
{
    const struct fit *fit = context;
    for (int32_t i = 0; i < fit->form->count; i++) {
        *fit_constant(fit->form, fit->trial, i) = value[i];
    }
    return fit->predict_ns(fit->context, row, fit->trial);
}

static double measured(const void *context, int64_t row)
{
    const struct fit *fit = context;
    return fit->measured_ns(fit->context, row);
}

/* What the last of the fit's scales makes of the rows. */
static double cost_of(const struct fit *fit, const void *constants)
{
    double scale = fit->scales[0];
    for (int32_t i = 0; fit->scales[i] >= 0.0; i++) {
        scale = fit->scales[i];
    }
    double sum = 0.0;
    for (int64_t row = 0; row < fit->num_rows; row++) {
        if (fit->weight[row] > 0.0) {
            double r = log(fit->predict_ns(fit->context, row, constants) /
                           fit->measured_ns(fit->context, row)) /
                       scale;
            sum += fit->weight[row] * log1p(r * r);
        }
    }
    return sum;
}

static enum status fit_from(void *constants, struct fit *fit, const void *start,
                            struct error *error)
{
    const struct fit_form *form = fit->form;
    double prior[FIT_PARAMETERS_MAX];
    double width[FIT_PARAMETERS_MAX];
    double floor[FIT_PARAMETERS_MAX];
    double value[FIT_PARAMETERS_MAX];
    fit->trial = constants;
    memcpy(constants, start, form->bytes);
    for (int32_t i = 0; i < form->count; i++) {
        floor[i] = form->parameter[i].floor;
        bool is_left_out = fit->num_starts > 0 && constant_of(form, start, i) <= 0.0;
        prior[i] = is_left_out ? 0.0 : fmax(constant_of(form, start, i), floor[i] + 1e-9);
        width[i] = is_left_out ? 0.0 : ROBUST_PRIOR / (form->pull * form->parameter[i].pull);
    }
    const struct robust_fit robust = {.num_params = form->count,
                                      .prior = prior,
                                      .width = width,
                                      .floor = floor,
                                      .num_iterations = fit->num_iterations,
                                      .num_rows = fit->num_rows,
                                      .weight = fit->weight,
                                      .scales = fit->scales,
                                      .predict = predicted,
                                      .measured = measured,
                                      .context = fit};
    enum status status = robust_fit(value, &robust, error);
    for (int32_t i = 0; i < form->count && status == STATUS_OK; i++) {
        *fit_constant(form, constants, i) = value[i];
    }
    return status;
}

enum status calibrate_fit(void *constants, struct fit *fit, struct error *error)
{
    size_t bytes = fit->form->bytes;
    if (fit->num_starts <= 1) {
        return fit_from(constants, fit, fit->start, error);
    }
    void *tried = malloc(bytes);
    enum status status =
        tried != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
    double least = HUGE_VAL;
    for (int32_t i = 0; i < fit->num_starts && status == STATUS_OK; i++) {
        status = fit_from(tried, fit, (const char *)fit->start + (size_t)i * bytes, error);
        double cost = status == STATUS_OK ? cost_of(fit, tried) : HUGE_VAL;
        if (cost < least) {
            memcpy(constants, tried, bytes);
            least = cost;
        }
    }
    free(tried);
    return status;
}

void calibrate_write_constants(const struct fit_form *form, const void *constants,
                               const double *low, const double *high, FILE *file)
{
    for (int32_t i = 0; i < form->count; i++) {
        fprintf(file, "    %s: %.5g", form->parameter[i].name, constant_of(form, constants, i));
        if (high != NULL && high[i] > 0.0) {
            fprintf(file, " # 90 %% interval %.3g to %.3g", low[i], high[i]);
        }
        fputc('\n', file);
    }
}
