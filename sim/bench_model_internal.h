/*
 * bench_model_internal.h -- what the files of bench_model share.
 */
#ifndef MOESIM_BENCH_MODEL_INTERNAL_H
#define MOESIM_BENCH_MODEL_INTERNAL_H

#include "bench_model.h"
#include "gpu/fitted.h"

/* The constants for a row's device, format, phase and company, or NULL. */
const struct bench_constants *bench_model_find(const struct bench_model *model,
                                               const struct bench_row *row);

#endif
