/*
 * deployment.h -- all that a serving simulation needs, from a scenario with `serving:` keys: who
 * comes, how long steps take, how many KV entries fit.
 */
#ifndef MOESIM_DEPLOYMENT_H
#define MOESIM_DEPLOYMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "arrivals.h"
#include "scenario.h"
#include "serve/serve.h"
#include "serve/step_time.h"
#include "trace.h"

struct deployment_progress {
    bool (*point_done)(void *context, int64_t done, int64_t total); /* engine runs; NULL: none */
    void *context;
    int32_t num_threads;
    const struct step_store *store[SERVE_POOLS]; /* of each pool's step times; NULL: none */
};

/* Owns what its pointers lead to, but for scenario and trace of the main pool. */
struct deployment {
    const struct scenario *scenario[SERVE_POOLS]; /* NULL: there is no such pool */
    const struct trace *trace[SERVE_POOLS];       /* NULL for a dense model */
    struct scenario prefill;
    struct trace prefill_trace;
    struct step_time *step_time[SERVE_POOLS];
    int64_t kv_tokens[SERVE_POOLS]; /* of a replica */
    struct arrivals arrivals;
    struct serve_options options;
};

/* Reads or draws the requests, simulates what steps take, and fills options. scenario must have
 * serving keys; trace is its own, NULL for a dense model. STATUS_INVALID with all that is wrong.
 * Release with deployment_close, also after a failure. */
MUST_CHECK enum status deployment_open(struct deployment *deployment,
                                       const struct scenario *scenario, const struct trace *trace,
                                       const struct deployment_progress *progress,
                                       struct error *error);
/* The same of pools that are at hand: scenario and trace of each are borrowed, scenario NULL where
 * there is no such pool. Of the main one's serving keys prefill.scenario is not read. */
MUST_CHECK enum status deployment_open_pools(struct deployment *deployment,
                                             const struct scenario *const scenario[SERVE_POOLS],
                                             const struct trace *const trace[SERVE_POOLS],
                                             const struct deployment_progress *progress,
                                             struct error *error);
void deployment_close(struct deployment *deployment); /* safe on a zeroed struct */

int32_t deployment_num_gpus(const struct deployment *deployment); /* of all pools */
double deployment_usd_per_hour(const struct deployment *deployment);

/* That of steps in which the main pool reads prompts; NULL where another pool reads them. */
const struct collective *deployment_prefill_collective(const struct deployment *deployment);

/* What the prices of its pools are shown in. */
struct money deployment_money(const struct deployment *deployment);

/* Tokens that the KV cache of a replica holds beside weights and the buffers of its largest batch.
 * STATUS_INVALID when these alone do not fit. */
MUST_CHECK enum status deployment_kv_tokens(int64_t *kv_tokens, const struct scenario *scenario,
                                            const struct serving_batch *batch, struct error *error);

#endif
