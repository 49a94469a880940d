/*
 * moe_rows_internal.h -- what the files of moe_rows share.
 */
#ifndef MOESIM_MOE_ROWS_INTERNAL_H
#define MOESIM_MOE_ROWS_INTERNAL_H

#include <gsl/gsl_rng.h>

#include "csv_stream.h"
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

/* What choices become, and what rank 0 has to do (moe_gate.c). */
struct dealt {
    int64_t tokens_of[DEAL_EXPERTS_MAX]; /* of rank 0's experts, the first num_experts / ep */
    int64_t rows;                        /* distinct tokens that it reads and writes */
};

/* Zeroes dealt, then adds every token: dealt out evenly, or by the tokens of each expert
 * [num_experts], whose sum is tokens times top_k. */
void moe_gate_balanced(struct dealt *dealt, const struct deal *deal, const struct moe_gate *gate);
void moe_gate_counts(struct dealt *dealt, const int64_t *tokens_of, const struct deal *deal,
                     const struct moe_gate *gate);

/* The exponent of power_law_A, moved off 1, where the formula has a gap; < 0: the distribution is
 * no power law, or none from 0 to 10. */
double moe_power_law(const char *distribution);

/* Fills row from the table's row; see moe_rows.h for the columns. STATUS_INVALID: row->skip says
 * why, error which cell. */
MUST_CHECK enum status moe_row_parse(struct moe_row *row, const struct csv_stream *table,
                                     struct error *error);

/* Reads the table without counting: whoever skips rows first does not wait for their routings. */
MUST_CHECK enum status moe_rows_load(struct moe_rows *rows, const char *path, struct error *error);

/* For readers of other layouts: an empty set of rows; the index of a GPU by its name in the table,
 * -1 when there are too many; one row more; and, at the end, what rank 0 got in every usable row.
 */
MUST_CHECK enum status moe_rows_open(struct moe_rows *rows, struct error *error);
int32_t moe_rows_gpu(struct moe_rows *rows, const char *name);
MUST_CHECK enum status moe_rows_add(struct moe_rows *rows, const struct moe_row *row,
                                    struct error *error);
MUST_CHECK enum status moe_rows_count(struct moe_rows *rows, struct error *error);

/* Columns of the table, by the order in which moe_row_parse wants them. */
enum moe_column {
    COLUMN_GPU,
    COLUMN_FRAMEWORK,
    COLUMN_VERSION,
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

/* Their names in the table's first line. */
extern const char *const moe_column_names[COLUMN_COUNT];

#endif
