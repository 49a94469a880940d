/*
 * fuzz_alltoall.c -- any bytes as a table of exchanges, of imbalance or of throughput: refused with
 * a problem, or rows that are predicted and fitted without a trap.
 */
#include "alltoall_rows.h"
#include "calibrate_network.h"
#include "error_report.h"
#include "input.h"
#include "validate.h"

#include <stdlib.h>

#define FITTED_MAX_ROWS 60 /* fits take their time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void expect(bool is_right)
{
    if (!is_right) {
        __builtin_trap();
    }
}

static void fit(const struct alltoall_rows *rows)
{
    static struct error error;
    const struct network_options options = {.table = "fuzz"};
    struct network_calibration *calibration = calloc(1, sizeof *calibration);
    if (calibration != NULL) {
        error.num_problems = 0;
        error.text_bytes = 0;
        enum status status = calibrate_network(calibration, rows, &options, &error);
        expect((status == STATUS_OK) == (error.num_problems == 0));
        network_calibration_free(calibration);
    }
    free(calibration);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    const char *path = input_write("alltoall.csv", data, bytes);
    struct alltoall_rows rows = {0};
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = alltoall_rows_read(&rows, path, &error);
    expect((status == STATUS_OK) == (error.num_problems == 0));
    if (status == STATUS_OK && rows.num_rows <= FITTED_MAX_ROWS) {
        fit(&rows);
    }
    alltoall_rows_free(&rows);
    error.num_problems = 0;
    error.text_bytes = 0;
    struct error_report report = {0};
    status = validate_balance(&report, path, &error);
    expect((status == STATUS_OK) == (error.num_problems == 0));
    error_report_free(&report);
    return 0;
}
