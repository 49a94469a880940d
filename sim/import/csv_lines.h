/*
 * csv_lines.h -- CSV line by line from a mapped file, columns found by name.
 *
 * Fields are spans of the line; a quoted one may hold commas, not line ends. Whatever is behind the
 * last of CSV_FIELDS_MAX fields is not looked at.
 */
#ifndef MOESIM_CSV_LINES_H
#define MOESIM_CSV_LINES_H

#include "import/import.h"

#define CSV_FIELDS_MAX 1024

struct csv_lines {
    const char *path;
    const unsigned char *at;
    const unsigned char *end;
    const unsigned char *kept; /* pages before it are let go */
    int64_t line;              /* 1-based, of the line at hand */
    int32_t num_fields;
    const char *field[CSV_FIELDS_MAX]; /* without quotes around it */
    int32_t length[CSV_FIELDS_MAX];
};

void csv_begin(struct csv_lines *lines, const struct import_file *file);

/* Reads the next line that is not empty. False at the end of the file. */
bool csv_next(struct csv_lines *lines);

/* The field of the header line at hand that has one of these names (NULL-ended); -1: none has. */
int32_t csv_column(const struct csv_lines *lines, const char *const *names);

/* A field of the line at hand as a whole number from 0 to max. False: it is none. */
bool csv_whole(const struct csv_lines *lines, int32_t field, int64_t max, int64_t *value);

/* As a finite number. False: it is none. */
bool csv_double(const struct csv_lines *lines, int32_t field, double *value);

/* Copies a field into text [room], cut where it is too long, control characters as '?'; returns
 * text. "" where the line has no such field. */
char *csv_copy(char *text, size_t room, const struct csv_lines *lines, int32_t field);

#endif
