/* calibrate_hold_out.c -- what a fit is worth on rows it has not seen, and how sure it is. */
#include <gsl/gsl_rng.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_internal.h"
#include "rng.h"

#define FOLDS_MAX 256

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

int32_t calibrate_folds(int32_t *fold, int64_t num_rows,
                        const char *(*key)(const void *context, int64_t index), const void *context)
{
    const char *seen[FOLDS_MAX];
    int32_t num_folds = 0;
    for (int64_t i = 0; i < num_rows; i++) {
        const char *text = key(context, i);
        int32_t found = 0;
        while (found < num_folds && strcmp(seen[found], text) != 0) {
            found++;
        }
        if (found == num_folds && num_folds < FOLDS_MAX) {
            seen[num_folds++] = text;
        }
        fold[i] = found < FOLDS_MAX ? found : FOLDS_MAX - 1; /* the last takes all that is left */
    }
    return num_folds;
}

int32_t calibrate_group_folds(int32_t *fold, int64_t num_rows, int32_t num_folds,
                              int32_t num_groups)
{
    if (num_groups < 1 || num_groups >= num_folds) {
        return num_folds;
    }
    for (int64_t i = 0; i < num_rows; i++) {
        fold[i] %= num_groups;
    }
    return num_groups;
}

enum status calibrate_fold_random(int32_t *fold, int64_t num_rows, double share,
                                  struct error *error)
{
    gsl_rng *rng = rng_stream(1, "calibrate holdout", 0);
    if (rng == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int64_t i = 0; i < num_rows; i++) {
        fold[i] = gsl_rng_uniform(rng) < share ? 0 : -1;
    }
    gsl_rng_free(rng);
    return STATUS_OK;
}

enum status calibrate_hold_out(struct hold_out *held, struct error *error)
{
    const struct fit *fit = held->fit;
    void *constants = calloc(1, fit->form->bytes);
    double (*predict_ns)(const void *, int64_t, const void *) =
        held->predict_ns != NULL ? held->predict_ns : fit->predict_ns;
    enum status status = STATUS_OK;
    if (constants == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t fold = 0; fold < held->num_folds && status == STATUS_OK; fold++) {
        for (int64_t i = 0; i < fit->num_rows; i++) {
            held->weight[i] = held->fold[i] == fold ? 0.0 : held->base[i];
        }
        status = calibrate_fit(constants, held->fit, error);
        for (int64_t i = 0; i < fit->num_rows && status == STATUS_OK; i++) {
            if (held->fold[i] == fold) {
                held->error[i] =
                    predict_ns(fit->context, i, constants) / fit->measured_ns(fit->context, i) -
                    1.0;
            }
        }
    }
    free(constants);
    return status;
}

static void resample(struct hold_out *held, gsl_rng *rng)
{
    int64_t num_rows = held->fit->num_rows;
    memset(held->weight, 0, (size_t)num_rows * sizeof *held->weight);
    for (int64_t i = 0; i < num_rows; i++) {
        unsigned long picked = gsl_rng_uniform_int(rng, (unsigned long)num_rows);
        held->weight[picked] += held->base[picked];
    }
}

enum status calibrate_bootstrap(double *low, double *high, struct hold_out *held, int32_t num_fits,
                                struct error *error)
{
    const struct fit_form *form = held->fit->form;
    double *values = calloc((size_t)(num_fits * form->count) + 1, sizeof *values);
    void *constants = calloc(1, form->bytes);
    gsl_rng *rng = rng_stream(1, "calibrate bootstrap", 0);
    enum status status = STATUS_OK;
    if (values == NULL || rng == NULL || constants == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t round = 0; round < num_fits && status == STATUS_OK; round++) {
        resample(held, rng);
        status = calibrate_fit(constants, held->fit, error);
        for (int32_t p = 0; p < form->count; p++) {
            values[p * num_fits + round] = *fit_constant(form, constants, p);
        }
    }
    for (int32_t p = 0; p < form->count && status == STATUS_OK && num_fits > 0; p++) {
        double *value = values + (ptrdiff_t)p * num_fits;
        qsort(value, (size_t)num_fits, sizeof *value, compare_doubles);
        low[p] = nearest_rank(value, num_fits, 0.05);
        high[p] = nearest_rank(value, num_fits, 0.95);
    }
    gsl_rng_free(rng);
    free(constants);
    free(values);
    return status;
}
