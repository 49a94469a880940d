/*
 * moesim.h -- moesim as a library: load a scenario, simulate it, read what came out.
 *
 *     struct moesim_simulation *simulation = moesim_new();
 *     const char *overrides[] = {"placement.strategy=eplb"};
 *     struct moesim_totals totals;
 *     if (moesim_load(simulation, "my.yaml", overrides, 1) != MOESIM_OK ||
 *         moesim_run(simulation, NULL) != MOESIM_OK ||
 *         moesim_get_totals(simulation, &totals) != MOESIM_OK) {
 *         fputs(moesim_error(simulation), stderr);
 *     }
 *     moesim_free(simulation);
 *
 * A run is a function of scenario, trace, seed and version of the library: totals.digest is the one
 * that `moesim run` prints. Nothing here prints or exits. Several simulations may run at a time,
 * each in one thread at a time. This header needs no other of moesim; it is C11 and C++17.
 *
 * Presets (models, GPUs, prices) are read from $MOESIM_DATA, else from share/moesim beside the bin/
 * of the running program, else from the source or the prefix that the library was built for.
 */
#ifndef MOESIM_MOESIM_H
#define MOESIM_MOESIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows by one when a program that used this header has to be changed. Fields and functions are
 * added without: zero-initialise structs that are passed in, and 0 keeps its meaning. */
#define MOESIM_API_VERSION 1

/* Of the library that is linked; the same as MOESIM_API_VERSION, or header and library differ. */
int32_t moesim_api_version(void);
const char *moesim_version(void); /* "0.1.0" */
const char *moesim_commit(void);  /* "3ef7fee40412", "unknown" outside of a repository */

enum moesim_status {
    MOESIM_OK = 0,
    MOESIM_INVALID,   /* the input or the order of calls is wrong: moesim_error says what */
    MOESIM_IO,        /* a file cannot be read or written */
    MOESIM_NO_MEMORY, /* the host is out of memory */
};

/* A scenario and, when it has run, its results. */
struct moesim_simulation;

/* NULL: out of memory. Release with moesim_free. */
struct moesim_simulation *moesim_new(void);
void moesim_free(struct moesim_simulation *simulation); /* safe on NULL */

/* The problems of the last call that failed, one a line, each line ended by '\n'; "" if none did.
 * Valid until the next call with this simulation. Safe on NULL, as moesim_new may have left it. */
const char *moesim_error(const struct moesim_simulation *simulation);

/* Loads and checks a scenario file, after which overrides[num_overrides] ("key.part=value") replace
 * single keys; NULL and 0 for none. All problems are reported, with file and line. Forgets an
 * earlier scenario of this simulation and its results, also when it fails. */
enum moesim_status moesim_load(struct moesim_simulation *simulation, const char *path,
                               const char *const *overrides, int32_t num_overrides);

/* The loaded scenario as one YAML text with every key, presets by name; NULL if none is loaded.
 * Valid until the next moesim_load or moesim_free. */
const char *moesim_scenario_text(const struct moesim_simulation *simulation);

struct moesim_run_options {
    int32_t num_threads; /* for making a trace; 0: one. Results do not depend on it */
    /* Called after each step, 1 to num_steps, with context; return false to stop the run, which
     * then fails as MOESIM_INVALID. NULL: not wanted. */
    bool (*step_done)(void *context, int64_t step, int64_t num_steps);
    void *context;
};

/* Simulates the loaded scenario; options may be NULL. Opens or makes its trace, checks that it fits
 * the model and the GPUs' memory, and replaces the results of an earlier run. */
enum moesim_status moesim_run(struct moesim_simulation *simulation,
                              const struct moesim_run_options *options);

/* A whole run. Times are simulated ones, means are over all steps. */
struct moesim_totals {
    uint64_t digest; /* of every delivery and every finished phase; `moesim run` prints it in hex */
    int64_t num_steps;
    int64_t tokens;
    int64_t assignments;         /* wishes of tokens for experts: tokens x top-k x MoE layers */
    int64_t dropped_assignments; /* those that exceeded the capacity */
    double step_ns_mean;         /* length of a step, rebalance stalls included */
    double tokens_per_s_per_gpu;
    double usd_per_million_tokens;
    double rank_tokens_max_over_mean; /* busiest rank over mean rank, mean over layers and steps */
    double balancedness;              /* mean rank over busiest rank, likewise */
    int64_t num_rebalances;           /* changes of placement */
    int64_t rebalance_ns;             /* start to last weight, their sum */
    int64_t messages;                 /* between ranks */
    int64_t bytes_sent;               /* by all of them, moved weights included */
    int32_t num_ranks;                /* GPUs of the expert-parallel group */
    int32_t num_layers;               /* MoE layers; 0: a dense model */
    int32_t num_experts;              /* in a layer */
};

/* MOESIM_INVALID if no run has finished since the last moesim_load. */
enum moesim_status moesim_get_totals(struct moesim_simulation *simulation,
                                     struct moesim_totals *totals);

/* One MoE layer over all steps. The arrays are the simulation's: valid until the next moesim_load,
 * moesim_run or moesim_free. */
struct moesim_layer {
    int32_t model_layer;              /* its number in the model, dense layers counted */
    int64_t assignments;              /* wishes */
    int64_t dropped_assignments;      /* of them */
    double rank_tokens_max_over_mean; /* mean over steps */
    double expert_ns_max;             /* time of the slowest rank's experts, mean over steps */
    double expert_ns_mean;            /* of the mean rank's */
    double layer_ns;                  /* the whole layer, mean over steps and ranks */
    const int64_t *rank_tokens;       /* [num_ranks] assignments that a rank computed */
    const int64_t *expert_tokens;     /* [num_experts] wishes */
};

/* index: 0 to num_layers - 1. MOESIM_INVALID for any other, and as moesim_get_totals. */
enum moesim_status moesim_get_layer(struct moesim_simulation *simulation, int32_t index,
                                    struct moesim_layer *layer);

/* The results as the JSON object that `moesim run --json` prints; NULL if there are none or memory
 * is out. Valid until the next moesim_load, moesim_run or moesim_free. */
const char *moesim_json(struct moesim_simulation *simulation);

/* Adds the run to a results file (SQLite; made, with its directory, if it is not there) from which
 * `moesim report` makes a page. label tells runs of one scenario apart, "" or NULL: none; a run
 * that is in the file is replaced. MOESIM_INVALID as moesim_get_totals. */
enum moesim_status moesim_store(struct moesim_simulation *simulation, const char *path,
                                const char *label);

#ifdef __cplusplus
}
#endif

#endif
