/*
 * store.h -- results in one SQLite file. The only module that includes sqlite3.h.
 *
 * A run is one transaction, opened as late as can be, so a crash leaves nothing a later command
 * trusts and several processes may share a file; a run's `complete` flag is its last write. Equal
 * runs have equal content in every table but run_origin, which says when, where and by what
 * command.
 */
#ifndef MOESIM_STORE_H
#define MOESIM_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "metrics.h"
#include "scenario.h"
#include "status.h"
#include "trace.h"

#define STORE_SCHEMA_VERSION 4
#define RUN_ID_BYTES         17

struct store;

/* Opens or creates a results file (user_version = STORE_SCHEMA_VERSION; another version or a file
 * that is no database is STATUS_INVALID). Runs left incomplete by a crash are removed when write is
 * true. write false opens read-only. */
MUST_CHECK enum status store_open(struct store **store, const char *path, bool write,
                                  struct error *error);

/* As store_open for writing; and a file that this makes, and into which nothing comes, goes again
 * even if this process is killed: a process of its own sees to it (sweeper.h, with what that asks
 * for). After store_open it goes again in store_close alone. */
MUST_CHECK enum status store_open_guarded(struct store **store, const char *path,
                                          struct error *error);
void store_close(struct store *store); /* safe on NULL */

/* 16 hex digits from scenario text, trace digest, label and commit: the same inputs, the same id.
 */
void store_run_id(char run_id[RUN_ID_BYTES], const struct scenario *scenario,
                  const struct trace *trace, const char *label);

/* Begins a run; an earlier run with the same id is replaced when the new one completes. label tells
 * runs of one comparison apart, "" otherwise. */
MUST_CHECK enum status store_begin(struct store *store, const char *run_id, const char *label,
                                   const struct scenario *scenario, const struct trace *trace,
                                   struct error *error);

/* --detail: one row a step, layer (the model's number of it) and expert. From the first call to
 * store_finish nobody else can write the file. */
MUST_CHECK enum status store_detail(struct store *store, int64_t step, int32_t layer,
                                    const int64_t *expert_tokens, int32_t num_experts,
                                    struct error *error);

/* What requests met in a serving simulation; detail: every request, too. Between store_begin and
 * store_finish. */
struct deployment;
struct serve_result;
MUST_CHECK enum status store_serving(struct store *store, const struct deployment *deployment,
                                     const struct serve_result *result, bool detail,
                                     struct error *error);

/* Writes all aggregates, sets complete and commits. */
MUST_CHECK enum status store_finish(struct store *store, const struct run_metrics *metrics,
                                    const struct run_totals *totals, struct error *error);

/* Stores what a comparison made of its runs, which have to be stored already; an equal study is
 * replaced. A run that is simulated again stays in the studies it is in. */
struct study;
MUST_CHECK enum status store_study(struct store *store, const struct study *study,
                                   struct error *error);

/* Copies the complete runs of another results file, in place of runs of the same id. All or none.
 */
MUST_CHECK enum status store_merge(struct store *store, const char *path, struct error *error);

/* Puts runs in this order: results are listed in the order in which runs were stored. They go last
 * unless their order is right. run_id [count] as numbers; ids that are not in the file are passed
 * over. */
MUST_CHECK enum status store_order(struct store *store, const uint64_t *run_id, int64_t count,
                                   struct error *error);

/* What this program was built from: part of every run's id. */
const char *store_commit(void);

/* Of a query over run: columns currency and usd_per_unit of the run's price, NULL for dollars. */
#define STORE_CURRENCY_SQL                                                                         \
    "(SELECT substr(unit, 5) FROM assumption AS rate WHERE rate.run_id = run.run_id"               \
    " AND rate.name = 'exchange rate') AS currency,"                                               \
    "(SELECT value FROM assumption AS rate WHERE rate.run_id = run.run_id"                         \
    " AND rate.name = 'exchange rate') AS usd_per_unit"

/* Of a query over run where ?1 is its id: column digest, of all requests where it was served. */
#define STORE_DIGEST_SQL                                                                           \
    "coalesce((SELECT value FROM serving_total WHERE run_id = ?1 AND name = 'digest'),"            \
    " run.digest) AS digest"

struct store_row {
    int32_t num_columns;
    const char *const *name;  /* [num_columns] */
    const char *const *value; /* [num_columns] NULL: SQL NULL */
};

/* Rows of a query as text; columns named as in the query. Binds ?1 to run_id when the query has
 * it. Return false from row to stop. A query may call money(X): X dollars as text in the currency
 * that was shown last, "$0.413", "EUR 0.356"; NULL of what is no number. */
MUST_CHECK enum status store_query(struct store *store, const char *sql, const char *run_id,
                                   bool (*row)(void *context, const struct store_row *row),
                                   void *context, struct error *error);

/* From now on money(X) is in this currency; it begins as the dollar. */
struct currency;
void store_show_money(struct store *store, const struct currency *currency);

#endif
