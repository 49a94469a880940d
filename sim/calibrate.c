/* calibrate.c -- what fits are worth on rows they have not seen, and how sure they are. */
#include "calibrate.h"

#include <gsl/gsl_rng.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_internal.h"
#include "rng.h"

#define SHAPES_MAX 64

static const double scales[] = {0.3, 0.04, 0.0};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The rows of one source, and what belongs to each. */
struct source {
    const struct gpu_spec *gpu;
    int64_t num_rows;
    const struct moe_row **row; /* [num_rows] */
    int32_t *fold;              /* [num_rows] with which others a row is held out */
    double *weight;             /* [num_rows] */
    double *error;              /* [num_rows] held-out, signed */
    double *sorted;             /* [num_rows] */
    int32_t num_folds;
};

static void source_free(struct source *source)
{
    free(source->row);
    free(source->fold);
    free(source->weight);
    free(source->error);
    free(source->sorted);
}

static enum status source_alloc(struct source *source, int64_t count, struct error *error)
{
    size_t size = (size_t)count + 1;
    *source = (struct source){.row = calloc(size, sizeof *source->row),
                              .fold = calloc(size, sizeof *source->fold),
                              .weight = calloc(size, sizeof *source->weight),
                              .error = calloc(size, sizeof *source->error),
                              .sorted = calloc(size, sizeof *source->sorted)};
    bool is_complete = source->row != NULL && source->fold != NULL && source->weight != NULL &&
                       source->error != NULL && source->sorted != NULL;
    return is_complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
}

/* Folds by shape, in order of appearance; or fold 0 for the rows held out at random, -1 else. */
static void make_folds(struct source *source, double random_share, gsl_rng *rng)
{
    const char *shape[SHAPES_MAX];
    int32_t num_shapes = 0;
    for (int64_t i = 0; i < source->num_rows; i++) {
        if (random_share > 0.0) {
            source->fold[i] = gsl_rng_uniform(rng) < random_share ? 0 : -1;
            continue;
        }
        int32_t fold = 0;
        while (fold < num_shapes && strcmp(shape[fold], source->row[i]->model_shape) != 0) {
            fold++;
        }
        if (fold == num_shapes && num_shapes < SHAPES_MAX) {
            shape[num_shapes++] = source->row[i]->model_shape;
        }
        source->fold[i] = fold;
    }
    source->num_folds = random_share > 0.0 ? 1 : num_shapes;
}

/* Balanced rows say most about the constants. Of the skewed ones, whose routings are only known by
 * their distribution, a few hold the fit to what skew costs. */
static double base_weight(const struct source *source, int64_t index)
{
    switch (source->row[index]->class) {
    case MOE_BALANCED:
        return 2.0;
    case MOE_BALANCED_EP:
        return 1.0;
    case MOE_SKEWED:
    case MOE_SKEWED_EP:
        return index % 12 == 0 ? 0.5 : 0.0;
    case MOE_CLASS_COUNT:
        break;
    }
    return 0.0;
}

static double predict_ns(const void *context, int64_t index, const struct fitted_kernels *fitted)
{
    const struct source *source = context;
    return moe_row_predict(source->row[index], source->gpu, fitted);
}

static double measured_ns(const void *context, int64_t index)
{
    return ((const struct source *)context)->row[index]->latency_ns;
}

static enum status hold_out(struct source *source, struct fit *fit, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t fold = 0; fold < source->num_folds && status == STATUS_OK; fold++) {
        struct fitted_kernels fitted;
        for (int64_t i = 0; i < source->num_rows; i++) {
            source->weight[i] = source->fold[i] == fold ? 0.0 : base_weight(source, i);
        }
        status = calibrate_fit(&fitted, fit, error);
        for (int64_t i = 0; i < source->num_rows && status == STATUS_OK; i++) {
            if (source->fold[i] == fold) {
                source->error[i] = moe_row_predict(source->row[i], source->gpu, &fitted) /
                                       source->row[i]->latency_ns -
                                   1.0;
            }
        }
    }
    return status;
}

static struct error_summary summarise_class(const struct source *source, int32_t class)
{
    int64_t count = 0;
    for (int64_t i = 0; i < source->num_rows; i++) {
        bool is_wanted = class == MOE_CLASS_COUNT || (int32_t)source->row[i]->class == class;
        if (is_wanted && source->fold[i] >= 0) {
            source->sorted[count++] = source->error[i];
        }
    }
    return error_summarise(source->sorted, count);
}

static enum status bootstrap(struct calibration *calibration, struct source *source,
                             struct fit *fit, int32_t num_fits, struct error *error)
{
    double *values = calloc((size_t)(num_fits * CALIBRATE_PARAMS) + 1, sizeof *values);
    gsl_rng *rng = rng_stream(1, "calibrate bootstrap", 0);
    enum status status = STATUS_OK;
    if (values == NULL || rng == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t round = 0; round < num_fits && status == STATUS_OK; round++) {
        struct fitted_kernels fitted;
        memset(source->weight, 0, (size_t)source->num_rows * sizeof *source->weight);
        for (int64_t i = 0; i < source->num_rows; i++) {
            unsigned long picked = gsl_rng_uniform_int(rng, (unsigned long)source->num_rows);
            source->weight[picked] += base_weight(source, (int64_t)picked);
        }
        status = calibrate_fit(&fitted, fit, error);
        for (int32_t p = 0; p < CALIBRATE_PARAMS; p++) {
            values[p * num_fits + round] = *calibrate_constant(&fitted, p);
        }
    }
    for (int32_t p = 0; p < CALIBRATE_PARAMS && status == STATUS_OK && num_fits > 0; p++) {
        double *value = values + (ptrdiff_t)p * num_fits;
        qsort(value, (size_t)num_fits, sizeof *value, compare_doubles);
        calibration->low[p] = nearest_rank(value, num_fits, 0.05);
        calibration->high[p] = nearest_rank(value, num_fits, 0.95);
    }
    gsl_rng_free(rng);
    free(values);
    return status;
}

static bool belongs(const struct moe_row *row, const struct calibration *calibration)
{
    return row->skip == MOE_USED && row->gpu == calibration->gpu &&
           row->precision == calibration->fitted.precision &&
           strcmp(row->kernels, calibration->fitted.kernels) == 0;
}

/* The error of all classes together, and of each, in the words of the YAML. */
static void describe(struct calibration *calibration, const struct calibrate_options *options)
{
    struct fitted_kernels *fitted = &calibration->fitted;
    size_t used = 0;
    (void)snprintf(fitted->fitted_on, sizeof fitted->fitted_on,
                   "%d rows of %s, %s, %d model shapes", (int)fitted->num_rows, options->table,
                   calibration->dtype, (int)calibration->num_shapes);
    int length = options->random_share > 0.0
                     ? snprintf(fitted->holdout, sizeof fitted->holdout, "%.0f %% of the rows",
                                100.0 * options->random_share)
                     : snprintf(fitted->holdout, sizeof fitted->holdout, "a model shape at a time");
    used = (size_t)length;
    bool is_first = true;
    for (int32_t class = 0; class < MOE_CLASS_COUNT && used < sizeof fitted->holdout; class ++) {
        const struct error_summary *summary = &calibration->held_out[class];
        if (summary->num_rows == 0) {
            continue;
        }
        length = snprintf(fitted->holdout + used, sizeof fitted->holdout - used,
                          "%s %s %.1f / %.1f %% (%d)", is_first ? "; median / p90:" : ",",
                          moe_class_name((enum moe_class) class), 100.0 * summary->median,
                          100.0 * summary->p90, (int)summary->num_rows);
        is_first = false;
        used += (size_t)length;
    }
    fitted->error_median = calibration->held_out_all.median;
    fitted->error_p90 = calibration->held_out_all.p90;
}

static enum status calibrate_source(struct calibration *calibration, struct source *source,
                                    const struct moe_rows *rows,
                                    const struct calibrate_options *options, struct error *error)
{
    for (int64_t i = 0; i < rows->num_rows; i++) {
        if (belongs(&rows->row[i], calibration)) {
            source->row[source->num_rows++] = &rows->row[i];
        }
    }
    gsl_rng *rng = rng_stream(1, "calibrate holdout", 0);
    if (rng == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    make_folds(source, 0.0, rng);
    calibration->num_shapes = source->num_folds;
    make_folds(source, options->random_share, rng);
    gsl_rng_free(rng);
    source->gpu = &rows->gpu[calibration->gpu];
    struct fit fit = {.predict_ns = predict_ns,
                      .measured_ns = measured_ns,
                      .context = source,
                      .weight = source->weight,
                      .num_rows = source->num_rows,
                      .scales = scales,
                      .start = calibrate_start(&rows->gpu[calibration->gpu], source->row[0])};
    enum status status = hold_out(source, &fit, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t class = 0; class < MOE_CLASS_COUNT; class ++) {
        calibration->held_out[class] = summarise_class(source, class);
    }
    calibration->held_out_all = summarise_class(source, MOE_CLASS_COUNT);
    status = bootstrap(calibration, source, &fit, options->num_bootstrap, error);
    int32_t num_fitted = 0;
    for (int64_t i = 0; i < source->num_rows; i++) {
        source->weight[i] = base_weight(source, i);
        num_fitted += source->weight[i] > 0.0;
    }
    if (status == STATUS_OK) {
        status = calibrate_fit(&calibration->fitted, &fit, error);
    }
    calibration->fitted.num_rows = num_fitted;
    describe(calibration, options);
    return status;
}

/* Lists what the rows hold, in order of appearance. */
static int32_t list_sources(struct calibration *calibration, const struct moe_rows *rows,
                            const char *gpu)
{
    int32_t count = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct moe_row *row = &rows->row[i];
        int32_t known = 0;
        if (row->skip != MOE_USED || (gpu != NULL && strcmp(gpu, rows->gpu[row->gpu].name) != 0)) {
            continue;
        }
        while (known < count && !belongs(row, &calibration[known])) {
            known++;
        }
        if (known == count && count < CALIBRATE_SOURCES) {
            struct calibration *added = &calibration[count++];
            *added = (struct calibration){.gpu = row->gpu};
            added->fitted.precision = row->precision;
            memcpy(added->fitted.kernels, row->kernels, sizeof row->kernels);
            memcpy(added->dtype, row->dtype, sizeof row->dtype);
        }
    }
    return count;
}

/* By GPU, the least error first: it is what compute.kernels: any takes. */
static int compare_calibrations(const void *a, const void *b)
{
    const struct calibration *x = a;
    const struct calibration *y = b;
    if (x->gpu != y->gpu) {
        return x->gpu < y->gpu ? -1 : 1;
    }
    return compare_doubles(&x->held_out_all.median, &y->held_out_all.median);
}

enum status calibrate_all(struct calibration *calibration, int32_t *count,
                          const struct moe_rows *rows, const struct calibrate_options *options,
                          struct error *error)
{
    enum status status = STATUS_OK;
    *count = list_sources(calibration, rows, options->gpu);
    if (*count == 0) {
        return error_add(error, STATUS_INVALID, "%s has no row that can be fitted%s%s",
                         options->table, options->gpu != NULL ? " for " : "",
                         options->gpu != NULL ? options->gpu : "");
    }
    for (int32_t i = 0; i < *count && status == STATUS_OK; i++) {
        struct source source = {0};
        status = source_alloc(&source, rows->num_rows, error);
        if (status == STATUS_OK) {
            status = calibrate_source(&calibration[i], &source, rows, options, error);
        }
        source_free(&source);
    }
    qsort(calibration, (size_t)*count, sizeof *calibration, compare_calibrations);
    return status;
}

void calibrate_write_yaml(const struct calibration *calibration, FILE *file)
{
    struct fitted_kernels fitted = calibration->fitted;
    fprintf(file, "  - kernels: %s\n    precision: %s\n", fitted.kernels,
            precision_name(fitted.precision));
    for (int32_t i = 0; i < CALIBRATE_PARAMS; i++) {
        fprintf(file, "    %s: %.5g", calibrate_constant_name(i), *calibrate_constant(&fitted, i));
        if (calibration->high[i] > 0.0) {
            fprintf(file, " # 90 %% interval %.3g to %.3g", calibration->low[i],
                    calibration->high[i]);
        }
        fputc('\n', file);
    }
    fprintf(file, "    fitted_on: \"%s\"\n    holdout: \"%s\"\n", fitted.fitted_on, fitted.holdout);
    fprintf(file, "    num_rows: %d\n    error_median: %.4f\n    error_p90: %.4f\n",
            (int)fitted.num_rows, fitted.error_median, fitted.error_p90);
}
