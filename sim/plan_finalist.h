/*
 * plan_finalist.h -- a finalist of a plan in the serving simulator, at any number of groups.
 *
 * Tables of step times belong to layouts, not to numbers of groups, so they are made once, and only
 * where a simulation is not in the store.
 */
#ifndef MOESIM_PLAN_FINALIST_H
#define MOESIM_PLAN_FINALIST_H

#include "plan_internal.h"

struct finalist;

/* Who is simulated beside whom: a few groups of a pool with their share of the busiest hour. */
struct finalist_load {
    int32_t groups[COST_POOLS]; /* shared: of COST_PREFILL */
    double rate_per_s;
};

/* deployment's groups under a share of all requests say for how long requests come. *done counts
 * what is simulated, for the progress. Release with finalist_close, also after a failure; options
 * and done must live until then. */
MUST_CHECK enum status
finalist_open(struct finalist **finalist, const struct plan_deployment *deployment, double share,
              const struct plan_answer *answer, const struct plan_world *world,
              const struct plan_options *options, int64_t *done, struct error *error);
void finalist_close(struct finalist *finalist); /* safe on NULL */

/* Serves the load, or takes what the store has of it: fills ttft, tpot and refused_share. */
MUST_CHECK enum status finalist_serve(struct plan_deployment *served, struct finalist *finalist,
                                      const struct finalist_load *load, struct error *error);

#endif
