/*
 * rows.h -- the rows of a query as text, kept in memory, and written as CSV.
 */
#ifndef MOESIM_ROWS_H
#define MOESIM_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "money.h"
#include "status.h"
#include "store.h"

/* Zero-initialise; release with rows_free. A query without rows leaves no names either. */
struct rows {
    int32_t num_columns;
    int64_t num_rows;
    char *text; /* all cells, one after the other, each with its NUL */
    size_t text_bytes;
    size_t text_capacity;
    size_t *cell; /* [1 + num_rows][num_columns] where each begins in text; names first */
    size_t num_cells;
    size_t cell_capacity;
    bool out_of_memory;
};

/* Runs a query (see store_query) and keeps what it returns, in place of what was there. */
MUST_CHECK enum status rows_query(struct rows *rows, struct store *store, const char *sql,
                                  const char *run_id, struct error *error);
void rows_free(struct rows *rows); /* safe on a zeroed struct, and twice */

const char *rows_name(const struct rows *rows, int32_t column);

/* NULL where the database has NULL. */
const char *rows_value(const struct rows *rows, int64_t row, int32_t column);

/* The column of that name, or -1. */
int32_t rows_column(const struct rows *rows, const char *name);

/* A value by name, "" and 0 where there is none. */
const char *rows_text(const struct rows *rows, int64_t row, const char *name);
double rows_number(const struct rows *rows, int64_t row, const char *name);

/* Counts in the price of a row of run with STORE_CURRENCY_SQL. */
void rows_add_money(struct money *money, const struct rows *rows, int64_t row);

/* CSV as RFC 4180 has it, but with \n; NULL is an empty field. */
void rows_write_csv(const struct rows *rows, FILE *file);

/* Fields parted by tabs, for gnuplot 5.4, which cuts quoted text at a comma. Quotes and control
 * characters become spaces. */
void rows_write_tabs(const struct rows *rows, FILE *file);

#endif
