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

/* As run_json. Release with cJSON_Delete; NULL when memory is out. */
cJSON *variant_json(const struct variant *variant);

/* Prints and deletes json. Returns the exit code. */
int print_json(cJSON *json);

#endif
