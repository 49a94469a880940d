/*
 * print_serve.h -- a finished serving simulation on the terminal and as JSON.
 */
#ifndef MOESIM_PRINT_SERVE_H
#define MOESIM_PRINT_SERVE_H

#include <cjson/cJSON.h>

#include "serve/deployment.h"

void print_serve(const struct deployment *deployment, const struct serve_result *result);

/* NULL when memory is out. Release with cJSON_Delete. */
cJSON *serve_json(const struct deployment *deployment, const struct serve_result *result);

#endif
