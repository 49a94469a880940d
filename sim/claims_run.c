/* claims_run.c -- numbers of finished runs, as the results file has them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims_internal.h"

/* Steps behind the last change of placement: engines change it once in thousands of steps, so the
 * one that waits for weights would weigh too much in a short run. */
#define SETTLED                                                                                    \
    "FROM step JOIN run USING (run_id) WHERE run_id = ?1 AND first_step > "                        \
    "(SELECT ifnull(max(step), -1) FROM rebalance WHERE run_id = ?1)"

/* Of a finished run, by its id. */
const struct claim_run_figure claim_run_figures[] = {
    {"step_ns_mean", "SELECT step_ns_mean FROM run WHERE run_id = ?1"},
    {"tokens_per_s_per_gpu", "SELECT tokens_per_s_per_gpu FROM run WHERE run_id = ?1"},
    {"usd_per_million_tokens", "SELECT usd_per_million_tokens FROM run WHERE run_id = ?1"},
    {"settled_step_ns", "SELECT sum(step_ns_sum) * 1.0 / sum(step.num_steps) " SETTLED},
    {"settled_tokens_per_s_per_gpu",
     "SELECT sum(step.tokens) * 1e9 / sum(step_ns_sum) / max(ep) " SETTLED},
    {"settled_usd_per_million_tokens", "SELECT max(usd_per_gpu_hour) / 3600 * 1e-3 * "
                                       "sum(step_ns_sum) * max(ep) / sum(step.tokens) " SETTLED},
    {"usd_per_gpu_hour", "SELECT usd_per_gpu_hour FROM run WHERE run_id = ?1"},
    {"num_gpus", "SELECT num_gpus FROM run WHERE run_id = ?1"},
    {"dropped_share", "SELECT dropped_assignments * 1.0 / assignments FROM run WHERE run_id = ?1"},
    {"rank_tokens_max_over_mean", "SELECT rank_tokens_max_over_mean FROM run WHERE run_id = ?1"},
    {"expert_share",
     "SELECT sum(phase_ns_sum * (phase = 'expert')) / sum(phase_ns_sum) FROM step_phase "
     "WHERE run_id = ?1"},
    {"communication_share",
     "SELECT sum(phase_ns_sum * (phase IN ('dispatch', 'combine', 'exchange'))) / "
     "sum(phase_ns_sum) FROM step_phase WHERE run_id = ?1"},
    {"expert_hit_rate", /* of offloaded experts */
     "SELECT sum(hits) * 1.0 / sum(touches) FROM offload_layer WHERE run_id = ?1"},
    {"expert_hit_rate_max",
     "SELECT sum(best_hits) * 1.0 / sum(touches) FROM offload_layer WHERE run_id = ?1"},
    {"fetch_share", "SELECT sum(phase_ns_sum * (phase = 'fetch')) / sum(phase_ns_sum) "
                    "FROM step_phase WHERE run_id = ?1"},
    {"cross_node_bytes_per_token",
     "SELECT dispatch_cross_node_bytes * 1.0 / tokens FROM run WHERE run_id = ?1"},
    {"gpu_pairs_share",
     "SELECT count(*) * 1.0 / (max(1, (SELECT ep * (ep - 1) FROM run WHERE run_id = ?1))) "
     "FROM traffic WHERE run_id = ?1 AND bytes > 0 AND src_cell != dst_cell"},
    {NULL, NULL},
};

static bool keep_number(void *context, const struct store_row *row)
{
    double *number = context;
    if (row->value[0] != NULL) {
        *number = strtod(row->value[0], NULL);
    }
    return false;
}

enum status claim_compute_run(double *result, const struct claims *claims,
                              const struct claim_value *value, struct store *store,
                              struct error *error)
{
    char run_id[RUN_ID_BYTES];
    const struct claim_run *run = &claims->run[value->run];
    int32_t i = 0;
    while (claim_run_figures[i].name != NULL &&
           strcmp(claim_run_figures[i].name, value->figure) != 0) {
        i++;
    }
    *result = (double)NAN;
    snprintf(run_id, sizeof run_id, "%016llx", (unsigned long long)run->run_id);
    enum status status =
        store_query(store, claim_run_figures[i].sql, run_id, keep_number, result, error);
    if (status == STATUS_OK && isnan(*result)) {
        status =
            error_add(error, STATUS_INVALID, "the run of %s gave no %s", run->where, value->figure);
    }
    return status;
}
