/*
 * report_place.h -- a directory with a results file, into which reports of made runs go.
 */
#ifndef MOESIM_REPORT_PLACE_H
#define MOESIM_REPORT_PLACE_H

#include "arena.h"
#include "fake_run.h"
#include "status.h"
#include "store.h"

#define PATH_LENGTH 256

struct report_place {
    char directory[PATH_LENGTH / 4];
    char results[PATH_LENGTH]; /* in it; not there before a run is stored */
    char out[PATH_LENGTH];     /* in it; not there before a report is made */
    struct arena arena;
    struct fake_run run; /* made, and not stored */
    char run_id[RUN_ID_BYTES];
    struct error error;
};

/* A failure of any of these ends the test. Texts are the arena's. */
void report_place_make(struct report_place *place);
void report_place_remove(struct report_place *place);
void report_place_store(struct report_place *place, const struct fake_run *run, const char *label);
const char *report_place_text(struct report_place *place, const char *name); /* of a file in out */
const char *report_place_page(struct report_place *place);                   /* makes the report */

#endif
