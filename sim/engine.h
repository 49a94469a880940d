/*
 * engine.h -- one simulation: one queue, one clock, one digest.
 *
 * Plug-ins decide; only the engine schedules events, charges time, bytes and dollars, and records.
 * ARCHITECTURE.md, "A step", draws the life of a rank within a step.
 */
#ifndef MOESIM_ENGINE_H
#define MOESIM_ENGINE_H

#include <stdint.h>

#include "metrics.h"
#include "scenario.h"
#include "status.h"
#include "trace.h"

struct engine;

/* Called after every step: progress, cancellation and detail. Return false to stop the run (the
 * status is then STATUS_INVALID with "interrupted"). */
struct engine_observer {
    void *context;
    bool (*step_done)(void *context, int64_t step, int64_t num_steps);
    /* Wishes of one layer: expert_tokens [num_experts]. NULL: not wanted. */
    enum status (*layer_load)(void *context, int64_t step, int32_t layer,
                              const int64_t *expert_tokens, int32_t num_experts,
                              struct error *error);
};

/* Checks scenario against trace (model, experts, layers, memory) and sets the run up. scenario and
 * trace are borrowed; trace is NULL for a dense model. */
MUST_CHECK enum status engine_open(struct engine **engine, const struct scenario *scenario,
                                   const struct trace *trace, struct error *error);

/* The most KV tokens a rank holds in any step, for scenario_memory. trace as in engine_open. */
MUST_CHECK enum status engine_kv_tokens_max(int64_t *kv_tokens, const struct scenario *scenario,
                                            const struct trace *trace, struct error *error);

MUST_CHECK enum status engine_run(struct engine *engine, const struct engine_observer *observer,
                                  struct error *error);
const struct run_metrics *engine_metrics(const struct engine *engine); /* valid after engine_run */
void engine_close(struct engine *engine);                              /* safe on NULL */

#endif
