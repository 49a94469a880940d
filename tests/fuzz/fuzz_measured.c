/*
 * fuzz_measured.c -- any bytes as each of the files of compute.measured: refused with a reason, or
 * a table whose points are met.
 */
#include <math.h>
#include <string.h>

#include "input.h"
#include "measured_read.h"

#define BYTES_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static struct gpu_spec gpu;
    struct measured_table table = {0};
    uint64_t digest = 0;
    error = (struct error){0};
    if (bytes > BYTES_MAX || bytes < 1) {
        return 0;
    }
    if (gpu.num_sms == 0 && gpu_load(&gpu, "h100-sxm", &error) != STATUS_OK) {
        __builtin_trap();
    }
    gpu.fitted_chosen = 0;
    const char *path = input_write("measured.csv", data + 1, bytes - 1);
    struct measured_files files = {.kernels = data[0] % 3 == 0 ? path : NULL,
                                   .moe = data[0] % 3 == 1 ? path : NULL,
                                   .bench = data[0] % 3 == 2 ? path : NULL};
    enum status status = measured_read(&table, &files, &gpu, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0) ||
        measured_digest(&digest, &files, &error) != STATUS_OK) {
        __builtin_trap();
    }
    for (int64_t i = 0; i < table.num_points && status == STATUS_OK; i++) {
        double ratio = 0.0;
        if (!measured_ratio(&ratio, &table, &table.point[i].place, -1) || !(ratio > 0.0)) {
            __builtin_trap();
        }
    }
    measured_free(&table);
    return 0;
}
