/*
 * report.h -- one self-contained page, and the figures and CSV files beside it, from a results
 * file.
 */
#ifndef MOESIM_REPORT_H
#define MOESIM_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

/* A paragraph for the top of the page, in place of a study's verdict. */
struct report_advice {
    const char *topic;
    const char *text;
};

struct report_options {
    const char *results;                /* SQLite file */
    const char *out;                    /* directory, made if missing */
    const char *run_id;                 /* the run to detail, or its label; NULL: the newest */
    bool pdf;                           /* figures as PDF too */
    const struct report_advice *advice; /* [num_advice] */
    int32_t num_advice;
};

/* Reads only the SQLite file and reports/ in the data directory. Runs gnuplot, one process a
 * figure. STATUS_INVALID: no complete run, no such run; STATUS_IO: gnuplot missing (says how to
 * install it), directory not writable. index.html appears last and whole. */
MUST_CHECK enum status report_write(const struct report_options *options, struct error *error);

#endif
