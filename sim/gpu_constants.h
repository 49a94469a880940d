/*
 * gpu_constants.h -- the fitted constants of experts, GEMMs and attention in a GPU's YAML.
 */
#ifndef MOESIM_GPU_CONSTANTS_H
#define MOESIM_GPU_CONSTANTS_H

#include "cluster.h"
#include "yaml_file.h"

extern const char *const tile_choice_names[];     /* [TILE_CHOICE_COUNT], ended by NULL */
extern const char *const split_rule_names[];      /* by enum split_rule, ended by NULL */
extern const char *const attention_phase_names[]; /* [ATTENTION_PHASE_COUNT], ended by NULL */

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
