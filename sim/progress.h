/*
 * progress.h -- a bar with rate and time left on stderr, for work longer than two seconds; a line a
 * minute where stderr is no terminal, so that a log tells work from a standstill.
 */
#ifndef MOESIM_PROGRESS_H
#define MOESIM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *verb; /* "simulating" */
    const char *unit; /* "steps" */
    bool shown;       /* a bar that has to be cleared */
    bool is_terminal; /* stderr */
    double begin_s;
    double last_s;
};

void progress_begin(struct progress *progress, const char *verb, const char *unit);
void progress_update(struct progress *progress, int64_t done, int64_t total);
void progress_end(struct progress *progress); /* clears the line */

#endif
