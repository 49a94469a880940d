/*
 * nested_rows.h -- rows of expert ids as nested lists in a response: [tokens][layers][k] integers.
 */
#ifndef MOESIM_NESTED_ROWS_H
#define MOESIM_NESTED_ROWS_H

#include "import/import.h"

/* Where the outer list stands in the mapped file, brackets included, and what is said about it. */
struct nested_rows {
    const char *path;
    int64_t line;
    const char *text; /* [length] sound JSON */
    int64_t length;
    int64_t start_token; /* tokens of the sequence before the first row; at least 0 */
};

/* Reads and passes on; each is a request. Lists that are no array are a problem. */
MUST_CHECK enum status nested_rows_read(const struct nested_rows *rows,
                                        const struct import_input *input, struct import_sink *sink);

#endif
