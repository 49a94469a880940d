/* cmd_list.c -- moesim list: every preset and plug-in, with what it is and where it comes from. */
#include <assert.h>
#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cluster.h"
#include "data.h"
#include "format.h"
#include "model.h"
#include "registry.h"
#include "suggest.h"
#include "yaml_file.h"

#define SUMMARY_BYTES 1024
#define LIST_PATH     4096
#define NAME_WIDTH    20 /* at least */
#define NUMBERS_MAX   5

static const char help[] =
    "usage: moesim list [KIND] [--json]\n\n"
    "Lists the building blocks of scenarios: names, what they are, where they come from.\n\n"
    "  models gpus clusters prices traces               presets in the data directory\n"
    "  studies serving plans sweeps claims              files to run, each by its name\n"
    "  routers drops strategies replicas collectives\n"
    "  networks gpu-models caches                       plug-ins\n\n"
    "  -j, --json   as JSON, for models with computed and published numbers of parameters\n\n"
    "Without a KIND: the names of all kinds.\n\n"
    "example:\n"
    "  moesim list gpus\n";

/* A figure of a row, for JSON. */
struct number {
    const char *key;
    double value;
};

/* One entry of a list. */
struct row {
    const char *name;
    char summary[SUMMARY_BYTES];
    char source[SUMMARY_BYTES];
    const char *active_params_exclude; /* models only */
    struct number number[NUMBERS_MAX];
    int32_t num_numbers;
};

static void add_number(struct row *row, const char *key, double value)
{
    assert(row->num_numbers < NUMBERS_MAX);
    row->number[row->num_numbers++] = (struct number){key, value};
}

/* Computed beside published: what is published is left out where nobody published it. */
static void add_params(struct row *row, const struct moe_model *model)
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

static enum status describe_model(struct row *row, const char *path, struct error *error)
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

static enum status describe_gpu(struct row *row, const char *path, struct error *error)
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

static enum status describe_price(struct row *row, const char *path, struct error *error)
{
    struct price price;
    enum status status = price_load(&price, path, error);
    if (status == STATUS_OK) {
        (void)snprintf(row->summary, sizeof row->summary, "$%.2f an hour and %s, %s",
                       price.usd_per_gpu_hour, price.gpu, price.date);
        (void)snprintf(row->source, sizeof row->source, "%s", price.source);
        add_number(row, "usd_per_gpu_hour", price.usd_per_gpu_hour);
    }
    return status;
}

/* Presets whose own modules load them when they are used: two keys of the file are enough here. */
static enum status describe_keys(struct row *row, const char *path, const char *summary_key,
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

static enum status describe_trace(struct row *row, const char *path, struct error *error)
{
    char model[SUMMARY_BYTES];
    enum status status = describe_keys(row, path, "model", "source", error);
    memcpy(model, row->summary, sizeof model);
    (void)snprintf(row->summary, sizeof row->summary, "generates routing of %.64s", model);
    return status;
}

static enum status describe_cluster(struct row *row, const char *path, struct error *error)
{
    char gpu[SUMMARY_BYTES];
    enum status status = describe_keys(row, path, "gpu", "source", error);
    memcpy(gpu, row->summary, sizeof gpu);
    (void)snprintf(row->summary, sizeof row->summary, "%.64s, with fitted collectives", gpu);
    return status;
}

static enum status describe_study(struct row *row, const char *path, struct error *error)
{
    return describe_keys(row, path, "question", "source", error);
}

static enum status describe_claim(struct row *row, const char *path, struct error *error)
{
    return describe_keys(row, path, "claim", "source", error);
}

static const struct preset_kind {
    const char *name;
    /* Fills summary and source from a preset's file; on failure error says why. */
    enum status (*describe)(struct row *row, const char *path, struct error *error);
} preset_kinds[] = {
    {"models", describe_model},  {"gpus", describe_gpu},     {"clusters", describe_cluster},
    {"prices", describe_price},  {"traces", describe_trace}, {"studies", describe_study},
    {"serving", describe_study}, {"plans", describe_study},  {"sweeps", describe_study},
    {"claims", describe_claim},
};

#define NUM_PRESET_KINDS ((int32_t)(sizeof preset_kinds / sizeof preset_kinds[0]))
#define NUM_KINDS        (NUM_PRESET_KINDS + (int32_t)REGISTRY_KIND_COUNT)

static const char *kind_name(int32_t kind)
{
    return kind < NUM_PRESET_KINDS
               ? preset_kinds[kind].name
               : registry_kind_name((enum registry_kind)(kind - NUM_PRESET_KINDS));
}

/* A preset that cannot be read is listed with its first problem. */
static void fill_preset(struct row *row, const struct preset_kind *kind, const char *name)
{
    static const char unreadable[] = "cannot be read: ";
    struct error error = {0};
    char path[LIST_PATH];
    (void)snprintf(path, sizeof path, "%s/scenarios/%s/%s.yaml", data_directory(), kind->name,
                   name);
    *row = (struct row){.name = name};
    if (kind->describe(row, path, &error) != STATUS_OK) {
        int length = (int)strcspn(error.text, "\n");
        (void)snprintf(row->summary, sizeof row->summary, "%s%.*s", unreadable,
                       length < SUMMARY_BYTES / 2 ? length : SUMMARY_BYTES / 2, error.text);
    }
}

/* All rows of a kind, in order. -1: out of memory. */
static int32_t list_rows(struct row **rows, int32_t kind, struct arena *arena)
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
        struct row *row = &(*rows)[i];
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

static void print_rows(const struct row *rows, int32_t count)
{
    int width = NAME_WIDTH;
    for (int32_t i = 0; i < count; i++) {
        int length = (int)strlen(rows[i].name);
        width = length > width ? length : width;
    }
    for (int32_t i = 0; i < count; i++) {
        printf("%-*s  ", width, rows[i].name);
        print_wrapped(rows[i].summary, width + 2);
        if (rows[i].source[0] != '\0') {
            char source[SUMMARY_BYTES + 2];
            (void)snprintf(source, sizeof source, "(%s)", rows[i].source);
            printf("%*s", width + 2, "");
            print_wrapped(source, width + 2);
        }
    }
}

static void print_names(const char *kind, const struct row *rows, int32_t count)
{
    printf("%-12s", kind);
    int column = 12;
    for (int32_t i = 0; i < count; i++) {
        int width = (int)strlen(rows[i].name) + 2;
        if (column + width > 100) {
            printf("\n%-12s", "");
            column = 12;
        }
        printf("%s%s%s", column > 12 ? " " : "", rows[i].name, i + 1 < count ? "," : "");
        column += width;
    }
    printf("\n");
}

static bool add_figures(cJSON *item, const struct row *row)
{
    bool is_complete = true;
    for (int32_t i = 0; i < row->num_numbers; i++) {
        is_complete = is_complete && cJSON_AddNumberToObject(item, row->number[i].key,
                                                             row->number[i].value) != NULL;
    }
    return is_complete && (row->active_params_exclude == NULL ||
                           cJSON_AddStringToObject(item, "active_params_exclude",
                                                   row->active_params_exclude) != NULL);
}

static bool add_json(cJSON *list, const char *kind, const struct row *rows, int32_t count)
{
    bool is_complete = true;
    for (int32_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();
        is_complete = is_complete && cJSON_AddItemToArray(list, item) &&
                      cJSON_AddStringToObject(item, "kind", kind) != NULL &&
                      cJSON_AddStringToObject(item, "name", rows[i].name) != NULL &&
                      cJSON_AddStringToObject(item, "summary", rows[i].summary) != NULL &&
                      cJSON_AddStringToObject(item, "source", rows[i].source) != NULL &&
                      add_figures(item, &rows[i]);
    }
    return is_complete;
}

/* Prints one kind, or all of them when only is -1. */
static int list_kinds(int32_t only, bool as_json)
{
    struct arena arena = {0};
    cJSON *list = as_json ? cJSON_CreateArray() : NULL;
    bool is_complete = list != NULL || !as_json;
    for (int32_t kind = 0; is_complete && kind < NUM_KINDS; kind++) {
        struct row *rows = NULL;
        if (only >= 0 && kind != only) {
            continue;
        }
        int32_t count = list_rows(&rows, kind, &arena);
        if (count < 0) {
            is_complete = false;
        } else if (as_json) {
            is_complete = add_json(list, kind_name(kind), rows, count);
        } else if (only >= 0) {
            print_rows(rows, count);
        } else {
            print_names(kind_name(kind), rows, count);
        }
        arena_reset(&arena);
    }
    arena_free(&arena);
    if (!is_complete) {
        cJSON_Delete(list);
        return cli_fail(STATUS_NO_MEMORY, &(struct error){0});
    }
    return as_json ? print_json(list) : 0;
}

static int find_kind(int32_t *kind, const char *command, const char *name)
{
    struct suggestion suggestion = {.word = name};
    for (*kind = 0; *kind < NUM_KINDS; (*kind)++) {
        if (strcmp(kind_name(*kind), name) == 0) {
            return 0;
        }
        suggest_offer(&suggestion, kind_name(*kind));
    }
    if (suggestion.nearest != NULL) {
        return cli_usage(command, "there is no list of '%s'; did you mean '%s'?", name,
                         suggestion.nearest);
    }
    return cli_usage(command, "there is no list of '%s'", name);
}

int command_list(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    int32_t kind = -1;
    int option = 0;
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (option != 'j') {
            return cli_usage(argv[0], "unknown option %s", argv[optind - 1]);
        }
        as_json = true;
    }
    if (optind + 1 < argc) {
        return cli_usage(argv[0], "one kind at a time, not also '%s'", argv[optind + 1]);
    }
    if (optind < argc && find_kind(&kind, argv[0], argv[optind]) != 0) {
        return 1;
    }
    return list_kinds(kind, as_json);
}
