/*
 * bench_cli.h -- moesim calibrate and validate for what moe-bench measured.
 */
#ifndef MOESIM_BENCH_CLI_H
#define MOESIM_BENCH_CLI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "calibrate.h"

/* Fits the phases in a CSV of moe-bench and prints what the fits are worth. Returns the exit code.
 */
int bench_calibrate(const char *path);

/* Fits the phases of one CSV and predicts another: none of its rows is part of the fit. */
int bench_validate(const char *fit_path, const char *path, bool as_json);

/* Runs moe-bench on this machine for both, and validates. routing: recorded choices of a layer,
 * [layers][tokens][4] of 32 experts, or NULL: made-up skewed ones. */
int bench_validate_cpu(const char *routing, bool as_json);

/* Adds n, skipped, median, p90 and max (fractions) to a JSON object. */
void bench_errors_json(cJSON *object, const struct error_summary *summary, int64_t num_skipped);

#endif
