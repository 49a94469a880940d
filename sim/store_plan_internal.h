/* store_plan_internal.h -- what the store_plan*.c files share and nobody else includes. */
#ifndef MOESIM_STORE_PLAN_INTERNAL_H
#define MOESIM_STORE_PLAN_INTERNAL_H

#include "store_internal.h"
#include "store_plan.h"

struct plan_store {
    struct store *store;
};

/* Other sources may simulate otherwise: the program belongs to the key. */
void plan_store_key(char key[RUN_ID_BYTES], uint64_t digest);

/* One value of a row. */
struct cell {
    char kind; /* t text, r real, i integer, n NULL */
    const char *text;
    double real;
    int64_t integer;
};

struct cell cell_text(const char *text); /* borrowed */
struct cell cell_real(double real);
struct cell cell_integer(int64_t integer);

/* Binds cell [count] to the statement and runs it; a code of SQLite. */
int plan_store_insert(struct store *store, const char *sql, const struct cell *cell, int count);

/* Ends a transaction: commits where code is SQLITE_OK, else undoes it and says why. */
enum status plan_store_finish(struct store *store, int code, struct error *error);

#endif
