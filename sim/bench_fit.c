/* bench_fit.c -- fits the phases, and tells what each fit is worth on shapes it has not seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_model_internal.h"
#include "calibrate_internal.h"

#define SHAPES_MAX 64

/* The first is plain least squares: a start out of the rows alone may be far off. */
static const double scales[] = {10.0, 0.3, 0.1, -1.0};

/* The rows of one set of constants. */
struct sample {
    int64_t num_rows;
    const struct bench_row **row; /* [num_rows] */
    double *weight;               /* [num_rows] */
    double *error;                /* [num_rows] */
    int32_t *shape;               /* [num_rows] */
    int32_t num_shapes;
};

static double predict_ns(const void *context, int64_t index, const void *fitted)
{
    return bench_phase_ns(((const struct sample *)context)->row[index], fitted);
}

static double measured_ns(const void *context, int64_t index)
{
    return ((const struct sample *)context)->row[index]->ns;
}

static bool same_shape(const struct bench_row *a, const struct bench_row *b)
{
    return a->num_experts == b->num_experts && a->top_k == b->top_k &&
           a->hidden_dim == b->hidden_dim && a->ffn_dim == b->ffn_dim;
}

static void take_rows(struct sample *sample, const struct bench_rows *rows,
                      const struct bench_constants *constants)
{
    struct bench_model one = {.num_constants = 1, .constants = {*constants}};
    sample->num_rows = 0;
    sample->num_shapes = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct bench_row *row = &rows->row[i];
        if (row->skip != BENCH_USED || row->num_tokens == 0 ||
            bench_model_find(&one, row) == NULL) {
            continue;
        }
        int64_t number = sample->num_rows++;
        int64_t other = 0;
        sample->row[number] = row;
        while (!same_shape(sample->row[other], row)) {
            other++;
        }
        sample->shape[number] =
            other < number
                ? sample->shape[other]
                : (sample->num_shapes < SHAPES_MAX - 1 ? sample->num_shapes++ : SHAPES_MAX - 1);
    }
}

/* In the right order of magnitude: rates that would make each side alone the whole of the largest
 * row, and no more than a little for the rest. */
static struct fitted_kernels start_of(const struct sample *sample)
{
    double slowest_ns = 0.0;
    double fastest_ns = HUGE_VAL;
    for (int64_t i = 0; i < sample->num_rows; i++) {
        slowest_ns = fmax(slowest_ns, sample->row[i]->ns);
        fastest_ns = fmin(fastest_ns, sample->row[i]->ns);
    }
    const struct fitted_kernels unit = {.t0_ns = 0.0,
                                        .weight_bytes_per_s = 1e30,
                                        .flops_per_s = 1e30,
                                        .activation_bytes_per_s = 1e30,
                                        .row_bytes_per_s = 1e30,
                                        .blend = 1.5};
    struct fitted_kernels start = unit;
    double rate[3] = {1e6, 1e6, 1e6};
    double item_ns = HUGE_VAL;
    for (int64_t i = 0; i < sample->num_rows; i++) {
        struct fitted_kernels alone[3] = {unit, unit, unit};
        alone[0].weight_bytes_per_s = 1.0;
        alone[1].flops_per_s = 1.0;
        alone[2].activation_bytes_per_s = 1.0;
        for (int32_t side = 0; side < 3; side++) {
            double ns = bench_phase_ns(sample->row[i], &alone[side]);
            rate[side] = fmax(rate[side], ns / sample->row[i]->ns);
        }
        struct fitted_kernels items = unit;
        items.slot_ns = 1.0;
        item_ns = fmin(item_ns, sample->row[i]->ns / bench_phase_ns(sample->row[i], &items));
    }
    start.weight_bytes_per_s = 1.5 * rate[0];
    start.flops_per_s = 1.5 * rate[1];
    start.activation_bytes_per_s = 2.0 * rate[2];
    start.t0_ns = 0.3 * fastest_ns;
    start.slot_ns = 0.3 * item_ns;
    start.row_bytes_per_s =
        1e12; /* from here on: not in this form, kept by the pull to the start */
    start.depth_ns = 1.0;
    start.tile_ns = 1.0;
    start.tile_rows_lost = 1.0;
    return start;
}

static enum status fit_sample(struct fitted_kernels *fitted, struct sample *sample,
                              int32_t left_out, struct error *error)
{
    struct fitted_kernels start = start_of(sample);
    struct fit fit = {.form = &fit_phases,
                      .predict_ns = predict_ns,
                      .measured_ns = measured_ns,
                      .context = sample,
                      .weight = sample->weight,
                      .num_rows = sample->num_rows,
                      .scales = scales,
                      .start = &start};
    for (int64_t i = 0; i < sample->num_rows; i++) {
        sample->weight[i] = sample->shape[i] == left_out ? 0.0 : 1.0;
    }
    return calibrate_fit(fitted, &fit, error);
}

static enum status fit_constants(struct bench_constants *constants, struct sample *sample,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t shape = 0; shape < sample->num_shapes && status == STATUS_OK; shape++) {
        struct fitted_kernels fitted;
        if (sample->num_shapes < 2) {
            break;
        }
        status = fit_sample(&fitted, sample, shape, error);
        for (int64_t i = 0; i < sample->num_rows; i++) {
            if (sample->shape[i] == shape) {
                sample->error[i] = predict_ns(sample, i, &fitted) / sample->row[i]->ns - 1.0;
            }
        }
    }
    if (status == STATUS_OK && sample->num_shapes >= 2) {
        constants->held_out = error_summarise(sample->error, sample->num_rows);
    }
    if (status == STATUS_OK) {
        status = fit_sample(&constants->fitted, sample, -1, error);
    }
    constants->fitted.fit.num_rows = (int32_t)sample->num_rows;
    constants->fitted.fit.error_median = constants->held_out.median;
    constants->fitted.fit.error_p90 = constants->held_out.p90;
    return status;
}

/* The sets of constants that the rows ask for. */
static enum status list_constants(struct bench_model *model, const struct bench_rows *rows,
                                  struct error *error)
{
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct bench_row *row = &rows->row[i];
        if (row->skip != BENCH_USED || row->phase >= BENCH_LAYER || row->num_tokens == 0 ||
            bench_model_find(model, row) != NULL) {
            continue;
        }
        if (model->num_constants == BENCH_CONSTANTS_MAX) {
            return error_add(error, STATUS_INVALID, "more than %d devices, formats and phases",
                             BENCH_CONSTANTS_MAX);
        }
        struct bench_constants *made = &model->constants[model->num_constants++];
        *made = (struct bench_constants){.phase = row->phase, .is_parallel = row->num_ranks > 1};
        memcpy(made->device, row->device, sizeof made->device);
        memcpy(made->dtype, row->dtype, sizeof made->dtype);
    }
    return model->num_constants > 0
               ? STATUS_OK
               : error_add(error, STATUS_INVALID,
                           "there is nothing to fit: no row is a phase of moe-bench forward");
}

enum status bench_model_fit(struct bench_model *model, const struct bench_rows *rows,
                            struct error *error)
{
    size_t count = (size_t)rows->num_rows + 1;
    struct sample sample = {.row = calloc(count, sizeof *sample.row),
                            .weight = calloc(count, sizeof *sample.weight),
                            .error = calloc(count, sizeof *sample.error),
                            .shape = calloc(count, sizeof *sample.shape)};
    enum status status = STATUS_OK;
    *model = (struct bench_model){0};
    if (sample.row == NULL || sample.weight == NULL || sample.error == NULL ||
        sample.shape == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        status = list_constants(model, rows, error);
    }
    for (int32_t i = 0; i < model->num_constants && status == STATUS_OK; i++) {
        take_rows(&sample, rows, &model->constants[i]);
        status = fit_constants(&model->constants[i], &sample, error);
    }
    free(sample.row);
    free(sample.weight);
    free(sample.error);
    free(sample.shape);
    return status;
}
