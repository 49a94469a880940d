/*
 * megatron_router_trace.c -- router_trace_rank{r}.jsonl of Megatron Core's RouterTracer.
 *
 * One line a layer and step: {"step", "stage": "pre_dispatch", "block": "decoder" or "mtp",
 * "layer", "rank", "num_tokens", "topk", "top_indices": [[...]]}. The lines of a step are gathered
 * and passed on when the step changes or a layer comes again. Tokens have no requests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/json_pull.h"

#define LAYERS_MAX   4096
#define STEP_IDS_MAX (INT64_C(1) << 27) /* 512 MiB: no step of a rank is larger */

/* What one line says; top_indices are in the step. */
struct record {
    int64_t line;
    int64_t step;
    int64_t layer;
    bool is_mtp;
    bool has_indices;
    int64_t num_tokens; /* found */
    int64_t top_k;      /* found */
};

/* The lines of one step, layer behind layer. */
struct step {
    int64_t number;
    int64_t line; /* of the first */
    int32_t num_layers;
    int32_t model_layer[LAYERS_MAX];
    int64_t num_tokens;
    int64_t top_k;
    bool is_broken; /* a line of it was refused */
    int32_t *ids;   /* [num_layers][num_tokens][top_k], then those of the line at hand */
    int64_t num_ids;
    int64_t capacity;
};

struct tracer {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    struct json_reader reader;
    struct step step;
    int64_t num_mtp;
};

static enum status complain(struct tracer *tracer, int64_t line, const char *what)
{
    char place[32];
    (void)snprintf(place, sizeof place, "line %lld", (long long)line);
    return import_complain(tracer->sink, tracer->path, place, "%s", what);
}

static enum status append_id(struct tracer *tracer, int64_t id)
{
    struct step *step = &tracer->step;
    if (step->num_ids == step->capacity) {
        int64_t capacity = step->capacity == 0 ? 65536 : 2 * step->capacity;
        if (step->capacity == STEP_IDS_MAX) {
            char place[32];
            (void)snprintf(place, sizeof place, "line %lld", (long long)tracer->reader.line);
            return import_refuse(tracer->sink, tracer->path, place, "a step of more than %lld ids",
                                 (long long)STEP_IDS_MAX);
        }
        void *larger = realloc(step->ids, (size_t)capacity * sizeof *step->ids);
        if (larger == NULL) {
            return error_add(tracer->input->error, STATUS_NO_MEMORY, "no memory for %lld ids",
                             (long long)capacity);
        }
        step->ids = larger;
        step->capacity = capacity;
    }
    step->ids[step->num_ids++] = id >= INT32_MIN && id <= INT32_MAX ? (int32_t)id : INT32_MAX;
    return STATUS_OK;
}

/* Reads [[...], ...] behind the ids gathered so far. */
static enum status read_indices(struct tracer *tracer, struct record *record)
{
    struct json_token token;
    const int32_t depth = tracer->reader.depth;
    int64_t count = 0;
    bool is_sound = true;
    enum status status = STATUS_OK;
    record->top_k = -1;
    while (tracer->reader.depth >= depth && status == STATUS_OK) {
        int64_t id = 0;
        enum json_kind kind = json_next(&tracer->reader, &token);
        if (kind == JSON_BROKEN || kind == JSON_END) {
            return STATUS_OK; /* told by the caller */
        }
        if (kind == JSON_ARRAY && tracer->reader.depth == depth + 1) {
            record->num_tokens++;
            count = 0;
        } else if (kind == JSON_ARRAY_END && tracer->reader.depth == depth) {
            is_sound = is_sound && (record->top_k == -1 || record->top_k == count);
            record->top_k = count;
        } else if (kind == JSON_NUMBER && tracer->reader.depth == depth + 1 &&
                   json_whole(&token, &id)) {
            status = append_id(tracer, id);
            count++;
        } else if (kind != JSON_ARRAY_END) {
            is_sound = false;
        }
    }
    record->has_indices = is_sound;
    return status == STATUS_OK && !is_sound
               ? complain(tracer, record->line,
                          "top_indices: expected a list of tokens, each a list of as many ids")
               : status;
}

static enum status read_number(struct tracer *tracer, const struct json_token *token,
                               struct record *record, const char *key, int64_t *value)
{
    char what[64];
    if (!json_key_is(token, key) || json_whole(token, value)) {
        return STATUS_OK;
    }
    (void)snprintf(what, sizeof what, "%s: expected a whole number", key);
    return complain(tracer, record->line, what);
}

/* Reads the object that has just begun. */
static enum status read_record(struct tracer *tracer, struct record *record)
{
    struct json_reader *reader = &tracer->reader;
    struct json_token token;
    enum status status = STATUS_OK;
    *record = (struct record){.line = reader->line, .step = -1, .layer = -1};
    while (status == STATUS_OK && json_next(reader, &token) != JSON_OBJECT_END) {
        if (token.kind == JSON_BROKEN) {
            return STATUS_OK; /* told by the caller */
        }
        record->is_mtp =
            record->is_mtp || (json_key_is(&token, "block") && json_text_is(&token, "mtp"));
        status = read_number(tracer, &token, record, "step", &record->step);
        if (status == STATUS_OK) {
            status = read_number(tracer, &token, record, "layer", &record->layer);
        }
        if (status == STATUS_OK && json_key_is(&token, "top_indices") && token.kind == JSON_ARRAY) {
            status = read_indices(tracer, record);
        } else {
            (void)json_skip(reader, &token);
        }
    }
    bool is_whole = record->step >= 0 && record->layer >= 0 && record->layer <= INT32_MAX &&
                    record->has_indices;
    return status == STATUS_OK && !is_whole && reader->problem == NULL && !record->is_mtp
               ? complain(tracer, record->line,
                          "expected an object with step, layer and top_indices")
               : status;
}

/* Passes the gathered step on and begins the next. */
static enum status end_step(struct tracer *tracer)
{
    struct step *step = &tracer->step;
    char place[48];
    enum status status = STATUS_OK;
    (void)snprintf(place, sizeof place, "line %lld, step %lld", (long long)step->line,
                   (long long)step->number);
    const struct import_block block = {
        .num_tokens = step->num_tokens,
        .num_layers = step->num_layers,
        .top_k = (int32_t)step->top_k,
        .expert = {.data = step->ids,
                   .type = NPY_INT32,
                   .stride = {step->top_k, step->num_tokens * step->top_k, 1}},
        .model_layer = step->model_layer,
        .path = tracer->path,
        .place = place,
    };
    if (step->num_layers > 0 && step->num_tokens > 0 && !step->is_broken) {
        status = import_block(tracer->sink, &block);
    }
    step->num_layers = 0;
    step->num_ids = 0;
    step->is_broken = false;
    return status;
}

static bool has_layer(const struct step *step, int64_t layer)
{
    for (int32_t i = 0; i < step->num_layers; i++) {
        if (step->model_layer[i] == layer) {
            return true;
        }
    }
    return false;
}

/* Adds a line, whose ids stand behind those of the step, to its step. */
static enum status add_record(struct tracer *tracer, const struct record *record, int64_t num_ids)
{
    struct step *step = &tracer->step;
    int64_t num_new = step->num_ids - num_ids;
    if (step->num_layers > 0 && (step->number != record->step || has_layer(step, record->layer))) {
        step->num_ids = num_ids;
        enum status status = end_step(tracer);
        if (status != STATUS_OK) {
            return status;
        }
        memmove(step->ids, step->ids + num_ids, (size_t)num_new * sizeof *step->ids);
        step->num_ids = num_new;
    }
    if (step->num_layers == 0) {
        step->number = record->step;
        step->line = record->line;
        step->num_tokens = record->num_tokens;
        step->top_k = record->top_k;
    }
    if (record->num_tokens != step->num_tokens ||
        (record->top_k != step->top_k && record->num_tokens > 0) ||
        step->num_layers == LAYERS_MAX) {
        step->num_ids -= num_new;
        step->is_broken = true;
        return complain(tracer, record->line,
                        "has not as many tokens or choices as the layer before in the same step");
    }
    step->model_layer[step->num_layers++] = (int32_t)record->layer;
    return STATUS_OK;
}

static enum status read_file(struct tracer *tracer, const struct import_file *file)
{
    struct json_reader *reader = &tracer->reader;
    struct record record;
    struct json_token token;
    enum status status = STATUS_OK;
    json_begin(reader, file);
    while (status == STATUS_OK && import_wants_more(tracer->sink) &&
           json_next(reader, &token) == JSON_OBJECT) {
        int64_t num_ids = tracer->step.num_ids;
        int32_t num_problems = import_num_problems(tracer->sink);
        status = read_record(tracer, &record);
        if (reader->problem != NULL) {
            break;
        }
        if (record.is_mtp || import_num_problems(tracer->sink) > num_problems) {
            tracer->step.num_ids = num_ids;
            tracer->num_mtp += record.is_mtp ? 1 : 0;
        } else if (status == STATUS_OK) {
            status = add_record(tracer, &record, num_ids);
        }
        import_progress(tracer->sink, reader->at - reader->begin, file->num_bytes);
    }
    if (status == STATUS_OK && (reader->problem != NULL || token.kind != JSON_END) &&
        import_wants_more(tracer->sink)) {
        char place[32];
        (void)snprintf(place, sizeof place, "line %lld", (long long)reader->line);
        return import_refuse(tracer->sink, tracer->path, place, "%s",
                             reader->problem != NULL ? reader->problem : "expected an object");
    }
    return status == STATUS_OK && import_wants_more(tracer->sink) ? end_step(tracer) : status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct tracer *tracer = calloc(1, sizeof *tracer);
    enum status status = STATUS_OK;
    if (tracer == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory to read router traces");
    }
    tracer->input = input;
    tracer->sink = sink;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file = {.path = NULL};
        tracer->path = input->options->paths[i];
        tracer->step.num_layers = 0;
        tracer->step.num_ids = 0;
        if (!import_wants_more(sink)) {
            break;
        }
        status = import_file_open(&file, tracer->path, input->error);
        if (status == STATUS_OK) {
            status = read_file(tracer, &file);
        }
        import_file_close(&file);
    }
    import_drop(sink, "lines of multi-token prediction blocks", tracer->num_mtp);
    free(tracer->step.ids);
    free(tracer);
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    const char *text = (const char *)probe->text;
    bool has_keys = strstr(text, "\"top_indices\"") != NULL && strstr(text, "\"step\"") != NULL;
    return text[0] == '{' && has_keys ? 95 : 0;
}

const struct import_format import_megatron_router_trace = {
    .name = "megatron_router_trace",
    .summary = "router_trace_rank*.jsonl of Megatron Core, several ranks",
    .source = "NVIDIA/Megatron-LM, megatron/core/transformer/moe/router_trace.py",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
