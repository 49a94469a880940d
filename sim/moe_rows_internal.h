/*
 * moe_rows_internal.h -- what the files of moe_rows share.
 */
#ifndef MOESIM_MOE_ROWS_INTERNAL_H
#define MOESIM_MOE_ROWS_INTERNAL_H

#include <gsl/gsl_rng.h>

#include "moe_rows.h"

#define DEAL_EXPERTS_MAX 1024

struct deal {
    int64_t tokens; /* of the whole group */
    int32_t num_experts;
    int32_t top_k;
    int32_t ep;
};

/* Shares from a density x^-alpha, rounded; the busiest rank is swapped to the front. tokens_of
 * [num_experts] out. */
void moe_deal_power_law(int64_t *tokens_of, const struct deal *deal, double alpha, gsl_rng *rng);

/* Fills row from the cells of a line; see moe_rows.h for the columns. */
MUST_CHECK enum status moe_row_parse(struct moe_row *row, char *const *cell, const char *place,
                                     struct error *error);

/* Columns of the table, by the order in which moe_row_parse wants them. */
enum moe_column {
    COLUMN_GPU,
    COLUMN_FRAMEWORK,
    COLUMN_KERNEL_SOURCE,
    COLUMN_DTYPE,
    COLUMN_MODEL_SHAPE,
    COLUMN_NUM_EXPERTS,
    COLUMN_TOPK,
    COLUMN_HIDDEN,
    COLUMN_INTER,
    COLUMN_MOE_TP,
    COLUMN_MOE_EP,
    COLUMN_TOKENS,
    COLUMN_DISTRIBUTION,
    COLUMN_LATENCY_US,
    COLUMN_COUNT,
};

/* Its name in the table's first line. */
const char *moe_column_name(int32_t column);

#endif
