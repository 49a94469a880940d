/*
 * robust_fit.h -- nonlinear least squares on logarithms, for models of few positive constants.
 *
 * Residuals are log(predicted / measured) under Cauchy's loss, s sqrt(log(1 + (r/s)^2)), first with
 * a wide s or without it, then with narrower ones, so that the start does not decide which rows
 * count as outliers. Each constant is pulled to what is known of it beforehand: being off by its
 * width (of the logarithm) weighs like one row that is off by 5 %. GSL's trust region method
 * solves.
 */
#ifndef MOESIM_ROBUST_FIT_H
#define MOESIM_ROBUST_FIT_H

#include <stdint.h>

#include "status.h"

#define ROBUST_PARAMS_MAX 24
#define ROBUST_PRIOR      0.05

struct robust_fit {
    int32_t num_params;
    const double *prior;    /* [num_params] what is known beforehand; > 0 where width is */
    const double *width;    /* [num_params] how surely; 0: it is not fitted and stays */
    const double *floor;    /* [num_params] added to exp of the unknown: least values */
    int32_t num_iterations; /* of each fit at most; 0: 80 */
    int64_t num_rows;
    const double *weight; /* [num_rows] how often a row counts; 0: left out */
    const double *scales; /* s, one fit after the other, from wide to narrow; 0: without the loss;
                             ended by a negative one */
    double (*predict)(const void *context, int64_t row, const double *value);
    double (*measured)(const void *context, int64_t row);
    const void *context;
};

/* Fits the rows of positive weight; value [num_params] out. */
MUST_CHECK enum status robust_fit(double *value, const struct robust_fit *fit, struct error *error);

#endif
