/*
 * study.h -- what a comparison of runs says: who is best net of what its moves cost, and whether
 * balancing pays at all.
 *
 * Runs that differ in their strategy alone are a group and are ranked against each other; other
 * keys that a comparison varies make groups. Before the first change of placement the runs of a
 * group are one and the same, and how long that lasts says nothing about a strategy: a gain is what
 * whole steps behind it became shorter on average, landing steps and their stalls included.
 */
#ifndef MOESIM_STUDY_H
#define MOESIM_STUDY_H

#include "metrics.h"
#include "scenario.h"

#define STUDY_ID_BYTES 17
#define VERDICT_BYTES  1024

/* Gains below this do not pay: models are not that exact. */
#define STUDY_GAIN_MIN 0.005

struct study_run {
    const char *run_id;
    const char *name;  /* "eplb", or the whole label where the strategy is not varied */
    const char *group; /* "trace.tokens_per_rank=64"; "": nothing else is varied */
    bool is_strategy;  /* within its group nothing but the strategy is varied */
    const struct scenario *scenario;
    const struct run_metrics *metrics;
    const struct run_totals *totals;
    double bound_placement; /* mean balancedness that no placement of the slots can exceed; < 0:
                               unknown */
    double bound_split;     /* that no split over the replicas in force can exceed; < 0: unknown */

    /* Out: */
    int32_t group_index;
    int32_t place;       /* 1: the best of its group */
    double gain;         /* of a whole step, against the group's reference; > 0: shorter */
    double settled_gain; /* the same without the steps that changes land in */
    int32_t changes;     /* of placements that moved something */
    bool is_settled;     /* false: no step lies behind a change, so nobody can say what settled
                            steps save, what a change costs, or when it is paid back */
    int64_t moves;       /* copies of experts, all changes */
    int64_t moved_bytes;
    double change_ns;     /* what a change costs beyond the steps around it, mean; 0: none */
    double payback_steps; /* steps that pay a change back; < 0: never, or nobody can say */
};

struct study_group {
    const char *label;
    int32_t count;        /* runs */
    int32_t reference;    /* run that others are compared with: static, else the first */
    int32_t winner;       /* run with place 1 */
    bool varies_strategy; /* and nothing else; otherwise no word on balancing */
    char verdict[VERDICT_BYTES];
};

struct study {
    char id[STUDY_ID_BYTES]; /* from the ids of the runs, in order */
    struct study_run *run;   /* [num_runs] the caller's */
    int32_t num_runs;
    struct study_group *group; /* [num_groups] owned */
    int32_t num_groups;
    struct money money; /* of all runs */
};

/* Judges run [num_runs], which stays the caller's. STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status study_judge(struct study *study, struct study_run *run, int32_t num_runs);
void study_free(struct study *study); /* safe on a zeroed struct */

#endif
