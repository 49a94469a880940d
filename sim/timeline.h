/*
 * timeline.h -- some steps of a run as a trace that Perfetto and chrome://tracing show.
 *
 * One track a rank, grouped by node, one slice a stretch of booked time; steps on a track of their
 * own; rebalances as marks. The format is the Trace Event Format's JSON object (Google, "Trace
 * Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU): times in
 * microseconds, here with three decimals, so no nanosecond is lost.
 *
 * What it leaves out: messages. A rank's dispatch and combine slices say how long it waited for the
 * last of them.
 */
#ifndef MOESIM_TIMELINE_H
#define MOESIM_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "status.h"

struct timeline; /* opaque; writes PATH.partial until it is closed */

struct timeline_options {
    const char *path;
    int64_t first_step;
    int64_t last_step; /* included */
    const struct scenario *scenario;
    const char *run_id;
};

/* Strings and scenario are borrowed until the timeline is closed. */
MUST_CHECK enum status timeline_open(struct timeline **timeline,
                                     const struct timeline_options *options, struct error *error);

/* For the observer's callbacks of the same names; other steps than those asked for are ignored. */
void timeline_time_booked(struct timeline *timeline, const struct booked_time *booked);
void timeline_rebalanced(struct timeline *timeline, const struct rebalance_record *record,
                         int64_t now_ns);

/* False when something could not be written: timeline_finish will fail. */
bool timeline_is_whole(const struct timeline *timeline);

/* Ends the file and renames it to PATH. STATUS_IO: something could not be written. */
MUST_CHECK enum status timeline_finish(struct timeline *timeline, uint64_t digest,
                                       struct error *error);

/* Removes PATH.partial if the timeline was not finished. Safe on NULL. */
void timeline_close(struct timeline *timeline);

#endif
