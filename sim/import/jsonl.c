/*
 * jsonl.c -- logs of JSON lines that people write themselves.
 *
 * A line is one token in one layer, {"type": "route", "req_id", "token_idx", "layer", "topk_ids":
 * [...], "topk_weights": [...]}, or one layer of a batch, {"layer", "batch_id", "origin_rows":
 * [...], "topk_experts": [[...], ...]}, where origin_rows (or else the place in the list) numbers
 * the tokens. {"type": "meta"} may say num_experts and top_k; other types are left out. Lines come
 * in any order; common other names of the keys are taken too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/gather.h"
#include "import/json_pull.h"

#define NAMES_MAX 8

enum field {
    FIELD_REQUEST,
    FIELD_BATCH,
    FIELD_TOKEN,
    FIELD_ROWS,
    FIELD_LAYER,
    FIELD_EXPERTS,
    FIELD_WEIGHTS,
    FIELD_TYPE,
    FIELD_NUM_EXPERTS,
    FIELD_TOP_K,
    NUM_FIELDS,
};

static const char *const names[NUM_FIELDS][NAMES_MAX] = {
    [FIELD_REQUEST] = {"req_id", "request_id", "request", "rid", NULL},
    [FIELD_BATCH] = {"batch_id", "batch", "step", NULL},
    [FIELD_TOKEN] = {"token_idx", "token", "token_index", "position", "pos", NULL},
    [FIELD_ROWS] = {"origin_rows", NULL},
    [FIELD_LAYER] = {"layer", "layer_id", "layer_idx", NULL},
    [FIELD_EXPERTS] = {"topk_ids", "topk_experts", "expert_ids", "experts", NULL},
    [FIELD_WEIGHTS] = {"topk_weights", "weights", "gate_weights", NULL},
    [FIELD_TYPE] = {"type", NULL},
    [FIELD_NUM_EXPERTS] = {"num_experts", NULL},
    [FIELD_TOP_K] = {"top_k", "topk", NULL},
};

/* Numbers of a list, or of a list of lists one behind the other. */
struct list {
    double *number;
    int64_t count;
    int64_t capacity;
    int64_t num_rows; /* inner lists; 0: it is a plain list */
    int64_t columns;  /* of each inner list */
    bool is_there;
};

struct log {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    struct gather *gather;
    struct json_reader reader;
    struct list list[NUM_FIELDS]; /* rows, experts and weights */
    int64_t num_others;           /* lines of other types */
    char place[32];
};

/* What a line says beside its lists. */
struct line {
    struct json_token request;
    struct json_token type;
    bool is_batch;
    int64_t token;
    int64_t layer;
    int64_t num_experts;
    int64_t top_k;
};

static enum status complain(const struct log *log, const char *what)
{
    return import_complain(log->sink, log->path, log->place, "%s", what);
}

static bool append(struct list *list, double number)
{
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        double *larger = realloc(list->number, (size_t)capacity * sizeof *larger);
        if (larger == NULL) {
            return false;
        }
        list->number = larger;
        list->capacity = capacity;
    }
    list->number[list->count++] = number;
    return true;
}

/* Reads [1, 2] or [[1, 2], [3, 4]] behind its first bracket. False: it is neither. */
static bool read_list(struct log *log, struct list *list)
{
    struct json_token token;
    const int32_t depth = log->reader.depth;
    int64_t first = 0;
    bool is_sound = true;
    list->count = 0;
    list->num_rows = 0;
    list->columns = 0;
    list->is_there = true;
    while (log->reader.depth >= depth) {
        double number = 0.0;
        enum json_kind kind = json_next(&log->reader, &token);
        bool is_inner = log->reader.depth == depth + 1;
        if (kind == JSON_BROKEN || kind == JSON_END) {
            return true; /* told by the caller */
        }
        if (kind == JSON_NUMBER && json_double(&token, &number)) {
            is_sound = is_sound && (is_inner || list->num_rows == 0) && append(list, number);
        } else if (kind == JSON_ARRAY && is_inner) {
            is_sound = is_sound && list->count == list->num_rows * list->columns;
            list->num_rows++;
            first = list->count;
        } else if (kind == JSON_ARRAY_END && log->reader.depth == depth) {
            int64_t columns = list->count - first;
            is_sound = is_sound && (list->num_rows == 1 || list->columns == columns);
            list->columns = columns;
        } else if (kind != JSON_ARRAY_END) {
            is_sound = false;
        }
    }
    return is_sound;
}

static enum field find_field(const struct json_token *token)
{
    for (enum field field = 0; field < NUM_FIELDS; field++) {
        for (int32_t name = 0; names[field][name] != NULL; name++) {
            if (json_key_is(token, names[field][name])) {
                return field;
            }
        }
    }
    return NUM_FIELDS;
}

/* Takes one value of a line. NULL: understood. */
static const char *take(struct log *log, const struct json_token *token, struct line *line)
{
    const enum field field = find_field(token);
    switch (field) {
    case FIELD_REQUEST:
    case FIELD_BATCH:
        if (token->kind == JSON_STRING || token->kind == JSON_NUMBER) {
            line->is_batch = field == FIELD_BATCH && line->request.text == NULL;
            line->request = field == FIELD_REQUEST || line->is_batch ? *token : line->request;
        }
        return NULL;
    case FIELD_TYPE:
        line->type = *token;
        return NULL;
    case FIELD_TOKEN:
        return json_whole(token, &line->token) ? NULL : "token: expected a whole number";
    case FIELD_LAYER:
        return json_whole(token, &line->layer) ? NULL : "layer: expected a whole number";
    case FIELD_NUM_EXPERTS:
        return json_whole(token, &line->num_experts) ? NULL
                                                     : "num_experts: expected a whole number";
    case FIELD_TOP_K:
        return json_whole(token, &line->top_k) ? NULL : "top_k: expected a whole number";
    case FIELD_ROWS:
    case FIELD_EXPERTS:
    case FIELD_WEIGHTS:
        if (token->kind != JSON_ARRAY) {
            return field == FIELD_ROWS ? NULL : "expected a list of experts or weights";
        }
        return read_list(log, &log->list[field])
                   ? NULL
                   : "expected a list of numbers, or of lists of as many numbers";
    case NUM_FIELDS:
        break;
    }
    (void)json_skip(&log->reader, token);
    return NULL;
}

/* Adds the tokens of a line whose lists have been read. */
static enum status add_rows(struct log *log, const struct line *line)
{
    const struct list *experts = &log->list[FIELD_EXPERTS];
    const struct list *weights = &log->list[FIELD_WEIGHTS];
    const struct list *rows = &log->list[FIELD_ROWS];
    int64_t expert[GATHER_TOP_K_MAX];
    int64_t num_rows = experts->num_rows > 0 ? experts->num_rows : 1;
    int64_t top_k = experts->num_rows > 0 ? experts->columns : experts->count;
    enum status status = STATUS_OK;
    if ((weights->is_there && weights->count != experts->count) ||
        (rows->is_there && experts->num_rows > 0 && rows->count != num_rows) ||
        top_k > GATHER_TOP_K_MAX) {
        return complain(log, "has not as many weights or rows as experts");
    }
    for (int64_t row = 0; row < num_rows && status == STATUS_OK; row++) {
        for (int64_t k = 0; k < top_k; k++) {
            double id = experts->number[row * top_k + k];
            bool is_id = id >= -1.0 && id < 65536.0 && (double)(int64_t)id == id;
            expert[k] = is_id ? (int64_t)id : 65536;
        }
        bool is_numbered = rows->is_there && row < rows->count && rows->number[row] >= 0.0 &&
                           rows->number[row] < (double)INT32_MAX;
        int64_t token = experts->num_rows == 0 ? line->token
                        : is_numbered          ? (int64_t)rows->number[row]
                        : rows->is_there       ? -1
                                               : row;
        const struct gather_line one = {
            .place = log->place,
            .request = line->request.text,
            .request_length = line->request.length,
            .is_batch = line->is_batch,
            .token = token,
            .layer = line->layer,
            .expert = expert,
            .weight = weights->is_there ? weights->number + row * top_k : NULL,
            .top_k = (int32_t)top_k,
        };
        status = gather_add(log->gather, log->path, &one);
    }
    return status;
}

static enum status check_meta(const struct log *log, const struct line *line)
{
    const struct import_input *input = log->input;
    bool other_experts =
        line->num_experts > 0 && input->num_experts > 0 && line->num_experts != input->num_experts;
    bool other_top_k = line->top_k > 0 && input->top_k > 0 && line->top_k != input->top_k;
    return other_experts || other_top_k
               ? complain(log, "says another number of experts or another top_k than --model")
               : STATUS_OK;
}

/* Reads the object that has just begun. */
static enum status read_line(struct log *log)
{
    struct json_token token;
    struct line line = {.token = -1, .layer = -1};
    const char *fault = NULL;
    for (enum field field = 0; field < NUM_FIELDS; field++) {
        log->list[field].is_there = false;
    }
    while (json_next(&log->reader, &token) != JSON_OBJECT_END) {
        if (token.kind == JSON_BROKEN || token.kind == JSON_END) {
            return STATUS_OK; /* told by the caller */
        }
        const char *found = take(log, &token, &line);
        fault = fault == NULL ? found : fault;
    }
    if (json_text_is(&line.type, "meta")) {
        return check_meta(log, &line);
    }
    bool is_route = json_text_is(&line.type, "route") || line.type.kind != JSON_STRING;
    if (is_route && fault != NULL) {
        return complain(log, fault);
    }
    if (!is_route || !log->list[FIELD_EXPERTS].is_there) {
        log->num_others++;
        return STATUS_OK;
    }
    return add_rows(log, &line);
}

static enum status read_file(struct log *log, const struct import_file *file)
{
    struct json_reader *reader = &log->reader;
    struct json_token token;
    enum status status = STATUS_OK;
    json_begin(reader, file);
    while (status == STATUS_OK && json_next(reader, &token) == JSON_OBJECT) {
        (void)snprintf(log->place, sizeof log->place, "line %lld", (long long)reader->line);
        status = read_line(log);
        import_progress(log->sink, reader->at - reader->begin, file->num_bytes);
    }
    if (status == STATUS_OK && token.kind != JSON_END) {
        (void)snprintf(log->place, sizeof log->place, "line %lld", (long long)reader->line);
        return import_refuse(log->sink, log->path, log->place, "%s",
                             reader->problem != NULL ? reader->problem : "expected an object");
    }
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory to read logs");
    }
    log->input = input;
    log->sink = sink;
    enum status status = gather_open(&log->gather, input, sink);
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file;
        log->path = input->options->paths[i];
        status = import_file_open(&file, log->path, input->error);
        if (status == STATUS_OK) {
            status = read_file(log, &file);
        }
        import_file_close(&file);
    }
    if (status == STATUS_OK) {
        status = gather_finish(log->gather);
    }
    import_drop(sink, "lines of other types", log->num_others);
    for (enum field field = 0; field < NUM_FIELDS; field++) {
        free(log->list[field].number);
    }
    gather_close(log->gather);
    free(log);
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    const char *text = (const char *)probe->text;
    bool is_log = strstr(text, "\"layer") != NULL && (strstr(text, "\"topk_ids\"") != NULL ||
                                                      strstr(text, "\"topk_experts\"") != NULL ||
                                                      strstr(text, "\"expert_ids\"") != NULL);
    return text[0] == '{' && is_log ? 50 : 0;
}

const struct import_format import_jsonl = {
    .name = "jsonl",
    .summary = "logs: req_id, token_idx, layer, topk_ids, topk_weights; or whole batches",
    .source = "JSON lines of any logger",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
