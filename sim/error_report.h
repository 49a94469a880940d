/*
 * error_report.h -- predictions beside measurements: errors by group, and what was left out and
 * why.
 *
 * Whoever validates a kind of model names its group keys (GPU, library, ...), then adds every row
 * of a table either with both values or with the reason why it cannot be predicted; so no row is
 * lost in silence. Values are of one positive quantity a row, in any unit: only their ratio counts.
 */
#ifndef MOESIM_ERROR_REPORT_H
#define MOESIM_ERROR_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "arena.h"
#include "status.h"

#define REPORT_KEYS_MAX    6
#define REPORT_REASONS_MAX 32
#define REPORT_TEXT_BYTES  160

struct error_summary {
    int32_t num_rows;
    double median; /* absolute, relative: fractions */
    double p90;
    double max;
};

struct error_group {
    const char *value[REPORT_KEYS_MAX]; /* of each key; the report's */
    bool is_fitted;                     /* some of its rows are part of the fit */
    int64_t num_skipped;
    struct error_summary error; /* of the rows that were predicted */
};

struct error_row {
    int64_t line; /* in the table */
    int32_t group;
    int32_t reason;    /* < 0: predicted */
    const char *words; /* what was wrong with this row in particular, or NULL; the report's */
    double predicted;
    double measured;
};

struct skip_reason {
    char text[REPORT_TEXT_BYTES];
    int64_t count;
    int64_t first; /* index of the first such row */
};

/* Zero-initialise, then error_report_keys; release with error_report_free. */
struct error_report {
    int32_t num_keys;
    const char *key[REPORT_KEYS_MAX];
    int32_t num_groups;
    int32_t group_capacity;
    struct error_group *group; /* [num_groups] in order of appearance */
    int64_t num_rows;
    int64_t row_capacity;
    struct error_row *row; /* [num_rows] in order of the table */
    int32_t num_reasons;
    struct skip_reason reason[REPORT_REASONS_MAX];
    struct error_summary total;
    int64_t num_skipped;
    struct arena texts;
};

/* The value below which the share of sorted [count] lies; count > 0. */
double nearest_rank(const double *sorted, int64_t count, double share);

/* Median, 90th percentile (nearest rank) and maximum of |error|; sorts error. */
struct error_summary error_summarise(double *error, int64_t count);

/* Keys are static storage. */
void error_report_keys(struct error_report *report, const char *const *keys, int32_t num_keys);

/* value [num_keys]; is_fitted: the row is part of what the constants were fitted to. */
MUST_CHECK enum status error_report_add(struct error_report *report, int64_t line,
                                        const char *const *value, double predicted, double measured,
                                        bool is_fitted, struct error *error);
MUST_CHECK enum status error_report_skip(struct error_report *report, int64_t line,
                                         const char *const *value, const char *reason,
                                         struct error *error);

/* The same with what was wrong with this row in particular, such as the cell; words may be NULL. */
MUST_CHECK enum status error_report_skip_odd(struct error_report *report, int64_t line,
                                             const char *const *value, const char *reason,
                                             const char *words, struct error *error);

/* Sums up groups and total, once all rows are in. */
MUST_CHECK enum status error_report_finish(struct error_report *report, struct error *error);

/* Every row with its group, values, relative error or the reason why there is none, as CSV. */
void error_report_write_rows(const struct error_report *report, FILE *file);

void error_report_free(struct error_report *report); /* safe on a zeroed struct, and twice */

#endif
