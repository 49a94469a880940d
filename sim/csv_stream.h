/*
 * csv_stream.h -- a CSV file of any length with a header line, read row by row.
 *
 * A row is a line: cells may be quoted, but end where their line does. sim/csv_table.h lets them go
 * on in the next and keeps the whole file.
 */
#ifndef MOESIM_CSV_STREAM_H
#define MOESIM_CSV_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "status.h"

#define CSV_STREAM_COLUMNS 64
#define CSV_PLACE_BYTES    512

struct csv_stream {
    FILE *file;
    const char *path;
    char *line;
    size_t line_bytes;
    int64_t line_number; /* 1-based, of the row in cell */
    const char *const *name;
    int32_t num_columns;
    int32_t column[CSV_STREAM_COLUMNS]; /* where in the file each wanted column is */
    char *cell[CSV_STREAM_COLUMNS]; /* [num_columns] of the row; the line's, until the next row */
    char place[CSV_PLACE_BYTES];    /* of the row: path:line */
};

/* Opens path and finds the columns named; name [num_columns] must outlive the stream. Of a file of
 * moe-bench, which --bench reads, STATUS_INVALID says so. Release with csv_stream_close,
 * also after a failure. */
MUST_CHECK enum status csv_stream_open(struct csv_stream *stream, const char *path,
                                       const char *const *name, int32_t num_columns,
                                       struct error *error);
void csv_stream_close(struct csv_stream *stream); /* safe twice */

/* Reads the next row; *found false at the end. */
MUST_CHECK enum status csv_stream_next(struct csv_stream *stream, bool *found, struct error *error);

/* A positive number; STATUS_INVALID with file and line otherwise. */
MUST_CHECK enum status csv_stream_number(double *value, const struct csv_stream *stream,
                                         int32_t column, struct error *error);

#endif
