/*
 * store_points.h -- the points of a study beside the results of their runs, for its queries.
 */
#ifndef MOESIM_STORE_POINTS_H
#define MOESIM_STORE_POINTS_H

#include <stdint.h>

#include "store.h"

/* Makes the table point(point, run_id, name) and the view settled(run_id, step_ns,
 * tokens_per_s_per_gpu, usd_per_million_tokens) of steps behind a run's last change of placement,
 * of this connection alone: nothing is written to the file. run_id [count] as numbers; NULL in the
 * table where no complete run has that id; name [count] "" of points that have none. */
MUST_CHECK enum status store_points(struct store *store, const uint64_t *run_id,
                                    const char *const *name, int64_t count, struct error *error);

/* Checks one statement without running it: that it reads alone and, where column [num_columns] is
 * not empty, that it returns columns of these names. problem is "" or says what is wrong. */
#define STORE_PROBLEM 512
MUST_CHECK enum status store_check_query(struct store *store, const char *sql,
                                         const char *const *column, int32_t num_columns,
                                         char problem[STORE_PROBLEM]);

#endif
