/*
 * trace_requests.c -- reads requests.csv.
 *
 * Comma-separated with a header line; columns go by name. A field may be quoted, a doubled quote
 * inside stands for one; a quoted line break is not taken. Every bad line is reported.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "trace_internal.h"

#define COLUMNS_MAX 64
#define BYTES_MAX   (INT64_C(1) << 32)

enum column {
    COLUMN_REQUEST,
    COLUMN_TAG,
    COLUMN_ARRIVAL,
    COLUMN_PROMPT,
    COLUMN_DECODE,
    COLUMN_ROW,
    COLUMN_COUNT,
};

static const char *const column_names[COLUMN_COUNT] = {
    "request", "tag", "arrival_s", "prompt_tokens", "decode_tokens", "row_offset",
};

struct table {
    const char *path;
    struct error *error;
    char *next;   /* rest of the text, NUL-ended */
    int64_t line; /* of the line at hand, 1-based */
    char *field[COLUMNS_MAX];
    int32_t num_fields;
    int32_t num_columns; /* in the header line */
    int32_t at[COLUMN_COUNT];
    enum status status; /* the first failure */
};

static void complain(struct table *table, const char *what, const char *value)
{
    table->status = error_add(table->error, STATUS_INVALID, "%s:%lld: %s, got '%.40s'", table->path,
                              (long long)table->line, what, value);
}

/* Ends the field at *text with NUL, unquoted, and returns the character that ended it: ',' or NUL,
 * or '"' when the quoting is broken. *text moves behind it. */
static char cut_field(char **text, char **field)
{
    char *from = *text;
    char *to = from;
    *field = to;
    if (*from == '"') {
        from++;
        while (*from != '\0' && (*from != '"' || from[1] == '"')) {
            from += *from == '"' ? 1 : 0;
            *to++ = *from++;
        }
        if (*from != '"' || (from[1] != ',' && from[1] != '\0')) {
            return '"';
        }
        from++;
    } else {
        from += strcspn(from, ",");
        to = from;
    }
    char end = *from;
    *text = end == '\0' ? from : from + 1;
    *to = '\0';
    return end;
}

/* Cuts the next line that is not empty into fields. False at the end of the text. */
static bool next_line(struct table *table)
{
    char *line = table->next;
    do {
        line = table->next;
        if (*line == '\0') {
            return false;
        }
        size_t length = strcspn(line, "\n");
        table->next = line + length + (line[length] == '\n' ? 1 : 0);
        line[length] = '\0';
        if (length > 0 && line[length - 1] == '\r') {
            line[length - 1] = '\0';
        }
        table->line++;
    } while (*line == '\0');
    char end = ',';
    table->num_fields = 0;
    while (end == ',' && table->num_fields < COLUMNS_MAX) {
        end = cut_field(&line, &table->field[table->num_fields]);
        table->num_fields++;
    }
    if (end == '"') {
        complain(table, "expected a closing quote before the next comma", line);
        table->num_fields = 0;
    } else if (end == ',') {
        complain(table, "too many columns", line);
        table->num_fields = 0;
    }
    return true;
}

static void read_header(struct table *table)
{
    if (!next_line(table)) {
        table->status = error_add(table->error, STATUS_INVALID,
                                  "%s: is empty; it needs a header line", table->path);
        return;
    }
    table->num_columns = table->num_fields;
    if (table->num_fields == 0) {
        return; /* complained already */
    }
    for (int32_t column = 0; column < COLUMN_COUNT; column++) {
        table->at[column] = -1;
        for (int32_t i = 0; i < table->num_fields; i++) {
            if (strcmp(table->field[i], column_names[column]) != 0) {
                continue;
            }
            if (table->at[column] >= 0) {
                complain(table, "this column stands twice", column_names[column]);
            }
            table->at[column] = i;
        }
        if (table->at[column] < 0) {
            table->status =
                error_add(table->error, STATUS_INVALID, "%s:%lld: column '%s' is missing",
                          table->path, (long long)table->line, column_names[column]);
        }
    }
}

/* -1 after a complaint. */
static int64_t whole_number(struct table *table, enum column column, int64_t max)
{
    const char *text = table->field[table->at[column]];
    char what[96];
    errno = 0;
    long long value = strspn(text, "0123456789") == strlen(text) ? strtoll(text, NULL, 10) : -1;
    if (*text == '\0' || value < 0 || value > max || errno == ERANGE) {
        (void)snprintf(what, sizeof what, "%s must be a whole number from 0 to %lld",
                       column_names[column], (long long)max);
        complain(table, what, text);
        return -1;
    }
    return value;
}

static void read_line(struct table *table, struct trace_request *request)
{
    const char *tag = table->field[table->at[COLUMN_TAG]];
    const char *arrival = table->field[table->at[COLUMN_ARRIVAL]];
    char *end = NULL;
    request->arrival_s = strtod(arrival, &end);
    if (end == arrival || *end != '\0' || !isfinite(request->arrival_s) ||
        request->arrival_s < 0.0) {
        complain(table, "arrival_s must be a number of seconds, at least 0", arrival);
    }
    if (strlen(tag) >= sizeof request->tag) {
        complain(table, "tag must be shorter than 64 bytes", tag);
    } else {
        memcpy(request->tag, tag, strlen(tag) + 1);
    }
    request->prompt_tokens = (int32_t)whole_number(table, COLUMN_PROMPT, INT32_MAX);
    (void)whole_number(table, COLUMN_DECODE, INT32_MAX);
    request->row_offset = whole_number(table, COLUMN_ROW, TRACE_TOKENS_MAX);
}

/* Makes sure that rows ascend from 0 and stay inside the trace; sets the previous one's length. */
static void check_row(struct table *table, struct trace_request *requests, int64_t index,
                      int64_t num_tokens)
{
    int64_t row = requests[index].row_offset;
    const char *text = table->field[table->at[COLUMN_ROW]];
    if (row < 0) {
        return; /* complained already */
    }
    if (index == 0 && row != 0) {
        complain(table, "the first row_offset must be 0", text);
    } else if (index > 0 && row <= requests[index - 1].row_offset) {
        complain(table, "row_offset must be larger than in the line before", text);
    } else if (num_tokens != 0 && row >= num_tokens) {
        complain(table, "row_offset must be less than the trace's number of tokens", text);
    }
    if (index > 0) {
        requests[index - 1].num_rows = row - requests[index - 1].row_offset;
    }
}

static enum status read_table(struct table *table, struct trace_request **requests,
                              int64_t *num_requests, int64_t num_tokens)
{
    int64_t capacity = 0;
    read_header(table);
    if (table->status != STATUS_OK) {
        return table->status;
    }
    while (next_line(table)) {
        if (table->num_fields != table->num_columns) {
            if (table->num_fields != 0) {
                complain(table, "expected as many fields as the header has", table->field[0]);
            }
            continue;
        }
        if (*num_requests == capacity) {
            capacity = capacity == 0 ? 1024 : capacity * 2;
            void *larger = realloc(*requests, (size_t)capacity * sizeof **requests);
            if (larger == NULL) {
                return error_add(table->error, STATUS_NO_MEMORY, "%s: no memory", table->path);
            }
            *requests = larger;
        }
        struct trace_request *request = &(*requests)[*num_requests];
        *request = (struct trace_request){.num_rows = 0};
        int64_t index = *num_requests;
        *num_requests += 1;
        read_line(table, request);
        check_row(table, *requests, index, num_tokens);
    }
    if (*num_requests > 0) {
        struct trace_request *last = &(*requests)[*num_requests - 1];
        last->num_rows = num_tokens - last->row_offset;
    }
    return table->status;
}

/* The whole file, NUL-ended, without a byte order mark; *text NULL when there is no file. */
static enum status read_text(char **text, const char *path, struct error *error)
{
    struct stat info;
    *text = NULL;
    if (stat(path, &info) != 0) {
        return errno == ENOENT ? STATUS_OK
                               : error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode) || info.st_size > BYTES_MAX) {
        return error_add(error, STATUS_INVALID, "%s: is no regular file of at most 4 GiB", path);
    }
    FILE *file = fopen(path, "rb");
    char *bytes = malloc((size_t)info.st_size + 1);
    enum status status = STATUS_OK;
    if (file == NULL) {
        status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (bytes == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "%s: no memory", path);
    } else {
        size_t length = fread(bytes, 1, (size_t)info.st_size, file);
        bytes[length] = '\0';
        if (ferror(file)) {
            status = error_add(error, STATUS_IO, "%s: cannot be read", path);
        } else if (strlen(bytes) != length) {
            status =
                error_add(error, STATUS_INVALID, "%s: holds a NUL byte; it must be text", path);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (status != STATUS_OK) {
        free(bytes);
        bytes = NULL;
    }
    *text = bytes;
    return status;
}

enum status trace_requests_read(struct trace_request **requests, int64_t *num_requests,
                                const char *directory, int64_t num_tokens, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    char *text = NULL;
    *requests = NULL;
    *num_requests = 0;
    if (!trace_join(path, directory, "requests.csv")) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", directory);
    }
    enum status status = read_text(&text, path, error);
    if (status == STATUS_OK && text != NULL) {
        bool has_mark = strncmp(text, "\xef\xbb\xbf", 3) == 0;
        struct table table = {.path = path, .error = error, .next = text + (has_mark ? 3 : 0)};
        status = read_table(&table, requests, num_requests, num_tokens);
    }
    if (status != STATUS_OK) {
        free(*requests);
        *requests = NULL;
        *num_requests = 0;
    }
    free(text);
    return status;
}
