/*
 * store_internal.h -- what the files of the store share; nobody else includes it.
 */
#ifndef MOESIM_STORE_INTERNAL_H
#define MOESIM_STORE_INTERNAL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "money.h"
#include "store.h"
#include "sweeper.h"

/* The run between store_begin and store_finish: a copy of all that it needs, because the
 * transaction opens late (see store_write.c). */
struct pending_run {
    bool begun;
    bool in_transaction;
    char run_id[RUN_ID_BYTES];
    char *label;              /* owned */
    struct scenario scenario; /* text is owned */
    char trace[NAME_BYTES];
    char trace_origin[NAME_BYTES];
    char trace_source[SOURCE_BYTES];
    uint64_t trace_digest;
    int64_t kv_tokens_per_rank;
    struct timespec begin_time;
};

struct store {
    sqlite3 *database;
    char *path; /* owned */
    bool write;
    bool created;            /* by this opening: the file goes again if nothing comes into it */
    size_t parents_existing; /* leading bytes of path that were there before */
    struct sweeper sweeper;  /* of a file that this opening made under guard */
    struct currency shown;   /* by the SQL function money */
    sqlite3_stmt *detail;    /* the insert of store_detail, prepared once */
    struct pending_run run;
};

/* One table of the schema: its name and the statement that makes it. */
struct store_table {
    const char *name;
    const char *sql;
};

/* Ended by a NULL name. The run tables come first; every table has a column run_id. */
extern const struct store_table store_schema[];

/* Says in plain words what SQLite's code means for this file, and returns the status for it. */
enum status store_error(struct store *store, int code, struct error *error);

/* Opens store->path with SQLite's flags and sets up the connection. Returns SQLite's code; close
 * store->database after a failure too. */
int store_open_database(struct store *store, int flags);

/* The first integer a statement returns, or -1. */
int64_t store_query_integer(struct store *store, const char *sql, int *code);

/* Removes the file if there is no row in it and nobody uses it, and the directories that were made
 * for it. */
void store_remove_if_empty(struct store *store);

/* Has store_remove_if_empty done too when this process is killed; before the file is made. */
void store_guard(struct store *store);

/* Runs statements that return no rows. */
MUST_CHECK enum status store_execute(struct store *store, const char *sql, struct error *error);

/* Begins a transaction that writes. STATUS_IO too if the file is no longer where it was opened:
 * what is written to a file that somebody removed is lost. */
MUST_CHECK enum status store_begin_write(struct store *store, struct error *error);

/* Defines the SQL functions of store_query. Returns SQLite's code. */
int store_add_functions(struct store *store);

/* Removes a run from every table. */
MUST_CHECK enum status store_remove(struct store *store, const char *run_id, struct error *error);

/* Begins the pending run's transaction, if it has not begun, and removes an earlier run of its id.
 */
MUST_CHECK enum status store_begin_transaction(struct store *store, struct error *error);

/* Ends the transaction without a trace and forgets the pending run. Safe when there is none. */
void store_abandon(struct store *store);

/* Writes the run's row and all that describes it: origin, assumptions, memory. */
MUST_CHECK enum status store_write_run(struct store *store, const struct run_metrics *metrics,
                                       const struct run_totals *totals, struct error *error);

/* Writes everything one has to believe before believing a time or a price. */
MUST_CHECK enum status store_write_assumptions(struct store *store, const struct run_totals *totals,
                                               struct error *error);

/* Writes the tables of measured aggregates. */
MUST_CHECK enum status store_write_metrics(struct store *store, const struct run_metrics *metrics,
                                           struct error *error);

/* Writes what became of offloaded experts, if there are any. */
MUST_CHECK enum status store_write_offload(struct store *store, const struct run_metrics *metrics,
                                           struct error *error);

/* One value of a row. */
enum store_kind { STORE_INTEGER, STORE_REAL, STORE_TEXT, STORE_NULL };

struct store_value {
    const char *column;
    enum store_kind kind;
    int64_t integer;
    double real;
    const char *text; /* borrowed until the row is written */
};

/* text NULL: "". A plug-in may leave a text of its struct out. */
static inline struct store_value text_value(const char *column, const char *text)
{
    const char *value = text == NULL ? "" : text;
    return (struct store_value){.column = column, .kind = STORE_TEXT, .text = value};
}

static inline struct store_value integer_value(const char *column, int64_t integer)
{
    return (struct store_value){.column = column, .kind = STORE_INTEGER, .integer = integer};
}

static inline struct store_value real_value(const char *column, double real)
{
    return (struct store_value){.column = column, .kind = STORE_REAL, .real = real};
}

/* Inserts one row: run_id and the values. */
MUST_CHECK enum status store_insert(struct store *store, const char *table,
                                    const struct store_value *value, int32_t count,
                                    struct error *error);

#endif
