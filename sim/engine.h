/*
 * engine.h -- one simulation: one queue, one clock, one digest.
 *
 * Plug-ins decide; only the engine schedules events, charges time, bytes and dollars, and records.
 * ARCHITECTURE.md, "A step", draws the life of a rank within a step.
 */
#ifndef MOESIM_ENGINE_H
#define MOESIM_ENGINE_H

#include <stdint.h>

#include "gpu/gpu.h"
#include "metrics.h"
#include "scenario.h"
#include "status.h"
#include "trace.h"

struct engine;

/* A stretch of a rank's time and the phase it is booked to. A rank's stretches follow each other
 * without a gap from the beginning of a step to its end; none is empty. */
struct booked_time {
    int64_t step;
    int64_t begin_ns;
    int64_t end_ns;
    int32_t rank;
    int32_t layer; /* of the model; -1: weights on the move, the output head, the step's end */
    enum step_phase phase;
};

/* What a caller may watch. NULL: not wanted. */
struct engine_observer {
    void *context;
    /* Called after every step: progress and cancellation. Return false to stop the run (the status
     * is then STATUS_INVALID with "interrupted"). */
    bool (*step_done)(void *context, int64_t step, int64_t num_steps);
    /* Wishes of one layer: expert_tokens [num_experts]. */
    enum status (*layer_load)(void *context, int64_t step, int32_t layer,
                              const int64_t *expert_tokens, int32_t num_experts,
                              struct error *error);
    /* The same with the placement in force; one call for each micro-batch and chunk. */
    enum status (*layer_placed)(void *context, int64_t step, const int64_t *expert_tokens,
                                const struct placement *placement, struct error *error);
    /* Whenever time is booked; ranks interleave, each in the order of its time. */
    void (*time_booked)(void *context, const struct booked_time *booked);
    /* A strategy has answered: at now_ns, the end of the step before record->step. What the moved
     * weights cost is not yet known. */
    void (*rebalanced)(void *context, const struct rebalance_record *record, int64_t now_ns);
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

/* Of so many tokens, those whose logits are wanted: all in decode, the last of each prompt in
 * prefill. */
int32_t engine_head_tokens(const struct scenario *scenario, int32_t tokens);

/* What each of the ranks that share attention computes for the logits of so many tokens of theirs,
 * and how long it then takes to bring these together, in ns. */
struct gpu_work engine_head_work(const struct scenario *scenario, int32_t head_tokens);
double engine_logits_ns(const struct scenario *scenario, int32_t head_tokens);

#endif
