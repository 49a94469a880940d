/*
 * fuzz_kernel_rows.c -- any bytes as a table of kernels: refused, or rows that are predicted, or
 * left out for a reason, without a trap.
 */
#include <math.h>

#include "error_report.h"
#include "input.h"
#include "validate.h"

#define BYTES_MAX 8192 /* a skewed row of experts is dealt out eight times */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    struct error_report report = {0};
    error.num_problems = 0;
    error.text_bytes = 0;
    if (bytes > BYTES_MAX) {
        return 0;
    }
    enum status status = validate_kernels(&report, input_write("kernels.csv", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && error_report_finish(&report, &error) != STATUS_OK) {
        __builtin_trap();
    }
    for (int64_t i = 0; i < report.num_rows && status == STATUS_OK; i++) {
        const struct error_row *row = &report.row[i];
        if (row->reason < 0 && !(row->measured > 0.0 && row->predicted > 0.0)) {
            __builtin_trap();
        }
    }
    error_report_free(&report);
    return 0;
}
