/*
 * status.h -- how every fallible function of moesim answers, and where the words of a failure go.
 *
 * A status says what kind of failure; a struct error collects one line of text per problem, so a
 * user with five mistakes in a scenario reads five lines, not the first. Only the CLI prints.
 */
#ifndef MOESIM_STATUS_H
#define MOESIM_STATUS_H

#include <stdarg.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))

enum status {
    STATUS_OK = 0,
    STATUS_INVALID,   /* the input is wrong: the user can mend it */
    STATUS_IO,        /* a file or database cannot be read or written */
    STATUS_NO_MEMORY, /* the host is out of memory */
    STATUS_CUDA,      /* a CUDA call failed */
};

#define ERROR_TEXT_BYTES 16384

/* Zero-initialise. text holds num_problems lines, each ended by '\n'; when it is full, further
 * problems are counted but not written. One that repeats the line before it is left out. */
struct error {
    int32_t num_problems;
    int32_t text_bytes; /* used, without the final NUL */
    char text[ERROR_TEXT_BYTES];
};

/* Appends one problem (printf format, no newline) and returns status, so that callers can write
 * `return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));`. error may be NULL. */
enum status error_add(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
