/* store_study.c -- a comparison's runs: places, gains, verdicts. */
#include "store_internal.h"
#include "study.h"

static void bind_real_or_null(sqlite3_stmt *statement, int column, double value)
{
    if (value < 0.0) {
        sqlite3_bind_null(statement, column);
    } else {
        sqlite3_bind_double(statement, column, value);
    }
}

/* The verdict stands with the run that won its group. */
static int insert_run(sqlite3_stmt *statement, const struct study *study, int32_t position)
{
    const struct study_run *run = &study->run[position];
    const struct study_group *group = &study->group[run->group_index];
    int column = 1;
    sqlite3_bind_text(statement, column++, study->id, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, column++, position);
    sqlite3_bind_text(statement, column++, run->run_id, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, column++, run->group, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, column++, run->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, column++, run->is_strategy);
    sqlite3_bind_int(statement, column++, run->place);
    sqlite3_bind_double(statement, column++, run->gain);
    sqlite3_bind_double(statement, column++, run->settled_gain);
    sqlite3_bind_int(statement, column++, run->changes);
    sqlite3_bind_int64(statement, column++, run->moves);
    sqlite3_bind_int64(statement, column++, run->moved_bytes);
    sqlite3_bind_double(statement, column++, run->change_ns);
    bind_real_or_null(statement, column++, run->changes > 0 ? run->payback_steps : -1.0);
    bind_real_or_null(statement, column++, run->bound_placement);
    bind_real_or_null(statement, column++, run->bound_split);
    sqlite3_bind_text(statement, column++, run->place == 1 ? group->verdict : "", -1,
                      SQLITE_STATIC);
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

enum status store_study(struct store *store, const struct study *study, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = sqlite3_prepare_v2(
        store->database,
        "INSERT OR REPLACE INTO study VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        -1, &statement, NULL);
    for (int32_t position = 0; position < study->num_runs && code == SQLITE_OK; position++) {
        code = insert_run(statement, study, position);
    }
    sqlite3_finalize(statement);
    status =
        code == SQLITE_OK ? store_execute(store, "COMMIT", error) : store_error(store, code, error);
    if (status != STATUS_OK) {
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}
