/*
 * store_plan.c -- tables beside those of runs: a plan's points and its answer.
 *
 * Doubles are stored as they are, so a point that is read is the point that was simulated.
 */
#include "store_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "store_plan_internal.h"

static const char *const tables[] = {
    "CREATE TABLE IF NOT EXISTS plan_point("
    "point TEXT PRIMARY KEY, pool TEXT NOT NULL, layout TEXT NOT NULL, fate INTEGER NOT NULL, "
    "why TEXT NOT NULL, step_ns REAL NOT NULL, imbalance REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS plan_point_phase("
    "point TEXT, phase TEXT, phase_ns REAL NOT NULL, PRIMARY KEY (point, phase)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_point_offload("
    "point TEXT PRIMARY KEY, hit_rate REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_served("
    "served TEXT PRIMARY KEY, ttft_mean_s REAL NOT NULL, ttft_p50_s REAL NOT NULL, "
    "ttft_p90_s REAL NOT NULL, ttft_p95_s REAL NOT NULL, ttft_p99_s REAL NOT NULL, "
    "tpot_mean_s REAL NOT NULL, tpot_p50_s REAL NOT NULL, tpot_p90_s REAL NOT NULL, "
    "tpot_p95_s REAL NOT NULL, tpot_p99_s REAL NOT NULL, refused_share REAL NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_step("
    "step TEXT PRIMARY KEY, own_ns REAL NOT NULL, extra_1_ns REAL NOT NULL, "
    "extra_2_ns REAL NOT NULL, extra_3_ns REAL NOT NULL, rest_1_ns REAL NOT NULL, "
    "rest_2_ns REAL NOT NULL, rest_3_ns REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_stall("
    "stall TEXT PRIMARY KEY, interval_steps REAL NOT NULL, stall_1_ns REAL NOT NULL, "
    "stall_2_ns REAL NOT NULL, stall_3_ns REAL NOT NULL, stall_4_ns REAL NOT NULL, "
    "stall_5_ns REAL NOT NULL, stall_6_ns REAL NOT NULL, stall_7_ns REAL NOT NULL, "
    "stall_8_ns REAL NOT NULL, moves_1 REAL NOT NULL, moves_2 REAL NOT NULL, "
    "moves_3 REAL NOT NULL, moves_4 REAL NOT NULL, moves_5 REAL NOT NULL, moves_6 REAL NOT NULL, "
    "moves_7 REAL NOT NULL, moves_8 REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan("
    "plan_id TEXT PRIMARY KEY, name TEXT NOT NULL, question TEXT NOT NULL, model TEXT NOT NULL, "
    "ttft_target_ms REAL, tpot_target_ms REAL, plan_text TEXT NOT NULL, commit_id TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS plan_deployment("
    "plan_id TEXT, deployment INTEGER, gpu TEXT NOT NULL, pools TEXT NOT NULL, "
    "prefill TEXT NOT NULL, decode TEXT NOT NULL, role TEXT NOT NULL, num_gpus INTEGER NOT NULL, "
    "ttft_ms REAL NOT NULL, tpot_ms REAL NOT NULL, usd_per_day REAL NOT NULL, "
    "usd_per_day_low REAL NOT NULL, usd_per_day_high REAL NOT NULL, "
    "usd_per_million_input REAL NOT NULL, usd_per_million_output REAL NOT NULL, "
    "meets_targets INTEGER NOT NULL, on_front INTEGER NOT NULL, "
    "PRIMARY KEY (plan_id, deployment)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_interval("
    "plan_id TEXT, deployment INTEGER, usd_per_day_low REAL, usd_per_day_high REAL, "
    "usd_per_million_input_low REAL, usd_per_million_input_high REAL, "
    "usd_per_million_output_low REAL, usd_per_million_output_high REAL, "
    "PRIMARY KEY (plan_id, deployment)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_hour("
    "plan_id TEXT, hour INTEGER, prefill_gpus REAL NOT NULL, prefill_busy_gpus REAL NOT NULL, "
    "decode_gpus REAL NOT NULL, decode_busy_gpus REAL NOT NULL, idle_gpus REAL NOT NULL, "
    "idle_paid REAL NOT NULL, usd REAL NOT NULL, PRIMARY KEY (plan_id, hour)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_shift("
    "plan_id TEXT, shift INTEGER, what TEXT NOT NULL, factor REAL NOT NULL, usd_per_day REAL, "
    "winner_changes INTEGER NOT NULL, PRIMARY KEY (plan_id, shift)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS plan_fate("
    "plan_id TEXT, fate TEXT, points INTEGER NOT NULL, PRIMARY KEY (plan_id, fate)) WITHOUT ROWID",
};

#define NUM_TABLES ((int32_t)(sizeof tables / sizeof tables[0]))

enum status plan_store_open(struct plan_store **plan_store, struct store *store,
                            struct error *error)
{
    struct plan_store *fresh = calloc(1, sizeof *fresh);
    *plan_store = fresh;
    if (fresh == NULL) {
        return STATUS_NO_MEMORY;
    }
    fresh->store = store;
    enum status status = STATUS_OK;
    for (int32_t table = 0; table < NUM_TABLES && status == STATUS_OK; table++) {
        status = store_execute(store, tables[table], error);
    }
    return status;
}

void plan_store_close(struct plan_store *plan_store)
{
    free(plan_store);
}

void plan_store_key(char key[RUN_ID_BYTES], uint64_t digest)
{
    snprintf(key, RUN_ID_BYTES, "%016" PRIx64, digest_text(digest, store_commit()));
}

static int read_phases(struct store *store, const char *key, struct plan_point *point)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database,
                                  "SELECT phase, phase_ns FROM plan_point_phase WHERE point = ?1",
                                  -1, &statement, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    }
    while (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT && name != NULL; phase++) {
            if (strcmp(name, step_phase_name((enum step_phase)phase)) == 0) {
                point->phase_ns[phase] = sqlite3_column_double(statement, 1);
            }
        }
        code = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* -1 where nothing is offloaded. */
static int read_hit_rate(struct store *store, const char *key, struct plan_point *point)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database,
                                  "SELECT hit_rate FROM plan_point_offload WHERE point = ?1", -1,
                                  &statement, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    point->hit_rate = code == SQLITE_ROW ? sqlite3_column_double(statement, 0) : -1.0;
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

enum status plan_store_get(struct plan_store *plan_store, uint64_t digest, struct plan_point *point,
                           bool *found, struct error *error)
{
    struct store *store = plan_store->store;
    char key[RUN_ID_BYTES];
    sqlite3_stmt *statement = NULL;
    plan_store_key(key, digest);
    *found = false;
    int code = sqlite3_prepare_v2(
        store->database, "SELECT fate, why, step_ns, imbalance FROM plan_point WHERE point = ?1",
        -1, &statement, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    if (code == SQLITE_ROW) {
        int fate = sqlite3_column_int(statement, 0);
        const char *why = (const char *)sqlite3_column_text(statement, 1);
        *found = fate == PLAN_SIMULATED || fate == PLAN_IMPOSSIBLE;
        point->fate = *found ? (enum plan_fate)fate : PLAN_OPEN;
        snprintf(point->why, sizeof point->why, "%s", why == NULL ? "" : why);
        point->step_ns = sqlite3_column_double(statement, 2);
        point->imbalance = sqlite3_column_double(statement, 3);
        code = read_phases(store, key, point);
        code = code == SQLITE_OK ? read_hit_rate(store, key, point) : code;
        code = code == SQLITE_OK ? SQLITE_DONE : code;
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? STATUS_OK : store_error(store, code, error);
}

int plan_store_insert(struct store *store, const char *sql, const struct cell *cell, int count)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    for (int i = 0; i < count && code == SQLITE_OK; i++) {
        if (cell[i].kind == 't') {
            code = sqlite3_bind_text(statement, i + 1, cell[i].text, -1, SQLITE_STATIC);
        } else if (cell[i].kind == 'i') {
            code = sqlite3_bind_int64(statement, i + 1, cell[i].integer);
        } else if (cell[i].kind == 'r') {
            code = sqlite3_bind_double(statement, i + 1, cell[i].real);
        }
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
        code = code == SQLITE_DONE ? SQLITE_OK : code;
    }
    sqlite3_finalize(statement);
    return code;
}

struct cell cell_text(const char *text)
{
    return (struct cell){.kind = 't', .text = text};
}

struct cell cell_real(double real)
{
    return (struct cell){.kind = 'r', .real = real};
}

struct cell cell_integer(int64_t integer)
{
    return (struct cell){.kind = 'i', .integer = integer};
}

enum status plan_store_finish(struct store *store, int code, struct error *error)
{
    enum status status =
        code == SQLITE_OK ? store_execute(store, "COMMIT", error) : store_error(store, code, error);
    if (status != STATUS_OK) {
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

enum status plan_store_put(struct plan_store *plan_store, uint64_t digest,
                           const struct plan_point *point, struct error *error)
{
    struct store *store = plan_store->store;
    char key[RUN_ID_BYTES], layout[256];
    plan_store_key(key, digest);
    plan_point_words(layout, sizeof layout, point);
    const struct cell cells[] = {cell_text(key),
                                 cell_text(point->pool == COST_PREFILL ? "prefill" : "decode"),
                                 cell_text(layout),
                                 cell_integer(point->fate),
                                 cell_text(point->why),
                                 cell_real(point->step_ns),
                                 cell_real(point->imbalance)};
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = plan_store_insert(
        store, "INSERT OR REPLACE INTO plan_point VALUES(?, ?, ?, ?, ?, ?, ?)", cells, 7);
    for (int32_t phase = 0; phase < STEP_PHASE_COUNT && code == SQLITE_OK; phase++) {
        const struct cell row[] = {cell_text(key),
                                   cell_text(step_phase_name((enum step_phase)phase)),
                                   cell_real(point->phase_ns[phase])};
        code = plan_store_insert(store, "INSERT OR REPLACE INTO plan_point_phase VALUES(?, ?, ?)",
                                 row, 3);
    }
    if (code == SQLITE_OK && point->hit_rate >= 0.0) {
        const struct cell row[] = {cell_text(key), cell_real(point->hit_rate)};
        code = plan_store_insert(store, "INSERT OR REPLACE INTO plan_point_offload VALUES(?, ?)",
                                 row, 2);
    }
    return plan_store_finish(store, code, error);
}
