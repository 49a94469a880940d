/* rows.c -- one growing text and one growing list of offsets into it. */
#include "rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NO_VALUE SIZE_MAX

/* Grows memory to hold needed elements; NULL when the host has none left, memory then unchanged. */
static void *grow(void *memory, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity) {
        return memory;
    }
    size_t larger = needed * 2 + 64;
    void *grown = larger > SIZE_MAX / size / 2 ? NULL : realloc(memory, larger * size);
    if (grown != NULL) {
        *capacity = larger;
    }
    return grown;
}

static void add_cell(struct rows *rows, const char *value)
{
    size_t bytes = value == NULL ? 0 : strlen(value) + 1;
    size_t *cell = grow(rows->cell, &rows->cell_capacity, rows->num_cells + 1, sizeof *cell);
    rows->cell = cell == NULL ? rows->cell : cell;
    char *text = grow(rows->text, &rows->text_capacity, rows->text_bytes + bytes + 1, 1);
    rows->text = text == NULL ? rows->text : text;
    if (cell == NULL || text == NULL) {
        rows->out_of_memory = true;
        return;
    }
    rows->cell[rows->num_cells++] = value == NULL ? NO_VALUE : rows->text_bytes;
    if (value != NULL) {
        memcpy(rows->text + rows->text_bytes, value, bytes);
        rows->text_bytes += bytes;
    }
}

static bool add_row(void *context, const struct store_row *row)
{
    struct rows *rows = context;
    if (rows->num_rows == 0) {
        rows->num_columns = row->num_columns;
        for (int32_t column = 0; column < row->num_columns; column++) {
            add_cell(rows, row->name[column]);
        }
    }
    for (int32_t column = 0; column < row->num_columns; column++) {
        add_cell(rows, row->value[column]);
    }
    rows->num_rows++;
    return !rows->out_of_memory;
}

enum status rows_query(struct rows *rows, struct store *store, const char *sql, const char *run_id,
                       struct error *error)
{
    rows_free(rows);
    enum status status = store_query(store, sql, run_id, add_row, rows, error);
    if (rows->out_of_memory) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory for the rows of a query");
    }
    return status;
}

void rows_free(struct rows *rows)
{
    free(rows->text);
    free(rows->cell);
    *rows = (struct rows){0};
}

const char *rows_name(const struct rows *rows, int32_t column)
{
    assert(column >= 0 && column < rows->num_columns);
    return rows->text + rows->cell[column];
}

const char *rows_value(const struct rows *rows, int64_t row, int32_t column)
{
    assert(row >= 0 && row < rows->num_rows);
    assert(column >= 0 && column < rows->num_columns);
    size_t cell = rows->cell[(size_t)(row + 1) * (size_t)rows->num_columns + (size_t)column];
    return cell == NO_VALUE ? NULL : rows->text + cell;
}

int32_t rows_column(const struct rows *rows, const char *name)
{
    for (int32_t column = 0; column < rows->num_columns; column++) {
        if (strcmp(rows_name(rows, column), name) == 0) {
            return column;
        }
    }
    return -1;
}

const char *rows_text(const struct rows *rows, int64_t row, const char *name)
{
    int32_t column = rows_column(rows, name);
    const char *value = column < 0 || row >= rows->num_rows ? NULL : rows_value(rows, row, column);
    return value == NULL ? "" : value;
}

double rows_number(const struct rows *rows, int64_t row, const char *name)
{
    return strtod(rows_text(rows, row, name), NULL);
}

void rows_add_money(struct money *money, const struct rows *rows, int64_t row)
{
    struct currency currency;
    currency_set(&currency, rows_text(rows, row, "currency"),
                 rows_number(rows, row, "usd_per_unit"));
    money_add(money, &currency);
}

static void write_quoted(const char *value, FILE *file)
{
    if (strpbrk(value, ",\"\r\n") == NULL) {
        fputs(value, file);
        return;
    }
    fputc('"', file);
    for (; *value != '\0'; value++) {
        if (*value == '"') {
            fputc('"', file);
        }
        fputc(*value, file);
    }
    fputc('"', file);
}

static void write_bare(const char *value, FILE *file)
{
    for (; *value != '\0'; value++) {
        bool harmless = *value != '"' && ((unsigned char)*value >= 0x20 && *value != 0x7f);
        fputc(harmless ? *value : ' ', file);
    }
}

static void write_rows(const struct rows *rows, FILE *file, char separator,
                       void (*write_field)(const char *value, FILE *file))
{
    for (int64_t row = -1; row < rows->num_rows; row++) {
        for (int32_t column = 0; column < rows->num_columns; column++) {
            const char *value = row < 0 ? rows_name(rows, column) : rows_value(rows, row, column);
            if (column > 0) {
                fputc(separator, file);
            }
            write_field(value == NULL ? "" : value, file);
        }
        fputc('\n', file);
    }
}

void rows_write_csv(const struct rows *rows, FILE *file)
{
    write_rows(rows, file, ',', write_quoted);
}

void rows_write_tabs(const struct rows *rows, FILE *file)
{
    write_rows(rows, file, '\t', write_bare);
}
