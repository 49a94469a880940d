/*
 * validate_serving_kernels.c -- kernels of a published row's time, as fast as inside an engine.
 *
 * Kernels are measured one at a time, on a cool GPU that nothing else uses. DeepSeek's trace of a
 * training step on H800s (deepseek-ai/profile-data @ ae7fc078, train.json: four layers, 4,096
 * tokens) has them in a row, beside all-to-alls, at the clock that power leaves. Its GEMMs run on
 * 112 of 132 SMs and take longer than that alone makes them, also where no transfer runs beside
 * them: the output projection 885 us, DeepGEMM's of that month 708 us x 132 / 112 = 835 us. So the
 * arithmetic rate of an early kernel is the one by which the trace's forward kernels, together,
 * take as long as they do there. Memory's rates stay: no GEMM of the trace waits for weights.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/fitted_attention.h"
#include "gpu/fitted_gemm.h"
#include "gpu/glue.h"
#include "validate_serving.h"

#define TRACE_SMS       112.0 /* the grids of its GEMMs; communication has the other 20 */
#define TRACE_TOKENS    4096.0
#define TRACE_EXPERTS   4.0
#define TRACE_CORE_US   (1248 + 1199 + 1280 + 1221) /* causal, 128 heads of 192 and 128, no other */
#define TRACE_NUM_CORES 4.0
#define TILE_ROWS       128.0
#define HALVINGS        40

/* Kernels of one shape, and what they take together. */
struct trace_gemm {
    double rows; /* of all groups */
    double columns;
    double depth;
    double count;
    double us;
};

static const struct trace_gemm dense_gemm[] = {
    {TRACE_TOKENS, 1536, 7168, 4, 101 + 104 + 105 + 104},  /* queries, down */
    {TRACE_TOKENS, 576, 7168, 4, 50 + 54 + 57 + 52},       /* keys and values, down */
    {TRACE_TOKENS, 24576, 1536, 4, 370 + 362 + 380 + 374}, /* queries, up */
    {TRACE_TOKENS, 32768, 512, 4, 244 + 241 + 249 + 243},  /* keys and values, up */
    {TRACE_TOKENS, 7168, 16384, 4, 895 + 885 + 893 + 930}, /* output */
    {TRACE_TOKENS, 4096, 7168, 4, 255 + 256 + 266 + 259},  /* shared expert, gate and up */
    {TRACE_TOKENS, 7168, 2048, 4, 132 + 139 + 139 + 142},  /* shared expert, down */
};

static const struct trace_gemm grouped_gemm[] = {
    {31104, 4096, 7168, 2, 1739 + 1819}, {31104, 7168, 2048, 2, 946 + 1012},
    {30976, 4096, 7168, 1, 1766},        {30976, 7168, 2048, 1, 997},
    {36864, 4096, 7168, 1, 2126},        {36864, 7168, 2048, 1, 1186},
};

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

/* Time of the trace's kernels by constants over the trace's own. */
static double gemm_ratio(const struct gemm_constants *constants, const struct trace_gemm *gemm,
                         int32_t count, double groups, double num_sms)
{
    double predicted_ns = 0.0;
    double measured_ns = 0.0;
    for (int32_t i = 0; i < count; i++) {
        const struct gemm_shape shape = {.rows = gemm[i].rows / groups,
                                         .columns = gemm[i].columns,
                                         .depth = gemm[i].depth,
                                         .groups = groups,
                                         .row_tiles = groups > 1.0 ? gemm[i].rows / TILE_ROWS : 0.0,
                                         .is_ragged = groups > 1.0,
                                         .weight_bytes =
                                             precision_weight_bytes(constants->precision),
                                         .num_sms = TRACE_SMS,
                                         .gpu_sms = num_sms};
        predicted_ns += gemm[i].count * fitted_gemm_ns(constants, &shape);
        measured_ns += gemm[i].us * 1e3;
    }
    return predicted_ns / measured_ns;
}

static double core_ratio(const struct attention_constants *constants, double num_sms)
{
    const struct attention_shape shape = {.sequences = 1.0,
                                          .tokens = TRACE_TOKENS,
                                          .q_heads = 128.0,
                                          .kv_heads = 128.0,
                                          .qk_dim = 192.0,
                                          .v_dim = 128.0,
                                          .num_sms = TRACE_SMS,
                                          .gpu_sms = num_sms};
    return TRACE_NUM_CORES * fitted_attention_ns(constants, &shape) / (TRACE_CORE_US * 1e3);
}

/* Halves the interval in which the rate lies: the faster, the less time. */
static void match_gemm(struct gemm_constants *constants, const struct trace_gemm *gemm,
                       int32_t count, double groups, double num_sms)
{
    double low = 0.25 * constants->flops_per_s;
    double high = 4.0 * constants->flops_per_s;
    for (int i = 0; i < HALVINGS; i++) {
        constants->flops_per_s = 0.5 * (low + high);
        bool is_slow = gemm_ratio(constants, gemm, count, groups, num_sms) > 1.0;
        *(is_slow ? &low : &high) = constants->flops_per_s;
    }
}

static void match_core(struct attention_constants *constants, double num_sms)
{
    double low = 0.25 * constants->flops_per_s;
    double high = 4.0 * constants->flops_per_s;
    for (int i = 0; i < HALVINGS; i++) {
        constants->flops_per_s = 0.5 * (low + high);
        bool is_slow = core_ratio(constants, num_sms) > 1.0;
        *(is_slow ? &low : &high) = constants->flops_per_s;
    }
}

/* Each where there is one of that name; decode's grouped GEMMs wait for weights. */
static void match_trace(struct gpu_spec *gpu)
{
    double num_sms = (double)gpu->num_sms;
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        if (strcmp(gpu->gemm[i].kernels, "deepgemm") == 0) {
            match_gemm(&gpu->gemm[i], dense_gemm, COUNT(dense_gemm), 1.0, num_sms);
        } else if (strcmp(gpu->gemm[i].kernels, "deepgemm_contiguous") == 0) {
            match_gemm(&gpu->gemm[i], grouped_gemm, COUNT(grouped_gemm), TRACE_EXPERTS, num_sms);
        }
    }
    for (int32_t i = 0; i < gpu->num_attention; i++) {
        if (gpu->attention[i].phase == PHASE_MLA_PREFILL) {
            match_core(&gpu->attention[i], num_sms);
        }
    }
}

/* Whole modules and expert phases of Hopper were measured in releases of 2026, which fuse more than
 * those of spring 2025 did. Those are DeepGEMM and FlashAttention-3, measured alone on the H800,
 * whose compute is the H100's, with the small kernels of that time between them. */
static enum status take_early_kernels(struct gpu_spec *gpu, struct error *error)
{
    struct gpu_spec *early = malloc(sizeof *early);
    if (early == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = gpu_load(early, "h800-sxm", error);
    if (status == STATUS_OK) {
        memcpy(gpu->gemm, early->gemm, sizeof gpu->gemm);
        memcpy(gpu->attention, early->attention, sizeof gpu->attention);
        gpu->num_gemm = early->num_gemm;
        gpu->num_attention = early->num_attention;
        gpu->num_fitted = 0;
        gpu->fitted_chosen = -1;
        match_trace(gpu);
    }
    free(early);
    return status;
}

enum status serving_kernels(struct scenario *scenario, const char *engine, bool is_early,
                            struct error *error)
{
    struct gpu_spec *gpu = &scenario->cluster.gpu;
    enum status status = STATUS_OK;
    (void)snprintf(scenario->kernels, sizeof scenario->kernels, "any");
    (void)scenario_choose_kernels(scenario);
    bool is_hopper = strcmp(gpu->name, "h100-sxm") == 0 || strcmp(gpu->name, "h800-sxm") == 0;
    if (is_hopper && is_early) {
        status = take_early_kernels(gpu, error);
        gpu->glue_set = strcmp(engine, "SGLang") == 0 ? GLUE_SGLANG : GLUE_DEEPSEEK;
    }
    const struct gpu_model *fitted = gpu_find("fitted");
    scenario->gpu_model = gpu_model_applies(fitted, gpu) ? fitted : gpu_find("roofline");
    return status;
}
