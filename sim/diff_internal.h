/*
 * diff_internal.h -- what the diff*.c files share and nobody else includes.
 */
#ifndef MOESIM_DIFF_INTERNAL_H
#define MOESIM_DIFF_INTERNAL_H

#include "diff.h"

#define DIFF_KEYS_MORE 4 /* room for keys that are not of the scenario */

/* diff_keys.c: makes diff->key, with room for DIFF_KEYS_MORE behind, of the keys whose values
 * differ between two canonical texts. STATUS_NO_MEMORY. */
MUST_CHECK enum status diff_scenarios(struct diff *diff, const char *const text[2]);

#endif
