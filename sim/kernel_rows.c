/* kernel_rows.c -- reads the table of kernels, and predicts its rows. */
#include "kernel_rows.h"

#include <stdlib.h>
#include <string.h>

#include "kernel_rows_internal.h"
#include "moe_rows_internal.h"

#define ROWS_MAX INT64_C(10000000)

const char *const kernel_column_names[KERNEL_COLUMN_COUNT] = {"kernel",
                                                              "gpu",
                                                              "library",
                                                              "dtype",
                                                              "kv_dtype",
                                                              "phase",
                                                              "m",
                                                              "n",
                                                              "k",
                                                              "num_groups",
                                                              "num_experts",
                                                              "topk",
                                                              "hidden",
                                                              "inter",
                                                              "ep",
                                                              "local_experts",
                                                              "tokens",
                                                              "tokens_scope",
                                                              "tokens_per_expert",
                                                              "batch",
                                                              "seq_or_kv_len",
                                                              "q_heads",
                                                              "model_shape",
                                                              "distribution",
                                                              "num_slots",
                                                              "latency_us"};

static enum status add_row(struct kernel_rows *rows, const struct kernel_row *row,
                           struct error *error)
{
    if (rows->num_rows == rows->capacity) {
        int64_t capacity = rows->capacity > 0 ? 2 * rows->capacity : 1024;
        void *grown =
            capacity > ROWS_MAX ? NULL : realloc(rows->row, (size_t)capacity * sizeof *rows->row);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
        rows->row = grown;
        rows->capacity = capacity;
    }
    rows->row[rows->num_rows++] = *row;
    return STATUS_OK;
}

/* odd: scratch, empty before and after. */
static enum status take_row(struct kernel_rows *rows, const struct csv_stream *table,
                            struct error *odd, struct error *error)
{
    struct kernel_row row = {0};
    struct moe_row moe = {0};
    enum status status = STATUS_OK;
    if (kernel_row_parse(&row, &moe, table, odd) != STATUS_OK) {
        row.odd = odd_rows_add(&rows->moe.odd, odd);
        status = row.odd == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory") : STATUS_OK;
    }
    row.gpu = moe_rows_gpu(&rows->moe, table->cell[KERNEL_COLUMN_GPU]);
    if (row.skip == NULL && (row.gpu < 0 || !rows->moe.gpu_known[row.gpu])) {
        row.skip = moe_skip_reason(MOE_SKIP_GPU);
    }
    if (status == STATUS_OK && row.class == KERNEL_MOE && row.skip == NULL) {
        moe.gpu = row.gpu;
        row.moe = rows->moe.num_rows;
        status = moe_rows_add(&rows->moe, &moe, error);
    }
    return status == STATUS_OK ? add_row(rows, &row, error) : status;
}

enum status kernel_rows_read(struct kernel_rows *rows, const char *path, struct error *error)
{
    struct csv_stream table = {0};
    struct error odd = {0};
    bool found = false;
    *rows = (struct kernel_rows){0};
    enum status status = moe_rows_open(&rows->moe, error);
    if (status == STATUS_OK) {
        status = csv_stream_open(&table, path, kernel_column_names, KERNEL_COLUMN_COUNT, error);
    }
    if (status == STATUS_OK) {
        status = csv_stream_next(&table, &found, error);
    }
    while (status == STATUS_OK && found) {
        status = take_row(rows, &table, &odd, error);
        if (status == STATUS_OK) {
            status = csv_stream_next(&table, &found, error);
        }
    }
    if (status == STATUS_OK && rows->num_rows == 0) {
        status = error_add(error, STATUS_INVALID, "%s: there are no rows", path);
    }
    if (status == STATUS_OK) {
        status = moe_rows_count(&rows->moe, error);
    }
    csv_stream_close(&table);
    return status;
}

void kernel_rows_free(struct kernel_rows *rows)
{
    free(rows->row);
    moe_rows_free(&rows->moe);
    *rows = (struct kernel_rows){0};
}

double kernel_row_gemm_ns(const struct kernel_row *row, const struct gpu_spec *gpu,
                          const struct gemm_constants *constants)
{
    struct gemm_shape shape = row->gemm;
    shape.num_sms = (double)gpu->num_sms;
    shape.gpu_sms = shape.num_sms;
    return fitted_gemm_ns(constants, &shape);
}

double kernel_row_attention_ns(const struct kernel_row *row, const struct gpu_spec *gpu,
                               const struct attention_constants *constants)
{
    struct attention_shape shape = row->attention;
    shape.num_sms = (double)gpu->num_sms;
    shape.gpu_sms = shape.num_sms;
    return fitted_attention_ns(constants, &shape);
}

const struct gemm_constants *kernel_row_gemm(const struct kernel_row *row,
                                             const struct gpu_spec *gpu)
{
    for (int32_t i = 0; i < gpu->num_gemm; i++) {
        if (gpu->gemm[i].precision == row->precision &&
            strcmp(gpu->gemm[i].kernels, row->kernels) == 0) {
            return &gpu->gemm[i];
        }
    }
    return NULL;
}

const struct attention_constants *kernel_row_attention(const struct kernel_row *row,
                                                       const struct gpu_spec *gpu)
{
    const struct attention_constants *best = NULL;
    for (int32_t i = 0; i < gpu->num_attention; i++) {
        const struct attention_constants *constants = &gpu->attention[i];
        if (constants->precision == row->precision && constants->phase == (int32_t)row->phase &&
            constants->heads_min <= row->attention.q_heads &&
            strcmp(constants->kernels, row->kernels) == 0 &&
            (best == NULL || constants->heads_min > best->heads_min)) {
            best = constants;
        }
    }
    return best;
}
