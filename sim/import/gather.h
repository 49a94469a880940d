/*
 * gather.h -- logs with a row for one token in one layer, in any order, put together to tokens.
 *
 * Rows are kept until the log ends (16 bytes each, and 2 an id, 4 a weight: less than their text),
 * then sorted by request and token. Request ids are not trusted: where a token comes twice in a
 * layer, the id was used again, and the second goes to a request of its own.
 */
#ifndef MOESIM_GATHER_H
#define MOESIM_GATHER_H

#include "import/import.h"

#define GATHER_TOP_K_MAX 1024

/* One row of a log; ids and weights are borrowed. */
struct gather_line {
    const char *place;   /* for messages */
    const char *request; /* [request_length] its id, or that of the batch; NULL: none */
    int64_t request_length;
    bool is_batch; /* request is none, but what stood together */
    int64_t token; /* within the request, at least 0 */
    int64_t layer;
    const int64_t *expert; /* [top_k] -1: pad */
    const double *weight;  /* [top_k], or NULL; all rows or none */
    int32_t top_k;
};

struct gather;

MUST_CHECK enum status gather_open(struct gather **gather, const struct import_input *input,
                                   struct import_sink *sink);

/* Complains about a row that cannot be one; STATUS_OK while reading may go on. */
MUST_CHECK enum status gather_add(struct gather *gather, const char *path,
                                  const struct gather_line *line);

/* Sorts and passes on. */
MUST_CHECK enum status gather_finish(struct gather *gather);

void gather_close(struct gather *gather); /* safe on NULL */

#endif
