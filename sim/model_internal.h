/*
 * model_internal.h -- what model.c and model_config.c share and nobody else includes.
 */
#ifndef MOESIM_MODEL_INTERNAL_H
#define MOESIM_MODEL_INTERNAL_H

#include "model.h"
#include "yaml_file.h"

/* Limits that keep every product of sizes inside int64_t and name a typing error early. */
#define MODEL_DIM_MAX     1048576
#define MODEL_LAYERS_MAX  4096
#define MODEL_VOCAB_MAX   16777216
#define MODEL_EXPERTS_MAX 65535
#define MODEL_TOP_K_MAX   1024

/* Reads a Hugging Face config.json. All problems are reported, each with its key. */
MUST_CHECK enum status model_config_load(struct moe_model *model, const char *path,
                                         struct error *error);

/* Checks how the fields of a model fit together. root, for lines, may be NULL. */
MUST_CHECK enum status model_check(const struct moe_model *model, const char *path,
                                   const struct yaml_node *root, struct error *error);

#endif
