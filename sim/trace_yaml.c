/*
 * trace_yaml.c -- reads trace.yaml: what a trace directory says about itself.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "trace_internal.h"
#include "yaml_file.h"

static const char *const score_names[] = {"logits", "sigmoids", NULL}; /* of enum trace_score */
static const char *const origin_names[] = {"measured", "generated", "mock", NULL};

/* What yaml_fill takes from trace.yaml. */
struct header {
    int32_t version;
    char model[NAME_BYTES];
    char source[SOURCE_BYTES];
    char licence[NAME_BYTES];
    int32_t origin; /* index into origin_names */
    int32_t score;  /* index into score_names */
    int32_t num_experts;
    int32_t top_k;
    int64_t tokens_per_shard; /* 0: not said */
    int64_t num_tokens;       /* 0: not said */
    struct yaml_node *layers;
};

static const struct yaml_field header_fields[] = {
    {"version", YAML_INT32, offsetof(struct header, version), 0, true, TRACE_VERSION, TRACE_VERSION,
     NULL, NULL},
    {"model", YAML_TEXT, offsetof(struct header, model), NAME_BYTES, true, 0, 0, NULL, NULL},
    {"num_experts", YAML_INT32, offsetof(struct header, num_experts), 0, true, 1, TRACE_EXPERTS_MAX,
     NULL, NULL},
    {"top_k", YAML_INT32, offsetof(struct header, top_k), 0, true, 1, TRACE_EXPERTS_MAX, NULL,
     NULL},
    {"layers", YAML_NODE, offsetof(struct header, layers), 0, true, 0, 0, NULL, NULL},
    {"origin", YAML_CHOICE, offsetof(struct header, origin), 0, true, 0, 0, origin_names, NULL},
    {"scores", YAML_CHOICE, offsetof(struct header, score), 0, false, 0, 0, score_names, NULL},
    {"tokens_per_shard", YAML_INT64, offsetof(struct header, tokens_per_shard), 0, false, 1,
     TRACE_TOKENS_MAX, NULL, NULL},
    {"num_tokens", YAML_INT64, offsetof(struct header, num_tokens), 0, false, 1, TRACE_TOKENS_MAX,
     NULL, NULL},
    {"source", YAML_TEXT, offsetof(struct header, source), SOURCE_BYTES, false, 0, 0, NULL, NULL},
    {"licence", YAML_TEXT, offsetof(struct header, licence), NAME_BYTES, false, 0, 0, NULL, NULL},
    {NULL, YAML_TEXT, 0, 0, false, 0, 0, NULL, NULL},
};

bool trace_is_origin(const char *origin)
{
    int32_t i = 0;
    while (origin_names[i] != NULL && strcmp(origin, origin_names[i]) != 0) {
        i++;
    }
    return origin_names[i] != NULL;
}

/* A layer number of the list, or -1 when the item is none. */
static int32_t layer_number(const struct yaml_node *item)
{
    if (item->kind != YAML_SCALAR || item->quoted || strlen(item->text) == 0 ||
        strlen(item->text) > 6 || strspn(item->text, "0123456789") != strlen(item->text)) {
        return -1;
    }
    return (int32_t)strtol(item->text, NULL, 10);
}

static enum status read_layers(struct trace *trace, const struct yaml_node *layers,
                               struct error *error)
{
    int32_t count = 0;
    if (layers->kind != YAML_SEQUENCE || layers->child == NULL) {
        return error_add(error, STATUS_INVALID,
                         "%s:%d: layers: expected a list of layer numbers, such as [0, 1, 2]",
                         layers->file, layers->line);
    }
    for (const struct yaml_node *item = layers->child; item != NULL; item = item->next) {
        if (++count > TRACE_LAYERS_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: layers: more than %d layers",
                             layers->file, layers->line, TRACE_LAYERS_MAX);
        }
    }
    trace->model_layer = calloc((size_t)count, sizeof *trace->model_layer);
    if (trace->model_layer == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for %d layers", count);
    }
    int32_t previous = -1;
    for (const struct yaml_node *item = layers->child; item != NULL; item = item->next) {
        int32_t number = layer_number(item);
        if (number <= previous) {
            return error_add(error, STATUS_INVALID,
                             "%s:%d: layers: expected ascending layer numbers of the model, from 0",
                             item->file, item->line);
        }
        trace->model_layer[trace->num_layers++] = number;
        previous = number;
    }
    return STATUS_OK;
}

enum status trace_yaml_read(struct trace *trace, int64_t *num_tokens, const char *directory,
                            struct error *error)
{
    struct arena arena = {NULL, NULL};
    struct yaml_node *root = NULL;
    struct header header = {.origin = -1};
    char path[TRACE_PATH_BYTES];
    *num_tokens = 0;
    if (!trace_join(path, directory, "trace.yaml")) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", directory);
    }
    enum status status = yaml_load(&root, path, &arena, error);
    if (status == STATUS_OK) {
        status = yaml_fill(&header, root, header_fields, error);
    }
    if (header.layers != NULL) { /* looked at even if other keys are wrong */
        enum status layers_status = read_layers(trace, header.layers, error);
        status = status == STATUS_OK ? layers_status : status;
    }
    if (status == STATUS_OK && header.top_k > header.num_experts) {
        status = error_add(error, STATUS_INVALID, "%s: top_k is %d, more than num_experts %d", path,
                           header.top_k, header.num_experts);
    }
    if (status == STATUS_OK) {
        assert(header.origin >= 0);
        memcpy(trace->model, header.model, sizeof trace->model);
        memcpy(trace->source, header.source, sizeof trace->source);
        memcpy(trace->licence, header.licence, sizeof trace->licence);
        memcpy(trace->origin, origin_names[header.origin], strlen(origin_names[header.origin]) + 1);
        trace->num_experts = header.num_experts;
        trace->top_k = header.top_k;
        trace->score = (enum trace_score)header.score;
        trace->tokens_per_shard = header.tokens_per_shard;
        *num_tokens = header.num_tokens;
    }
    arena_free(&arena);
    return status;
}
