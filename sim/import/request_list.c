/*
 * request_list.c -- reads a foreign list of requests.
 *
 * Every tool has its own columns, so they are found by name and most may be missing. What a trace
 * needs is where each request's rows begin and how much context stood before the first of them.
 * Recorders differ in whether they keep prompt rows: with first_position that is the context; else
 * a request with enough rows for prompt and decode tokens (the last is never routed) had its prompt
 * recorded, and its context is 0.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/sink.h"

#define COLUMNS_MAX 64

enum column {
    COLUMN_ROW_OFFSET,
    COLUMN_TAG,
    COLUMN_CATEGORY,
    COLUMN_DATASET,
    COLUMN_ARRIVAL,
    COLUMN_PROMPT,
    COLUMN_DECODE,
    COLUMN_FIRST_POSITION,
    COLUMN_COUNT,
};

static const char *const column_names[COLUMN_COUNT] = {
    "row_offset", "tag",           "category",      "dataset",
    "arrival_s",  "prompt_tokens", "decode_tokens", "first_position",
};

struct reader {
    const char *path;
    FILE *stream;
    struct error *error;
    enum status status; /* the first failure */
    char *text;         /* the line at hand, from getline */
    size_t text_bytes;
    int64_t line; /* 1-based */
    char *field[COLUMNS_MAX];
    int32_t num_fields;
    int32_t num_columns;
    int32_t at[COLUMN_COUNT]; /* field of each column; -1: not there */
    int32_t num_problems;
    int64_t decode_tokens; /* of the request before, -1: not told */
    int64_t prompt_tokens;
};

static void complain(struct reader *reader, const char *column, const char *value,
                     const char *advice)
{
    reader->num_problems++;
    if (reader->num_problems > IMPORT_PROBLEMS_MAX) {
        return;
    }
    reader->status = error_add(reader->error, STATUS_INVALID, "%s:%lld: %s '%.40s': %s",
                               reader->path, (long long)reader->line, column, value, advice);
}

/* Cuts one field, unquoted, and returns what follows it: NULL at the end of the line. */
static char *cut_field(char *text, char **field)
{
    char *to = text;
    *field = text;
    bool quoted = *text == '"';
    text += quoted ? 1 : 0;
    while (*text != '\0' && (quoted || *text != ',')) {
        if (quoted && *text == '"' && text[1] != '"') {
            quoted = false;
            text++;
            continue;
        }
        text += quoted && *text == '"' ? 1 : 0;
        *to++ = *text++;
    }
    char *next = *text == ',' ? text + 1 : NULL;
    *to = '\0';
    return next;
}

/* Reads the next line that is not empty into fields. False at the end of the file. */
static bool next_line(struct reader *reader)
{
    ssize_t length = 0;
    do {
        errno = 0;
        length = getline(&reader->text, &reader->text_bytes, reader->stream);
        if (length < 0) {
            if (ferror(reader->stream) != 0 || errno == ENOMEM) {
                reader->status = error_add(reader->error, STATUS_IO, "%s: cannot be read: %s",
                                           reader->path, strerror(errno));
            }
            return false;
        }
        while (length > 0 && strchr("\r\n", reader->text[length - 1]) != NULL) {
            reader->text[--length] = '\0';
        }
        reader->line++;
    } while (length == 0);
    bool has_mark = reader->line == 1 && strncmp(reader->text, "\xef\xbb\xbf", 3) == 0;
    char *next = reader->text + (has_mark ? 3 : 0);
    reader->num_fields = 0;
    while (next != NULL && reader->num_fields < COLUMNS_MAX) {
        next = cut_field(next, &reader->field[reader->num_fields]);
        reader->num_fields++;
    }
    return true;
}

static void read_header(struct reader *reader)
{
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        reader->at[column] = -1;
    }
    if (!next_line(reader)) {
        if (reader->status == STATUS_OK) {
            reader->status = error_add(reader->error, STATUS_INVALID,
                                       "%s: is empty: it needs a header line with a column "
                                       "row_offset",
                                       reader->path);
        }
        return;
    }
    reader->num_columns = reader->num_fields;
    for (int32_t i = reader->num_fields - 1; i >= 0; i--) {
        for (int32_t column = 0; column < COLUMN_COUNT; column++) {
            if (strcmp(reader->field[i], column_names[column]) == 0) {
                reader->at[column] = i;
            }
        }
    }
    if (reader->at[COLUMN_ROW_OFFSET] < 0) {
        reader->status = error_add(reader->error, STATUS_INVALID,
                                   "%s:%lld: there is no column row_offset, the first row of each "
                                   "request in the array",
                                   reader->path, (long long)reader->line);
    }
}

/* A column of whole numbers; missing when there is no such column or its field is empty. */
static int64_t whole_number(struct reader *reader, enum column column, int64_t missing)
{
    if (reader->at[column] < 0 || reader->field[reader->at[column]][0] == '\0') {
        return missing;
    }
    const char *text = reader->field[reader->at[column]];
    errno = 0;
    int64_t value = strspn(text, "0123456789") == strlen(text) ? strtoll(text, NULL, 10) : -1;
    bool is_row = column == COLUMN_ROW_OFFSET;
    if (value < 0 || errno == ERANGE || (!is_row && value > INT32_MAX)) {
        complain(reader, column_names[column], text, "expected a whole number, at least 0");
        return missing;
    }
    return value;
}

/* Tabs and line ends have no place in a tag; what does not fit is cut between characters. */
static void read_tag(const struct reader *reader, struct trace_request *request)
{
    const char *tag = "";
    for (enum column column = COLUMN_DATASET; column >= COLUMN_TAG; column--) {
        if (reader->at[column] >= 0) {
            tag = reader->field[reader->at[column]];
        }
    }
    size_t length = strlen(tag);
    if (length >= sizeof request->tag) {
        length = sizeof request->tag - 1;
        while (length > 0 && ((unsigned char)tag[length] & 0xC0) == 0x80) {
            length--; /* the middle of a UTF-8 sequence */
        }
    }
    for (size_t i = 0; i < length; i++) {
        request->tag[i] = (unsigned char)tag[i] < ' ' ? ' ' : tag[i];
    }
    request->tag[length] = '\0';
}

static void read_arrival(struct reader *reader, struct trace_request *request)
{
    const char *text =
        reader->at[COLUMN_ARRIVAL] < 0 ? "" : reader->field[reader->at[COLUMN_ARRIVAL]];
    char *end = NULL;
    request->arrival_s = 0.0;
    if (*text == '\0') {
        return;
    }
    double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value) || value < 0.0) {
        complain(reader, "arrival_s", text, "expected seconds, at least 0");
        return;
    }
    request->arrival_s = value;
}

/* The length of a request is known only where the next begins. */
static void end_request(const struct reader *reader, struct trace_request *request, int64_t end)
{
    request->num_rows = end - request->row_offset;
    bool has_prompt_rows = reader->at[COLUMN_FIRST_POSITION] < 0 && reader->decode_tokens >= 0 &&
                           reader->prompt_tokens > 0 &&
                           request->num_rows >= reader->prompt_tokens + reader->decode_tokens - 1;
    if (has_prompt_rows) {
        request->prompt_tokens = 0;
    }
}

/* Fills request from the line at hand and ends the one before it. False: it has no place. */
static bool read_request(struct reader *reader, struct trace_request *request, bool is_first,
                         int64_t num_tokens)
{
    *request = (struct trace_request){.row_offset = whole_number(reader, COLUMN_ROW_OFFSET, -1)};
    const char *row = reader->field[reader->at[COLUMN_ROW_OFFSET]];
    if (request->row_offset < 0) {
        if (*row == '\0') {
            complain(reader, "row_offset", row, "every request needs one");
        }
        return false;
    }
    if (is_first && request->row_offset != 0) {
        complain(reader, "row_offset", row, "the first request must begin at row 0");
    } else if (!is_first && request->row_offset <= request[-1].row_offset) {
        complain(reader, "row_offset", row, "must be larger than in the line before");
    } else if (request->row_offset >= num_tokens) {
        char advice[96];
        (void)snprintf(advice, sizeof advice, "the array has only %lld tokens",
                       (long long)num_tokens);
        complain(reader, "row_offset", row, advice);
    }
    if (!is_first) {
        end_request(reader, request - 1, request->row_offset);
    }
    read_tag(reader, request);
    read_arrival(reader, request);
    reader->prompt_tokens = whole_number(reader, COLUMN_PROMPT, 0);
    reader->decode_tokens = whole_number(reader, COLUMN_DECODE, -1);
    request->prompt_tokens =
        (int32_t)whole_number(reader, COLUMN_FIRST_POSITION, reader->prompt_tokens);
    return true;
}

static enum status read_requests(struct reader *reader, struct trace_request **requests,
                                 int64_t *num_requests, int64_t num_tokens)
{
    int64_t capacity = 0;
    read_header(reader);
    while (reader->status != STATUS_IO && reader->at[COLUMN_ROW_OFFSET] >= 0 && next_line(reader)) {
        if (*num_requests == capacity) {
            capacity = capacity == 0 ? 1024 : capacity * 2;
            void *larger = realloc(*requests, (size_t)capacity * sizeof **requests);
            if (larger == NULL) {
                return error_add(reader->error, STATUS_NO_MEMORY, "%s: no memory", reader->path);
            }
            *requests = larger;
        }
        if (reader->num_fields != reader->num_columns) {
            complain(reader, "line", reader->field[0], "it has not as many fields as the header");
            continue;
        }
        struct trace_request *request = *requests + *num_requests;
        *num_requests += read_request(reader, request, *num_requests == 0, num_tokens) ? 1 : 0;
    }
    if (*num_requests > 0) {
        end_request(reader, *requests + *num_requests - 1, num_tokens);
    }
    if (reader->num_problems > IMPORT_PROBLEMS_MAX) {
        (void)error_add(reader->error, STATUS_INVALID, "%s: and %d more problems", reader->path,
                        reader->num_problems - IMPORT_PROBLEMS_MAX);
    }
    return reader->status;
}

enum status import_request_list(struct trace_request **requests, int64_t *num_requests,
                                const char *path, int64_t num_tokens, struct error *error)
{
    struct reader reader = {.path = path, .error = error, .stream = fopen(path, "r")};
    *requests = NULL;
    *num_requests = 0;
    if (reader.stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    enum status status = read_requests(&reader, requests, num_requests, num_tokens);
    if (status == STATUS_OK && *num_requests == 0) {
        status = error_add(error, STATUS_INVALID, "%s: holds no request", path);
    }
    if (status != STATUS_OK) {
        free(*requests);
        *requests = NULL;
        *num_requests = 0;
    }
    free(reader.text);
    (void)fclose(reader.stream);
    return status;
}
