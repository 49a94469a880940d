/*
 * store_merge.c -- files of several processes become one.
 *
 * Every table is keyed by run_id, so merging is copying rows. One transaction a file: a kill leaves
 * either none or all of its runs, and merging a file again changes nothing.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

static enum status execute_text(struct store *store, char *sql, struct error *error)
{
    int code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(store->database, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

/* Rows of complete runs alone, instead of those that a run of the same id has here. What compares
 * runs is kept: see store_remove. */
static enum status copy_table(struct store *store, const char *name, struct error *error)
{
    static const char complete[] = "run_id IN (SELECT run_id FROM part.run WHERE complete = 1)";
    enum status status = STATUS_OK;
    if (strcmp(name, "study") != 0) {
        status = execute_text(
            store, sqlite3_mprintf("DELETE FROM main.%s WHERE %s", name, complete), error);
    }
    if (status == STATUS_OK) {
        status = execute_text(store,
                              sqlite3_mprintf("INSERT OR REPLACE INTO main.%s SELECT * FROM "
                                              "part.%s WHERE %s",
                                              name, name, complete),
                              error);
    }
    return status;
}

static enum status copy_tables(struct store *store, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t table = 0; store_schema[table].name != NULL && status == STATUS_OK; table++) {
        status = copy_table(store, store_schema[table].name, error);
    }
    return status;
}

enum status store_merge(struct store *store, const char *path, struct error *error)
{
    assert(store->write);
    assert(!store->run.begun);
    struct store *part = NULL;
    enum status status =
        store_open(&part, path, true, error); /* checks it, mends what a kill left */
    store_close(part);
    if (status != STATUS_OK) {
        return status;
    }
    status = execute_text(store, sqlite3_mprintf("ATTACH DATABASE %Q AS part", path), error);
    if (status != STATUS_OK) {
        return status;
    }
    status = store_begin_write(store, error);
    if (status == STATUS_OK) {
        status = copy_tables(store, error);
        if (status == STATUS_OK) {
            status = store_execute(store, "COMMIT", error);
        }
        if (status != STATUS_OK) {
            sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    enum status detached = store_execute(store, "DETACH DATABASE part", error);
    return status != STATUS_OK ? status : detached;
}

/* Ids that are asked for, each at the first place it has. */
static enum status list_wanted(struct store *store, const uint64_t *run_id, int64_t count,
                               struct error *error)
{
    static const char insert_sql[] = "INSERT OR IGNORE INTO temp.wanted VALUES (?1, ?2)";
    sqlite3_stmt *insert = NULL;
    enum status status = store_execute(
        store, "CREATE TEMP TABLE wanted (run_id TEXT PRIMARY KEY, place INTEGER)", error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = sqlite3_prepare_v2(store->database, insert_sql, -1, &insert, NULL);
    for (int64_t i = 0; i < count && code == SQLITE_OK; i++) {
        char text[RUN_ID_BYTES];
        snprintf(text, sizeof text, "%016" PRIx64, run_id[i]);
        code = sqlite3_bind_text(insert, 1, text, -1, SQLITE_TRANSIENT);
        code = code == SQLITE_OK ? sqlite3_bind_int64(insert, 2, i) : code;
        code = code == SQLITE_OK ? sqlite3_step(insert) : code;
        code = code == SQLITE_DONE ? SQLITE_OK : code;
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

enum status store_order(struct store *store, const uint64_t *run_id, int64_t count,
                        struct error *error)
{
    /* Nothing is written where the order is right, so that a second start leaves the file alone. */
    static const char order_sql[] =
        "UPDATE run SET rowid = (SELECT max(rowid) FROM run) + 1 + wanted.place FROM temp.wanted "
        "WHERE wanted.run_id = run.run_id AND EXISTS (SELECT 1 FROM (SELECT run.rowid AS at, "
        "lag(run.rowid) OVER (ORDER BY place) AS before FROM temp.wanted JOIN run USING (run_id)) "
        "WHERE at < before)";
    assert(store->write);
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = list_wanted(store, run_id, count, error);
    if (status == STATUS_OK) {
        status = store_execute(store, order_sql, error);
    }
    if (status == STATUS_OK) {
        status = store_execute(store, "DROP TABLE temp.wanted", error);
    }
    if (status == STATUS_OK) {
        status = store_execute(store, "COMMIT", error);
    }
    if (status != STATUS_OK) {
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}
