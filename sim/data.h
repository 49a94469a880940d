/*
 * data.h -- where presets, figures and other data files are.
 *
 * The data directory holds scenarios/ and reports/. It is $MOESIM_DATA, else share/moesim beside
 * the bin/ of the running program, else the source that was built, else share/moesim of the prefix
 * that was configured.
 */
#ifndef MOESIM_DATA_H
#define MOESIM_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "status.h"

/* Never NULL, but the directory may be missing. Valid until $MOESIM_DATA changes. */
const char *data_directory(void);

/* Finds what a user named: an existing path as it is, the config.json of a model's directory, else
 * scenarios/KIND/NAME.yaml, else the preset of that kind whose aliases: list holds the name, letter
 * case ignored. kind is "models", "gpus", "prices", ... STATUS_INVALID lists the nearest names when
 * there is none. path [PATH_BYTES] out. */
MUST_CHECK enum status data_find(char *path, size_t path_bytes, const char *kind, const char *name,
                                 struct error *error);

/* The same, but lists only presets with that key at their root, or only those without it:
 * scenarios/studies holds studies, which have an answer, and scenarios. The others are found
 * nevertheless, for the caller to say what they are. */
MUST_CHECK enum status data_find_with(char *path, size_t path_bytes, const char *kind,
                                      const char *key, bool has_key, const char *name,
                                      struct error *error);

/* The last part of a path, without its suffix, cut to fit: how presets and scenarios are named. */
void data_stem(char *stem, size_t stem_bytes, const char *path);

#define DATA_NO_DIRECTORY (-1)
#define DATA_NO_MEMORY    (-2)

/* Names of all presets of a kind, sorted; memory is the arena's. Returns their number, or one of
 * the two above. */
int32_t data_list(const char *const **names, const char *kind, struct arena *arena);

#endif
