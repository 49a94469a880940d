/*
 * simulate.h -- a scenario from file to metrics: trace opened or generated, engine run.
 */
#ifndef MOESIM_SIMULATE_H
#define MOESIM_SIMULATE_H

#include "engine.h"

/* Opens the scenario's trace or generates it in memory, and takes its digest. A dense model has
 * none: trace stays zeroed. Release with trace_close. */
MUST_CHECK enum status simulate_open_trace(struct trace *trace, const struct scenario *scenario,
                                           int32_t num_threads, struct error *error);

/* True if both scenarios replay the same trace, so that one opening serves both. */
bool simulate_same_trace(const struct scenario *a, const struct scenario *b);

#endif
