/*
 * responses.c -- finds the routed experts in responses of any shape.
 *
 * Engines, gateways and logging scripts wrap responses in each other, so routed_experts is looked
 * for at any depth. What describes it (dtype, shape, first token) may stand before or behind it,
 * in its own object or further out; so it is decoded when its response is over.
 */
#include "import/responses.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/base64_rows.h"
#include "import/json_pull.h"
#include "import/nested_rows.h"

#define CAPTURES_MAX 65536 /* choices of one response */
#define WINDOW_BYTES (INT64_C(4) << 20)
#define PLACE_BYTES  32

/* What has been said in an open object, for the captures in it. */
struct frame {
    int32_t first_capture;
    bool is_capture; /* the object is a routed_experts itself */
    bool has_type;
    enum npy_type type;
    int64_t start_token; /* -1: not said */
};

struct walk {
    const struct import_input *input;
    struct import_sink *sink;
    struct json_reader reader;
    const char *path;
    bool is_raw;
    struct base64_rows *captures; /* of the response at hand */
    int32_t num_captures;
    int32_t capacity;
    int64_t num_without; /* responses that routed nothing */
    struct frame frame[JSON_DEPTH_MAX + 1];
};

static enum status complain(struct walk *walk, int64_t line, const char *what)
{
    char place[PLACE_BYTES];
    (void)snprintf(place, sizeof place, "line %lld", (long long)line);
    return import_complain(walk->sink, walk->path, place, "%s", what);
}

/* Of more than that many reading ends, so that the last capture is always the one at hand. */
static enum status add_capture(struct walk *walk, const struct json_token *token)
{
    if (walk->num_captures == CAPTURES_MAX) {
        char place[PLACE_BYTES];
        (void)snprintf(place, sizeof place, "line %lld", (long long)walk->reader.line);
        return import_refuse(walk->sink, walk->path, place,
                             "one response with more than %d choices", CAPTURES_MAX);
    }
    if (walk->num_captures == walk->capacity) {
        int32_t capacity = walk->capacity == 0 ? 16 : 2 * walk->capacity;
        void *larger = realloc(walk->captures, (size_t)capacity * sizeof *walk->captures);
        if (larger == NULL) {
            return error_add(walk->input->error, STATUS_NO_MEMORY, "no memory for %d choices",
                             capacity);
        }
        walk->captures = larger;
        walk->capacity = capacity;
    }
    walk->captures[walk->num_captures++] = (struct base64_rows){
        .path = walk->path,
        .line = walk->reader.line,
        .text = token->text, /* of an object NULL: its data comes later */
        .length = token->length,
        .start_token = -1,
    };
    return STATUS_OK;
}

/* [1, 2, 3] into the shape of the capture at hand. */
static enum status read_shape(struct walk *walk)
{
    struct base64_rows *rows = &walk->captures[walk->num_captures - 1];
    struct json_token token;
    int64_t line = walk->reader.line;
    rows->num_dims = 0;
    while (json_next(&walk->reader, &token) != JSON_ARRAY_END) {
        int64_t size = 0;
        if (token.kind == JSON_BROKEN) {
            return STATUS_OK; /* told by the caller */
        }
        if (!json_whole(&token, &size) || rows->num_dims == NPY_DIMS_MAX) {
            (void)json_skip(&walk->reader, &token);
            rows->num_dims = NPY_DIMS_MAX;
            rows->dim[0] = -1;
            continue;
        }
        rows->dim[rows->num_dims++] = size;
    }
    bool is_sound = rows->num_dims == TRACE_AXIS_COUNT;
    rows->has_shape = is_sound;
    return is_sound ? STATUS_OK
                    : complain(walk, line, "shape: expected three numbers: tokens, layers and k");
}

static enum status read_type(struct walk *walk, const struct json_token *token, struct frame *frame)
{
    frame->has_type = base64_rows_type(&frame->type, token);
    return frame->has_type || token->kind == JSON_NULL
               ? STATUS_OK
               : complain(walk, walk->reader.line, "dtype: expected an integer type such as uint8");
}

static enum status read_start(struct walk *walk, const struct json_token *token,
                              struct frame *frame)
{
    bool is_sound = json_whole(token, &frame->start_token) && frame->start_token >= 0 &&
                    frame->start_token <= INT32_MAX;
    if (!is_sound) {
        frame->start_token = -1;
    }
    return is_sound || token->kind == JSON_NULL
               ? STATUS_OK
               : complain(walk, walk->reader.line, "start: expected a number of tokens");
}

/* Takes a value that is no routed_experts itself, as far as it says something about one. */
static enum status take_detail(struct walk *walk, const struct json_token *token,
                               struct frame *frame)
{
    if (json_key_is(token, "routed_experts_dtype") ||
        (frame->is_capture && json_key_is(token, "dtype"))) {
        return read_type(walk, token, frame);
    }
    if (json_key_is(token, "routed_experts_start_len") ||
        json_key_is(token, "routed_experts_prompt_start") ||
        (frame->is_capture && json_key_is(token, "start"))) {
        return read_start(walk, token, frame);
    }
    if (frame->is_capture && json_key_is(token, "shape") && token->kind == JSON_ARRAY) {
        return read_shape(walk);
    }
    if (frame->is_capture && json_key_is(token, "data") && token->kind == JSON_STRING) {
        struct base64_rows *rows = &walk->captures[walk->num_captures - 1];
        rows->text = token->text;
        rows->length = token->length;
    }
    return STATUS_OK;
}

static enum status take_routed_experts(struct walk *walk, const struct json_token *token)
{
    if (token->kind == JSON_STRING || token->kind == JSON_OBJECT) {
        return add_capture(walk, token);
    }
    if (token->kind == JSON_NULL) {
        return STATUS_OK;
    }
    if (token->kind != JSON_ARRAY) {
        return complain(walk, walk->reader.line,
                        "routed_experts: expected base64, an object with data, or nested lists");
    }
    struct json_token list = {.text = (const char *)walk->reader.at - 1}; /* its bracket */
    enum status status = add_capture(walk, &list);
    if (status == STATUS_OK && json_skip(&walk->reader, token)) {
        struct base64_rows *rows = &walk->captures[walk->num_captures - 1];
        rows->is_list = true;
        rows->length = (const char *)walk->reader.at - rows->text;
    }
    return status;
}

/* What an object said holds for all captures in it that have not been told otherwise. */
static void close_frame(struct walk *walk, const struct frame *frame)
{
    for (int32_t i = frame->first_capture; i < walk->num_captures; i++) {
        struct base64_rows *rows = &walk->captures[i];
        if (frame->has_type && !rows->has_type) {
            rows->has_type = true;
            rows->type = frame->type;
        }
        if (frame->start_token >= 0 && rows->start_token < 0) {
            rows->start_token = frame->start_token;
        }
    }
}

/* Walks through the response whose object has just begun. */
static enum status walk_response(struct walk *walk)
{
    struct json_reader *reader = &walk->reader;
    const int32_t depth = reader->depth;
    struct json_token token = {.kind = JSON_OBJECT};
    enum status status = STATUS_OK;
    walk->num_captures = 0;
    walk->frame[depth] = (struct frame){.start_token = -1};
    while (reader->depth >= depth && status == STATUS_OK) {
        const int32_t level = reader->depth;
        enum json_kind kind = json_next(reader, &token);
        if (kind == JSON_BROKEN || kind == JSON_END) {
            return STATUS_OK; /* told by the caller */
        }
        if (kind == JSON_OBJECT_END || kind == JSON_ARRAY_END) {
            close_frame(walk, &walk->frame[level]);
            continue;
        }
        bool is_capture = json_key_is(&token, "routed_experts");
        int32_t first_capture = walk->num_captures;
        status = is_capture ? take_routed_experts(walk, &token)
                            : take_detail(walk, &token, &walk->frame[level]);
        if (reader->depth > level) {
            walk->frame[reader->depth] = (struct frame){
                .first_capture = first_capture,
                .is_capture = is_capture && kind == JSON_OBJECT,
                .start_token = -1,
            };
        }
    }
    return status;
}

static enum status read_capture(const struct walk *walk, const struct base64_rows *rows)
{
    struct nested_rows list = {
        .path = rows->path,
        .line = rows->line,
        .text = rows->text,
        .length = rows->length,
        .start_token = rows->start_token > 0 ? rows->start_token : 0,
    };
    return rows->is_list ? nested_rows_read(&list, walk->input, walk->sink)
                         : base64_rows_read(rows, walk->input, walk->sink, walk->is_raw);
}

/* Reads one response and passes its rows on. */
static enum status read_response(struct walk *walk)
{
    enum status status = walk_response(walk);
    if (walk->reader.problem != NULL) {
        return status;
    }
    walk->num_without += walk->num_captures == 0 ? 1 : 0;
    for (int32_t i = 0; i < walk->num_captures && status == STATUS_OK; i++) {
        if (import_wants_more(walk->sink)) {
            status = read_capture(walk, &walk->captures[i]);
        }
    }
    return status;
}

/* After a broken line of JSON lines the next one may be sound. */
static enum status recover(struct walk *walk, int64_t line)
{
    struct json_reader *reader = &walk->reader;
    enum status status = complain(walk, reader->line, reader->problem);
    size_t left = (size_t)(reader->end - reader->at);
    const unsigned char *next = reader->line == line ? memchr(reader->at, '\n', left) : NULL;
    reader->at = next != NULL ? next : reader->end;
    reader->depth = 0;
    reader->problem = NULL;
    return status;
}

static enum status read_responses(struct walk *walk, const struct import_file *file)
{
    struct json_reader *reader = &walk->reader;
    const unsigned char *kept = file->data; /* pages before it are let go, decoded ones too */
    enum status status = STATUS_OK;
    json_begin(reader, file);
    while (status == STATUS_OK && import_wants_more(walk->sink)) {
        struct json_token token;
        enum json_kind kind = json_next(reader, &token);
        int64_t line = reader->line;
        if (kind == JSON_END) {
            break;
        }
        if (kind == JSON_OBJECT) {
            status = read_response(walk);
            import_progress(walk->sink, reader->at - reader->begin, file->num_bytes);
        }
        if (reader->at - kept > WINDOW_BYTES) {
            import_forget(kept, (size_t)(reader->at - kept));
            kept = reader->at;
        }
        bool is_list = kind == JSON_ARRAY && reader->depth == 1;
        bool is_expected = kind == JSON_OBJECT || is_list || kind == JSON_ARRAY_END;
        if (reader->problem == NULL && !is_expected) {
            (void)json_skip(reader, &token);
            status = complain(walk, line, "expected a response, which is an object");
        }
        if (status == STATUS_OK && reader->problem != NULL) {
            status = recover(walk, line);
        }
    }
    return status;
}

enum status responses_read(const struct import_input *input, struct import_sink *sink, bool is_raw)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory to read responses");
    }
    enum status status = STATUS_OK;
    walk->input = input;
    walk->sink = sink;
    walk->is_raw = is_raw;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file = {.path = NULL};
        walk->path = input->options->paths[i];
        if (!import_wants_more(sink)) {
            break;
        }
        status = import_file_open(&file, walk->path, input->error);
        if (status == STATUS_OK) {
            status = read_responses(walk, &file);
        }
        import_file_close(&file);
    }
    import_drop(sink, "responses without routed_experts", walk->num_without);
    free(walk->captures);
    free(walk);
    return status;
}

int32_t responses_detect(const struct import_probe *probe, bool *is_npy, bool *has_shape)
{
    const char *text = (const char *)probe->text;
    const char *key = strstr(text, "\"routed_experts\"");
    bool is_json = strchr("{[ \n\r\t\xef", text[0]) != NULL;
    if (key == NULL || !is_json) {
        return 0;
    }
    const char *value = key + strlen("\"routed_experts\"");
    value += strspn(value, " :\n\t\r\"");
    *is_npy = strncmp(value, "k05VTVBZ", 8) == 0; /* base64 of \x93NUMPY */
    bool is_shaped = value[0] == '{' && strstr(value, "\"shape\"") != NULL;
    *has_shape = is_shaped || value[0] == '['; /* lists are their own shape */
    return 60;
}
