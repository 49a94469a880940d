/*
 * fake_run.h -- a run that nobody simulated, for tests of the store and of reports.
 */
#ifndef MOESIM_FAKE_RUN_H
#define MOESIM_FAKE_RUN_H

#include <stdint.h>

#include "arena.h"
#include "metrics.h"
#include "scenario.h"
#include "store.h"
#include "trace.h"

struct fake_size {
    int32_t num_layers; /* MoE layers; 0: a dense model */
    int32_t num_experts;
    int32_t num_ranks;
    int32_t num_windows;
    double skew; /* 0: every expert is loaded alike */
};

struct fake_run {
    struct scenario scenario;
    struct trace trace;
    struct run_metrics metrics;
    struct run_totals totals;
};

/* Invents a run whose numbers depend on size alone. Memory is the arena's. */
void fake_run_make(struct fake_run *run, const struct fake_size *size, struct arena *arena);

/* Stores a run under label and returns its id in run_id. */
MUST_CHECK enum status fake_run_store(char run_id[RUN_ID_BYTES], const char *path,
                                      const struct fake_run *run, const char *label,
                                      struct error *error);

#endif
