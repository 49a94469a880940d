/*
 * sweep_study.h -- a study file: one scenario, many points.
 *
 * A point is the scenario with some keys set: one item of `points` and one value of every key of
 * `vary`, in every combination, less those that `exclude` names.
 *
 *     version: 1
 *     question: How does the EP degree trade latency for cost?
 *     scenario: ../studies/deepseek_v3_decode_32xh800.yaml
 *     set: {trace.steps: 8}                       # of every point
 *     points:                                     # keys that change together
 *       - {cluster.nodes: 4, parallel.ep: 32}
 *       - {cluster.nodes: 9, parallel.ep: 72}
 *     vary:                                       # the last key runs fastest
 *       trace.tokens_per_rank: [16, 32, 64]
 *     exclude:                                    # points that match every key of an item
 *       - {parallel.ep: 72, trace.tokens_per_rank: [16, 32]}
 *
 * Keys are the dotted keys of a scenario, values its scalars or lists of them; a key without a
 * value is taken out. An item of points may have a name, which labels its points instead of its
 * keys. `answer`, `figures` and `notes` are case_study.h's.
 */
#ifndef MOESIM_SWEEP_STUDY_H
#define MOESIM_SWEEP_STUDY_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "scenario.h"
#include "status.h"
#include "sweep.h"
#include "yaml_file.h"

#define SWEEP_POINTS_MAX 10000000
#define SWEEP_KEYS_MAX   64 /* that one point sets */

/* One key and value that a study sets. */
struct sweep_setting {
    const char *key;
    const char *value;      /* as written, without quotes; a list in one line */
    const char *assignment; /* "key=value" as scenario_load takes it; NULL: a point's name */
    int32_t line;           /* of the study file */
};

/* Settings that come together: an item of a list, or one key's values. */
struct sweep_settings {
    int32_t count;
    struct sweep_setting *setting; /* [count] */
};

/* Zero-initialise; release with sweep_study_free. */
struct sweep_study {
    char path[PATH_BYTES];
    char question[TEXT_BYTES];
    char scenario[PATH_BYTES]; /* as found */
    struct sweep_settings common;
    int32_t num_items; /* of points; at least 1, that item being empty when there are none */
    struct sweep_settings *item; /* [num_items] */
    int32_t num_axes;
    struct sweep_settings *axis; /* [num_axes] the values of one key of vary */
    int64_t num_points;
    int64_t *combination; /* [num_points] which one of num_items x the axes' values; ascending */
    const char *const *override; /* [num_overrides] "key=value" of every point, last; borrowed */
    int32_t num_overrides;
    const struct yaml_node *answer; /* as written, or NULL; likewise the next */
    const struct yaml_node *figures;
    const struct yaml_node *notes;
    struct arena arena; /* holds all that is not borrowed */
};

/* Reads and checks the study alone, path or name of one in scenarios/sweeps; what its points set is
 * not looked at. STATUS_INVALID with all problems, each with file and line. */
MUST_CHECK enum status sweep_study_load(struct sweep_study *study, const char *path,
                                        struct error *error);
void sweep_study_free(struct sweep_study *study); /* safe on a zeroed struct, and twice */

/* The settings of a combination, whether it is excluded or not; returns their number. */
int32_t sweep_study_settings(const struct sweep_study *study, int64_t combination,
                             const struct sweep_setting *setting[SWEEP_KEYS_MAX]);

/* The settings of a point, in the order in which they apply, those of every point first. Returns
 * their number; label [SWEEP_LABEL] gets "key=value key=value" without those of every point. */
int32_t sweep_study_point(const struct sweep_study *study, int64_t point,
                          const struct sweep_setting *setting[SWEEP_KEYS_MAX],
                          char label[SWEEP_LABEL]);

/* The name of the item of points that a point is of, or "". */
const char *sweep_study_point_name(const struct sweep_study *study, int64_t point);

/* The study's points for sweep_run. Problems of a value have the place where it stands. */
struct sweep_source sweep_study_source(const struct sweep_study *study);

#endif
