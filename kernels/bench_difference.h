/*
 * bench_difference.h -- where two results differ, so that one failed check on a machine that is far
 * away says which tile, lane or expert to look at.
 */
#ifndef MOESIM_BENCH_DIFFERENCE_H
#define MOESIM_BENCH_DIFFERENCE_H

#include <stdint.h>
#include <stdio.h>

enum check_kind {
    CHECK_BITS, /* equal byte for byte: ids, counts, and what is rounded as the twin rounds */
    CHECK_FP32,
    CHECK_BF16,
    CHECK_FP8, /* elements, scales aside */
};

/* Bytes of an element; of CHECK_BITS, which are shown as words: 4. */
int64_t check_width(enum check_kind kind);

/* Element i as a number; 0 of CHECK_BITS. */
double check_element(enum check_kind kind, const void *data, int64_t i);

/* Elements that are off: bits that differ, a NaN on one side alone, or numbers further apart than
 * four times tolerance times the root mean square of what was expected. */
struct bench_difference {
    int64_t count;
    int64_t off;
    int64_t not_numbers; /* of these, NaN where a number was expected */
    int64_t first;
    int64_t last;
    int64_t rows[2];    /* least and greatest that has one */
    int64_t columns[2]; /* likewise */
};

/* Compares bytes of got with expected; row_bytes: of one row, a multiple of the width, or 0: one
 * row. What is left of a whole element at the end belongs to no element. */
struct bench_difference bench_difference(enum check_kind kind, const void *expected,
                                         const void *got, int64_t bytes, int64_t row_bytes,
                                         double tolerance);

/* Two lines: how many and in which rows and columns; the first and the last with both values.
 * words: what the two sides are, "expected" and "got". Nothing if none is off. */
void bench_difference_print(FILE *file, const char *name, const struct bench_difference *found,
                            enum check_kind kind, const void *expected, const void *got,
                            int64_t row_bytes, const char *const words[2]);

#endif
