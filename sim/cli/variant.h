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
    char name[LABEL_BYTES];  /* among the variants of its group; "": the label */
    char group[LABEL_BYTES]; /* settings it shares with those it is ranked against */
    char run_id[RUN_ID_BYTES];
    struct scenario scenario;
    struct trace own_trace;
    const struct trace *trace; /* own_trace or another variant's; NULL for a dense model */
    struct engine *engine;
    const struct run_metrics *metrics;
    struct run_totals totals;
    bool wants_bounds;          /* it is a strategy among others */
    double bound_placement_sum; /* of balancedness: what no placement could exceed, over ... */
    double bound_split_sum;     /* what no split over its replicas could exceed, over ... */
    int64_t num_bounds;         /* ... layers of some steps */
    bool optional;              /* left out where it cannot be */
    bool left_out;              /* status and error say why */
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
