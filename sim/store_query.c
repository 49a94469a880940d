/* store_query.c -- rows of a query as text, for figures and reports. */
#include <assert.h>
#include <stdlib.h>

#include "format.h"
#include "store_internal.h"

static void show_money(sqlite3_context *context, int count, sqlite3_value **value)
{
    const struct store *store = sqlite3_user_data(context);
    char text[FORMAT_BYTES];
    assert(count == 1);
    int type = sqlite3_value_numeric_type(value[0]);
    if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
        format_money(text, sqlite3_value_double(value[0]), &store->shown);
        sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    }
}

int store_add_functions(struct store *store)
{
    return sqlite3_create_function(store->database, "money", 1, SQLITE_UTF8, store, show_money,
                                   NULL, NULL);
}

void store_show_money(struct store *store, const struct currency *currency)
{
    store->shown = *currency;
}

static enum status collect_row(sqlite3_stmt *statement, const struct store_row *shape,
                               const char **value)
{
    for (int32_t column = 0; column < shape->num_columns; column++) {
        value[column] = (const char *)sqlite3_column_text(statement, column);
        if (value[column] == NULL && sqlite3_column_type(statement, column) != SQLITE_NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    return STATUS_OK;
}

/* Steps through a prepared statement; *code is SQLite's last answer. */
static enum status deliver_rows(sqlite3_stmt *statement, int *code,
                                bool (*row)(void *context, const struct store_row *row),
                                void *context)
{
    int32_t num_columns = sqlite3_column_count(statement);
    const char **text = calloc((size_t)num_columns * 2 + 1, sizeof *text);
    if (text == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t column = 0; column < num_columns; column++) {
        text[column] = sqlite3_column_name(statement, column);
    }
    struct store_row shape = {num_columns, text, text + num_columns};
    enum status status = STATUS_OK;
    bool more = true;
    while (status == STATUS_OK && more && (*code = sqlite3_step(statement)) == SQLITE_ROW) {
        status = collect_row(statement, &shape, text + num_columns);
        more = status == STATUS_OK && row(context, &shape);
    }
    free(text);
    return status;
}

enum status store_query(struct store *store, const char *sql, const char *run_id,
                        bool (*row)(void *context, const struct store_row *row), void *context,
                        struct error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    enum status status = STATUS_OK;
    if (code == SQLITE_OK && statement == NULL) {
        return error_add(error, STATUS_INVALID, "%s: an empty query", store->path);
    }
    if (code == SQLITE_OK && !sqlite3_stmt_readonly(statement)) {
        sqlite3_finalize(statement);
        return error_add(error, STATUS_INVALID, "%s: a query that writes", store->path);
    }
    if (code == SQLITE_OK && sqlite3_bind_parameter_count(statement) > 0) {
        code = sqlite3_bind_text(statement, 1, run_id, -1, SQLITE_TRANSIENT);
    }
    if (code == SQLITE_OK) {
        status = deliver_rows(statement, &code, row, context);
    }
    if (status == STATUS_NO_MEMORY) {
        error_add(error, status, "%s: out of memory", store->path);
    } else if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE) {
        status = store_error(store, code, error);
    }
    sqlite3_finalize(statement);
    return status;
}
