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

#define ITERATIONS 60

#define PLAIN(name)                                                                                \
    {                                                                                              \
#name, offsetof(struct fitted_kernels, name), 0.0, FIT_PULL, FIT_PLAIN                     \
    }
#define RATE(name, unit)                                                                           \
    {                                                                                              \
#name, offsetof(struct fitted_kernels, name), 0.0, FIT_PULL, unit                          \
    }

static const struct fit_parameter experts[CALIBRATE_PARAMS] = {
    PLAIN(t0_ns),
    RATE(weight_bytes_per_s, FIT_HBM),
    RATE(flops_per_s, FIT_PEAK),
    RATE(activation_bytes_per_s, FIT_HBM),
    RATE(row_bytes_per_s, FIT_HBM),
    PLAIN(slot_ns),
    PLAIN(depth_ns),
    PLAIN(tile_ns),
    PLAIN(tile_rows_lost),
    {"blend", offsetof(struct fitted_kernels, blend), 1.0, FIT_PULL, FIT_PLAIN},
};

const struct fit_form fit_experts = {experts, CALIBRATE_PARAMS, sizeof(struct fitted_kernels), 1.0};

double *fit_constant(const struct fit_form *form, void *constants, int32_t index)
{
    return (double *)(void *)((char *)constants + form->parameter[index].offset);
}

static double constant_of(const struct fit_form *form, const void *constants, int32_t index)
{
    return *(const double *)(const void *)((const char *)constants + form->parameter[index].offset);
}

void fit_rescale(const struct fit_form *form, void *constants, const struct gpu_spec *gpu,
                 enum precision precision, bool to_shares)
{
    double peak = gpu->flops_per_s[precision];
    peak = peak > 0.0 ? peak : gpu->flops_per_s[PRECISION_BF16];
    for (int32_t i = 0; i < form->count; i++) {
        double whole = 1.0;
        switch (form->parameter[i].unit) {
        case FIT_PLAIN:
            break;
        case FIT_HBM:
            whole = gpu->hbm_bytes_per_s;
            break;
        case FIT_PEAK:
            whole = peak;
            break;
        case FIT_SMS:
            whole = (double)gpu->num_sms;
            break;
        }
        *fit_constant(form, constants, i) *= to_shares ? 1.0 / whole : whole;
    }
}

/* How far a constant is above its floor, as a logarithm; one at its floor starts just above. */
static double to_log(const struct fit_form *form, const void *constants, int32_t index)
{
    return log(fmax(constant_of(form, constants, index) - form->parameter[index].floor, 1e-9));
}

static void unpack(const gsl_vector *x, struct fit *fit)
{
    for (int32_t i = 0; i < fit->form->count; i++) {
        double value = exp(fmin(fmax(gsl_vector_get(x, (size_t)i), -25.0), 60.0));
        *fit_constant(fit->form, fit->trial, i) = fit->form->parameter[i].floor + value;
    }
}

static int residuals(const gsl_vector *x, void *context, gsl_vector *f)
{
    struct fit *fit = context;
    unpack(x, fit);
    for (int64_t i = 0; i < fit->num_rows; i++) {
        double r = 0.0;
        if (fit->weight[i] > 0.0) {
            r = log(fit->predict_ns(fit->context, i, fit->trial) /
                    fit->measured_ns(fit->context, i)) /
                fit->scale;
            r = copysign(fit->scale * sqrt(fit->weight[i] * log1p(r * r)), r);
        }
        gsl_vector_set(f, (size_t)i, r);
    }
    for (int32_t i = 0; i < fit->form->count; i++) {
        double off = gsl_vector_get(x, (size_t)i) - to_log(fit->form, fit->start, i);
        gsl_vector_set(f, (size_t)(fit->num_rows + i),
                       fit->form->pull * fit->form->parameter[i].pull * off);
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
    size_t num_parameters = (size_t)fit->form->count;
    size_t num_residuals = (size_t)fit->num_rows + num_parameters;
    gsl_multifit_nlinear_parameters settings = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf fdf = {
        .f = residuals, .n = num_residuals, .p = num_parameters, .params = fit};
    gsl_multifit_nlinear_workspace *work = gsl_multifit_nlinear_alloc(
        gsl_multifit_nlinear_trust, &settings, num_residuals, num_parameters);
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

enum status calibrate_fit(void *constants, struct fit *fit, struct error *error)
{
    gsl_vector *x = gsl_vector_alloc((size_t)fit->form->count);
    if (x == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    fit->trial = constants;
    memcpy(constants, fit->start, fit->form->bytes);
    for (int32_t i = 0; i < fit->form->count; i++) {
        gsl_vector_set(x, (size_t)i, to_log(fit->form, fit->start, i));
    }
    enum status status = STATUS_OK;
    for (const double *scale = fit->scales; *scale > 0.0 && status == STATUS_OK; scale++) {
        fit->scale = *scale;
        status = solve(fit, x, error);
    }
    unpack(x, fit);
    gsl_vector_free(x);
    return status;
}

void calibrate_write_constants(const struct fit_form *form, const void *constants,
                               const double *low, const double *high, FILE *file)
{
    for (int32_t i = 0; i < form->count; i++) {
        fprintf(file, "    %s: %.5g", form->parameter[i].name, constant_of(form, constants, i));
        if (high != NULL && high[i] > 0.0) {
            fprintf(file, " # 90 %% interval %.3g to %.3g", low[i], high[i]);
        }
        fputc('\n', file);
    }
}
