/*
 * calibrate_internal.h -- what the files of calibrate share: a fit of any form, and its hold-out.
 */
#ifndef MOESIM_CALIBRATE_INTERNAL_H
#define MOESIM_CALIBRATE_INTERNAL_H

#include <stddef.h>

#include "calibrate.h"

/* What a constant scales with from one GPU to another. */
enum fit_unit {
    FIT_PLAIN, /* with nothing */
    FIT_HBM,   /* the HBM's bandwidth */
    FIT_PEAK,  /* peak flops of the format */
    FIT_SMS,   /* the number of SMs */
};

/* A double in a struct of constants; the fit turns the logarithm of what it is above its floor. */
struct fit_parameter {
    const char *name; /* its key in the YAML */
    size_t offset;
    double floor; /* least value: a norm's exponent is at least 1 */
    double pull;  /* a factor of e off the start weighs like such an error in one row */
    enum fit_unit unit;
};

#define FIT_PARAMETERS_MAX 24
#define FIT_PULL           0.05 /* of forms whose start says no more than the order of magnitude */

struct fit_form {
    const struct fit_parameter *parameter;
    int32_t count;
    size_t bytes; /* of the struct of constants */
    double pull;  /* times each parameter's */
};

extern const struct fit_form fit_experts; /* struct fitted_kernels, of whole MoE operations */
extern const struct fit_form fit_sglang;  /* likewise, of kernels with a table of tiles */
extern const struct fit_form fit_ruled;   /* likewise, of kernels with one tile, or DeepGEMM's */
/* Likewise, where the start says no more than the order of magnitude: of what follows an exchange,
 * whose layers wait for different things, and of one phase. */
extern const struct fit_form fit_exchanged;
extern const struct fit_form fit_phases;

/* Rows of any kind: context and index name one. */
struct fit {
    const struct fit_form *form;
    double (*predict_ns)(const void *context, int64_t index, const void *constants);
    double (*measured_ns)(const void *context, int64_t index);
    const void *context;
    const double *weight; /* [num_rows]; how often a row counts */
    int64_t num_rows;
    const void *start;      /* [num_starts][form->bytes]: each is tried, the best fit is kept */
    int32_t num_starts;     /* 0: one; otherwise a constant that a start has at 0 is not fitted */
    const double *scales;   /* robust_fit's */
    int32_t num_iterations; /* robust_fit's */
    void *trial;            /* constants that the rows are tried with */
};

#define CALIBRATE_STARTS_MAX 4

/* Starts in the right order of magnitude, from the preset alone, one for each family of kernels
 * that the row's may be of; returns how many. A constant at 0 is no part of the family. */
int32_t calibrate_starts(struct fitted_kernels start[CALIBRATE_STARTS_MAX],
                         const struct gpu_spec *gpu, const struct moe_row *row);

/* The form of the row's kernels. */
const struct fit_form *calibrate_form(const struct moe_row *row);

/* Fits the rows of positive weight; constants [form->bytes] out. */
MUST_CHECK enum status calibrate_fit(void *constants, struct fit *fit, struct error *error);

/* A constant by its place in the form. */
double *fit_constant(const struct fit_form *form, void *constants, int32_t index);

/* Turns constants into shares of what the GPU has, or back. */
void fit_rescale(const struct fit_form *form, void *constants, const struct gpu_spec *gpu,
                 enum precision precision, bool to_shares);

/* Which rows a fit does not see, and what it says of them. */
struct hold_out {
    struct fit *fit;
    double *weight;      /* [num_rows] fit->weight */
    const double *base;  /* [num_rows] weight of a row where it is seen */
    const int32_t *fold; /* [num_rows]; < 0: never held out */
    int32_t num_folds;
    double *error; /* [num_rows] relative, signed, of held-out rows; out */
    /* As the fit's, but as exact as it gets; NULL: the fit's. */
    double (*predict_ns)(const void *context, int64_t index, const void *constants);
};

MUST_CHECK enum status calibrate_hold_out(struct hold_out *held, struct error *error);

/* 90 % intervals of the constants from num_fits resampled fits; low, high [form->count] out. */
MUST_CHECK enum status calibrate_bootstrap(double *low, double *high, struct hold_out *held,
                                           int32_t num_fits, struct error *error);

/* fold [num_rows] out by a text of each row, in order of appearance; returns how many folds. */
int32_t calibrate_folds(int32_t *fold, int64_t num_rows,
                        const char *(*key)(const void *context, int64_t index),
                        const void *context);

/* Joins folds into so many groups, one by one in turn; 0 or no fewer groups than folds: they stay.
 * Gives how many there are then. */
int32_t calibrate_group_folds(int32_t *fold, int64_t num_rows, int32_t num_folds,
                              int32_t num_groups);

/* As above, one fold: a random share of the rows. */
MUST_CHECK enum status calibrate_fold_random(int32_t *fold, int64_t num_rows, double share,
                                             struct error *error);

/* The constants of a YAML entry, one a line; high NULL or 0: no intervals. */
void calibrate_write_constants(const struct fit_form *form, const void *constants,
                               const double *low, const double *high, FILE *file);

/* What they rest on, likewise. */
void calibrate_write_evidence(const struct fit_evidence *fit, FILE *file);

#endif
