/* validate_moe.c -- predicts the rows of a table of whole MoE operations. */
#include <string.h>

#include "moe_rows.h"
#include "validate.h"

static const char *const keys[] = {"gpu", "dtype", "kernels", "distribution", "ep"};

static enum status add_row(struct error_report *report, const struct moe_rows *rows, int64_t index,
                           const char *table, struct error *error)
{
    const struct moe_row *row = &rows->row[index];
    bool is_known = row->gpu >= 0 && rows->gpu_known[row->gpu];
    const struct gpu_spec *gpu = is_known ? &rows->gpu[row->gpu] : NULL;
    const char *name = is_known ? gpu->name : row->gpu >= 0 ? rows->gpu_name[row->gpu] : "";
    const char *const value[] = {name, row->dtype, row->kernels, row->distribution,
                                 row->ep > 1 ? "> 1" : "1"};
    int64_t line = index + 2; /* after the header, counted from 1 */
    enum moe_skip skip = row->skip;
    const struct fitted_kernels *fitted = skip == MOE_USED ? moe_row_constants(row, gpu) : NULL;
    skip = skip == MOE_USED && fitted == NULL ? MOE_SKIP_CONSTANTS : skip;
    if (fitted == NULL) {
        return error_report_skip_odd(report, line, value, moe_skip_reason(skip), row->odd, error);
    }
    bool is_balanced = row->class == MOE_BALANCED || row->class == MOE_BALANCED_EP;
    return error_report_add(report, line, value, moe_row_predict(row, gpu, fitted), row->latency_ns,
                            is_balanced && validate_is_fitted_on(fitted->fit.fitted_on, table),
                            error);
}

enum status validate_moe(struct error_report *report, const char *path, struct error *error)
{
    struct moe_rows rows = {0};
    error_report_keys(report, keys, (int32_t)(sizeof keys / sizeof keys[0]));
    enum status status = moe_rows_read(&rows, path, error);
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, &rows, i, validate_table_name(path), error);
    }
    moe_rows_free(&rows);
    return status;
}
