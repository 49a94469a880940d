/* list_rows.c -- reads every preset and registry into rows. */
#include "cli/list_rows.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cluster.h"
#include "data.h"
#include "engine_host.h"
#include "format.h"
#include "model.h"
#include "price.h"
#include "registry.h"
#include "yaml_file.h"

#define LIST_PATH 4096

static void add_number(struct list_row *row, const char *key, double value)
{
    assert(row->num_numbers < NUMBERS_MAX);
    row->number[row->num_numbers++] = (struct list_number){key, value};
}

/* Computed beside published: what is published is left out where nobody published it. */
static void add_params(struct list_row *row, const struct moe_model *model)
{
    struct model_params params = model_params(model);
    add_number(row, "total_params", params.total);
    add_number(row, "active_params", params.active);
    add_number(row, "active_params_counted", model_active_params_counted(model));
    if (model->total_params_published > 0.0) {
        add_number(row, "total_params_published", model->total_params_published);
    }
    if (model->active_params_published > 0.0) {
        add_number(row, "active_params_published", model->active_params_published);
    }
    row->active_params_exclude = model_active_exclude_name(model->active_params_exclude);
}

static enum status describe_model(struct list_row *row, const char *path, struct error *error)
{
    struct moe_model model;
    enum status status = model_load(&model, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct model_params params = model_params(&model);
    char experts[128] = "dense";
    if (model.num_experts > 0) {
        (void)snprintf(experts, sizeof experts, "%d MoE layers of %d experts, top %d",
                       (int)model_num_moe_layers(&model), (int)model.num_experts, (int)model.top_k);
    }
    const double unit = params.total < 1e9 ? 1e6 : 1e9;
    const char *letter = params.total < 1e9 ? "M" : "B";
    (void)snprintf(row->summary, sizeof row->summary, "%.1f %s parameters, %.1f %s active; %s",
                   params.total / unit, letter, params.active / unit, letter, experts);
    (void)snprintf(row->source, sizeof row->source, "%s", model.source);
    add_params(row, &model);
    return STATUS_OK;
}

static enum status describe_gpu(struct list_row *row, const char *path, struct error *error)
{
    struct gpu_spec gpu;
    enum status status = gpu_load(&gpu, path, error);
    if (status == STATUS_OK) {
        char hbm[FORMAT_BYTES];
        char hbm_rate[FORMAT_BYTES];
        char up[FORMAT_BYTES];
        char out[FORMAT_BYTES];
        (void)snprintf(row->summary, sizeof row->summary,
                       "%s at %s/s, %.0f TFLOP/s bf16, scale-up %s/s, out %s/s",
                       format_bytes(hbm, (double)gpu.hbm_bytes),
                       format_bytes(hbm_rate, gpu.hbm_bytes_per_s),
                       gpu.flops_per_s[PRECISION_BF16] / 1e12,
                       format_bytes(up, gpu.port[TIER_SCALE_UP].bytes_per_s),
                       format_bytes(out, gpu.port[TIER_SCALE_OUT].bytes_per_s));
        (void)snprintf(row->source, sizeof row->source, "%s", gpu.source);
    }
    return status;
}

static enum status describe_price(struct list_row *row, const char *path, struct error *error)
{
    struct price price;
    char usd[FORMAT_BYTES];
    enum status status = price_load(&price, path, error);
    if (status == STATUS_OK) {
        (void)snprintf(row->summary, sizeof row->summary, "%s a GPU-hour of %s, %s",
                       format_money(usd, price.usd_per_gpu_hour, &price.currency), price.gpu,
                       price.date);
        (void)snprintf(row->source, sizeof row->source, "%s", price.source);
        add_number(row, "usd_per_gpu_hour", price.usd_per_gpu_hour);
        (void)snprintf(row->currency, sizeof row->currency, "%s", currency_code(&price.currency));
        add_number(row, "usd_per_unit", currency_usd_per_unit(&price.currency));
    }
    return status;
}

/* Presets whose own modules load them when they are used: two keys of the file are enough here. */
static enum status describe_keys(struct list_row *row, const char *path, const char *summary_key,
                                 const char *source_key, struct error *error)
{
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    enum status status = yaml_load(&root, path, &arena, error);
    if (status == STATUS_OK) {
        const struct yaml_node *summary = yaml_get(root, summary_key);
        const struct yaml_node *source = yaml_get(root, source_key);
        (void)snprintf(row->summary, sizeof row->summary, "%s",
                       summary != NULL && summary->text != NULL ? summary->text : "");
        (void)snprintf(row->source, sizeof row->source, "%s",
                       source != NULL && source->text != NULL ? source->text : "");
    }
    arena_free(&arena);
    return status;
}

static enum status describe_trace(struct list_row *row, const char *path, struct error *error)
{
    char model[SUMMARY_BYTES];
    enum status status = describe_keys(row, path, "model", "source", error);
    memcpy(model, row->summary, sizeof model);
    (void)snprintf(row->summary, sizeof row->summary, "generates routing of %.64s", model);
    return status;
}

static enum status describe_cluster(struct list_row *row, const char *path, struct error *error)
{
    char gpu[SUMMARY_BYTES];
    enum status status = describe_keys(row, path, "gpu", "source", error);
    memcpy(gpu, row->summary, sizeof gpu);
    (void)snprintf(row->summary, sizeof row->summary, "%.64s, with fitted collectives", gpu);
    return status;
}

static enum status describe_question(struct list_row *row, const char *path, struct error *error)
{
    return describe_keys(row, path, "question", "source", error);
}

/* One directory holds scenarios and the studies that are made of them. */
static enum status describe_study(struct list_row *row, const char *path, struct error *error)
{
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    enum status status = yaml_load(&root, path, &arena, error);
    row->command = yaml_get(root, "answer") != NULL ? "study" : "run";
    arena_free(&arena);
    return status == STATUS_OK ? describe_question(row, path, error) : status;
}

static enum status describe_engine(struct list_row *row, const char *path, struct error *error)
{
    struct engine_host host;
    enum status status = engine_host_load(&host, path, "", error);
    if (status == STATUS_OK) {
        (void)snprintf(row->summary, sizeof row->summary,
                       "host: %g ms a request; first tokens %.0f %% off in the median",
                       host.request_ms, 100.0 * host.error_median);
        (void)snprintf(row->source, sizeof row->source, "%s", host.source);
        add_number(row, "request_ms", host.request_ms);
        add_number(row, "error_median", host.error_median);
        add_number(row, "error_p90", host.error_p90);
    }
    return status;
}

static enum status describe_claim(struct list_row *row, const char *path, struct error *error)
{
    return describe_keys(row, path, "claim", "source", error);
}

static const struct preset_kind {
    const char *name;
    /* Fills summary and source from a preset's file; on failure error says why. */
    enum status (*describe)(struct list_row *row, const char *path, struct error *error);
} preset_kinds[] = {
    {"models", describe_model},     {"gpus", describe_gpu},       {"clusters", describe_cluster},
    {"prices", describe_price},     {"traces", describe_trace},   {"studies", describe_study},
    {"serving", describe_question}, {"plans", describe_question}, {"sweeps", describe_question},
    {"claims", describe_claim},     {"engines", describe_engine},
};

#define NUM_PRESET_KINDS ((int32_t)(sizeof preset_kinds / sizeof preset_kinds[0]))

int32_t list_num_kinds(void)
{
    return NUM_PRESET_KINDS + (int32_t)REGISTRY_KIND_COUNT;
}

bool list_is_preset(int32_t kind)
{
    return kind < NUM_PRESET_KINDS;
}

const char *list_kind_name(int32_t kind)
{
    return kind < NUM_PRESET_KINDS
               ? preset_kinds[kind].name
               : registry_kind_name((enum registry_kind)(kind - NUM_PRESET_KINDS));
}

/* A preset that cannot be read is listed with its first problem. */
static void fill_preset(struct list_row *row, const struct preset_kind *kind, const char *name)
{
    static const char unreadable[] = "cannot be read: ";
    struct error error = {0};
    char path[LIST_PATH];
    (void)snprintf(path, sizeof path, "%s/scenarios/%s/%s.yaml", data_directory(), kind->name,
                   name);
    *row = (struct list_row){.name = name};
    if (kind->describe(row, path, &error) != STATUS_OK) {
        int length = (int)strcspn(error.text, "\n");
        (void)snprintf(row->summary, sizeof row->summary, "%s%.*s", unreadable,
                       length < SUMMARY_BYTES / 2 ? length : SUMMARY_BYTES / 2, error.text);
    }
}

int32_t list_rows(struct list_row **rows, int32_t kind, struct arena *arena)
{
    const char *const *names = NULL;
    int32_t count = kind < NUM_PRESET_KINDS
                        ? data_list(&names, preset_kinds[kind].name, arena)
                        : registry_count((enum registry_kind)(kind - NUM_PRESET_KINDS));
    if (count == DATA_NO_MEMORY) {
        return -1;
    }
    count = count < 0 ? 0 : count; /* no directory, no presets */
    *rows = arena_alloc(arena, (size_t)count, sizeof **rows);
    for (int32_t i = 0; *rows != NULL && i < count; i++) {
        struct list_row *row = &(*rows)[i];
        if (kind < NUM_PRESET_KINDS) {
            fill_preset(row, &preset_kinds[kind], names[i]);
            continue;
        }
        struct registry_entry entry =
            registry_entry((enum registry_kind)(kind - NUM_PRESET_KINDS), i);
        row->name = entry.name;
        (void)snprintf(row->summary, sizeof row->summary, "%s", entry.summary);
        (void)snprintf(row->source, sizeof row->source, "%s", entry.source);
    }
    return *rows != NULL ? count : -1;
}
