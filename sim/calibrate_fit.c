/*
 * calibrate_fit.c -- one fit.
 *
 * Cauchy's loss by residuals: least squares on s sqrt(log(1 + (r / s)^2)), r = log(predicted /
 * measured), first with a wide scale s, then with narrower ones, so that the start does not decide
 * which rows count as outliers. A weak pull towards the start keeps what the rows do not tell.
 */
#include <gsl/gsl_multifit_nlinear.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "calibrate_internal.h"

#define PRIOR_WEIGHT 0.05 /* a factor of e off the start weighs like an error of 5 % in one row */
#define ITERATIONS   60

/* Constants in the order of the YAML, as the fit sees them: their logarithms. */
static const struct parameter {
    const char *name;
    size_t offset;
    double floor; /* least value; blend is a norm's exponent, at least 1 */
} parameters[CALIBRATE_PARAMS] = {
    {"t0_ns", offsetof(struct fitted_kernels, t0_ns), 0.0},
    {"weight_bytes_per_s", offsetof(struct fitted_kernels, weight_bytes_per_s), 0.0},
    {"flops_per_s", offsetof(struct fitted_kernels, flops_per_s), 0.0},
    {"activation_bytes_per_s", offsetof(struct fitted_kernels, activation_bytes_per_s), 0.0},
    {"row_bytes_per_s", offsetof(struct fitted_kernels, row_bytes_per_s), 0.0},
    {"slot_ns", offsetof(struct fitted_kernels, slot_ns), 0.0},
    {"depth_ns", offsetof(struct fitted_kernels, depth_ns), 0.0},
    {"tile_ns", offsetof(struct fitted_kernels, tile_ns), 0.0},
    {"tile_rows_lost", offsetof(struct fitted_kernels, tile_rows_lost), 0.0},
    {"blend", offsetof(struct fitted_kernels, blend), 1.0},
};

double *calibrate_constant(struct fitted_kernels *fitted, int32_t index)
{
    return (double *)(void *)((char *)fitted + parameters[index].offset);
}

static struct fitted_kernels unpack(const gsl_vector *x, const struct fitted_kernels *start)
{
    struct fitted_kernels fitted = *start;
    for (int32_t i = 0; i < CALIBRATE_PARAMS; i++) {
        double value = exp(fmin(fmax(gsl_vector_get(x, (size_t)i), -20.0), 60.0));
        *calibrate_constant(&fitted, i) = parameters[i].floor + value;
    }
    return fitted;
}

static int residuals(const gsl_vector *x, void *context, gsl_vector *f)
{
    const struct fit *fit = context;
    struct fitted_kernels fitted = unpack(x, &fit->start);
    for (int64_t i = 0; i < fit->num_rows; i++) {
        double r = 0.0;
        if (fit->weight[i] > 0.0) {
            r = log(fit->predict_ns(fit->context, i, &fitted) / fit->measured_ns(fit->context, i)) /
                fit->scale;
            r = copysign(fit->scale * sqrt(fit->weight[i] * log1p(r * r)), r);
        }
        gsl_vector_set(f, (size_t)i, r);
    }
    for (int32_t i = 0; i < CALIBRATE_PARAMS; i++) {
        double start =
            log(*calibrate_constant(&((struct fit *)context)->start, i) - parameters[i].floor);
        gsl_vector_set(f, (size_t)(fit->num_rows + i),
                       PRIOR_WEIGHT * (gsl_vector_get(x, (size_t)i) - start));
    }
    return GSL_SUCCESS;
}

/* A start in the right order of magnitude, from the preset alone. */
struct fitted_kernels calibrate_start(const struct gpu_spec *gpu, const struct moe_row *row)
{
    double peak = gpu->flops_per_s[row->precision];
    struct fitted_kernels start = {.precision = row->precision,
                                   .t0_ns = 25e3,
                                   .weight_bytes_per_s = gpu->hbm_bytes_per_s * gpu->hbm_fraction,
                                   .flops_per_s =
                                       peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16],
                                   .activation_bytes_per_s = 0.5 * gpu->hbm_bytes_per_s,
                                   .row_bytes_per_s = 0.5 * gpu->hbm_bytes_per_s,
                                   .slot_ns = 10.0,
                                   .depth_ns = 0.5,
                                   .tile_ns = 500.0,
                                   .tile_rows_lost = 40.0,
                                   .blend = 3.0};
    memcpy(start.kernels, row->kernels, sizeof start.kernels);
    return start;
}

static enum status solve(struct fit *fit, gsl_vector *x, struct error *error)
{
    size_t num_residuals = (size_t)fit->num_rows + CALIBRATE_PARAMS;
    gsl_multifit_nlinear_parameters settings = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf fdf = {
        .f = residuals, .n = num_residuals, .p = CALIBRATE_PARAMS, .params = fit};
    gsl_multifit_nlinear_workspace *work = gsl_multifit_nlinear_alloc(
        gsl_multifit_nlinear_trust, &settings, num_residuals, CALIBRATE_PARAMS);
    if (work == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    int info = 0;
    gsl_multifit_nlinear_init(x, &fdf, work);
    /* Waves of tiles make steps in the sum, so the last steps may find no descent: that is as far
     * as it goes, not a failure. */
    (void)gsl_multifit_nlinear_driver(ITERATIONS, 1e-5, 1e-8, 1e-8, NULL, NULL, &info, work);
    gsl_vector_memcpy(x, gsl_multifit_nlinear_position(work));
    gsl_multifit_nlinear_free(work);
    return STATUS_OK;
}

enum status calibrate_fit(struct fitted_kernels *fitted, struct fit *fit, struct error *error)
{
    gsl_vector *x = gsl_vector_alloc(CALIBRATE_PARAMS);
    if (x == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t i = 0; i < CALIBRATE_PARAMS; i++) {
        gsl_vector_set(x, (size_t)i,
                       log(*calibrate_constant(&fit->start, i) - parameters[i].floor));
    }
    enum status status = STATUS_OK;
    for (const double *scale = fit->scales; *scale > 0.0 && status == STATUS_OK; scale++) {
        fit->scale = *scale;
        status = solve(fit, x, error);
    }
    *fitted = unpack(x, &fit->start);
    gsl_vector_free(x);
    return status;
}

const char *calibrate_constant_name(int32_t index)
{
    return parameters[index].name;
}
