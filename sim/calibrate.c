/* calibrate.c -- what fits are worth on rows they have not seen, and how sure they are. */
#include "calibrate.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_internal.h"

#define ITERATIONS 25   /* more of them move no error that is printed */
#define FEW_ROWS   1000 /* so many skewed rows can all be fitted in time */

static const double scales[] = {0.3, 0.04, -1.0};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The rows of one source, and what belongs to each. */
struct source {
    const struct gpu_spec *gpu; /* [moe_rows.num_gpus] */
    bool is_pooled;             /* rows of several GPUs: constants are shares of what a GPU has */
    int64_t num_rows;
    const struct moe_row **row; /* [num_rows] */
    int32_t *fold;              /* [num_rows] with which others a row is held out */
    double *weight;             /* [num_rows] */
    double *base;               /* [num_rows] */
    double *error;              /* [num_rows] held-out, signed */
    double *sorted;             /* [num_rows] */
    int32_t num_folds;
};

static void source_free(struct source *source)
{
    free(source->row);
    free(source->fold);
    free(source->weight);
    free(source->base);
    free(source->error);
    free(source->sorted);
}

static enum status source_alloc(struct source *source, int64_t count, struct error *error)
{
    size_t size = (size_t)count + 1;
    *source = (struct source){.row = calloc(size, sizeof *source->row),
                              .fold = calloc(size, sizeof *source->fold),
                              .weight = calloc(size, sizeof *source->weight),
                              .base = calloc(size, sizeof *source->base),
                              .error = calloc(size, sizeof *source->error),
                              .sorted = calloc(size, sizeof *source->sorted)};
    bool is_complete = source->row != NULL && source->fold != NULL && source->weight != NULL &&
                       source->base != NULL && source->error != NULL && source->sorted != NULL;
    return is_complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
}

/* Balanced rows say most about the constants. Of the skewed ones, whose routings are only known by
 * their distribution, a few hold the fit to what skew costs; of small tables all do. */
static double base_weight(const struct source *source, int64_t index)
{
    switch (source->row[index]->class) {
    case MOE_BALANCED:
        return 2.0;
    case MOE_BALANCED_EP:
        return 1.0;
    case MOE_SKEWED:
    case MOE_SKEWED_EP:
        return source->num_rows <= FEW_ROWS ? 0.5 : index % 12 == 0 ? 0.5 : 0.0;
    case MOE_CLASS_COUNT:
        break;
    }
    return 0.0;
}

static double predict_draws_ns(const struct source *source, int64_t index, const void *constants,
                               int32_t num_draws)
{
    const struct moe_row *row = source->row[index];
    const struct gpu_spec *gpu = &source->gpu[row->gpu];
    if (!source->is_pooled) {
        return moe_row_predict_few(row, gpu, constants, num_draws);
    }
    struct fitted_kernels scaled = *(const struct fitted_kernels *)constants;
    fit_rescale(&fit_experts, &scaled, gpu, moe_row_arithmetic(row), false);
    return moe_row_predict_few(row, gpu, &scaled, num_draws);
}

static double predict_ns(const void *context, int64_t index, const void *constants)
{
    return predict_draws_ns(context, index, constants, MOE_FIT_DRAWS);
}

static double predict_held_ns(const void *context, int64_t index, const void *constants)
{
    return predict_draws_ns(context, index, constants, MOE_DRAWS);
}

static double measured_ns(const void *context, int64_t index)
{
    return ((const struct source *)context)->row[index]->latency_ns;
}

static const char *shape_of(const void *context, int64_t index)
{
    return ((const struct source *)context)->row[index]->model_shape;
}

static const char *ep_of(const void *context, int64_t index)
{
    static const char *const names[] = {"1",  "2",  "4",   "8",   "16",  "32",
                                        "64", "72", "128", "144", "256", "others"};
    const int32_t last = (int32_t)(sizeof names / sizeof names[0]) - 1;
    int32_t ep = ((const struct source *)context)->row[index]->ep;
    int32_t found = 0;
    while (found < last && strtol(names[found], NULL, 10) != ep) {
        found++;
    }
    return names[found];
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

static bool belongs(const struct moe_row *row, const struct calibration *calibration,
                    const struct moe_rows *rows)
{
    return row->skip == MOE_USED &&
           strcmp(rows->gpu[row->gpu].name, rows->gpu[calibration->gpu].name) == 0 &&
           row->precision == calibration->fitted.precision &&
           strcmp(row->kernels, calibration->fitted.kernels) == 0;
}

/* The error of all classes together, and of each, in the words of the YAML. */
static void describe(struct calibration *calibration, const struct calibrate_options *options)
{
    struct fit_evidence *fit = &calibration->fitted.fit;
    (void)snprintf(fit->fitted_on, sizeof fit->fitted_on, "%d rows of %s, %s, %d model shapes",
                   (int)fit->num_rows, options->table, calibration->dtype,
                   (int)calibration->num_shapes);
    calibrate_describe_holdout(fit->holdout, sizeof fit->holdout, options, "model shape");
    size_t used = strlen(fit->holdout);
    int length = 0;
    bool is_first = true;
    for (int32_t class = 0; class < MOE_CLASS_COUNT && used < sizeof fit->holdout; class ++) {
        const struct error_summary *summary = &calibration->held_out[class];
        if (summary->num_rows == 0) {
            continue;
        }
        length =
            snprintf(fit->holdout + used, sizeof fit->holdout - used, "%s %s %.1f / %.1f %% (%d)",
                     is_first ? "; median / p90:" : ",", moe_class_name((enum moe_class) class),
                     100.0 * summary->median, 100.0 * summary->p90, (int)summary->num_rows);
        is_first = false;
        used += (size_t)length;
    }
    fit->error_median = calibration->held_out_all.median;
    fit->error_p90 = calibration->held_out_all.p90;
}

void calibrate_describe_holdout(char *text, size_t bytes, const struct calibrate_options *options,
                                const char *shape)
{
    switch (options->holdout) {
    case HOLDOUT_SHAPE:
        if (options->num_groups > 0) {
            (void)snprintf(text, bytes, "a group of %ss of %d at a time", shape,
                           (int)options->num_groups);
        } else {
            (void)snprintf(text, bytes, "a %s at a time", shape);
        }
        break;
    case HOLDOUT_EP:
        (void)snprintf(text, bytes, "an EP degree at a time");
        break;
    case HOLDOUT_GPU:
        (void)snprintf(text, bytes, "the GPU: constants of all others, scaled");
        break;
    case HOLDOUT_RANDOM:
        (void)snprintf(text, bytes, "%.0f %% of the rows", 100.0 * options->random_share);
        break;
    }
}

static bool same_gpu(const struct moe_rows *rows, int32_t a, int32_t b)
{
    return strcmp(rows->gpu[a].name, rows->gpu[b].name) == 0;
}

/* The GPU's rows; for HOLDOUT_GPU those of all GPUs for the same kernels and format. */
static void take_rows(struct source *source, const struct moe_rows *rows,
                      const struct calibration *calibration, bool is_pooled)
{
    source->gpu = rows->gpu;
    source->is_pooled = is_pooled;
    source->num_rows = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct moe_row *row = &rows->row[i];
        struct calibration other = *calibration;
        other.gpu = is_pooled ? row->gpu : calibration->gpu;
        if (row->skip == MOE_USED && belongs(row, &other, rows)) {
            source->row[source->num_rows++] = row;
        }
    }
    for (int64_t i = 0; i < source->num_rows; i++) {
        source->base[i] = base_weight(source, i);
    }
}

static enum status make_folds(struct source *source, const struct moe_rows *rows,
                              const struct calibration *calibration,
                              const struct calibrate_options *options, struct error *error)
{
    switch (options->holdout) {
    case HOLDOUT_SHAPE:
        source->num_folds = calibrate_folds(source->fold, source->num_rows, shape_of, source);
        source->num_folds = calibrate_group_folds(source->fold, source->num_rows, source->num_folds,
                                                  options->num_groups);
        break;
    case HOLDOUT_EP:
        source->num_folds = calibrate_folds(source->fold, source->num_rows, ep_of, source);
        break;
    case HOLDOUT_GPU:
        source->num_folds = 1;
        for (int64_t i = 0; i < source->num_rows; i++) {
            source->fold[i] = same_gpu(rows, source->row[i]->gpu, calibration->gpu) ? 0 : -1;
        }
        break;
    case HOLDOUT_RANDOM:
        source->num_folds = 1;
        return calibrate_fold_random(source->fold, source->num_rows, options->random_share, error);
    }
    return STATUS_OK;
}

static int32_t make_starts(struct fitted_kernels *start, const struct gpu_spec *gpu,
                           const struct moe_row *row, bool is_pooled)
{
    int32_t count = calibrate_starts(start, gpu, row);
    for (int32_t i = 0; i < count && is_pooled; i++) {
        fit_rescale(&fit_experts, &start[i], gpu, moe_row_arithmetic(row), true);
    }
    return count;
}

static enum status calibrate_source(struct calibration *calibration, struct source *source,
                                    const struct moe_rows *rows,
                                    const struct calibrate_options *options, struct error *error)
{
    const struct gpu_spec *gpu = &rows->gpu[calibration->gpu];
    take_rows(source, rows, calibration, options->holdout == HOLDOUT_GPU);
    struct fitted_kernels start[CALIBRATE_STARTS_MAX];
    int32_t num_starts = make_starts(start, gpu, source->row[0], source->is_pooled);
    struct fit fit = {.form = calibrate_form(source->row[0]),
                      .predict_ns = predict_ns,
                      .measured_ns = measured_ns,
                      .context = source,
                      .weight = source->weight,
                      .num_rows = source->num_rows,
                      .scales = scales,
                      .start = start,
                      .num_starts = num_starts,
                      .num_iterations = ITERATIONS};
    struct hold_out held = {.fit = &fit,
                            .weight = source->weight,
                            .base = source->base,
                            .fold = source->fold,
                            .error = source->error,
                            .predict_ns = predict_held_ns};
    enum status status = make_folds(source, rows, calibration, options, error);
    held.num_folds = source->num_folds;
    if (status == STATUS_OK) {
        status = calibrate_hold_out(&held, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t class = 0; class < MOE_CLASS_COUNT; class ++) {
        calibration->held_out[class] = summarise_class(source, class);
    }
    calibration->held_out_all = summarise_class(source, MOE_CLASS_COUNT);
    take_rows(source, rows, calibration, false);
    calibration->num_shapes = calibrate_folds(source->fold, source->num_rows, shape_of, source);
    (void)make_starts(start, gpu, source->row[0], false);
    fit.num_rows = source->num_rows;
    status = calibrate_bootstrap(calibration->low, calibration->high, &held, options->num_bootstrap,
                                 error);
    int32_t num_fitted = 0;
    for (int64_t i = 0; i < source->num_rows; i++) {
        source->weight[i] = source->base[i];
        num_fitted += source->weight[i] > 0.0;
    }
    if (status == STATUS_OK) {
        status = calibrate_fit(&calibration->fitted, &fit, error);
    }
    calibration->fitted.fit.num_rows = num_fitted;
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
        while (known < count && !belongs(row, &calibration[known], rows)) {
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

void calibrate_write_evidence(const struct fit_evidence *fit, FILE *file)
{
    fprintf(file, "    fitted_on: \"%s\"\n    holdout: \"%s\"\n", fit->fitted_on, fit->holdout);
    fprintf(file, "    num_rows: %d\n    error_median: %.4f\n    error_p90: %.4f\n",
            (int)fit->num_rows, fit->error_median, fit->error_p90);
}

void calibrate_write_yaml(const struct calibration *calibration, FILE *file)
{
    struct fitted_kernels fitted = calibration->fitted;
    fprintf(file, "  - kernels: %s\n    precision: %s\n", fitted.kernels,
            precision_name(fitted.precision));
    fprintf(file, "    tile_rows: %s\n", tile_height_names[fitted.tile_rows]);
    calibrate_write_constants(&fit_experts, &fitted, calibration->low, calibration->high, file);
    calibrate_write_evidence(&fitted.fit, file);
}
