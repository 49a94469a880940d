/*
 * print_study.h -- what a comparison says, for people and for scripts.
 */
#ifndef MOESIM_PRINT_STUDY_H
#define MOESIM_PRINT_STUDY_H

#include <cjson/cJSON.h>

#include "study.h"

/* Each group: its runs, ranked where strategies are compared, and the verdict. */
void print_study(const struct study *study);

/* {"study_id", "groups": [{"group", "verdict", "headroom", "ranking": [...]}]} */
cJSON *study_json(const struct study *study);

#endif
