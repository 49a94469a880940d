/*
 * store_write.c -- one run, one transaction.
 *
 * The transaction opens as late as it can: with the first row of --detail, else when the run is
 * over, so that several processes may share a file. SQLite makes it whole or nothing: a run that is
 * killed leaves a journal that the next opening plays back, and the earlier run of the same id is
 * deleted by the very commit that brings the new one.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "store_internal.h"

static int bind_value(sqlite3_stmt *statement, int index, const struct store_value *value)
{
    switch (value->kind) {
    case STORE_INTEGER:
        return sqlite3_bind_int64(statement, index, value->integer);
    case STORE_REAL:
        return sqlite3_bind_double(statement, index, value->real);
    case STORE_TEXT:
        return sqlite3_bind_text(statement, index, value->text, -1, SQLITE_STATIC);
    case STORE_NULL:
        break;
    }
    return sqlite3_bind_null(statement, index);
}

/* "INSERT INTO table(run_id, a, b) VALUES(?, ?, ?)"; release with sqlite3_free. */
static char *insert_sql(const char *table, const struct store_value *value, int32_t count)
{
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendf(sql, "INSERT INTO %s(run_id", table);
    for (int32_t i = 0; i < count; i++) {
        sqlite3_str_appendf(sql, ", %s", value[i].column);
    }
    sqlite3_str_appendall(sql, ") VALUES(?");
    for (int32_t i = 0; i < count; i++) {
        sqlite3_str_appendall(sql, ", ?");
    }
    sqlite3_str_appendall(sql, ")");
    return sqlite3_str_finish(sql);
}

enum status store_insert(struct store *store, const char *table, const struct store_value *value,
                         int32_t count, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    char *sql = insert_sql(table, value, count);
    int code =
        sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    sqlite3_free(sql);
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(statement, 1, store->run.run_id, -1, SQLITE_STATIC);
    }
    for (int32_t i = 0; i < count && code == SQLITE_OK; i++) {
        code = bind_value(statement, i + 2, &value[i]);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}

void store_abandon(struct store *store)
{
    sqlite3_finalize(store->detail);
    store->detail = NULL;
    if (store->run.in_transaction) {
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    free(store->run.label);
    free(store->run.scenario.text);
    store->run = (struct pending_run){0};
}

enum status store_begin(struct store *store, const char *run_id, const char *label,
                        const struct scenario *scenario, const struct trace *trace,
                        struct error *error)
{
    assert(store->write);
    assert(!store->run.begun);
    struct pending_run *run = &store->run;
    run->begun = true;
    run->scenario = *scenario;
    run->scenario.text = strdup(scenario->text);
    run->scenario.initial_expert_of_slot = NULL; /* the text has its digest */
    run->label = strdup(label);
    if (run->scenario.text == NULL || run->label == NULL) {
        store_abandon(store);
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", store->path);
    }
    assert(strlen(run_id) == RUN_ID_BYTES - 1);
    memcpy(run->run_id, run_id, RUN_ID_BYTES);
    if (trace != NULL) {
        memcpy(run->trace, trace->name, sizeof run->trace);
        memcpy(run->trace_origin, trace->origin, sizeof run->trace_origin);
        memcpy(run->trace_source, trace->source, sizeof run->trace_source);
        run->trace_digest = trace->digest;
    }
    clock_gettime(CLOCK_MONOTONIC, &run->begin_time);
    enum status status = engine_kv_tokens_max(&run->kv_tokens_per_rank, scenario, trace, error);
    if (status != STATUS_OK) {
        store_abandon(store);
    }
    return status;
}

enum status store_begin_transaction(struct store *store, struct error *error)
{
    if (store->run.in_transaction) {
        return STATUS_OK;
    }
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    store->run.in_transaction = true;
    return store_remove(store, store->run.run_id, error);
}

enum status store_detail(struct store *store, int64_t step, int32_t layer,
                         const int64_t *expert_tokens, int32_t num_experts, struct error *error)
{
    assert(store->run.begun);
    enum status status = store_begin_transaction(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = SQLITE_OK;
    if (store->detail == NULL) {
        code = sqlite3_prepare_v2(store->database,
                                  "INSERT INTO expert_load_detail VALUES(?, ?, ?, ?, ?) "
                                  "ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens",
                                  -1, &store->detail, NULL);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(store->detail, 1, store->run.run_id, -1, SQLITE_STATIC);
    }
    for (int32_t expert = 0; expert < num_experts && code == SQLITE_OK; expert++) {
        sqlite3_bind_int64(store->detail, 2, step);
        sqlite3_bind_int(store->detail, 3, layer);
        sqlite3_bind_int(store->detail, 4, expert);
        sqlite3_bind_int64(store->detail, 5, expert_tokens[expert]);
        code = sqlite3_step(store->detail);
        code = code == SQLITE_DONE ? SQLITE_OK : code;
        sqlite3_reset(store->detail);
    }
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

enum status store_finish(struct store *store, const struct run_metrics *metrics,
                         const struct run_totals *totals, struct error *error)
{
    assert(store->run.begun);
    enum status status = store_begin_transaction(store, error);
    if (status == STATUS_OK) {
        status = store_write_run(store, metrics, totals, error);
    }
    if (status == STATUS_OK) {
        status = store_write_metrics(store, metrics, error);
    }
    if (status == STATUS_OK) {
        char *sql =
            sqlite3_mprintf("UPDATE run SET complete = 1 WHERE run_id = %Q", store->run.run_id);
        int code =
            sql == NULL ? SQLITE_NOMEM : sqlite3_exec(store->database, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
        status = code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
    }
    sqlite3_finalize(store->detail);
    store->detail = NULL;
    if (status == STATUS_OK) {
        status = store_execute(store, "COMMIT", error);
        store->run.in_transaction = status != STATUS_OK; /* else nothing is left to roll back */
    }
    store_abandon(store);
    return status;
}
