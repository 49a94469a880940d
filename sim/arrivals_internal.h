/*
 * arrivals_internal.h -- what the files that read arrivals share; nobody else includes it.
 */
#ifndef MOESIM_ARRIVALS_INTERNAL_H
#define MOESIM_ARRIVALS_INTERNAL_H

#include "arrivals.h"
#include "import/import.h"

struct arrivals_reader {
    struct arrivals *arrivals;
    const char *path;
    struct error *error;
    int64_t capacity;
    int32_t tags_capacity;
    int64_t hashes_capacity;
    int32_t num_problems;
    int64_t begin_s; /* of absolute times: that of the first line */
    bool has_begin;
};

/* False: reading stops. */
bool arrivals_complain(struct arrivals_reader *reader, int64_t line, const char *what);

/* False: no memory, and said so. */
bool arrivals_add(struct arrivals_reader *reader, const struct arrival *arrival);

/* JSON lines of Mooncake. */
MUST_CHECK enum status arrivals_read_mooncake(struct arrivals_reader *reader,
                                              const struct import_file *file);

#endif
