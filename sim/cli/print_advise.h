/*
 * print_advise.h -- advice on the terminal and as JSON.
 */
#ifndef MOESIM_PRINT_ADVISE_H
#define MOESIM_PRINT_ADVISE_H

#include <cjson/cJSON.h>

#include "cli/advise.h"

/* Returns the exit code. */
int print_advise(const struct advise *advise, const struct study *study);

/* Release with cJSON_Delete; NULL when memory is out. */
cJSON *advise_json(const struct advise *advise, const struct study *study);

#endif
