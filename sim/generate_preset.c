/* generate_preset.c -- reads and checks scenarios/traces/NAME.yaml. */
#include "generate_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate_coupled.h"
#include "preset.h"

#define TOKENS_MAX (1 << 24) /* of one request */
#define TINY       1e-6      /* for "above 0": yaml_fill's bounds are inclusive */
#define SHARE_MAX  0.9       /* of tokens that may choose one expert: 1 leaves no law */
#define REQUIRED   .required = true

/* What yaml_fill takes from the file: the preset, and what is read by hand. */
struct preset_file {
    struct generate_preset preset;
    struct yaml_node *aliases; /* for data_find */
    struct yaml_node *layers;
};

static const struct yaml_field file_fields[] = {
    {.key = "model",
     .type = YAML_TEXT,
     .offset = offsetof(struct preset_file, preset.model),
     .size = NAME_BYTES,
     REQUIRED},
    {.key = "aliases", .type = YAML_NODE, .offset = offsetof(struct preset_file, aliases)},
    {.key = "source",
     .type = YAML_TEXT,
     .offset = offsetof(struct preset_file, preset.source),
     .size = SOURCE_BYTES,
     REQUIRED},
    {.key = "licence",
     .type = YAML_TEXT,
     .offset = offsetof(struct preset_file, preset.licence),
     .size = NAME_BYTES,
     REQUIRED},
    {.key = "tag",
     .type = YAML_TEXT,
     .offset = offsetof(struct preset_file, preset.tag),
     .size = NAME_BYTES},
    {.key = "num_experts",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.num_experts),
     REQUIRED,
     .min = GENERATE_HEAD + 1,
     .max = GENERATE_EXPERTS_MAX},
    {.key = "top_k",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.top_k),
     REQUIRED,
     .min = 1,
     .max = GENERATE_TOP_K_MAX},
    {.key = "num_expert_groups",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.num_expert_groups),
     .min = 1,
     .max = GENERATE_GROUPS_MAX},
    {.key = "topk_groups",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.topk_groups),
     .min = 1,
     .max = GENERATE_GROUPS_MAX},
    {.key = "request_sigma",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.request_sigma),
     REQUIRED,
     .min = 0,
     .max = 1},
    {.key = "neighbour_experts",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.neighbour_experts),
     .min = 1,
     .max = GENERATE_EXPERTS_MAX},
    {.key = "neighbour_correlation",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.neighbour_correlation),
     .min = 0,
     .max = 1},
    {.key = "rows_median",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.rows.median),
     REQUIRED,
     .min = 1,
     .max = TOKENS_MAX},
    {.key = "rows_sigma",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.rows.sigma),
     REQUIRED,
     .min = 0,
     .max = 3},
    {.key = "rows_max",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.rows.max),
     REQUIRED,
     .min = 1,
     .max = TOKENS_MAX},
    {.key = "prompt_tokens_median",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.prompt_tokens.median),
     REQUIRED,
     .min = 1,
     .max = TOKENS_MAX},
    {.key = "prompt_tokens_sigma",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.prompt_tokens.sigma),
     REQUIRED,
     .min = 0,
     .max = 3},
    {.key = "prompt_tokens_max",
     .type = YAML_INT32,
     .offset = offsetof(struct preset_file, preset.prompt_tokens.max),
     REQUIRED,
     .min = 1,
     .max = TOKENS_MAX},
    {.key = "arrivals_per_s",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct preset_file, preset.arrivals_per_s),
     REQUIRED,
     .min = TINY,
     .max = 1e6},
    {.key = "layers", .type = YAML_NODE, .offset = offsetof(struct preset_file, layers), REQUIRED},
    {.key = NULL},
};

static const struct yaml_field layer_fields[] = {
    {.key = "layer",
     .type = YAML_INT32,
     .offset = offsetof(struct generate_layer, model_layer),
     REQUIRED,
     .min = 0,
     .max = 65535},
    {.key = "hottest_percent",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct generate_layer, hottest_percent),
     REQUIRED,
     .min = TINY,
     .max = 100},
    {.key = "top32_percent",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct generate_layer, top32_percent),
     REQUIRED,
     .min = TINY,
     .max = 100},
    {.key = NULL},
};

/* What one layer says must be possible for num_experts and top_k. */
static enum status layer_check(const struct generate_preset *preset, int32_t index,
                               const struct yaml_node *node, struct error *error)
{
    const struct generate_layer *layer = &preset->layer[index];
    enum status status = STATUS_OK;
    double share[GENERATE_EXPERTS_MAX];
    if (index > 0 && layer->model_layer <= preset->layer[index - 1].model_layer) {
        status = error_add(error, STATUS_INVALID, "%s:%d: layer: layers must ascend", node->file,
                           node->line);
    }
    if (layer->hottest_percent > 100 * SHARE_MAX / preset->top_k) {
        status = error_add(error, STATUS_INVALID,
                           "%s:%d: hottest_percent: %g is out of reach: of top_k %d choices a "
                           "token gives one expert at most one",
                           node->file, node->line, layer->hottest_percent, preset->top_k);
    } else if (!generate_shares(share, layer, preset->num_experts)) {
        status = error_add(error, STATUS_INVALID,
                           "%s:%d: top32_percent: %g does not go with hottest_percent %g of %d "
                           "experts",
                           node->file, node->line, layer->top32_percent, layer->hottest_percent,
                           preset->num_experts);
    }
    return status;
}

static enum status layers_read(struct generate_preset *preset, const struct yaml_node *list,
                               struct error *error)
{
    enum status status = STATUS_OK;
    if (list->kind != YAML_SEQUENCE || list->child == NULL) {
        return error_add(error, STATUS_INVALID, "%s:%d: layers: expected a list", list->file,
                         list->line);
    }
    for (const struct yaml_node *node = list->child; node != NULL; node = node->next) {
        if (preset->num_layers == GENERATE_LAYERS_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: layers: more than %d", node->file,
                             node->line, GENERATE_LAYERS_MAX);
        }
        enum status one = yaml_fill(&preset->layer[preset->num_layers], node, layer_fields, error);
        if (one == STATUS_OK) {
            one = layer_check(preset, preset->num_layers, node, error);
        }
        if (one != STATUS_OK) {
            status = one;
        }
        preset->num_layers++;
    }
    return status;
}

/* Rules that tie several keys together. */
static enum status groups_check(const struct generate_preset *preset, const char *path,
                                struct error *error)
{
    enum status status = STATUS_OK;
    if (preset->num_experts % preset->num_expert_groups != 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: num_expert_groups: %d does not divide num_experts %d", path,
                         preset->num_expert_groups, preset->num_experts);
    }
    int32_t group_experts = preset->num_experts / preset->num_expert_groups;
    if (preset->topk_groups > preset->num_expert_groups) {
        status = error_add(error, STATUS_INVALID,
                           "%s: topk_groups: %d is more than num_expert_groups %d", path,
                           preset->topk_groups, preset->num_expert_groups);
    }
    if (preset->top_k >= preset->topk_groups * group_experts) {
        status =
            error_add(error, STATUS_INVALID,
                      "%s: top_k: %d is not below the %d experts of topk_groups %d groups", path,
                      preset->top_k, preset->topk_groups * group_experts, preset->topk_groups);
    }
    if (preset->neighbour_correlation > 1 - TINY) {
        status =
            error_add(error, STATUS_INVALID, "%s: neighbour_correlation: must be below 1", path);
    }
    return status;
}

void generate_preset_free(struct generate_preset *preset)
{
    if (preset->coupled != NULL) {
        free(preset->coupled->table);
        free(preset->coupled);
        preset->coupled = NULL;
    }
}

enum status generate_preset_load(struct generate_preset *preset, const char *name,
                                 struct error *error)
{
    struct preset source;
    struct preset_file *file = NULL;
    enum status status = preset_open(&source, "traces", name, error);
    if (status != STATUS_OK) {
        goto done;
    }
    if (yaml_get(source.root, "couplings") != NULL) {
        status = coupled_read(preset, source.root, source.path, error);
        memcpy(preset->name, source.name, sizeof preset->name);
        goto done;
    }
    file = calloc(1, sizeof *file);
    if (file == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
        goto done;
    }
    file->preset.num_expert_groups = 1;
    file->preset.topk_groups = 1;
    file->preset.neighbour_experts = 1;
    status = yaml_fill(file, source.root, file_fields, error);
    if (status != STATUS_OK) {
        goto done;
    }
    enum status groups = groups_check(&file->preset, source.path, error);
    status = layers_read(&file->preset, file->layers, error);
    status = groups == STATUS_OK ? status : groups;
    memcpy(file->preset.name, source.name, sizeof file->preset.name);
    *preset = file->preset;
done:
    free(file);
    preset_close(&source);
    return status;
}
