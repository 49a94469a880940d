/*
 * sweep.h -- many simulations: on threads, on MPI ranks, and after a kill only those that miss.
 *
 * A point has an id made of all that it depends on: scenario text, the files of its model, GPU,
 * price and trace, label and commit. A run of that id in the results is done. Points are dealt out
 * one by one, to whoever is free; each is stored as soon as it is finished. Rank 0 writes the
 * results file itself, the others RESULTS.rank-N beside it, merged at the end, or by the next sweep
 * where a kill came in between. What a point computes depends on nothing but the point, so results
 * are the same for any number of threads and ranks.
 */
#ifndef MOESIM_SWEEP_H
#define MOESIM_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"
#include "status.h"
#include "team.h"

#define SWEEP_LABEL 1024 /* bytes */

/* Where points come from. Called from several threads at once. */
struct sweep_source {
    int64_t num_points;
    const void *context;
    void (*label)(const void *context, int64_t point, char label[SWEEP_LABEL]);
    const char *(*path)(const void *context, int64_t point); /* of its scenario file */
    enum status (*scenario)(const void *context, int64_t point, struct scenario *scenario,
                            struct error *error);
};

struct sweep_options {
    const char *results;
    const char *unit;    /* of the progress bar: "points" */
    int32_t num_threads; /* of each rank; 0: all cores that are its own */
    bool check_only;     /* counts what is done, and runs nothing */
};

/* Zero-initialise. Rank 0 alone fills it in. */
struct sweep_outcome {
    int64_t num_points;
    int64_t num_done;      /* before this sweep */
    int64_t num_same;      /* points that are the same as an earlier one */
    int64_t num_simulated; /* by this sweep, without failure */
    int64_t num_failed;
    int32_t num_ranks;
    int32_t num_workers; /* of all ranks */
    double wall_s;
    double points_cpu_s;   /* CPU time of simulations, all ranks */
    double cpu_s;          /* CPU time of the processes, the same and all else */
    struct error failures; /* a line a failed point: "label: problem" */
};

/* Checks all points and reports all their problems before the first is simulated; then simulates
 * those that are not in the results yet. run_id [source->num_points], where it is not NULL, gets
 * every point's id on rank 0. A point that fails is told in outcome and in RESULTS.failed.csv and
 * stops nobody; STATUS_OK then too. */
MUST_CHECK enum status sweep_run(const struct sweep_source *source,
                                 const struct sweep_options *options, const struct team *team,
                                 uint64_t *run_id, struct sweep_outcome *outcome,
                                 struct error *error);

#endif
