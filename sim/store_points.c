/* store_points.c -- a table of a connection's own that says which runs are a study's. */
#include "store_points.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "store_internal.h"

/* Engines change placements once in thousands of steps: one that waits for weights would weigh too
 * much in a short run. A run's price is that of its GPUs' time. */
static const char tables_sql[] =
    "CREATE TEMP TABLE point(point INTEGER PRIMARY KEY, run_id TEXT, name TEXT);"
    "CREATE TEMP VIEW settled AS SELECT run_id, "
    "sum(step_ns_sum) * 1.0 / sum(step.num_steps) AS step_ns, "
    "sum(step.tokens) * 1e9 / sum(step_ns_sum) / max(ep) AS tokens_per_s_per_gpu, "
    "max(usd_per_gpu_hour) / 3600 * 1e-3 * sum(step_ns_sum) * max(ep) / sum(step.tokens) "
    "AS usd_per_million_tokens "
    "FROM main.step JOIN main.run USING (run_id) WHERE first_step > "
    "(SELECT ifnull(max(step), -1) FROM main.rebalance AS change "
    "WHERE change.run_id = step.run_id) GROUP BY run_id";

static int insert_points(struct store *store, const uint64_t *run_id, const char *const *name,
                         int64_t count)
{
    static const char sql[] =
        "INSERT INTO temp.point "
        "SELECT ?1, (SELECT run_id FROM run WHERE run_id = ?2 AND complete), ?3";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    for (int64_t point = 0; point < count && code == SQLITE_OK; point++) {
        char text[RUN_ID_BYTES];
        (void)snprintf(text, sizeof text, "%016" PRIx64, run_id[point]);
        sqlite3_bind_int64(statement, 1, point);
        sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 3, name[point], -1, SQLITE_STATIC);
        int step = sqlite3_step(statement);
        code = step == SQLITE_DONE ? SQLITE_OK : step;
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    return code;
}

enum status store_points(struct store *store, const uint64_t *run_id, const char *const *name,
                         int64_t count, struct error *error)
{
    enum status status = store_execute(store, tables_sql, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = insert_points(store, run_id, name, count);
    return code == SQLITE_OK ? STATUS_OK : store_error(store, code, error);
}

static bool returns(sqlite3_stmt *statement, const char *name)
{
    for (int column = 0; column < sqlite3_column_count(statement); column++) {
        const char *known = sqlite3_column_name(statement, column);
        if (known != NULL && strcmp(known, name) == 0) {
            return true;
        }
    }
    return false;
}

enum status store_check_query(struct store *store, const char *sql, const char *const *column,
                              int32_t num_columns, char problem[STORE_PROBLEM])
{
    sqlite3_stmt *statement = NULL;
    const char *rest = "";
    problem[0] = '\0';
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, &rest);
    if (code == SQLITE_NOMEM) {
        return STATUS_NO_MEMORY;
    }
    if (code != SQLITE_OK) {
        (void)snprintf(problem, STORE_PROBLEM, "%s", sqlite3_errmsg(store->database));
    } else if (statement == NULL) {
        (void)snprintf(problem, STORE_PROBLEM, "an empty query");
    } else if (strncasecmp(sqlite3_sql(statement), "SELECT", 6) != 0 &&
               strncasecmp(sqlite3_sql(statement), "WITH", 4) != 0) {
        (void)snprintf(problem, STORE_PROBLEM, "expected a query: SELECT, or WITH ... SELECT");
    } else if (!sqlite3_stmt_readonly(statement)) {
        (void)snprintf(problem, STORE_PROBLEM, "a query that writes");
    } else if (rest[strspn(rest, " \t\r\n;")] != '\0') {
        (void)snprintf(problem, STORE_PROBLEM, "expected one query, not several");
    }
    for (int32_t i = 0; i < num_columns && problem[0] == '\0'; i++) {
        if (!returns(statement, column[i])) {
            (void)snprintf(problem, STORE_PROBLEM, "the query returns no column %s", column[i]);
        }
    }
    sqlite3_finalize(statement);
    return STATUS_OK;
}
