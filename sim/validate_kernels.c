/* validate_kernels.c -- predicts the rows of a table of kernels. */
#include <string.h>

#include "kernel_rows.h"
#include "validate.h"

static const char *const keys[] = {"gpu", "library", "dtype", "kernel", "kernels"};

/* What one row is predicted to take, and the table its constants come from; < 0: no constants. */
static double predict_ns(const struct kernel_rows *rows, const struct kernel_row *row,
                         const char **fitted_on)
{
    const struct gpu_spec *gpu = &rows->moe.gpu[row->gpu];
    if (row->class == KERNEL_GEMM) {
        const struct gemm_constants *gemm = kernel_row_gemm(row, gpu);
        *fitted_on = gemm != NULL ? gemm->fit.fitted_on : "";
        return gemm != NULL ? kernel_row_gemm_ns(row, gpu, gemm) : -1.0;
    }
    if (row->class == KERNEL_ATTENTION) {
        const struct attention_constants *attention = kernel_row_attention(row, gpu);
        *fitted_on = attention != NULL ? attention->fit.fitted_on : "";
        return attention != NULL ? kernel_row_attention_ns(row, gpu, attention) : -1.0;
    }
    const struct moe_row *moe = &rows->moe.row[row->moe];
    const struct fitted_kernels *experts = moe_row_constants(moe, gpu);
    *fitted_on = experts != NULL ? experts->fit.fitted_on : "";
    return experts != NULL ? moe_row_predict(moe, gpu, experts) : -1.0;
}

static enum status add_row(struct error_report *report, const struct kernel_rows *rows,
                           const struct kernel_row *row, const char *table, struct error *error)
{
    const char *fitted_on = "";
    bool is_known = row->gpu >= 0 && rows->moe.gpu_known[row->gpu];
    const char *gpu = is_known        ? rows->moe.gpu[row->gpu].name
                      : row->gpu >= 0 ? rows->moe.gpu_name[row->gpu]
                                      : "";
    const char *const value[] = {gpu, row->library, row->dtype, row->label, row->kernels};
    if (row->skip != NULL) {
        return error_report_skip_odd(report, row->line, value, row->skip, row->odd, error);
    }
    double predicted_ns = predict_ns(rows, row, &fitted_on);
    if (predicted_ns < 0.0) {
        return error_report_skip(report, row->line, value, moe_skip_reason(MOE_SKIP_CONSTANTS),
                                 error);
    }
    return error_report_add(report, row->line, value, predicted_ns, row->latency_ns,
                            validate_is_fitted_on(fitted_on, table), error);
}

enum status validate_kernels(struct error_report *report, const char *path, struct error *error)
{
    struct kernel_rows rows = {0};
    error_report_keys(report, keys, (int32_t)(sizeof keys / sizeof keys[0]));
    enum status status = kernel_rows_read(&rows, path, error);
    for (int64_t i = 0; i < rows.num_rows && status == STATUS_OK; i++) {
        status = add_row(report, &rows, &rows.row[i], validate_table_name(path), error);
    }
    kernel_rows_free(&rows);
    return status;
}
