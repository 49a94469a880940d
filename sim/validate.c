/* validate.c -- predicts the rows of a table and sums up the errors. */
#include "validate.h"

#include <stdlib.h>
#include <string.h>

static bool is_of(const struct validate_group *group, const struct moe_row *row, const char *gpu)
{
    return group->is_ep == (row->ep > 1) && strcmp(group->gpu, gpu) == 0 &&
           strcmp(group->dtype, row->dtype) == 0 && strcmp(group->kernels, row->kernels) == 0 &&
           strcmp(group->distribution, row->distribution) == 0;
}

static enum status find_group(int32_t *found, struct validation *validation,
                              const struct moe_row *row, const char *gpu, struct error *error)
{
    int32_t index = 0;
    while (index < validation->num_groups && !is_of(&validation->group[index], row, gpu)) {
        index++;
    }
    if (index == VALIDATE_GROUPS_MAX) {
        return error_add(error, STATUS_INVALID,
                         "more than %d groups of GPU, format, kernels and distribution",
                         VALIDATE_GROUPS_MAX);
    }
    if (index == validation->num_groups) {
        validation->group[validation->num_groups++] =
            (struct validate_group){.gpu = gpu,
                                    .dtype = row->dtype,
                                    .kernels = row->kernels,
                                    .distribution = row->distribution,
                                    .is_ep = row->ep > 1};
    }
    *found = index;
    return STATUS_OK;
}

/* Group and, where the row can be predicted, the relative error of every row. */
static enum status predict(struct validation *validation, struct moe_rows *rows, const char *table,
                           int32_t *group_of, double *error_of, struct error *error)
{
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < rows->num_rows && status == STATUS_OK; i++) {
        struct moe_row *row = &rows->row[i];
        bool is_known = row->gpu >= 0 && rows->gpu_known[row->gpu];
        const struct gpu_spec *gpu = is_known ? &rows->gpu[row->gpu] : NULL;
        const char *name = is_known ? gpu->name : row->gpu >= 0 ? rows->gpu_name[row->gpu] : "";
        status = find_group(&group_of[i], validation, row, name, error);
        const struct fitted_kernels *fitted =
            row->skip == MOE_USED ? moe_row_constants(row, gpu) : NULL;
        if (row->skip == MOE_USED && fitted == NULL) {
            row->skip = MOE_SKIP_CONSTANTS;
        }
        if (status != STATUS_OK) {
            return status;
        }
        validation->skipped[row->skip]++;
        struct validate_group *group = &validation->group[group_of[i]];
        if (fitted == NULL) {
            group->num_skipped++;
            validation->num_skipped++;
            continue;
        }
        bool is_balanced = row->class == MOE_BALANCED || row->class == MOE_BALANCED_EP;
        group->is_fitted = is_balanced && strstr(fitted->fitted_on, table) != NULL;
        error_of[i] = moe_row_predict(row, gpu, fitted) / row->latency_ns - 1.0;
    }
    return status;
}

static struct error_summary summarise(const struct moe_rows *rows, const int32_t *group_of,
                                      const double *error_of, int32_t group, double *sorted)
{
    int64_t count = 0;
    for (int64_t i = 0; i < rows->num_rows; i++) {
        if (rows->row[i].skip == MOE_USED && (group < 0 || group_of[i] == group)) {
            sorted[count++] = error_of[i];
        }
    }
    return error_summarise(sorted, count);
}

enum status validate_rows(struct validation *validation, struct moe_rows *rows, const char *table,
                          struct error *error)
{
    size_t count = (size_t)rows->num_rows + 1;
    int32_t *group_of = calloc(count, sizeof *group_of);
    double *error_of = calloc(count, sizeof *error_of);
    double *sorted = calloc(count, sizeof *sorted);
    enum status status = STATUS_OK;
    *validation = (struct validation){0};
    if (group_of == NULL || error_of == NULL || sorted == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (status == STATUS_OK) {
        status = predict(validation, rows, table, group_of, error_of, error);
    }
    for (int32_t group = 0; group < validation->num_groups && status == STATUS_OK; group++) {
        validation->group[group].error = summarise(rows, group_of, error_of, group, sorted);
    }
    if (status == STATUS_OK) {
        validation->total = summarise(rows, group_of, error_of, -1, sorted);
    }
    free(group_of);
    free(error_of);
    free(sorted);
    return status;
}
