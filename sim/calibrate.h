/*
 * calibrate.h -- fits the constants of the compute model `fitted` to measured MoE operations.
 *
 * One fit a GPU, set of kernels and format: nonlinear least squares (GSL) on the logarithm of
 * predicted over measured, under Cauchy's loss, so that rows of untuned kernels do not pull it;
 * parameters are logarithms, so they stay positive. Held-out rows are predicted by constants that
 * have not seen them: a shape, an EP degree or a GPU at a
 * time, or a random share.
 */
#ifndef MOESIM_CALIBRATE_H
#define MOESIM_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error_report.h"
#include "moe_rows.h"
#include "status.h"

#define CALIBRATE_PARAMS  22
#define CALIBRATE_SOURCES (MOE_GPUS_MAX * FITTED_MAX)

struct calibration {
    int32_t gpu; /* index into moe_rows.gpu */
    char dtype[NAME_BYTES];
    struct fitted_kernels fitted;
    double
        low[CALIBRATE_PARAMS]; /* 90 % bootstrap interval of each constant, in the order of the */
    double high[CALIBRATE_PARAMS]; /* YAML; 0: not asked for */
    int32_t num_shapes;
    struct error_summary held_out[MOE_CLASS_COUNT];
    struct error_summary held_out_all;
};

enum holdout {
    HOLDOUT_SHAPE, /* one at a time, as EP degrees */
    HOLDOUT_EP,
    HOLDOUT_GPU, /* predicted by the rows of all other GPUs: rates are shares of what one has */
    HOLDOUT_RANDOM,
};

struct calibrate_options {
    enum holdout holdout;
    int32_t num_groups;    /* HOLDOUT_SHAPE: shapes are left out in so many groups; 0: each alone */
    double random_share;   /* HOLDOUT_RANDOM */
    int32_t num_bootstrap; /* resampled fits for the intervals; 0: none */
    const char *gpu;       /* only this preset; NULL: all */
    const char *table;     /* file name, for the provenance */
};

/* Fits every GPU, set of kernels and format that the rows hold. calibration [CALIBRATE_SOURCES] and
 * *count out. STATUS_INVALID when nothing can be fitted. */
MUST_CHECK enum status calibrate_all(struct calibration *calibration, int32_t *count,
                                     const struct moe_rows *rows,
                                     const struct calibrate_options *options, struct error *error);

/* How rows were held out, in words; shape is what a shape is called. */
void calibrate_describe_holdout(char *text, size_t bytes, const struct calibrate_options *options,
                                const char *shape);

/* Writes the entry of a preset's `fitted:` list. */
void calibrate_write_yaml(const struct calibration *calibration, FILE *file);

#endif
