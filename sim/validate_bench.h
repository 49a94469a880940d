/*
 * validate_bench.h -- how far predicted phases and layers of moe-bench are off measured ones.
 */
#ifndef MOESIM_VALIDATE_BENCH_H
#define MOESIM_VALIDATE_BENCH_H

#include "bench_model.h"
#include "bench_rows.h"

#define BENCH_GROUPS_MAX (BENCH_CONSTANTS_MAX * 2)

struct bench_group {
    const char *device;
    const char *dtype;
    enum bench_phase phase;
    bool is_parallel; /* several ranks */
    int64_t num_skipped;
    struct error_summary error;
};

struct bench_validation {
    int32_t num_groups;
    struct bench_group group[BENCH_GROUPS_MAX];
    struct error_summary total;  /* of all rows but those of the wall clock */
    struct error_summary layers; /* of whole layers alone */
    int64_t num_skipped;
    int64_t no_constants; /* of those, rows that the model has no constants for */
    int64_t skipped[BENCH_SKIP_COUNT];
};

/* Predicts every row it can. Texts in validation point into rows. */
MUST_CHECK enum status validate_bench(struct bench_validation *validation,
                                      const struct bench_rows *rows,
                                      const struct bench_model *model, struct error *error);

#endif
