/*
 * run_json.h -- a finished run as JSON.
 */
#ifndef MOESIM_RUN_JSON_H
#define MOESIM_RUN_JSON_H

#include <cjson/cJSON.h>

#include "metrics.h"
#include "scenario.h"

/* Share of the step's time, mean over ranks, all steps. */
double phase_share(const struct run_metrics *metrics, enum step_phase phase);

/* Adds what the models behind a scenario's times were off: gpu_model_error_median,
 * exchange_error_median, whole_engine_error_median; null where that was not measured. */
void errors_json(cJSON *object, const struct scenario *scenario);

/* One object: run_id, label, digest, tokens, assignments, ... layers[]. Release with cJSON_Delete;
 * NULL when memory is out. */
cJSON *run_json(const char *run_id, const char *label, const struct scenario *scenario,
                const struct run_metrics *metrics);

#endif
