/*
 * csv_table.h -- a CSV file with a header and quotes (RFC 4180), its columns found by name.
 *
 * For tables of published measurements, whose notes hold commas. Cells keep their text; csv_count
 * and csv_number turn one into a number or an error with file, line and column.
 */
#ifndef MOESIM_CSV_TABLE_H
#define MOESIM_CSV_TABLE_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

/* Memory is the arena's. */
struct csv_table {
    const char *path;
    const char *const *column; /* [num_columns] as asked for */
    int32_t num_columns;
    int64_t num_rows;
    char **cell;   /* [num_rows][num_columns] in the order asked for */
    int64_t *line; /* [num_rows] in the file, from 1 */
};

/* Reads a file of at most 16 MiB. All missing columns are told at once; a row with more or fewer
 * cells than the header, or a quote that does not end, is an error with its line. */
MUST_CHECK enum status csv_table_read(struct csv_table *table, const char *path,
                                      const char *const *column, int32_t num_columns,
                                      struct arena *arena, struct error *error);

static inline const char *csv_cell(const struct csv_table *table, int64_t row, int32_t column)
{
    return table->cell[row * table->num_columns + column];
}

/* A number from min to max. An empty cell is *value unchanged. */
MUST_CHECK enum status csv_number(double *value, const struct csv_table *table, int64_t row,
                                  int32_t column, double min, double max, struct error *error);
MUST_CHECK enum status csv_count(int32_t *value, const struct csv_table *table, int64_t row,
                                 int32_t column, int32_t min, int32_t max, struct error *error);

#endif
