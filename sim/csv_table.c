/* csv_table.c -- cuts a text into rows and cells, in place. */
#include "csv_table.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "textfile.h"

#define HEADER_MAX 256

struct reader {
    char *next; /* what is still to be read */
    int64_t line;
    const char *path;
};

enum after { AFTER_CELL, AFTER_ROW, AFTER_FILE };

/* Cuts one cell; *cell out. A quoted one is unquoted in place, "" standing for one quote. */
static enum status cut_cell(struct reader *reader, char **cell, enum after *after,
                            struct error *error)
{
    char *from = reader->next;
    char *to = from;
    int64_t first_line = reader->line;
    *cell = from;
    if (*from == '"') {
        from++;
        while (*from != '\0' && (*from != '"' || from[1] == '"')) {
            reader->line += *from == '\n';
            from += *from == '"';
            *to++ = *from++;
        }
        if (*from == '\0') {
            return error_add(error, STATUS_INVALID, "%s:%lld: a quote does not end", reader->path,
                             (long long)first_line);
        }
        from++;
        if (*from != ',' && *from != '\r' && *from != '\n' && *from != '\0') {
            return error_add(error, STATUS_INVALID, "%s:%lld: text stands behind a quoted cell",
                             reader->path, (long long)reader->line);
        }
    } else {
        size_t length = strcspn(from, ",\r\n");
        from += length;
        to += length;
    }
    *after = *from == '\0' ? AFTER_FILE : *from == ',' ? AFTER_CELL : AFTER_ROW;
    from += *from == '\r' && from[1] == '\n';
    from += *from != '\0';
    *to = '\0';
    reader->line += *after == AFTER_ROW;
    reader->next = from;
    return STATUS_OK;
}

/* Cuts a row of at most HEADER_MAX cells. */
static enum status cut_row(struct reader *reader, char **cell, int32_t *count, struct error *error)
{
    enum after after = AFTER_CELL;
    int64_t line = reader->line;
    *count = 0;
    while (after == AFTER_CELL) {
        if (*count == HEADER_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%lld: more than %d cells", reader->path,
                             (long long)line, HEADER_MAX);
        }
        enum status status = cut_cell(reader, &cell[*count], &after, error);
        if (status != STATUS_OK) {
            return status;
        }
        (*count)++;
    }
    return STATUS_OK;
}

/* Where each wanted column is; place [num_columns] out. */
static enum status find_columns(const struct csv_table *table, char *const *header, int32_t count,
                                int32_t *place, struct error *error)
{
    char missing[512] = "";
    for (int32_t i = 0; i < table->num_columns; i++) {
        place[i] = -1;
        for (int32_t k = 0; k < count; k++) {
            place[i] = strcmp(header[k], table->column[i]) == 0 ? k : place[i];
        }
        if (place[i] < 0) {
            size_t used = strlen(missing);
            (void)snprintf(missing + used, sizeof missing - used, "%s%s", used > 0 ? ", " : "",
                           table->column[i]);
        }
    }
    return missing[0] == '\0' ? STATUS_OK
                              : error_add(error, STATUS_INVALID, "%s:1: columns are missing: %s",
                                          table->path, missing);
}

/* An upper bound: quoted cells may hold line ends. */
static int64_t count_lines(const char *text)
{
    int64_t lines = 1;
    for (; *text != '\0'; text++) {
        lines += *text == '\n' || (*text == '\r' && text[1] != '\n');
    }
    return lines;
}

static enum status read_rows(struct csv_table *table, struct reader *reader, const int32_t *place,
                             int32_t width, struct error *error)
{
    char *cell[HEADER_MAX];
    enum status status = STATUS_OK;
    while (*reader->next != '\0') {
        int64_t line = reader->line;
        int32_t count = 0;
        if (cut_row(reader, cell, &count, error) != STATUS_OK) {
            return STATUS_INVALID; /* what follows cannot be told apart */
        }
        if (count == 1 && cell[0][0] == '\0') {
            continue; /* an empty line */
        }
        if (count != width) {
            status = error_add(error, STATUS_INVALID, "%s:%lld: %d cells; the header has %d",
                               table->path, (long long)line, (int)count, (int)width);
            continue;
        }
        for (int32_t i = 0; i < table->num_columns; i++) {
            table->cell[table->num_rows * table->num_columns + i] = cell[place[i]];
        }
        table->line[table->num_rows++] = line;
    }
    if (status == STATUS_OK && table->num_rows == 0) {
        status = error_add(error, STATUS_INVALID, "%s: there are no rows", table->path);
    }
    return status;
}

enum status csv_table_read(struct csv_table *table, const char *path, const char *const *column,
                           int32_t num_columns, struct arena *arena, struct error *error)
{
    char *header[HEADER_MAX];
    int32_t place[HEADER_MAX];
    const char *text = NULL;
    int32_t width = 0;
    *table = (struct csv_table){.path = path, .column = column, .num_columns = num_columns};
    enum status status = text_read(&text, path, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t bytes = strlen(text) + 1;
    size_t lines = (size_t)count_lines(text);
    struct reader reader = {arena_take(arena, bytes, 1), 1, path};
    table->cell = arena_take(arena, lines * (size_t)num_columns, sizeof *table->cell);
    table->line = arena_take(arena, lines, sizeof *table->line);
    if (reader.next == NULL || table->cell == NULL || table->line == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    memcpy(reader.next, text, bytes);
    status = cut_row(&reader, header, &width, error);
    if (status == STATUS_OK) {
        status = find_columns(table, header, width, place, error);
    }
    return status == STATUS_OK ? read_rows(table, &reader, place, width, error) : status;
}

enum status csv_number(double *value, const struct csv_table *table, int64_t row, int32_t column,
                       double min, double max, struct error *error)
{
    const char *text = csv_cell(table, row, column);
    char *end = NULL;
    if (*text == '\0') {
        return STATUS_OK;
    }
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number) || number < min || number > max) {
        return error_add(error, STATUS_INVALID,
                         "%s:%lld: %s is '%.40s', not a number from %g to %g", table->path,
                         (long long)table->line[row], table->column[column], text, min, max);
    }
    *value = number;
    return STATUS_OK;
}

enum status csv_count(int32_t *value, const struct csv_table *table, int64_t row, int32_t column,
                      int32_t min, int32_t max, struct error *error)
{
    double number = (double)*value;
    enum status status = csv_number(&number, table, row, column, min, max, error);
    if (status == STATUS_OK && number != floor(number)) {
        return error_add(error, STATUS_INVALID, "%s:%lld: %s is '%.40s', not a count", table->path,
                         (long long)table->line[row], table->column[column],
                         csv_cell(table, row, column));
    }
    *value = status == STATUS_OK ? (int32_t)number : *value;
    return status;
}
