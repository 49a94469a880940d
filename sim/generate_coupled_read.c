/*
 * generate_coupled_read.c -- a fitted preset: a YAML file and, beside it, the table as .npy.
 *
 * YAML would take ten times the room for the table and is limited to 1 MiB; an .npy of int16 opens
 * in NumPy too.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate_coupled.h"
#include "npy.h"

#define PATH_BYTES   4096
#define ROWS_MAX     (1 << 24) /* of one request */
#define NORMAL_LIMIT 100.0     /* of a mean or sigma: a factor is about 1 */
#define REQUIRED     .required = true

/* What yaml_fill takes from the file. */
struct coupled_file {
    struct generate_preset preset;
    char table[NAME_BYTES];
    double drift_tokens[COUPLED_DRIFTS];
    double drift_sigma[COUPLED_DRIFTS];
    double gate_scale;
    int32_t num_factors;
    struct yaml_node *aliases; /* for data_find */
    struct yaml_node *layers;
    struct yaml_node *domains;
};

#define AT(field) .offset = offsetof(struct coupled_file, field)

static const struct yaml_field file_fields[] = {
    {.key = "model", .type = YAML_TEXT, AT(preset.model), .size = NAME_BYTES, REQUIRED},
    {.key = "aliases", .type = YAML_NODE, AT(aliases)},
    {.key = "source", .type = YAML_TEXT, AT(preset.source), .size = SOURCE_BYTES, REQUIRED},
    {.key = "licence", .type = YAML_TEXT, AT(preset.licence), .size = NAME_BYTES, REQUIRED},
    {.key = "num_experts",
     .type = YAML_INT32,
     AT(preset.num_experts),
     REQUIRED,
     .min = 2,
     .max = GENERATE_EXPERTS_MAX},
    {.key = "top_k",
     .type = YAML_INT32,
     AT(preset.top_k),
     REQUIRED,
     .min = 1,
     .max = GENERATE_TOP_K_MAX},
    {.key = "couplings", .type = YAML_TEXT, AT(table), .size = NAME_BYTES, REQUIRED},
    {.key = "num_factors",
     .type = YAML_INT32,
     AT(num_factors),
     REQUIRED,
     .min = 1,
     .max = COUPLED_FACTORS_MAX},
    {.key = "quick_drift_tokens",
     .type = YAML_DOUBLE,
     AT(drift_tokens[0]),
     REQUIRED,
     .min = 1,
     .max = 1e6},
    {.key = "quick_drift_sigma",
     .type = YAML_DOUBLE,
     AT(drift_sigma[0]),
     REQUIRED,
     .min = 0,
     .max = NORMAL_LIMIT},
    {.key = "slow_drift_tokens",
     .type = YAML_DOUBLE,
     AT(drift_tokens[1]),
     REQUIRED,
     .min = 1,
     .max = 1e6},
    {.key = "slow_drift_sigma",
     .type = YAML_DOUBLE,
     AT(drift_sigma[1]),
     REQUIRED,
     .min = 0,
     .max = NORMAL_LIMIT},
    {.key = "gate_scale", .type = YAML_DOUBLE, AT(gate_scale), REQUIRED, .min = 0, .max = 100},
    {.key = "arrivals_per_s",
     .type = YAML_DOUBLE,
     AT(preset.arrivals_per_s),
     REQUIRED,
     .min = 1e-6,
     .max = 1e6},
    {.key = "layers", .type = YAML_NODE, AT(layers), REQUIRED},
    {.key = "domains", .type = YAML_NODE, AT(domains), REQUIRED},
    {.key = NULL},
};

/* What yaml_fill takes from an entry of domains. */
struct domain_file {
    struct coupled_domain domain;
    struct yaml_node *rows;
    struct yaml_node *prompt_tokens;
    struct yaml_node *mean;
    struct yaml_node *sigma;
};

#define IN(field) .offset = offsetof(struct domain_file, field)

static const struct yaml_field domain_fields[] = {
    {.key = "tag", .type = YAML_TEXT, IN(domain.tag), .size = NAME_BYTES},
    {.key = "requests",
     .type = YAML_DOUBLE,
     IN(domain.requests),
     REQUIRED,
     .min = 1e-3,
     .max = 1e9},
    {.key = "rows", .type = YAML_NODE, IN(rows), REQUIRED},
    {.key = "prompt_tokens", .type = YAML_NODE, IN(prompt_tokens), REQUIRED},
    {.key = "mean", .type = YAML_NODE, IN(mean), REQUIRED},
    {.key = "sigma", .type = YAML_NODE, IN(sigma), REQUIRED},
    {.key = NULL},
};

/* Reads a list of exactly count numbers from min to max. */
static enum status numbers_read(double *number, const struct yaml_node *list, int32_t count,
                                double min, double max, struct error *error)
{
    const char *key = list->key;
    int32_t found = 0;
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next, found++) {
        char *end = NULL;
        double value = item->kind == YAML_SCALAR ? strtod(item->text, &end) : (double)NAN;
        if (end == NULL || end == item->text || *end != '\0' || !(value >= min && value <= max)) {
            return error_add(error, STATUS_INVALID, "%s:%d: %s: expected numbers from %g to %g",
                             item->file, item->line, key, min, max);
        }
        if (found < count) {
            number[found] = value;
        }
    }
    if (found != count) {
        return error_add(error, STATUS_INVALID, "%s:%d: %s: expected %d numbers, not %d",
                         list->file, list->line, key, count, found);
    }
    return STATUS_OK;
}

static enum status layers_read(struct generate_preset *preset, const struct yaml_node *list,
                               struct error *error)
{
    int32_t count = 0;
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next) {
        count++;
    }
    if (list->kind != YAML_SEQUENCE || count == 0 || count > GENERATE_LAYERS_MAX) {
        return error_add(error, STATUS_INVALID, "%s:%d: layers: expected a list of 1 to %d layers",
                         list->file, list->line, GENERATE_LAYERS_MAX);
    }
    for (const struct yaml_node *item = list->child; item != NULL; item = item->next) {
        char *end = NULL;
        long value = item->kind == YAML_SCALAR ? strtol(item->text, &end, 10) : -1;
        bool ascends =
            preset->num_layers == 0 || value > preset->layer[preset->num_layers - 1].model_layer;
        if (end == NULL || *end != '\0' || value < 0 || value > 65535 || !ascends) {
            return error_add(error, STATUS_INVALID,
                             "%s:%d: layers: expected ascending layer numbers", item->file,
                             item->line);
        }
        preset->layer[preset->num_layers++].model_layer = (int32_t)value;
    }
    return STATUS_OK;
}

static enum status quantiles_read(double quantiles[COUPLED_QUANTILES], const struct yaml_node *list,
                                  double min, struct error *error)
{
    enum status status = numbers_read(quantiles, list, COUPLED_QUANTILES, min, ROWS_MAX, error);
    for (int32_t i = 1; status == STATUS_OK && i < COUPLED_QUANTILES; i++) {
        if (quantiles[i] < quantiles[i - 1]) {
            status = error_add(error, STATUS_INVALID, "%s:%d: %s: quantiles must not descend",
                               list->file, list->line, list->key);
        }
    }
    return status;
}

static enum status domain_read(struct coupled_domain *domain, const struct yaml_node *node,
                               int32_t num_factors, struct error *error)
{
    struct domain_file file = {0};
    enum status status = yaml_fill(&file, node, domain_fields, error);
    if (status != STATUS_OK) {
        return status;
    }
    *domain = file.domain;
    const enum status parts[] = {
        quantiles_read(domain->rows, file.rows, 1, error),
        quantiles_read(domain->prompt_tokens, file.prompt_tokens, 0, error),
        numbers_read(domain->mean, file.mean, num_factors, -NORMAL_LIMIT, NORMAL_LIMIT, error),
        numbers_read(domain->sigma, file.sigma, num_factors, 0, NORMAL_LIMIT, error),
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        status = status == STATUS_OK ? parts[i] : status;
    }
    return status;
}

static enum status domains_read(struct coupled_law *law, const struct yaml_node *list,
                                struct error *error)
{
    enum status status = STATUS_OK;
    if (list->kind != YAML_SEQUENCE || list->child == NULL) {
        return error_add(error, STATUS_INVALID, "%s:%d: domains: expected a list", list->file,
                         list->line);
    }
    for (const struct yaml_node *node = list->child; node != NULL; node = node->next) {
        if (law->num_domains == COUPLED_DOMAINS_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: domains: more than %d", node->file,
                             node->line, COUPLED_DOMAINS_MAX);
        }
        enum status one =
            domain_read(&law->domain[law->num_domains++], node, law->num_factors, error);
        status = status == STATUS_OK ? one : status;
    }
    return status;
}

/* The table lies beside the preset. */
static enum status table_read(struct coupled_law *law, const char *preset_path, const char *name,
                              struct error *error)
{
    char path[PATH_BYTES];
    struct npy npy = {0};
    const char *slash = strrchr(preset_path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - preset_path) + 1;
    if (snprintf(path, sizeof path, "%.*s%s", folder, preset_path, name) >= (int)sizeof path) {
        return error_add(error, STATUS_INVALID, "%s: couplings: the path is too long", preset_path);
    }
    if (strchr(name, '/') != NULL) {
        return error_add(error, STATUS_INVALID,
                         "%s: couplings: expected the name of a file beside this one", preset_path);
    }
    enum status status = npy_open(&npy, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t rows = coupled_first_row(law, COUPLED_ROW_KINDS);
    if (npy.type != NPY_INT16 || npy.num_dims != 3 || npy.dim[0] != law->num_layers ||
        npy.dim[1] != rows || npy.dim[2] != law->num_experts) {
        status = error_add(error, STATUS_INVALID,
                           "%s: expected int16 [%d][%d][%d]: layers, rows, experts", path,
                           law->num_layers, rows, law->num_experts);
        goto done;
    }
    law->table = malloc((size_t)npy.num_elements * sizeof law->table[0]);
    if (law->table == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
        goto done;
    }
    memcpy(law->table, npy.data, (size_t)npy.num_elements * sizeof law->table[0]);
done:
    npy_close(&npy);
    return status;
}

enum status coupled_read(struct generate_preset *preset, const struct yaml_node *root,
                         const char *path, struct error *error)
{
    struct coupled_file *file = calloc(1, sizeof *file);
    struct coupled_law *law = calloc(1, sizeof *law);
    enum status status = STATUS_OK;
    preset->coupled = law; /* generate_preset_free */
    if (file == NULL || law == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
        goto done;
    }
    status = yaml_fill(file, root, file_fields, error);
    if (status != STATUS_OK) {
        goto done;
    }
    *preset = file->preset;
    preset->coupled = law;
    law->num_factors = file->num_factors;
    memcpy(law->drift_tokens, file->drift_tokens, sizeof law->drift_tokens);
    memcpy(law->drift_sigma, file->drift_sigma, sizeof law->drift_sigma);
    law->gate_scale = file->gate_scale;
    enum status layers = layers_read(preset, file->layers, error);
    status = domains_read(law, file->domains, error);
    if (preset->top_k >= preset->num_experts) {
        status = error_add(error, STATUS_INVALID, "%s: top_k: must be below num_experts", path);
    }
    status = layers == STATUS_OK ? status : layers;
    if (status == STATUS_OK) {
        law->num_layers = preset->num_layers;
        law->num_experts = preset->num_experts;
        law->top_k = preset->top_k;
        status = table_read(law, path, file->table, error);
    }
done:
    free(file);
    return status;
}
