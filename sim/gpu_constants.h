/*
 * gpu_constants.h -- the fitted constants of GEMMs and attention in a GPU's YAML.
 */
#ifndef MOESIM_GPU_CONSTANTS_H
#define MOESIM_GPU_CONSTANTS_H

#include "cluster.h"
#include "yaml_file.h"

extern const char *const tile_choice_names[];     /* [TILE_CHOICE_COUNT], ended by NULL */
extern const char *const split_rule_names[];      /* by enum split_rule, ended by NULL */
extern const char *const attention_phase_names[]; /* [ATTENTION_PHASE_COUNT], ended by NULL */

/* Fills the lists `gemm` and `attention`; either may be NULL: the file has none. */
MUST_CHECK enum status gpu_constants_fill(struct gpu_spec *gpu, const struct yaml_node *gemm,
                                          const struct yaml_node *attention, struct error *error);

#endif
