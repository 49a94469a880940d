/*
 * store_plan.h -- a plan's finished points, deployments and shifts in a results file.
 *
 * A point is committed as soon as it is simulated, under a fingerprint of all that it depends on
 * (layout, model, GPU, trace, plug-ins, program), so a search that was killed goes on where it was,
 * and a plan with other prices, traffic or targets finds the points of the last one. So are points
 * of finalists' step tables, and what serving them showed. Answers are kept by plan id for figures;
 * the newest replaces one of the same id.
 */
#ifndef MOESIM_STORE_PLAN_H
#define MOESIM_STORE_PLAN_H

#include "plan.h"
#include "serve/rebalance_stalls.h"
#include "serve/step_time.h"
#include "store.h"

/* Makes the plan's tables where they are missing. store is borrowed and must be writable. */
MUST_CHECK enum status plan_store_open(struct plan_store **plan_store, struct store *store,
                                       struct error *error);
void plan_store_close(struct plan_store *plan_store); /* safe on NULL */

/* Fills point from the store; *found false: not there. */
MUST_CHECK enum status plan_store_get(struct plan_store *plan_store, uint64_t digest,
                                      struct plan_point *point, bool *found, struct error *error);

/* Commits a simulated or impossible point. */
MUST_CHECK enum status plan_store_put(struct plan_store *plan_store, uint64_t digest,
                                      const struct plan_point *point, struct error *error);

/* Latencies of a finalist that was simulated request by request, under a fingerprint of all that
 * they depend on; get fills ttft, tpot and refused_share, put commits them. */
MUST_CHECK enum status plan_store_get_served(struct plan_store *plan_store, uint64_t digest,
                                             struct plan_deployment *deployment, bool *found,
                                             struct error *error);
MUST_CHECK enum status plan_store_put_served(struct plan_store *plan_store, uint64_t digest,
                                             const struct plan_deployment *deployment,
                                             struct error *error);

/* A point of a finalist's table of step times, by a fingerprint of the table and
 * point->tokens_per_rank; get fills the rest of it. */
MUST_CHECK enum status plan_store_get_step(struct plan_store *plan_store, uint64_t table,
                                           struct step_point *point, bool *found,
                                           struct error *error);
MUST_CHECK enum status plan_store_put_step(struct plan_store *plan_store, uint64_t table,
                                           const struct step_point *point, struct error *error);

/* What moves of experts take in such a table's pool, where it moves any. */
MUST_CHECK enum status plan_store_get_stalls(struct plan_store *plan_store, uint64_t table,
                                             struct rebalance_stalls *stalls, bool *found,
                                             struct error *error);
MUST_CHECK enum status plan_store_put_stalls(struct plan_store *plan_store, uint64_t table,
                                             const struct rebalance_stalls *stalls,
                                             struct error *error);

/* Commits the answer; plan_id [RUN_ID_BYTES] out. */
MUST_CHECK enum status plan_store_answer(struct plan_store *plan_store, char *plan_id,
                                         const struct plan *plan, const struct plan_answer *answer,
                                         struct error *error);

#endif
