/* store_made.c -- a results file that was made for a run and into which nothing came goes again. */
#include <unistd.h>

#include "directory.h"
#include "store_internal.h"

/* Plans and sweeps have tables of their own beside those of the schema, so all in the file count.
 */
static bool is_empty(struct store *store)
{
    sqlite3_stmt *tables = NULL;
    bool has_rows = false;
    int code = sqlite3_prepare_v2(
        store->database, "SELECT name FROM sqlite_schema WHERE type = 'table'", -1, &tables, NULL);
    while (code == SQLITE_OK && !has_rows && (code = sqlite3_step(tables)) == SQLITE_ROW) {
        char *sql = sqlite3_mprintf("SELECT EXISTS (SELECT 1 FROM %Q)",
                                    (const char *)sqlite3_column_text(tables, 0));
        has_rows = store_query_integer(store, sql, &code) != 0;
        sqlite3_free(sql);
    }
    sqlite3_finalize(tables);
    return code == SQLITE_DONE && !has_rows;
}

/* Under the lock nobody else writes, and who opened the file meanwhile is told by
 * store_begin_write. A writer that was killed before it wrote into the database leaves a journal
 * that SQLite does not play back. What stays keeps its directory in being. */
void store_remove_if_empty(struct store *store)
{
    if (sqlite3_exec(store->database, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK) {
        if (is_empty(store)) {
            const char *path = sqlite3_db_filename(store->database, "main");
            (void)unlink(sqlite3_filename_journal(path));
            (void)unlink(path);
        }
        (void)sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    directory_unmake(store->path, store->parents_existing);
}

/* Of a writer that was killed. What it had begun to write is played back first, by SQLite; its lock
 * may outlast by a moment the pipe that told of its end, so the lock is waited for. */
static void clear_away(const void *context)
{
    const struct store *made = context;
    struct store left = {.path = made->path, .parents_existing = made->parents_existing};
    if (store_open_database(&left, SQLITE_OPEN_READWRITE) == SQLITE_OK) {
        store_remove_if_empty(&left);
    } else {
        directory_unmake(left.path, left.parents_existing);
    }
    (void)sqlite3_close(left.database);
}

void store_guard(struct store *store)
{
    if (!sweeper_start(&store->sweeper, clear_away, store)) {
        return; /* an end in order clears away all the same */
    }
}
