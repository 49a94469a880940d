/*
 * store.c -- opens results files, checks that they are what they say, and names runs.
 *
 * The journal is a file beside the database that SQLite deletes at every commit: WAL needs shared
 * memory, which network file systems do not have.
 */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "digest.h"
#include "directory.h"
#include "store_internal.h"

#ifndef MOESIM_COMMIT
#define MOESIM_COMMIT "unknown"
#endif

#define LOCK_WAIT_MS                                                                               \
    10000 /* another run's commit takes milliseconds; more is a run with --detail */

const char *store_commit(void)
{
    return MOESIM_COMMIT;
}

enum status store_error(struct store *store, int code, struct error *error)
{
    const char *path = store->path;
    int reason = store->database == NULL ? 0 : sqlite3_system_errno(store->database);
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    case SQLITE_NOTADB:
        return error_add(error, STATUS_INVALID, "%s: is not a results file of moesim", path);
    case SQLITE_CORRUPT:
        return error_add(error, STATUS_INVALID, "%s: the results file is damaged (%s)", path,
                         sqlite3_errmsg(store->database));
    case SQLITE_FULL:
        return error_add(error, STATUS_IO, "%s: the disk is full; the run was not stored", path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_add(error, STATUS_IO,
                         "%s: locked by another program (a run with --detail holds it to its end)",
                         path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return error_add(error, STATUS_IO, "%s: the file or its directory is not writable", path);
    case SQLITE_CANTOPEN:
        /* What may not be made is tried again for reading, and that it is missing is told then. */
        reason = store->write && reason == ENOENT ? EACCES : reason;
        return error_add(error, STATUS_IO, "%s: cannot be opened%s%s", path,
                         reason == 0 ? "" : ": ", reason == 0 ? "" : strerror(reason));
    default:
        return error_add(error, STATUS_IO, "%s: %s%s%s", path, sqlite3_errmsg(store->database),
                         reason == 0 ? "" : ": ", reason == 0 ? "" : strerror(reason));
    }
}

enum status store_execute(struct store *store, const char *sql, struct error *error)
{
    int code = sqlite3_exec(store->database, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

enum status store_begin_write(struct store *store, struct error *error)
{
    int has_moved = 0;
    enum status status = store_execute(store, "BEGIN IMMEDIATE", error);
    if (status == STATUS_OK) {
        (void)sqlite3_file_control(store->database, NULL, SQLITE_FCNTL_HAS_MOVED, &has_moved);
    }
    if (has_moved != 0) {
        (void)sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
        status = error_add(error, STATUS_IO,
                           "%s: was removed or replaced while it was in use; nothing was stored",
                           store->path);
    }
    return status;
}

enum status store_remove(struct store *store, const char *run_id, struct error *error)
{
    int code = SQLITE_OK;
    for (int32_t table = 0; store_schema[table].name != NULL && code == SQLITE_OK; table++) {
        if (strcmp(store_schema[table].name, "study") == 0) {
            continue; /* a run that is simulated again stays in its studies */
        }
        char *sql =
            sqlite3_mprintf("DELETE FROM %s WHERE run_id = %Q", store_schema[table].name, run_id);
        code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(store->database, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
    }
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

int64_t store_query_integer(struct store *store, const char *sql, int *code)
{
    sqlite3_stmt *statement = NULL;
    int64_t value = -1;
    *code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    if (*code == SQLITE_OK) {
        *code = sqlite3_step(statement);
        if (*code == SQLITE_ROW) {
            value = sqlite3_column_int64(statement, 0);
            *code = SQLITE_OK;
        } else if (*code == SQLITE_DONE) {
            *code = SQLITE_OK;
        }
    }
    sqlite3_finalize(statement);
    return value;
}

/* A file that says it is ours but whose tables differ would fail later, with words that help
 * nobody, or run somebody else's views. */
static enum status check_tables(struct store *store, struct error *error)
{
    static const char sql[] = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    bool same = true;
    for (int32_t table = 0; store_schema[table].name != NULL && code == SQLITE_OK; table++) {
        sqlite3_bind_text(statement, 1, store_schema[table].name, -1, SQLITE_STATIC);
        int step = sqlite3_step(statement);
        if (step == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(statement, 0);
            same = same && text != NULL && strcmp(text, store_schema[table].sql) == 0;
        } else {
            same = false;
            code = step == SQLITE_DONE ? SQLITE_OK : step;
        }
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    if (code != SQLITE_OK) {
        return store_error(store, code, error);
    }
    if (!same) {
        return error_add(error, STATUS_INVALID,
                         "%s: its tables are not those of moesim " MOESIM_VERSION
                         ": written by another; name another file",
                         store->path);
    }
    return STATUS_OK;
}

static enum status create_tables(struct store *store, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t table = 0; store_schema[table].name != NULL && status == STATUS_OK; table++) {
        status = store_execute(store, store_schema[table].sql, error);
    }
    return status;
}

static enum status check_version(struct store *store, struct error *error)
{
    int code;
    int64_t version = store_query_integer(store, "PRAGMA user_version", &code);
    int64_t objects = 0;
    if (code == SQLITE_OK) {
        objects = store_query_integer(store, "SELECT count(*) FROM sqlite_schema", &code);
    }
    if (code != SQLITE_OK) {
        return store_error(store, code, error);
    }
    if (version == 0 && objects == 0 && store->write) {
        return create_tables(store, error);
    }
    if (version == 0) {
        return error_add(error, STATUS_INVALID, "%s: %s", store->path,
                         objects == 0 ? "is empty: no run was stored in it"
                                      : "is a database, but not one of moesim's results");
    }
    if (version != STORE_SCHEMA_VERSION) {
        return error_add(error, STATUS_INVALID,
                         "%s: written by %s moesim (schema %" PRId64
                         ", this one knows %d); name another file",
                         store->path, version > STORE_SCHEMA_VERSION ? "a newer" : "another",
                         version, STORE_SCHEMA_VERSION);
    }
    return check_tables(store, error);
}

static enum status remove_incomplete(struct store *store, struct error *error)
{
    int code = SQLITE_OK;
    for (int32_t table = 0; store_schema[table].name != NULL && code == SQLITE_OK; table++) {
        char *sql = sqlite3_mprintf("DELETE FROM %s WHERE run_id NOT IN "
                                    "(SELECT run_id FROM run WHERE complete = 1)",
                                    store_schema[table].name);
        code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(store->database, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
    }
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

/* Writes at once, so that a read-only directory is found before the run and not after it. */
static enum status prepare_write(struct store *store, struct error *error)
{
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_version(store, error);
    if (status == STATUS_OK) {
        status = remove_incomplete(store, error);
    }
    if (status == STATUS_OK) {
        static_assert(STORE_SCHEMA_VERSION == 4, "the pragma below takes no parameter");
        status = store_execute(store, "PRAGMA user_version = 4", error);
    }
    if (status == STATUS_OK) {
        return store_execute(store, "COMMIT", error);
    }
    sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

int store_open_database(struct store *store, int flags)
{
    int code = sqlite3_open_v2(store->path, &store->database, flags, NULL);
    if (code != SQLITE_OK) {
        return code;
    }
    sqlite3_extended_result_codes(store->database, 1);
    sqlite3_busy_timeout(store->database, LOCK_WAIT_MS);
    /* A results file comes from anywhere: nothing in its schema may call functions or be edited. */
    sqlite3_db_config(store->database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return sqlite3_exec(store->database, "PRAGMA cell_size_check = ON", NULL, NULL, NULL);
}

/* A run that was killed while it wrote leaves a journal that has to be played back first, which a
 * read-only connection may not do. */
static int open_read_only(struct store *store)
{
    int code = store_open_database(store, SQLITE_OPEN_READONLY);
    if (code == SQLITE_OK) {
        store_query_integer(store, "SELECT count(*) FROM sqlite_schema", &code);
    }
    if (code != SQLITE_READONLY_ROLLBACK && code != SQLITE_READONLY_RECOVERY) {
        return code;
    }
    sqlite3_close(store->database);
    store->database = NULL;
    code = store_open_database(store, SQLITE_OPEN_READWRITE);
    if (code == SQLITE_OK) {
        store_query_integer(store, "SELECT count(*) FROM sqlite_schema", &code);
    }
    if (code == SQLITE_OK) {
        sqlite3_close(store->database);
        store->database = NULL;
        code = store_open_database(store, SQLITE_OPEN_READONLY);
    }
    return code;
}

static enum status open_store(struct store **opened, const char *path, bool write, bool guarded,
                              struct error *error)
{
    *opened = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL || (store->path = strdup(path)) == NULL) {
        free(store);
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    store->write = write;
    struct stat entry;
    store->created = write && strcmp(path, ":memory:") != 0 && stat(path, &entry) != 0;
    store->parents_existing = directory_existing(path);
    if (guarded && store->created) {
        store_guard(store);
    }
    enum status status = write ? directory_make_parents(path, error) : STATUS_OK;
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    int code = write ? store_open_database(store, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
                     : open_read_only(store);
    code = code == SQLITE_OK ? store_add_functions(store) : code;
    if (code != SQLITE_OK) {
        status = store_error(store, code, error);
    } else {
        status = write ? prepare_write(store, error) : check_version(store, error);
    }
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *opened = store;
    return STATUS_OK;
}

enum status store_open(struct store **store, const char *path, bool write, struct error *error)
{
    return open_store(store, path, write, false, error);
}

enum status store_open_guarded(struct store **store, const char *path, struct error *error)
{
    return open_store(store, path, true, true, error);
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_abandon(store);
    if (store->created && store->database != NULL) {
        sqlite3_busy_timeout(store->database, 0); /* who uses it shall keep it */
        store_remove_if_empty(store);
    }
    int code = sqlite3_close(store->database);
    assert(code == SQLITE_OK); /* else a statement was not finalised */
    (void)code;
    sweeper_end(&store->sweeper);
    free(store->path);
    free(store);
}

void store_run_id(char run_id[RUN_ID_BYTES], const struct scenario *scenario,
                  const struct trace *trace, const char *label)
{
    uint64_t digest = digest_text(DIGEST_START, scenario->text);
    digest = digest_u64(digest, trace == NULL ? 0 : trace->digest);
    digest = digest_text(digest, label);
    digest = digest_text(digest, store_commit());
    snprintf(run_id, RUN_ID_BYTES, "%016" PRIx64, digest);
}
