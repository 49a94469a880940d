/*
 * claims_compute.c -- numbers of models, GPUs, prices and runs, as the rest of moesim has them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_price.h"
#include "claims_internal.h"
#include "gpu/gpu.h"
#include "memory_fit.h"
#include "suggest.h"

#define GPUS_MAX    16384
#define TOP_K_SLOTS 65536

/* Flops, or bytes of weights that are read, of one token by itself: summed over layers. */
static double token_work(const struct moe_model *model, const struct claim_value *value,
                         bool wants_bytes)
{
    double sum = 0.0;
    int32_t *slot_tokens = malloc(((size_t)model->top_k + 1) * sizeof *slot_tokens);
    for (int32_t slot = 0; slot_tokens != NULL && slot < model->top_k; slot++) {
        slot_tokens[slot] = 1;
    }
    for (int32_t layer = 0; slot_tokens != NULL && layer <= model->num_layers; layer++) {
        bool is_moe = layer < model->num_layers && model_layer_is_moe(model, layer);
        for (int phase = 0; phase < GPU_PHASE_COUNT; phase++) {
            bool is_dense_ffn = phase == GPU_DENSE_FFN;
            bool is_expert = phase == GPU_GATE || phase == GPU_SHARED || phase == GPU_EXPERT;
            bool is_head = phase == GPU_HEAD;
            if (is_head != (layer == model->num_layers) || (is_dense_ffn && is_moe) ||
                (is_expert && !is_moe)) {
                continue;
            }
            struct gpu_work work = {
                .phase = (enum gpu_phase)phase,
                .model = model,
                .layer = layer,
                .prefill = true, /* as written; MLA's absorbed form computes more to read less */
                .tokens = 1,
                .attended_tokens =
                    is_head ? 0 : model_attended_tokens(model, layer, value->context_tokens),
                .shards = 1,
                .num_slots = model->top_k,
                .slot_tokens = slot_tokens,
            };
            struct gpu_cost cost = gpu_work_cost(&work);
            sum += wants_bytes ? cost.weight_bytes : cost.flops + cost.attention_flops;
        }
    }
    free(slot_tokens);
    return sum;
}

static double flops_per_token(const struct moe_model *model, const struct claim_value *value)
{
    return token_work(model, value, false);
}

static double bytes_per_token(const struct moe_model *model, const struct claim_value *value)
{
    return token_work(model, value, true);
}

static double total_params(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model_params(model).total;
}

static double active_params(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model_params(model).active;
}

static double active_params_counted(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model_active_params_counted(model);
}

static double router_params(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model_params(model).router;
}

static double weight_bytes(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return memory_weight_bytes(model);
}

static double kv_bytes_per_token(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return memory_kv_bytes_per_token(model);
}

static double expert_count(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model->num_experts;
}

static double top_k(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model->top_k;
}

static double shared_experts(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model->num_shared_experts;
}

static double moe_layers(const struct moe_model *model, const struct claim_value *value)
{
    (void)value;
    return model_num_moe_layers(model);
}

static const struct {
    const char *name;
    double (*compute)(const struct moe_model *model, const struct claim_value *value);
} model_figures[] = {
    {"total_params", total_params},
    {"active_params", active_params},
    {"active_params_counted", active_params_counted}, /* as the publisher does */
    {"router_params", router_params},
    {"weight_bytes", weight_bytes},
    {"kv_bytes_per_token", kv_bytes_per_token},
    {"flops_per_token", flops_per_token},
    {"weight_bytes_read_per_token", bytes_per_token},
    {"num_experts", expert_count},
    {"top_k", top_k},
    {"num_shared_experts", shared_experts},
    {"num_moe_layers", moe_layers},
    {NULL, NULL},
};

static const struct {
    const char *name;
    size_t offset;
} gpu_figures[] = {
    {"bf16_flops_per_s", offsetof(struct gpu_spec, flops_per_s[PRECISION_BF16])},
    {"fp8_flops_per_s", offsetof(struct gpu_spec, flops_per_s[PRECISION_FP8])},
    {"hbm_bytes_per_s", offsetof(struct gpu_spec, hbm_bytes_per_s)},
    {"tdp_watts", offsetof(struct gpu_spec, tdp_watts)},
    {"allin_watts", offsetof(struct gpu_spec, allin_watts)},
    {NULL, 0},
};

static const char *const api_figures[] = {"usd_per_million_input_min", "usd_per_million_input_max",
                                          "usd_per_million_output_min",
                                          "usd_per_million_output_max", NULL};

/* The nearest known figure, where one is near. */
static bool is_among(const struct claim_value *value, const char *const *names, size_t stride,
                     struct error *error)
{
    struct suggestion suggestion = {.word = value->figure};
    const char *const *name = names;
    while (*name != NULL) {
        if (strcmp(*name, value->figure) == 0) {
            return true;
        }
        suggest_offer(&suggestion, *name);
        name = (const char *const *)(const void *)((const char *)name + stride);
    }
    (void)error_add(error, STATUS_INVALID, "%s:%d: %s: '%s' is no figure of it; %s'%s'?",
                    value->file, (int)value->line, value->name, value->figure,
                    suggestion.nearest != NULL ? "did you mean " : "known is, for example, ",
                    suggestion.nearest != NULL ? suggestion.nearest : names[0]);
    return false;
}

bool claim_figure_is_known(const struct claim_value *value, struct error *error)
{
    switch (value->kind) {
    case CLAIM_MODEL:
        return is_among(value, &model_figures[0].name, sizeof model_figures[0], error);
    case CLAIM_GPU:
        return strcmp(value->figure, "hbm_bytes") == 0 ||
               is_among(value, &gpu_figures[0].name, sizeof gpu_figures[0], error);
    case CLAIM_API_PRICE:
        return is_among(value, api_figures, sizeof api_figures[0], error);
    case CLAIM_RUN:
        return is_among(value, &claim_run_figures[0].name, sizeof claim_run_figures[0], error);
    case CLAIM_EXPRESSION:
    case CLAIM_GIVEN:
    case CLAIM_PRICE:
    case CLAIM_GPUS_FOR:
        break;
    }
    return true;
}

/* A model with the precision, experts and top-k that the value asks for. */
static enum status load_model(struct moe_model *model, const struct claim_value *value,
                              struct error *error)
{
    enum status status = model_load(model, value->text, error);
    if (status == STATUS_OK && value->precision >= 0) {
        model->precision_dense = (enum precision)value->precision;
        model->precision_expert = (enum precision)value->precision;
    }
    if (status == STATUS_OK && value->experts > 0) {
        model->num_experts = value->experts;
    }
    if (status == STATUS_OK && value->top_k > 0) {
        model->top_k = value->top_k;
    }
    if (status == STATUS_OK && model->top_k > model->num_experts) {
        status = error_add(error, STATUS_INVALID, "top_k %d of %d experts", (int)model->top_k,
                           (int)model->num_experts);
    }
    return status;
}

static enum status compute_model(double *result, const struct claim_value *value,
                                 struct error *error)
{
    struct moe_model model;
    enum status status = load_model(&model, value, error);
    int32_t i = 0;
    while (model_figures[i].name != NULL && strcmp(model_figures[i].name, value->figure) != 0) {
        i++;
    }
    if (status == STATUS_OK) {
        *result = model_figures[i].compute(&model, value);
    }
    return status;
}

static enum status compute_gpu(double *result, const struct claim_value *value, struct error *error)
{
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = gpu_load(gpu, value->text, error);
    *result = (double)gpu->hbm_bytes;
    for (int32_t i = 0; gpu_figures[i].name != NULL; i++) {
        if (strcmp(gpu_figures[i].name, value->figure) == 0) {
            memcpy(result, (const char *)gpu + gpu_figures[i].offset, sizeof *result);
        }
    }
    free(gpu);
    return status;
}

static enum status compute_price(double *result, const struct claim_value *value,
                                 struct error *error)
{
    struct price price;
    enum status status = price_load(&price, value->text, error);
    *result = status == STATUS_OK ? price.usd_per_gpu_hour : 0.0;
    return status;
}

static enum status compute_api_price(double *result, const struct claim_value *value,
                                     struct error *error)
{
    struct api_price_list *list = calloc(1, sizeof *list);
    if (list == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    bool is_input = strstr(value->figure, "input") != NULL;
    bool is_min = strstr(value->figure, "_min") != NULL;
    enum status status = api_price_load(list, value->text, error);
    if (status == STATUS_OK && list->count == 0) {
        status = error_add(error, STATUS_INVALID, "no API prices of '%s' are known", value->text);
    }
    for (int32_t i = 0; status == STATUS_OK && i < list->count; i++) {
        double usd =
            is_input ? list->price[i].usd_per_million_input : list->price[i].usd_per_million_output;
        *result = i == 0 ? usd : is_min ? fmin(*result, usd) : fmax(*result, usd);
    }
    free(list);
    return status;
}

static enum status compute_gpus_for(double *result, const struct claim_value *value,
                                    struct error *error)
{
    struct moe_model model;
    struct gpu_spec *gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = load_model(&model, value, error);
    if (status == STATUS_OK) {
        status = gpu_load(gpu, value->on, error);
    }
    if (status == STATUS_OK) {
        struct memory_question question = {
            .model = &model,
            .gpu = gpu,
            .tensor_parallel = true,
            .context_tokens = value->context_tokens > 0 ? value->context_tokens : 4096,
            .memory_fraction = value->memory_fraction,
        };
        *result = memory_gpus_min(&question, GPUS_MAX, false);
        if (*result <= 0.0) {
            status = error_add(error, STATUS_INVALID, "%s fits on no number of %s up to %d",
                               value->text, value->on, GPUS_MAX);
        }
    }
    free(gpu);
    return status;
}

enum status claim_compute(double *result, const struct claims *claims,
                          const struct claim_value *value, struct store *store, struct error *error)
{
    switch (value->kind) {
    case CLAIM_GIVEN:
    case CLAIM_EXPRESSION:
        break;
    case CLAIM_MODEL:
        return compute_model(result, value, error);
    case CLAIM_GPU:
        return compute_gpu(result, value, error);
    case CLAIM_PRICE:
        return compute_price(result, value, error);
    case CLAIM_API_PRICE:
        return compute_api_price(result, value, error);
    case CLAIM_GPUS_FOR:
        return compute_gpus_for(result, value, error);
    case CLAIM_RUN:
        return claim_compute_run(result, claims, value, store, error);
    }
    *result = value->given;
    return STATUS_OK;
}
