/* store_plan_served.c -- latencies of finalists that were simulated request by request. */
#include "store_plan_internal.h"

#include <stdio.h>

/* Columns of plan_served behind its key. */
#define NUM_NUMBERS (2 * (1 + PLAN_PERCENTILES) + 1)

static void number_latency(double *number[], struct plan_latency *latency)
{
    number[0] = &latency->mean_s;
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        number[1 + i] = &latency->percentile_s[i];
    }
}

/* The deployment's numbers, in the order of the columns. */
static void number_all(double *number[NUM_NUMBERS], struct plan_deployment *deployment)
{
    number_latency(number, &deployment->ttft);
    number_latency(number + 1 + PLAN_PERCENTILES, &deployment->tpot);
    number[NUM_NUMBERS - 1] = &deployment->refused_share;
}

enum status plan_store_get_served(struct plan_store *plan_store, uint64_t digest,
                                  struct plan_deployment *deployment, bool *found,
                                  struct error *error)
{
    struct store *store = plan_store->store;
    char key[RUN_ID_BYTES];
    double *number[NUM_NUMBERS];
    sqlite3_stmt *statement = NULL;
    plan_store_key(key, digest);
    number_all(number, deployment);
    int code = sqlite3_prepare_v2(store->database, "SELECT * FROM plan_served WHERE served = ?1",
                                  -1, &statement, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    *found = code == SQLITE_ROW;
    for (int i = 0; i < NUM_NUMBERS && *found; i++) {
        *number[i] = sqlite3_column_double(statement, 1 + i);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}

enum status plan_store_put_served(struct plan_store *plan_store, uint64_t digest,
                                  const struct plan_deployment *deployment, struct error *error)
{
    struct store *store = plan_store->store;
    struct plan_deployment copy = *deployment;
    char key[RUN_ID_BYTES];
    double *number[NUM_NUMBERS];
    sqlite3_stmt *statement = NULL;
    plan_store_key(key, digest);
    number_all(number, &copy);
    int code = sqlite3_prepare_v2(store->database,
                                  "INSERT OR REPLACE INTO plan_served "
                                  "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                  -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    }
    for (int i = 0; i < NUM_NUMBERS && code == SQLITE_OK; i++) {
        code = sqlite3_bind_double(statement, 2 + i, *number[i]);
    }
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}
