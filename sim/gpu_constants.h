/*
 * gpu_constants.h -- the fitted constants of experts, GEMMs and attention in a GPU's YAML.
 */
#ifndef MOESIM_GPU_CONSTANTS_H
#define MOESIM_GPU_CONSTANTS_H

#include <stddef.h>

#include "cluster.h"
#include "yaml_file.h"

extern const char *const tile_choice_names[];     /* [TILE_CHOICE_COUNT], ended by NULL */
extern const char *const split_rule_names[];      /* by enum split_rule, ended by NULL */
extern const char *const attention_phase_names[]; /* [ATTENTION_PHASE_COUNT], ended by NULL */

/* The keys of struct fit_evidence, which is the member fit of a struct of constants. */
#define FIT_EVIDENCE_FIELDS(type)                                                                  \
    {"fitted_on", YAML_TEXT, offsetof(type, fit.fitted_on), .size = SOURCE_BYTES,                  \
     .required = true},                                                                            \
        {"holdout", YAML_TEXT, offsetof(type, fit.holdout), .size = HOLDOUT_BYTES,                 \
         .required = true},                                                                        \
        {"num_rows",       YAML_INT32, offsetof(type, fit.num_rows),                               \
         .required = true, .min = 1.0, .max = 1e9},                                                \
        {"error_median", YAML_DOUBLE, offsetof(type, fit.error_median), .required = true,          \
         .max = 1e3},                                                                              \
    {                                                                                              \
        "error_p90", YAML_DOUBLE, offsetof(type, fit.error_p90), .required = true, .max = 1e3      \
    }

/* The lists of a GPU's file; NULL: the file has none. */
struct gpu_lists {
    struct yaml_node *fitted; /* experts */
    struct yaml_node *gemm;
    struct yaml_node *attention;
};

/* Fills what the lists hold. STATUS_INVALID with all that is wrong, which a second entry for the
 * same kernels is too: which one would count? */
MUST_CHECK enum status gpu_constants_fill(struct gpu_spec *gpu, const struct gpu_lists *lists,
                                          struct error *error);

#endif
