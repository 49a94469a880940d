/*
 * preset.h -- opens the file of a preset: of a GPU, a cluster, a price, a law of traces.
 */
#ifndef MOESIM_PRESET_H
#define MOESIM_PRESET_H

#include "arena.h"
#include "data.h"
#include "model.h"
#include "status.h"
#include "textfile.h"
#include "yaml_file.h"

struct preset {
    char path[FILE_PATH_BYTES];
    char name[NAME_BYTES]; /* the file's, without its suffix */
    struct yaml_node *root;
    struct arena arena; /* holds root */
};

/* Finds what a user named among the presets of a kind, as data_find does, and parses it. What was
 * not reached is zero; preset_close is due either way. Errors are those of data_find and
 * yaml_load. */
MUST_CHECK enum status preset_open(struct preset *preset, const char *kind,
                                   const char *name_or_path, struct error *error);
void preset_close(struct preset *preset);

#endif
