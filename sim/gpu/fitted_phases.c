/*
 * fitted_phases.c -- a phase is its GEMMs, its attention, and the small kernels between them.
 *
 * GEMMs and attention come from fitted constants of the phase's format, the small kernels from
 * gpu/glue.h, less those that constants hold already. Constants of a whole MLA module stand for
 * projections and attention together. Where GEMMs have constants and attention has none, attention
 * alone is a roofline; without any for GEMMs the whole phase is. Experts without constants of the
 * whole phase are grouped GEMMs where the GPU has those. gpu/fitted_choice.c says whose are taken.
 */
#include "gpu/fitted_phases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/fitted_attention.h"
#include "gpu/fitted_gemm.h"
#include "gpu/fitted_products.h"
#include "gpu/glue.h"

/* DeepGEMM was measured alone, linear layers of engines with the quantisation of their input. */
static uint32_t held_by_gemm(const struct gemm_constants *gemm)
{
    bool is_alone = strncmp(gemm->kernels, "deepgemm", 8) == 0;
    return is_alone ? 0u : GLUE_HELD(GLUE_HELD_BY_LINEAR);
}

/* Engines' attention was measured with the write of the KV cache before it, TensorRT-LLM's with the
 * turning of queries and keys in it as well, which vLLM and SGLang leave to a kernel of their own
 * (aiconfigurator @ 095f58a, collector/trtllm/collect_attn.py: pos_embd_params). */
static uint32_t held_by_core(const struct attention_constants *core)
{
    if (core == NULL || (core->splits != SPLITS_EVEN && core->splits != SPLITS_XQA)) {
        return 0u;
    }
    const bool turns = strncmp(core->kernels, "trtllm", 6) == 0;
    return GLUE_HELD(GLUE_HELD_BY_CORE) | (turns ? GLUE_HELD(GLUE_HELD_BY_TURNING) : 0u);
}

static const struct attention_constants *
find_module(const struct gpu_spec *gpu, const struct moe_model *model, bool prefill, int32_t shards)
{
    return model->attention != ATTENTION_MLA
               ? NULL
               : fitted_find_attention(gpu, prefill ? PHASE_MODULE_PREFILL : PHASE_MODULE_DECODE,
                                       model->precision_dense,
                                       (double)model->num_q_heads / (double)shards);
}

static const struct attention_constants *
find_core(const struct gpu_spec *gpu, const struct moe_model *model, bool prefill, int32_t shards)
{
    bool is_mla = model->attention == ATTENTION_MLA;
    enum attention_phase phase = is_mla ? (prefill ? PHASE_MLA_PREFILL : PHASE_MLA_DECODE)
                                        : (prefill ? PHASE_GQA_PREFILL : PHASE_GQA_DECODE);
    return fitted_find_attention(gpu, phase, model->precision_kv,
                                 (double)model->num_q_heads / (double)shards);
}

double fitted_or_measured_ns(const struct gpu_spec *gpu, const struct measured_place *place,
                             double fitted_ns, double *table_ns)
{
    double ratio = 1.0;
    if (gpu->measured == NULL || !measured_ratio(&ratio, gpu->measured, place, -1)) {
        return fitted_ns;
    }
    *table_ns += fitted_ns * ratio;
    return fitted_ns * ratio;
}

/* Sequences as long as their mean. In prefill a token looks back on half of its own. */
static struct attention_shape shape_of(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    bool is_mla = model->attention == ATTENTION_MLA;
    double tokens = (double)work->tokens;
    double looked_back = tokens > 0.0 ? (double)work->attended_tokens / tokens : 0.0;
    double shards = (double)work->shards;
    double heads = (double)model->num_q_heads / shards;
    double nope = (double)model->qk_nope_dim;
    double rope = (double)model->qk_rope_dim;
    double rank = (double)model->kv_lora_rank;
    struct attention_shape shape = {.tokens = work->prefill ? 2.0 * looked_back : looked_back,
                                    .q_heads = heads,
                                    .kv_heads = fmax(1.0, (double)model->num_kv_heads / shards),
                                    .qk_dim = (double)model->head_dim,
                                    .v_dim = (double)model->head_dim,
                                    .hidden_dim = (double)model->hidden_dim,
                                    .projection_params = model_attention_params(model) / shards,
                                    .num_sms = (double)(gpu->num_sms - work->sms_taken),
                                    .gemm_sms = gpu_gemm_sms(gpu, work),
                                    .gpu_sms = (double)gpu->num_sms,
                                    .hbm_taken = gpu_hbm_taken(gpu, work)};
    if (is_mla) {
        shape.kv_heads = work->prefill ? heads : 1.0;
        shape.qk_dim = work->prefill ? nope + rope : rank + rope;
        shape.v_dim = work->prefill ? (double)model->v_head_dim : rank;
    }
    double kv_ways = is_mla ? 1.0 : (double)model->num_kv_heads / shape.kv_heads;
    shape.kv_bytes = model_kv_bytes_per_token_layer(model) / kv_ways;
    shape.projection_bytes =
        shape.projection_params * precision_weight_bytes(model->precision_dense);
    shape.sequences = work->prefill && shape.tokens > 0.0 ? tokens / shape.tokens : tokens;
    return shape;
}

static double copy_rate(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    return gpu->hbm_bytes_per_s * gpu->hbm_fraction * (1.0 - gpu_hbm_taken(gpu, work));
}

/* Scores, sums and the KV cache alone, as the roofline counts them. */
static double core_roofline_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const struct attention_shape shape = shape_of(gpu, work);
    double left = 1.0 - (double)work->sms_taken / (double)gpu->num_sms;
    double looked_back = (double)work->attended_tokens;
    double flops = 2.0 * shape.q_heads * (shape.qk_dim + shape.v_dim) * looked_back;
    double compute_s = flops / (gpu->flops_per_s[PRECISION_BF16] * gpu->flops_fraction * left);
    double bytes = ((double)work->context_tokens + (double)work->tokens) * shape.kv_bytes;
    return fmax(compute_s, bytes / copy_rate(gpu, work)) * 1e9 + gpu->kernel_ns;
}

/* Scores and sums, or a whole module, by constants. */
static double attended_ns(const struct gpu_spec *gpu, const struct attention_constants *constants,
                          const struct attention_shape *shape, double *table_ns)
{
    const struct measured_place place = measured_place_attention(
        shape, (enum attention_phase)constants->phase, constants->precision);
    return fitted_or_measured_ns(gpu, &place, fitted_attention_ns(constants, shape), table_ns);
}

static double attention_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                           double *table_ns)
{
    const struct moe_model *model = work->model;
    const struct attention_constants *module = find_module(gpu, model, work->prefill, work->shards);
    const struct attention_constants *core = find_core(gpu, model, work->prefill, work->shards);
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, model->precision_dense);
    const struct attention_shape shape = shape_of(gpu, work);
    if (module != NULL) {
        uint32_t held = GLUE_HELD(GLUE_HELD_BY_ATTENTION) | GLUE_HELD(GLUE_HELD_BY_CORE) |
                        GLUE_HELD(GLUE_HELD_BY_TURNING) | GLUE_HELD(GLUE_HELD_BY_LINEAR);
        return attended_ns(gpu, module, &shape, table_ns) + glue_ns(gpu, work, held);
    }
    if (gemm == NULL) {
        return gpu_roofline.duration_ns(gpu, work);
    }
    double gemms_ns =
        work->gemms_ns > 0.0 ? work->gemms_ns : fitted_projections_ns(gpu, work, gemm, table_ns);
    double core_ns =
        core != NULL ? attended_ns(gpu, core, &shape, table_ns) : core_roofline_ns(gpu, work);
    return gemms_ns + core_ns + glue_ns(gpu, work, held_by_gemm(gemm) | held_by_core(core));
}

static double ffn_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double width,
                     double *table_ns)
{
    double hidden = (double)work->model->hidden_dim;
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, work->model->precision_dense);
    const struct product product[] = {{2.0 * width, hidden}, {hidden, width}};
    if (width <= 0.0) {
        return 0.0;
    }
    return gemm == NULL ? gpu_roofline.duration_ns(gpu, work)
                        : fitted_products_ns(gpu, work, gemm, product, 2, table_ns) +
                              glue_ns(gpu, work, held_by_gemm(gemm));
}

/* One GEMM in bf16 without constants, on a GPU that has some for others. */
static double product_roofline_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                                  const struct product *product)
{
    double rows = (double)work->tokens;
    double flops = 2.0 * rows * product->columns * product->depth;
    double bytes =
        2.0 * (product->columns * product->depth + rows * (product->columns + product->depth));
    double left = gpu_gemm_sms(gpu, work) / (double)gpu->num_sms;
    double compute_s = flops / (gpu->flops_per_s[PRECISION_BF16] * gpu->flops_fraction * left);
    return fmax(compute_s, bytes / copy_rate(gpu, work)) * 1e9 + gpu->kernel_ns;
}

/* The GEMM of router or head, in bf16. */
static double logits_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double columns,
                        double *table_ns)
{
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, PRECISION_BF16);
    const struct product product = {columns, (double)work->model->hidden_dim};
    if (gemm == NULL && gpu->num_gemm == 0) {
        return gpu_roofline.duration_ns(gpu, work);
    }
    double product_ns = gemm != NULL ? fitted_products_ns(gpu, work, gemm, &product, 1, table_ns)
                                     : product_roofline_ns(gpu, work, &product);
    return product_ns + glue_ns(gpu, work, 0u);
}

/* Tiles follow each slot's tokens, weights are read of the slots that have some. */
static double experts_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                         const struct gemm_constants *gemm)
{
    double hidden = (double)work->model->hidden_dim;
    double width = (double)work->model->expert_ffn_dim / (double)work->shards;
    const struct product product[] = {{2.0 * width, hidden}, {hidden, width}};
    double copies = 0.0;
    double active = 0.0;
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        copies += (double)work->slot_tokens[slot];
        active += work->slot_tokens[slot] > 0 ? 1.0 : 0.0;
    }
    if (active <= 0.0) {
        return 0.0;
    }
    double height = !work->prefill && copies / active <= 64.0 ? 64.0 : 128.0;
    double tiles = 0.0;
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        tiles += ceil((double)work->slot_tokens[slot] / height);
    }
    double ns = glue_ns(gpu, work, 0u);
    for (int32_t i = 0; i < 2; i++) {
        const struct gemm_shape shape = {.rows = copies / active,
                                         .columns = product[i].columns,
                                         .depth = product[i].depth,
                                         .groups = active,
                                         .row_tiles = tiles,
                                         .is_ragged = work->prefill,
                                         .weight_bytes = precision_weight_bytes(gemm->precision),
                                         .num_sms = gpu_gemm_sms(gpu, work),
                                         .gpu_sms = (double)gpu->num_sms,
                                         .hbm_taken = gpu_hbm_taken(gpu, work)};
        ns += fitted_gemm_ns(gemm, &shape);
    }
    return ns;
}

double fitted_phase_ns(const struct gpu_spec *gpu, const struct gpu_work *work, double *table_ns)
{
    const struct moe_model *model = work->model;
    if (work->tokens <= 0 && work->phase != GPU_EXPERT) {
        return 0.0;
    }
    switch (work->phase) {
    case GPU_ATTENTION:
        return attention_ns(gpu, work, table_ns);
    case GPU_DENSE_FFN:
        return ffn_ns(gpu, work, (double)model->dense_ffn_dim / (double)work->shards, table_ns);
    case GPU_SHARED:
        return ffn_ns(gpu, work, (double)model->shared_ffn_dim / (double)work->shards, table_ns);
    case GPU_GATE:
        return logits_ns(gpu, work, (double)model->num_experts, table_ns);
    case GPU_HEAD:
        return logits_ns(gpu, work, (double)model->vocab_size / (double)work->shards, table_ns);
    case GPU_EXPERT: {
        const struct gemm_constants *grouped =
            fitted_find_grouped(gpu, model->precision_expert, work->prefill);
        return grouped != NULL ? experts_ns(gpu, work, grouped)
                               : gpu_roofline.duration_ns(gpu, work);
    }
    case GPU_PHASE_COUNT:
        break;
    }
    return gpu_roofline.duration_ns(gpu, work);
}

void fitted_parts(struct fitted_part part[FITTED_PARTS], const struct gpu_spec *gpu,
                  const struct moe_model *model, bool prefill)
{
    const struct attention_constants *module = find_module(gpu, model, prefill, 1);
    const struct attention_constants *core = find_core(gpu, model, prefill, 1);
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, model->precision_dense);
    const struct gemm_constants *bf16 = fitted_find_gemm(gpu, PRECISION_BF16);
    const struct gemm_constants *grouped =
        fitted_find_grouped(gpu, model->precision_expert, prefill);
    const struct fitted_kernels *experts =
        gpu->fitted_chosen >= 0 ? &gpu->fitted[gpu->fitted_chosen] : NULL;
    const struct attention_constants *attention = module != NULL ? module
                                                  : gemm != NULL ? core
                                                                 : NULL;
    part[FITTED_ATTENTION] = (struct fitted_part){
        .name = module != NULL ? "attention module" : "attention",
        .kernels = attention != NULL ? attention->kernels : "roofline",
        .precision = module != NULL ? model->precision_dense : model->precision_kv,
        .fit = attention != NULL ? &attention->fit : NULL};
    part[FITTED_DENSE] = (struct fitted_part){.name = "dense GEMMs",
                                              .kernels = gemm != NULL ? gemm->kernels : "roofline",
                                              .precision = model->precision_dense,
                                              .fit = gemm != NULL ? &gemm->fit : NULL};
    part[FITTED_BF16] = (struct fitted_part){.name = "router and head",
                                             .kernels = bf16 != NULL ? bf16->kernels : "roofline",
                                             .precision = PRECISION_BF16,
                                             .fit = bf16 != NULL ? &bf16->fit : NULL};
    part[FITTED_EXPERTS] = (struct fitted_part){
        .name = experts == NULL && grouped != NULL ? "grouped GEMMs of experts" : "experts",
        .kernels = experts != NULL   ? experts->kernels
                   : grouped != NULL ? grouped->kernels
                                     : "roofline",
        .precision = model->precision_expert,
        .fit = experts != NULL   ? &experts->fit
               : grouped != NULL ? &grouped->fit
                                 : NULL};
}

void fitted_coverage(char *text, size_t bytes, const struct gpu_spec *gpu,
                     const struct moe_model *model, bool prefill)
{
    struct fitted_part part[FITTED_PARTS];
    size_t used = 0;
    fitted_parts(part, gpu, model, prefill);
    for (int32_t i = 0; i < FITTED_EXPERTS; i++) {
        char error[40] = "";
        if (part[i].fit != NULL) {
            (void)snprintf(error, sizeof error, ", median error %.1f %%",
                           100.0 * part[i].fit->error_median);
        }
        int length = snprintf(text + used, bytes - used, "%s%s: %s%s", i > 0 ? "; " : "",
                              part[i].name, part[i].kernels, error);
        used = length > 0 && used + (size_t)length < bytes ? used + (size_t)length : bytes - 1;
    }
}

double fitted_phase_error(const struct gpu_spec *gpu, const struct moe_model *model,
                          enum gpu_phase phase, bool prefill)
{
    const struct attention_constants *module = find_module(gpu, model, prefill, 1);
    const struct attention_constants *core = find_core(gpu, model, prefill, 1);
    bool is_bf16 = phase == GPU_GATE || phase == GPU_HEAD;
    const struct gemm_constants *gemm =
        fitted_find_gemm(gpu, is_bf16 ? PRECISION_BF16 : model->precision_dense);
    double gemm_error = gemm != NULL ? gemm->fit.error_median : -1.0;
    if (phase == GPU_EXPERT) {
        const struct gemm_constants *grouped =
            fitted_find_grouped(gpu, model->precision_expert, prefill);
        return grouped != NULL ? grouped->fit.error_median : -1.0;
    }
    if (phase != GPU_ATTENTION) {
        return gemm_error;
    }
    if (module != NULL) {
        return module->fit.error_median;
    }
    return gemm != NULL && core != NULL ? fmax(gemm_error, core->fit.error_median) : -1.0;
}
