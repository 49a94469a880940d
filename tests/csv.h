/*
 * csv.h -- tables of integers, for golden files.
 */
#ifndef MOESIM_CSV_H
#define MOESIM_CSV_H

#include <stdint.h>

/* Release value with free. */
struct csv {
    int64_t num_rows;
    int64_t num_columns;
    int64_t *value; /* [num_rows][num_columns] */
};

/* Reads a file of equally long lines of comma-separated integers. NULL value: not there, ragged,
 * not numbers, or no memory. */
struct csv csv_read(const char *path);

#endif
