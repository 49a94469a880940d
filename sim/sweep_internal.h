/*
 * sweep_internal.h -- what the sweep*.c files share and nobody else includes.
 */
#ifndef MOESIM_SWEEP_INTERNAL_H
#define MOESIM_SWEEP_INTERNAL_H

#include <pthread.h>
#include <stdio.h>

#include "store.h"
#include "sweep.h"
#include "sweep_study.h"
#include "trace.h"

#define SWEEP_THREADS_MAX 1024
#define SWEEP_PATH_BYTES  4096

/* Traces in use, and some that were: points that follow each other often share one. */
struct sweep_trace {
    struct scenario key; /* simulate_same_trace tells whether a point wants it */
    struct trace trace;
    enum status status; /* of opening it */
    struct error error;
    bool is_open; /* or has failed to */
    int32_t num_users;
    int64_t last_use; /* 0: the place is free */
};

struct sweep_traces {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int32_t capacity; /* more than there are threads */
    int64_t num_uses;
    struct sweep_trace *entry; /* [capacity] */
};

MUST_CHECK enum status sweep_traces_open(struct sweep_traces *traces, int32_t num_threads,
                                         struct error *error);
void sweep_traces_close(struct sweep_traces *traces); /* safe on a zeroed struct */

/* The trace of a scenario with experts, opened once for all that want it at a time. */
MUST_CHECK enum status sweep_traces_take(struct sweep_traces *traces,
                                         const struct scenario *scenario,
                                         const struct trace **trace, struct error *error);
void sweep_traces_give(struct sweep_traces *traces, const struct trace *trace); /* safe on NULL */

/* Fingerprints of files, each read once. Zero-initialise but for the mutex. */
#define SWEEP_FILES_MAX 256
struct sweep_files {
    pthread_mutex_t mutex;
    int32_t count;
    struct {
        char path[PATH_BYTES];
        uint64_t digest;
    } file[SWEEP_FILES_MAX];
};

/* What names a point's run; see sweep.h. path is the scenario's. */
MUST_CHECK enum status sweep_point_id(uint64_t *id, const struct scenario *scenario,
                                      const char *path, const char *label,
                                      struct sweep_files *files, struct sweep_traces *traces,
                                      struct error *error);

/* Fills a setting from a key of a study; memory is the arena's. Returns what is wrong, or NULL. */
const char *sweep_setting_read(struct sweep_setting *setting, const char *key,
                               const struct yaml_node *value, struct arena *arena);

/* All points loaded and checked, and those to be simulated. */
struct sweep_plan {
    uint64_t *run_id; /* [num_points] owned */
    int64_t *todo;    /* [num_todo] points, ascending; owned */
    int64_t num_todo;
    int64_t num_done;
    int64_t num_same;
};

/* Loads every point; problems are told once each, with the number of points that have them. */
MUST_CHECK enum status sweep_check(struct sweep_plan *plan, const struct sweep_source *source,
                                   struct store *store, struct sweep_traces *traces,
                                   int32_t num_threads, struct error *error);
void sweep_plan_free(struct sweep_plan *plan); /* safe on a zeroed struct, and twice */

/* Only one sweep at a time may write results; the lock goes with the process, however it ends.
 * Returns the lock for sweep_unlock. */
MUST_CHECK enum status sweep_lock(int *lock, const char *results, struct error *error);
void sweep_unlock(int lock, const char *results);

/* RESULTS.rank-N */
void sweep_rank_path(char path[SWEEP_PATH_BYTES], const char *results, int32_t rank);

/* Merges all RESULTS.rank-N there are and removes them. */
MUST_CHECK enum status sweep_merge(struct store *store, const char *results, struct error *error);

/* RESULTS.failed.csv: of this sweep alone, on disk after every line. */
void sweep_forget_failures(const char *results);
void sweep_tell_failure(const char *results, int64_t point, const char *label, const char *problem);

#endif
