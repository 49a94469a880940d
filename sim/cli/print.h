/*
 * print.h -- a finished run on the terminal and as JSON.
 */
#ifndef MOESIM_PRINT_H
#define MOESIM_PRINT_H

#include <cjson/cJSON.h>

#include "cli/variant.h"

/* Nothing if there were none. */
void print_rebalances(const struct variant *variant);

void print_summary(const struct variant *variant);

/* One object: run_id, digest, tokens, assignments, ... layers[]. Release with cJSON_Delete; NULL
 * when memory is out. */
cJSON *run_json(const struct variant *variant);

/* Prints and deletes json. Returns the exit code. */
int print_json(cJSON *json);

/* Share of the step's time, mean over ranks, all steps. */
double phase_share(const struct run_metrics *metrics, enum step_phase phase);

#endif
