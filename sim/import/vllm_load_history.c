/*
 * vllm_load_history.c -- the load history that vLLM's EPLB dumps.
 *
 * {"load_history": [{"logical_expert_load": [[E tokens], a list a MoE layer]}, a record a step]}.
 * Layers are numbered among those with experts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/json_pull.h"

#define LAYERS_MAX  4096
#define EXPERTS_MAX 65535

struct history {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    struct json_reader reader;
    int64_t step;
    int64_t num_experts; /* of a layer; 0: not known yet */
};

static enum status complain(struct history *history, const char *what)
{
    char place[64];
    (void)snprintf(place, sizeof place, "line %lld, step %lld", (long long)history->reader.line,
                   (long long)history->step);
    return import_complain(history->sink, history->path, place, "%s", what);
}

/* Reads one layer's list of tokens. */
static enum status read_layer(struct history *history, int32_t layer)
{
    struct json_token token;
    int64_t expert = 0;
    bool is_sound = true;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && json_next(&history->reader, &token) != JSON_ARRAY_END) {
        double tokens = 0.0;
        if (token.kind == JSON_BROKEN) {
            return STATUS_OK; /* told by the caller */
        }
        bool is_count = json_double(&token, &tokens) && tokens >= 0.0 && tokens < 9e15 &&
                        (double)(int64_t)tokens == tokens && expert < EXPERTS_MAX;
        (void)json_skip(&history->reader, &token);
        is_sound = is_sound && is_count;
        if (is_count) {
            status = import_load_cell(history->sink, history->step, layer, (int32_t)expert,
                                      (int64_t)tokens);
        }
        expert++;
    }
    if (status == STATUS_OK && !is_sound) {
        status = complain(history, "expected whole numbers of tokens, at least 0");
    }
    history->num_experts = history->num_experts == 0 ? expert : history->num_experts;
    if (status == STATUS_OK && expert != history->num_experts) {
        status = complain(history, "a layer with another number of experts than those before");
    }
    return status;
}

/* Reads one record's list of layers. */
static enum status read_layers(struct history *history)
{
    struct json_token token;
    int32_t layer = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && json_next(&history->reader, &token) != JSON_ARRAY_END) {
        if (token.kind == JSON_BROKEN) {
            return STATUS_OK;
        }
        if (token.kind == JSON_ARRAY && layer < LAYERS_MAX) {
            status = read_layer(history, layer++);
        } else {
            (void)json_skip(&history->reader, &token);
            status = complain(history, "logical_expert_load: expected a list of layers, each a "
                                       "list of tokens by expert");
        }
    }
    history->step++;
    return status;
}

/* Every logical_expert_load at any depth is one step. */
static enum status read_file(struct history *history, const struct import_file *file)
{
    struct json_reader *reader = &history->reader;
    struct json_token token;
    enum status status = STATUS_OK;
    int64_t step = history->step;
    json_begin(reader, file);
    while (status == STATUS_OK && json_next(reader, &token) != JSON_END) {
        if (token.kind == JSON_BROKEN) {
            return import_refuse(history->sink, history->path, "", "line %lld: %s",
                                 (long long)reader->line, reader->problem);
        }
        if (json_key_is(&token, "logical_expert_load") && token.kind == JSON_ARRAY) {
            status = read_layers(history);
        }
        import_progress(history->sink, reader->at - reader->begin, file->num_bytes);
    }
    if (status == STATUS_OK && history->step == step) {
        status = import_refuse(history->sink, history->path, "", "has no logical_expert_load");
    }
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct history *history = calloc(1, sizeof *history);
    enum status status = STATUS_OK;
    if (history == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory to read a load history");
    }
    history->input = input;
    history->sink = sink;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file = {.path = NULL};
        history->path = input->options->paths[i];
        status = import_file_open(&file, history->path, input->error);
        if (status == STATUS_OK) {
            status = read_file(history, &file);
        }
        import_file_close(&file);
    }
    free(history);
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    const char *text = (const char *)probe->text;
    return text[0] == '{' && strstr(text, "\"logical_expert_load\"") != NULL ? 95 : 0;
}

const struct import_format import_vllm_load_history = {
    .name = "vllm_load_history",
    .summary = "load history of vLLM's EPLB: becomes loads",
    .source = "vllm-project/vllm, vllm/distributed/eplb",
    .level = IMPORT_LOADS,
    .detect = detect,
    .read = read_all,
};
