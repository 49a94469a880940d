/*
 * calibrate_internal.h -- what the files of calibrate share.
 */
#ifndef MOESIM_CALIBRATE_INTERNAL_H
#define MOESIM_CALIBRATE_INTERNAL_H

#include "calibrate.h"

/* Rows of any kind: context and index name one. */
struct fit {
    double (*predict_ns)(const void *context, int64_t index, const struct fitted_kernels *fitted);
    double (*measured_ns)(const void *context, int64_t index);
    const void *context;
    const double *weight; /* [num_rows]; how often a row counts */
    int64_t num_rows;
    struct fitted_kernels start;
    const double
        *scales;  /* of the loss, one fit after the other, from wide to narrow; ended by 0 */
    double scale; /* the one in use */
};

/* A start in the right order of magnitude, from the preset alone. */
struct fitted_kernels calibrate_start(const struct gpu_spec *gpu, const struct moe_row *row);

/* Fits the rows of positive weight. */
MUST_CHECK enum status calibrate_fit(struct fitted_kernels *fitted, struct fit *fit,
                                     struct error *error);

/* A constant by its place in the YAML, index < CALIBRATE_PARAMS. */
double *calibrate_constant(struct fitted_kernels *fitted, int32_t index);
const char *calibrate_constant_name(int32_t index);

#endif
