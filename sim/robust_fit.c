/* robust_fit.c -- GSL's nonlinear least squares, in stages. */
#include "robust_fit.h"

#include <assert.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <math.h>

#define USUAL_ITERATIONS 80

struct stage {
    const struct robust_fit *fit;
    double scale;
    size_t num_free;
    int32_t free[ROBUST_PARAMS_MAX]; /* which constants are fitted */
};

static void unpack(double *value, const struct stage *stage, const gsl_vector *x)
{
    const struct robust_fit *fit = stage->fit;
    for (int32_t i = 0; i < fit->num_params; i++) {
        value[i] = fit->prior[i];
    }
    for (size_t k = 0; k < stage->num_free; k++) {
        int32_t i = stage->free[k];
        value[i] = fit->floor[i] + exp(fmin(fmax(gsl_vector_get(x, k), -20.0), 60.0));
    }
}

static double start_of(const struct robust_fit *fit, int32_t param)
{
    return log(fit->prior[param] - fit->floor[param]);
}

static int residuals(const gsl_vector *x, void *context, gsl_vector *f)
{
    const struct stage *stage = context;
    const struct robust_fit *fit = stage->fit;
    double value[ROBUST_PARAMS_MAX];
    unpack(value, stage, x);
    for (int64_t row = 0; row < fit->num_rows; row++) {
        double r = 0.0;
        if (fit->weight[row] > 0.0) {
            r = log(fit->predict(fit->context, row, value) / fit->measured(fit->context, row));
            if (stage->scale > 0.0) {
                double s = stage->scale;
                r = copysign(s * sqrt(log1p(r * r / (s * s))), r);
            }
            r *= sqrt(fit->weight[row]);
        }
        gsl_vector_set(f, (size_t)row, r);
    }
    for (size_t k = 0; k < stage->num_free; k++) {
        double off = gsl_vector_get(x, k) - start_of(fit, stage->free[k]);
        gsl_vector_set(f, (size_t)fit->num_rows + k,
                       ROBUST_PRIOR * off / fit->width[stage->free[k]]);
    }
    return GSL_SUCCESS;
}

static enum status solve(struct stage *stage, gsl_vector *x, struct error *error)
{
    size_t num_residuals = (size_t)stage->fit->num_rows + stage->num_free;
    gsl_multifit_nlinear_parameters settings = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf fdf = {
        .f = residuals, .n = num_residuals, .p = stage->num_free, .params = stage};
    gsl_multifit_nlinear_workspace *work = gsl_multifit_nlinear_alloc(
        gsl_multifit_nlinear_trust, &settings, num_residuals, stage->num_free);
    if (work == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    int info = 0;
    gsl_multifit_nlinear_init(x, &fdf, work);
    /* Waves of tiles make steps in the sum, so the last steps may find no descent: that is as far
     * as it goes, not a failure. */
    int32_t wanted = stage->fit->num_iterations;
    (void)gsl_multifit_nlinear_driver((size_t)(wanted > 0 ? wanted : USUAL_ITERATIONS), 1e-6, 1e-9,
                                      1e-9, NULL, NULL, &info, work);
    gsl_vector_memcpy(x, gsl_multifit_nlinear_position(work));
    gsl_multifit_nlinear_free(work);
    return STATUS_OK;
}

enum status robust_fit(double *value, const struct robust_fit *fit, struct error *error)
{
    struct stage stage = {.fit = fit};
    assert(fit->num_params <= ROBUST_PARAMS_MAX);
    for (int32_t i = 0; i < fit->num_params; i++) {
        if (fit->width[i] > 0.0) {
            stage.free[stage.num_free++] = i;
        }
    }
    gsl_vector *x = gsl_vector_alloc(stage.num_free > 0 ? stage.num_free : 1);
    if (x == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (size_t k = 0; k < stage.num_free; k++) {
        gsl_vector_set(x, k, start_of(fit, stage.free[k]));
    }
    enum status status = STATUS_OK;
    for (const double *scale = fit->scales; *scale >= 0.0 && status == STATUS_OK; scale++) {
        stage.scale = *scale;
        status = stage.num_free > 0 ? solve(&stage, x, error) : STATUS_OK;
    }
    unpack(value, &stage, x);
    gsl_vector_free(x);
    return status;
}
