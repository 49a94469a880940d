/* csv_stream.c -- finds columns by name, then hands out rows. */
#include "csv_stream.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv_cells.h"

static bool holds(char *const *cell, int32_t count, const char *name)
{
    bool found = false;
    for (int32_t i = 0; i < count && !found; i++) {
        found = strcmp(cell[i], name) == 0;
    }
    return found;
}

enum status csv_stream_open(struct csv_stream *stream, const char *path, const char *const *name,
                            int32_t num_columns, struct error *error)
{
    char *cell[CSV_STREAM_COLUMNS];
    assert(num_columns <= CSV_STREAM_COLUMNS);
    *stream = (struct csv_stream){
        .file = fopen(path, "r"), .path = path, .name = name, .num_columns = num_columns};
    if (stream->file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (getline(&stream->line, &stream->line_bytes, stream->file) < 0) {
        return ferror(stream->file) != 0
                   ? error_add(error, STATUS_IO, "%s: %s", path, strerror(errno))
                   : error_add(error, STATUS_INVALID, "%s:1: the file is empty", path);
    }
    stream->line_number = 1;
    int32_t count = csv_cells(cell, CSV_STREAM_COLUMNS, stream->line);
    enum status status = STATUS_OK;
    if (holds(cell, count, "num_sms") && holds(cell, count, "expert_tokens")) {
        return error_add(error, STATUS_INVALID, "%s: is a CSV of moe-bench: give it with --bench",
                         path);
    }
    for (int32_t wanted = 0; wanted < num_columns; wanted++) {
        stream->column[wanted] = -1;
        for (int32_t i = 0; i < count; i++) {
            if (strcmp(cell[i], name[wanted]) == 0) {
                stream->column[wanted] = i;
            }
        }
        if (stream->column[wanted] < 0) {
            status = error_add(error, STATUS_INVALID, "%s:1: there is no column '%s'", path,
                               name[wanted]);
        }
    }
    return status;
}

void csv_stream_close(struct csv_stream *stream)
{
    if (stream->file != NULL) {
        (void)fclose(stream->file);
    }
    free(stream->line);
    *stream = (struct csv_stream){0};
}

enum status csv_stream_next(struct csv_stream *stream, bool *found, struct error *error)
{
    char *all[CSV_STREAM_COLUMNS];
    *found = getline(&stream->line, &stream->line_bytes, stream->file) >= 0;
    if (!*found) {
        return ferror(stream->file) != 0
                   ? error_add(error, STATUS_IO, "%s: %s", stream->path, strerror(errno))
                   : STATUS_OK;
    }
    stream->line_number++;
    (void)snprintf(stream->place, sizeof stream->place, "%s:%lld", stream->path,
                   (long long)stream->line_number);
    int32_t count = csv_cells(all, CSV_STREAM_COLUMNS, stream->line);
    for (int32_t wanted = 0; wanted < stream->num_columns; wanted++) {
        if (stream->column[wanted] >= count) {
            return error_add(error, STATUS_INVALID, "%s: %d cells; %s is missing", stream->place,
                             (int)count, stream->name[wanted]);
        }
        stream->cell[wanted] = all[stream->column[wanted]];
    }
    return STATUS_OK;
}

enum status csv_stream_number(double *value, const struct csv_stream *stream, int32_t column,
                              struct error *error)
{
    char *end = NULL;
    *value = strtod(stream->cell[column], &end);
    if (end == stream->cell[column] || *end != '\0' || !isfinite(*value) || *value <= 0.0) {
        return error_add(error, STATUS_INVALID, "%s: %s is '%s', not a positive number",
                         stream->place, stream->name[column], stream->cell[column]);
    }
    return STATUS_OK;
}
