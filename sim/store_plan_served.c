/* store_plan_served.c -- finalists: their step tables and stalls, latencies request by request. */
#include "store_plan_internal.h"

#include <stdio.h>

#include "digest.h"

/* Columns of plan_served, plan_step and plan_stall behind their keys. */
#define SERVED_NUMBERS (2 * (1 + PLAN_PERCENTILES) + 1)
#define STEP_NUMBERS   (2 * STEP_CONTEXTS + 1)
#define STALL_NUMBERS  (2 * REBALANCE_STALLS + 1)

static int bind_key(sqlite3_stmt *statement, uint64_t digest)
{
    char key[RUN_ID_BYTES];
    plan_store_key(key, digest);
    return sqlite3_bind_text(statement, 1, key, -1, SQLITE_TRANSIENT);
}

/* Numbers of a row: number[i] points to what column i behind the key holds. */
static enum status get_numbers(struct store *store, const char *sql, uint64_t digest,
                               double *const number[], int count, bool *found, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    code = code == SQLITE_OK ? bind_key(statement, digest) : code;
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    *found = code == SQLITE_ROW;
    for (int i = 0; i < count && *found; i++) {
        *number[i] = sqlite3_column_double(statement, 1 + i);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}

static enum status put_numbers(struct store *store, const char *sql, uint64_t digest,
                               double *const number[], int count, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    code = code == SQLITE_OK ? bind_key(statement, digest) : code;
    for (int i = 0; i < count && code == SQLITE_OK; i++) {
        code = sqlite3_bind_double(statement, 2 + i, *number[i]);
    }
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}

static void number_latency(double *number[], struct plan_latency *latency)
{
    number[0] = &latency->mean_s;
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        number[1 + i] = &latency->percentile_s[i];
    }
}

/* The deployment's numbers, in the order of the columns. */
static void number_served(double *number[SERVED_NUMBERS], struct plan_deployment *deployment)
{
    number_latency(number, &deployment->ttft);
    number_latency(number + 1 + PLAN_PERCENTILES, &deployment->tpot);
    number[SERVED_NUMBERS - 1] = &deployment->refused_share;
}

enum status plan_store_get_served(struct plan_store *plan_store, uint64_t digest,
                                  struct plan_deployment *deployment, bool *found,
                                  struct error *error)
{
    double *number[SERVED_NUMBERS];
    number_served(number, deployment);
    return get_numbers(plan_store->store, "SELECT * FROM plan_served WHERE served = ?1", digest,
                       number, SERVED_NUMBERS, found, error);
}

enum status plan_store_put_served(struct plan_store *plan_store, uint64_t digest,
                                  const struct plan_deployment *deployment, struct error *error)
{
    struct plan_deployment copy = *deployment;
    double *number[SERVED_NUMBERS];
    number_served(number, &copy);
    return put_numbers(plan_store->store,
                       "INSERT OR REPLACE INTO plan_served "
                       "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       digest, number, SERVED_NUMBERS, error);
}

/* The point's numbers, in the order of the columns. */
static void number_step(double *number[STEP_NUMBERS], struct step_point *point)
{
    number[0] = &point->own_ns;
    for (int32_t i = 0; i < STEP_CONTEXTS; i++) {
        number[1 + i] = &point->extra_ns[i];
        number[1 + STEP_CONTEXTS + i] = &point->rest_ns[i];
    }
}

static uint64_t digest_step(uint64_t table, const struct step_point *point)
{
    uint64_t digest = digest_u64(table, (uint64_t)point->tokens_per_rank);
    return point->ranks_per_token > 1 ? digest_u64(digest, (uint64_t)point->ranks_per_token)
                                      : digest;
}

enum status plan_store_get_step(struct plan_store *plan_store, uint64_t table,
                                struct step_point *point, bool *found, struct error *error)
{
    double *number[STEP_NUMBERS];
    uint64_t digest = digest_step(table, point);
    number_step(number, point);
    return get_numbers(plan_store->store, "SELECT * FROM plan_step WHERE step = ?1", digest, number,
                       STEP_NUMBERS, found, error);
}

enum status plan_store_put_step(struct plan_store *plan_store, uint64_t table,
                                const struct step_point *point, struct error *error)
{
    struct step_point copy = *point;
    double *number[STEP_NUMBERS];
    uint64_t digest = digest_step(table, point);
    number_step(number, &copy);
    return put_numbers(plan_store->store,
                       "INSERT OR REPLACE INTO plan_step VALUES(?, ?, ?, ?, ?, ?, ?, ?)", digest,
                       number, STEP_NUMBERS, error);
}

/* value [STALL_NUMBERS] is what the columns hold, number where each is. */
static void number_stalls(double *number[STALL_NUMBERS], double *value)
{
    for (int32_t i = 0; i < STALL_NUMBERS; i++) {
        number[i] = &value[i];
    }
}

enum status plan_store_get_stalls(struct plan_store *plan_store, uint64_t table,
                                  struct rebalance_stalls *stalls, bool *found, struct error *error)
{
    double value[STALL_NUMBERS], *number[STALL_NUMBERS];
    number_stalls(number, value);
    enum status status = get_numbers(plan_store->store, "SELECT * FROM plan_stall WHERE stall = ?1",
                                     table, number, STALL_NUMBERS, found, error);
    if (status == STATUS_OK && *found) {
        stalls->interval_steps = (int32_t)value[0];
        for (int32_t i = 0; i < REBALANCE_STALLS; i++) {
            stalls->stall_ns[i] = value[1 + i];
            stalls->moves[i] = (int64_t)value[1 + REBALANCE_STALLS + i];
        }
    }
    return status;
}

enum status plan_store_put_stalls(struct plan_store *plan_store, uint64_t table,
                                  const struct rebalance_stalls *stalls, struct error *error)
{
    double value[STALL_NUMBERS], *number[STALL_NUMBERS];
    number_stalls(number, value);
    value[0] = stalls->interval_steps;
    for (int32_t i = 0; i < REBALANCE_STALLS; i++) {
        value[1 + i] = stalls->stall_ns[i];
        value[1 + REBALANCE_STALLS + i] = (double)stalls->moves[i];
    }
    return put_numbers(plan_store->store,
                       "INSERT OR REPLACE INTO plan_stall "
                       "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       table, number, STALL_NUMBERS, error);
}
