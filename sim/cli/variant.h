/*
 * variant.h -- one simulation of a command: its scenario, its trace, its engine, its numbers.
 */
#ifndef MOESIM_VARIANT_H
#define MOESIM_VARIANT_H

#include <stdbool.h>

#include "engine.h"
#include "metrics.h"
#include "scenario.h"
#include "store.h"
#include "trace.h"

#define LABEL_BYTES 256

struct variant {
    char label[LABEL_BYTES]; /* "placement.strategy=eplb"; "" for a single run */
    char run_id[RUN_ID_BYTES];
    struct scenario scenario;
    struct trace own_trace;
    const struct trace *trace; /* own_trace or another variant's; NULL for a dense model */
    struct engine *engine;
    const struct run_metrics *metrics;
    struct run_totals totals;
    enum status status;
    struct error error;
};

/* Opens the trace, unless an earlier variant's is the same, and the engine. */
MUST_CHECK enum status variant_open(struct variant *variant, const struct variant *earlier,
                                    int32_t num_earlier, int32_t num_threads, struct error *error);

/* Runs the engine and fills metrics and totals. */
MUST_CHECK enum status variant_run(struct variant *variant, const struct engine_observer *observer);

/* Stores a finished variant. */
MUST_CHECK enum status variant_store(struct variant *variant, struct store *store,
                                     struct error *error);

void variant_close(struct variant *variant); /* safe on a zeroed struct */

#endif
