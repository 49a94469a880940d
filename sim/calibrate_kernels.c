/* calibrate_kernels.c -- fits GEMMs and attention, a GPU, library, format and kind at a time. */
#include "calibrate_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_internal.h"
#include "calibrate_kernels_internal.h"
#include "gpu/library_picks.h"
#include "gpu_constants.h"

#define ROWS_MIN   4
#define SHAPES_MIN 2
#define TIE        1e3 /* errors that are equal in so many parts of one are a tie */

static const double scales[] = {0.3, 0.04, -1.0};

/* The rows of one fit. */
struct sample {
    const struct kernel_rows *rows;
    const struct fit_form *form;
    enum kernel_class class;
    bool is_pooled; /* rows of several GPUs: constants are shares of what a GPU has */
    int64_t num_rows;
    const struct kernel_row **row; /* [num_rows], as the next five */
    int32_t *fold;
    double *weight;
    double *base;
    double *error;
    double *sorted;
};

static void sample_free(struct sample *sample)
{
    free(sample->row);
    free(sample->fold);
    free(sample->weight);
    free(sample->base);
    free(sample->error);
    free(sample->sorted);
}

static enum status sample_alloc(struct sample *sample, const struct kernel_rows *rows,
                                struct error *error)
{
    size_t size = (size_t)rows->num_rows + 1;
    *sample = (struct sample){.rows = rows,
                              .row = calloc(size, sizeof *sample->row),
                              .fold = calloc(size, sizeof *sample->fold),
                              .weight = calloc(size, sizeof *sample->weight),
                              .base = calloc(size, sizeof *sample->base),
                              .error = calloc(size, sizeof *sample->error),
                              .sorted = calloc(size, sizeof *sample->sorted)};
    bool is_complete = sample->row != NULL && sample->fold != NULL && sample->weight != NULL &&
                       sample->base != NULL && sample->error != NULL && sample->sorted != NULL;
    return is_complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
}

static double predict_ns(const void *context, int64_t index, const void *constants)
{
    const struct sample *sample = context;
    const struct kernel_row *row = sample->row[index];
    const struct gpu_spec *gpu = &sample->rows->moe.gpu[row->gpu];
    union {
        struct gemm_constants gemm;
        struct attention_constants attention;
    } scaled;
    if (sample->is_pooled) {
        memcpy(&scaled, constants, sample->form->bytes);
        fit_rescale(sample->form, &scaled, gpu, row->precision, false);
        constants = &scaled;
    }
    return sample->class == KERNEL_GEMM ? kernel_row_gemm_ns(row, gpu, constants)
                                        : kernel_row_attention_ns(row, gpu, constants);
}

static double measured_ns(const void *context, int64_t index)
{
    return ((const struct sample *)context)->row[index]->latency_ns;
}

static const char *shape_of(const void *context, int64_t index)
{
    return ((const struct sample *)context)->row[index]->shape;
}

static const char *part_of(const void *context, int64_t index)
{
    return ((const struct sample *)context)->row[index]->part;
}

/* Of one shape, its parts are held out one by one. */
static int32_t fold_shapes(struct sample *sample)
{
    int32_t num_shapes = calibrate_folds(sample->fold, sample->num_rows, shape_of, sample);
    return num_shapes > 1 ? num_shapes
                          : calibrate_folds(sample->fold, sample->num_rows, part_of, sample);
}

static bool same_gpu(const struct kernel_rows *rows, int32_t a, int32_t b)
{
    return strcmp(rows->moe.gpu[a].name, rows->moe.gpu[b].name) == 0;
}

static bool belongs(const struct kernel_row *row, const struct kernel_calibration *calibration)
{
    if (row->skip != NULL || row->class != calibration->class) {
        return false;
    }
    if (row->class == KERNEL_GEMM) {
        return row->precision == calibration->gemm.precision &&
               strcmp(row->kernels, calibration->gemm.kernels) == 0 &&
               (int32_t)row->tiles == calibration->gemm.tiles;
    }
    return row->precision == calibration->attention.precision &&
           (int32_t)row->phase == calibration->attention.phase &&
           row->heads_min >= calibration->attention.heads_min &&
           row->heads_min <= calibration->attention.heads_min &&
           strcmp(row->kernels, calibration->attention.kernels) == 0;
}

static void take_rows(struct sample *sample, const struct kernel_calibration *calibration,
                      bool is_pooled)
{
    const struct kernel_rows *rows = sample->rows;
    sample->class = calibration->class;
    sample->form = calibrate_kernels_form(calibration);
    sample->is_pooled = is_pooled;
    sample->num_rows = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct kernel_row *row = &rows->row[i];
        if (belongs(row, calibration) &&
            (is_pooled || same_gpu(rows, row->gpu, calibration->gpu))) {
            sample->base[sample->num_rows] = 1.0;
            sample->row[sample->num_rows++] = row;
        }
    }
}

static enum status make_folds(struct hold_out *held, struct sample *sample,
                              const struct kernel_calibration *calibration,
                              const struct calibrate_options *options, struct error *error)
{
    switch (options->holdout) {
    case HOLDOUT_SHAPE:
    case HOLDOUT_EP: /* these kernels know no EP: their shapes stand in */
        held->num_folds = calibrate_group_folds(sample->fold, sample->num_rows, fold_shapes(sample),
                                                options->num_groups);
        break;
    case HOLDOUT_GPU:
        held->num_folds = 1;
        for (int64_t i = 0; i < sample->num_rows; i++) {
            sample->fold[i] =
                same_gpu(sample->rows, sample->row[i]->gpu, calibration->gpu) ? 0 : -1;
        }
        break;
    case HOLDOUT_RANDOM:
        held->num_folds = 1;
        return calibrate_fold_random(sample->fold, sample->num_rows, options->random_share, error);
    }
    return STATUS_OK;
}

static void describe(struct kernel_calibration *calibration, struct fit_evidence *fit,
                     int64_t num_rows, const struct calibrate_options *options)
{
    const struct error_summary *held_out = &calibration->held_out;
    (void)snprintf(fit->fitted_on, sizeof fit->fitted_on,
                   "%d rows of %.100s, %.50s, %.40s, %d shapes", (int)num_rows, options->table,
                   calibration->label, calibration->dtype, (int)calibration->num_shapes);
    calibrate_describe_holdout(fit->holdout, sizeof fit->holdout, options, "shape");
    size_t used = strlen(fit->holdout);
    (void)snprintf(fit->holdout + used, sizeof fit->holdout - used,
                   "; median / p90 / max: %.1f / %.1f / %.1f %% (%d)", 100.0 * held_out->median,
                   100.0 * held_out->p90, 100.0 * held_out->max, (int)held_out->num_rows);
    fit->num_rows = (int32_t)num_rows;
    fit->error_median = held_out->median;
    fit->error_p90 = held_out->p90;
}

static struct error_summary summarise(const struct sample *sample)
{
    int64_t count = 0;
    for (int64_t i = 0; i < sample->num_rows; i++) {
        if (sample->fold[i] >= 0) {
            sample->sorted[count++] = sample->error[i];
        }
    }
    return error_summarise(sample->sorted, count);
}

static enum status hold_out(struct kernel_calibration *calibration, struct sample *sample,
                            struct hold_out *held, const struct calibrate_options *options,
                            struct error *error)
{
    enum status status = make_folds(held, sample, calibration, options, error);
    if (status == STATUS_OK) {
        status = calibrate_hold_out(held, error);
    }
    if (status == STATUS_OK) {
        calibration->held_out = summarise(sample);
    }
    return status;
}

static enum status calibrate_one(struct kernel_calibration *calibration, struct sample *sample,
                                 const struct calibrate_options *options, struct error *error)
{
    const struct gpu_spec *gpu = &sample->rows->moe.gpu[calibration->gpu];
    struct gemm_constants gemm = calibration->gemm;
    struct attention_constants attended = calibration->attention;
    bool is_gemm = calibration->class == KERNEL_GEMM;
    void *start = is_gemm ? (void *)&gemm : (void *)&attended;
    void *found = is_gemm ? (void *)&calibration->gemm : (void *)&calibration->attention;
    enum precision precision = is_gemm ? gemm.precision : attended.precision;
    bool is_pooled = options->holdout == HOLDOUT_GPU;
    take_rows(sample, calibration, is_pooled);
    struct fit fit = {.form = sample->form,
                      .predict_ns = predict_ns,
                      .measured_ns = measured_ns,
                      .context = sample,
                      .weight = sample->weight,
                      .num_rows = sample->num_rows,
                      .scales = scales,
                      .start = start,
                      .num_starts = is_gemm ? 1 : 0};
    struct hold_out held = {.fit = &fit,
                            .weight = sample->weight,
                            .base = sample->base,
                            .fold = sample->fold,
                            .error = sample->error};
    if (is_pooled) {
        fit_rescale(sample->form, start, gpu, precision, true);
    }
    enum status status = hold_out(calibration, sample, &held, options, error);
    if (is_pooled) {
        fit_rescale(sample->form, start, gpu, precision, false);
        take_rows(sample, calibration, false);
        fit.num_rows = sample->num_rows;
    }
    if (status == STATUS_OK) {
        status = calibrate_bootstrap(calibration->low, calibration->high, &held,
                                     options->num_bootstrap, error);
    }
    memcpy(sample->weight, sample->base, (size_t)sample->num_rows * sizeof *sample->base);
    if (status == STATUS_OK) {
        status = calibrate_fit(found, &fit, error);
    }
    describe(calibration, is_gemm ? &calibration->gemm.fit : &calibration->attention.fit,
             sample->num_rows, options);
    return status;
}

static void list_row(struct kernel_calibration *calibration, int32_t *count,
                     const struct kernel_rows *rows, const struct kernel_row *row)
{
    const struct gpu_spec *gpu = &rows->moe.gpu[row->gpu];
    int32_t known = 0;
    while (known < *count && !(belongs(row, &calibration[known]) &&
                               same_gpu(rows, row->gpu, calibration[known].gpu))) {
        known++;
    }
    if (known < *count || *count == KERNEL_CALIBRATIONS_MAX) {
        return;
    }
    struct kernel_calibration *added = &calibration[(*count)++];
    *added = (struct kernel_calibration){.class = row->class, .gpu = row->gpu};
    if (row->class == KERNEL_GEMM) {
        added->gemm = calibrate_start_gemm(row, gpu);
    } else {
        added->attention = calibrate_start_attention(row, gpu);
    }
    memcpy(added->label, row->label, sizeof added->label);
    memcpy(added->library, row->library, sizeof added->library);
    memcpy(added->dtype, row->dtype, sizeof added->dtype);
}

static int32_t list_calibrations(struct kernel_calibration *calibration,
                                 const struct kernel_rows *rows, const char *gpu)
{
    int32_t count = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct kernel_row *row = &rows->row[i];
        bool is_wanted = row->skip == NULL &&
                         (row->class == KERNEL_GEMM || row->class == KERNEL_ATTENTION) &&
                         (gpu == NULL || strcmp(gpu, rows->moe.gpu[row->gpu].name) == 0);
        if (is_wanted) {
            list_row(calibration, &count, rows, row);
        }
    }
    return count;
}

/* By GPU, GEMMs first, least held-out error first: it is what the model takes. FlashInfer's plan
 * comes last, because SGLang decodes MLA by FlashAttention 3 where it can; a tie goes by name. */
static int compare_calibrations(const void *a, const void *b)
{
    const struct kernel_calibration *x = a;
    const struct kernel_calibration *y = b;
    if (x->gpu != y->gpu) {
        return x->gpu < y->gpu ? -1 : 1;
    }
    if (x->class != y->class) {
        return x->class < y->class ? -1 : 1;
    }
    bool is_planned = x->attention.splits == SPLITS_FLASHINFER;
    if (is_planned != (y->attention.splits == SPLITS_FLASHINFER)) {
        return is_planned ? 1 : -1;
    }
    double by = round(x->held_out.median * TIE) - round(y->held_out.median * TIE);
    bool is_gemm = x->class == KERNEL_GEMM;
    return by < 0.0   ? -1
           : by > 0.0 ? 1
           : is_gemm  ? strcmp(x->gemm.kernels, y->gemm.kernels)
                      : strcmp(x->attention.kernels, y->attention.kernels);
}

enum status calibrate_kernels(struct kernel_calibration *calibration, int32_t *count,
                              const struct kernel_rows *rows,
                              const struct calibrate_options *options, struct error *error)
{
    struct sample sample;
    int32_t kept = 0;
    *count = list_calibrations(calibration, rows, options->gpu);
    enum status status = sample_alloc(&sample, rows, error);
    for (int32_t i = 0; i < *count && status == STATUS_OK; i++) {
        take_rows(&sample, &calibration[i], false);
        calibration[i].num_shapes = fold_shapes(&sample);
        if (sample.num_rows < ROWS_MIN || calibration[i].num_shapes < SHAPES_MIN) {
            continue;
        }
        status = calibrate_one(&calibration[i], &sample, options, error);
        calibration[kept++] = calibration[i];
    }
    *count = kept;
    sample_free(&sample);
    if (status == STATUS_OK) {
        qsort(calibration, (size_t)*count, sizeof *calibration, compare_calibrations);
    }
    return status;
}

void calibrate_kernel_write_yaml(const struct kernel_calibration *calibration, FILE *file)
{
    bool is_gemm = calibration->class == KERNEL_GEMM;
    const struct fit_evidence *fit = is_gemm ? &calibration->gemm.fit : &calibration->attention.fit;
    fprintf(
        file, "  - kernels: %s\n    precision: %s\n    %s: %s\n",
        is_gemm ? calibration->gemm.kernels : calibration->attention.kernels,
        precision_name(is_gemm ? calibration->gemm.precision : calibration->attention.precision),
        is_gemm ? "tiles" : "phase",
        is_gemm ? tile_choice_names[calibration->gemm.tiles]
                : attention_phase_names[calibration->attention.phase]);
    if (is_gemm && calibration->gemm.picks != PICKS_none) {
        fprintf(file, "    picks: %s\n", library_picks_names[calibration->gemm.picks]);
    }
    if (!is_gemm && calibration->attention.splits != SPLITS_FILLING) {
        fprintf(file, "    splits: %s\n", split_rule_names[calibration->attention.splits]);
    }
    if (!is_gemm && calibration->attention.heads_min > 0.0) {
        fprintf(file, "    heads_min: %.0f\n", calibration->attention.heads_min);
    }
    if (!is_gemm && calibration->attention.group_max > 0.0) {
        fprintf(file, "    group_min: %.0f\n    group_max: %.0f\n",
                calibration->attention.group_min, calibration->attention.group_max);
    }
    calibrate_write_constants(calibrate_kernels_form(calibration),
                              is_gemm ? (const void *)&calibration->gemm
                                      : (const void *)&calibration->attention,
                              calibration->low, calibration->high, file);
    calibrate_write_evidence(fit, file);
}
