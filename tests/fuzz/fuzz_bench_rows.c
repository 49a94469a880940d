/*
 * fuzz_bench_rows.c -- any bytes as a CSV of moe-bench: refused, or rows that can be fitted and
 * predicted without a trap.
 */
#include "bench_model.h"
#include "input.h"
#include "validate_bench.h"

#define ROWS_MAX 40 /* fits take their time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct bench_model model;
    static struct bench_validation validation;
    struct bench_rows rows = {0};
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = bench_rows_read(&rows, input_write("bench.csv", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && rows.num_rows <= ROWS_MAX &&
        bench_model_fit(&model, &rows, &error) == STATUS_OK &&
        validate_bench(&validation, &rows, &model, &error) != STATUS_OK) {
        __builtin_trap();
    }
    bench_rows_free(&rows);
    return 0;
}
