/*
 * validate.h -- how far predictions are off measurements, by GPU, format, kernels and routing.
 */
#ifndef MOESIM_VALIDATE_H
#define MOESIM_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "calibrate.h"
#include "moe_rows.h"
#include "status.h"

#define VALIDATE_GROUPS_MAX 1024

struct validate_group {
    const char *gpu; /* the preset's name, or the table's where there is none */
    const char *dtype;
    const char *kernels;      /* "" : not known */
    const char *distribution; /* as the table has it */
    bool is_ep;               /* rank 0 of several */
    bool is_fitted;           /* the constants were fitted to balanced rows of a table so named */
    int64_t num_skipped;
    struct error_summary error; /* of the rows that were predicted */
};

struct validation {
    int32_t num_groups;
    struct validate_group group[VALIDATE_GROUPS_MAX];
    struct error_summary total;
    int64_t num_skipped;
    int64_t skipped[MOE_SKIP_COUNT]; /* by reason */
};

/* Predicts every row it can with the constants of its GPU's preset; table is the file's name.
 * Texts in validation point into rows, which get skip MOE_SKIP_CONSTANTS where there are none. */
MUST_CHECK enum status validate_rows(struct validation *validation, struct moe_rows *rows,
                                     const char *table, struct error *error);

#endif
