/*
 * odd_rows.h -- rows of a table that hold what cannot be so: counted, their words kept, and the
 * table read on.
 *
 * Published tables have such rows: a matrix of no rows, a count of '8-16', experts that ranks do
 * not divide. A reader keeps them with a reason, so validate lists them and calibrate leaves them
 * out. A missing column, or a line that cannot be cut into cells, stays an error of the file.
 */
#ifndef MOESIM_ODD_ROWS_H
#define MOESIM_ODD_ROWS_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

#define ODD_WORDS_BYTES 240

/* The reason of such rows; which cell it is stands in a row's words. */
extern const char odd_cell_reason[];

/* Zero-initialise; release with odd_rows_free. */
struct odd_rows {
    int64_t count;
    const char *first; /* words of the first one: "file:line: column is 'text', ..."; NULL: none */
    struct arena words;
};

/* Counts a row and empties problems, of which the first becomes the words returned: the set's, at
 * most ODD_WORDS_BYTES with their NUL. NULL when the host has no memory. */
const char *odd_rows_add(struct odd_rows *odd, struct error *problems);

void odd_rows_free(struct odd_rows *odd); /* safe on a zeroed struct, and twice */

#endif
