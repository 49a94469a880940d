/*
 * fuzz_engines.c -- any bytes as a sample of engines: refused, or rows of which each has a reason
 * or numbers that a deployment can be made of.
 *
 * Deployments are not served: a row may ask for a million tokens a request, honestly.
 */
#include "input.h"
#include "validate_engines.h"

#define BYTES_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool is_pool(const struct sample_pool *pool)
{
    return pool->workers >= 1 && pool->tp >= 1 && pool->dp >= 1 && pool->ep >= 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    struct sample sample = {0};
    error.num_problems = 0;
    error.text_bytes = 0;
    if (bytes > BYTES_MAX) {
        return 0;
    }
    enum status status = sample_read(&sample, input_write("engines.csv", data, bytes), &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    for (int64_t i = 0; i < sample.table.num_rows && status == STATUS_OK; i++) {
        const struct sample_row *row = &sample.row[i];
        const bool is_whole = row->batch >= 1 && row->isl >= 1 && row->osl >= 1 &&
                              is_pool(&row->main) &&
                              (row->prefill.workers == 0 || is_pool(&row->prefill));
        if (row->reason == NULL && !is_whole) {
            __builtin_trap();
        }
        if (!sample_same_deployment(&sample, row, row)) {
            __builtin_trap();
        }
    }
    sample_free(&sample);
    return 0;
}
