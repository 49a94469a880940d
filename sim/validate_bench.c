/* validate_bench.c -- errors by device, format, phase and company. */
#include "validate_bench.h"

#include <stdlib.h>
#include <string.h>

static struct bench_group *find_group(struct bench_validation *validation,
                                      const struct bench_row *row)
{
    for (int32_t i = 0; i < validation->num_groups; i++) {
        struct bench_group *group = &validation->group[i];
        if (group->phase == row->phase && group->is_parallel == (row->num_ranks > 1) &&
            strcmp(group->device, row->device) == 0 && strcmp(group->dtype, row->dtype) == 0) {
            return group;
        }
    }
    if (validation->num_groups == BENCH_GROUPS_MAX) {
        return NULL;
    }
    struct bench_group *made = &validation->group[validation->num_groups++];
    *made = (struct bench_group){.device = row->device,
                                 .dtype = row->dtype,
                                 .phase = row->phase,
                                 .is_parallel = row->num_ranks > 1};
    return made;
}

/* errors: room for all rows. group NULL: all; phase BENCH_PHASE_COUNT: every one but
 * BENCH_WALL, for what other programs take of a machine nobody predicts. */
static struct error_summary summarise(const struct bench_rows *rows, const double *error_of,
                                      const bool *is_predicted, const struct bench_group *group,
                                      enum bench_phase phase, double *errors)
{
    int64_t count = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct bench_row *row = &rows->row[i];
        bool is_phase = phase == BENCH_PHASE_COUNT ? row->phase != BENCH_WALL : row->phase == phase;
        bool is_wanted = is_predicted[i] && is_phase &&
                         (group == NULL || (group->is_parallel == (row->num_ranks > 1) &&
                                            strcmp(group->device, row->device) == 0 &&
                                            strcmp(group->dtype, row->dtype) == 0));
        if (is_wanted) {
            errors[count++] = error_of[i];
        }
    }
    return error_summarise(errors, count);
}

static enum status predict(struct bench_validation *validation, const struct bench_rows *rows,
                           const struct bench_model *model, double *error_of, bool *is_predicted,
                           struct error *error)
{
    for (int64_t i = 0; i < rows->num_rows; i++) {
        const struct bench_row *row = &rows->row[i];
        validation->skipped[row->skip]++;
        if (row->skip != BENCH_USED) {
            validation->num_skipped++;
            continue;
        }
        struct bench_group *group = find_group(validation, row);
        if (group == NULL) {
            return error_add(error, STATUS_INVALID, "more than %d groups of devices and phases",
                             BENCH_GROUPS_MAX);
        }
        double ns = bench_model_predict(model, rows, row);
        is_predicted[i] = ns >= 0.0;
        error_of[i] = ns / row->ns - 1.0;
        group->num_skipped += !is_predicted[i];
        validation->num_skipped += !is_predicted[i];
        validation->no_constants += !is_predicted[i];
    }
    return STATUS_OK;
}

enum status validate_bench(struct bench_validation *validation, const struct bench_rows *rows,
                           const struct bench_model *model, struct error *error)
{
    size_t count = (size_t)rows->num_rows + 1;
    double *error_of = calloc(count, sizeof *error_of);
    double *errors = calloc(count, sizeof *errors);
    bool *is_predicted = calloc(count, sizeof *is_predicted);
    enum status status = STATUS_OK;
    *validation = (struct bench_validation){0};
    if (error_of == NULL || errors == NULL || is_predicted == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        status = predict(validation, rows, model, error_of, is_predicted, error);
    }
    for (int32_t i = 0; i < validation->num_groups && status == STATUS_OK; i++) {
        struct bench_group *group = &validation->group[i];
        group->error = summarise(rows, error_of, is_predicted, group, group->phase, errors);
    }
    if (status == STATUS_OK) {
        validation->total =
            summarise(rows, error_of, is_predicted, NULL, BENCH_PHASE_COUNT, errors);
        validation->layers = summarise(rows, error_of, is_predicted, NULL, BENCH_LAYER, errors);
    }
    free(error_of);
    free(errors);
    free(is_predicted);
    return status;
}
