/*
 * kernel_rows_internal.h -- what the files of kernel_rows share.
 */
#ifndef MOESIM_KERNEL_ROWS_INTERNAL_H
#define MOESIM_KERNEL_ROWS_INTERNAL_H

#include "csv_stream.h"
#include "kernel_rows.h"

enum kernel_column {
    KERNEL_COLUMN_KERNEL,
    KERNEL_COLUMN_GPU,
    KERNEL_COLUMN_LIBRARY,
    KERNEL_COLUMN_DTYPE,
    KERNEL_COLUMN_KV_DTYPE,
    KERNEL_COLUMN_PHASE,
    KERNEL_COLUMN_M,
    KERNEL_COLUMN_N,
    KERNEL_COLUMN_K,
    KERNEL_COLUMN_NUM_GROUPS,
    KERNEL_COLUMN_NUM_EXPERTS,
    KERNEL_COLUMN_TOPK,
    KERNEL_COLUMN_HIDDEN,
    KERNEL_COLUMN_INTER,
    KERNEL_COLUMN_EP,
    KERNEL_COLUMN_LOCAL_EXPERTS,
    KERNEL_COLUMN_TOKENS,
    KERNEL_COLUMN_TOKENS_SCOPE,
    KERNEL_COLUMN_TOKENS_PER_EXPERT,
    KERNEL_COLUMN_BATCH,
    KERNEL_COLUMN_LENGTH,
    KERNEL_COLUMN_Q_HEADS,
    KERNEL_COLUMN_MODEL_SHAPE,
    KERNEL_COLUMN_DISTRIBUTION,
    KERNEL_COLUMN_NUM_SLOTS,
    KERNEL_COLUMN_LATENCY_US,
    KERNEL_COLUMN_COUNT,
};

extern const char *const kernel_column_names[KERNEL_COLUMN_COUNT];

/* Fills row from the table's row, and moe where it is a row of experts. STATUS_INVALID: row->skip
 * says why, error which cell. */
MUST_CHECK enum status kernel_row_parse(struct kernel_row *row, struct moe_row *moe,
                                        const struct csv_stream *table, struct error *error);

#endif
