/*
 * plan_arrivals.h -- a plan's traffic from a file of requests: what it says of a day, and who comes
 * in its busiest hour.
 *
 * The file is cut into stretches. Of a file of a day and more they are hours, and the days lie over
 * each other: hour 0 begins with the first request. A shorter file stands for a day, and a 24th of
 * it for an hour, so that its busiest 24th stands for the busiest hour.
 */
#ifndef MOESIM_PLAN_ARRIVALS_H
#define MOESIM_PLAN_ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

#include "arrivals.h"
#include "cost.h"
#include "scenario.h"
#include "status.h"

struct plan_arrivals {
    char path[PATH_BYTES];       /* as found; "": the plan itself says who comes */
    struct arrivals file;        /* owned */
    struct cost_traffic traffic; /* all of it as the file has it; cached_share as an upper bound */
    double span_s;               /* from the first request to the last */
    double stretch_s;            /* an hour, or a 24th of a shorter file */
    double busiest_over_mean;    /* the busiest stretch of all; a mean day's may be less */
    int64_t busiest_begin;       /* its first request */
};

/* Reads path and fills the rest. STATUS_IO, STATUS_NO_MEMORY, or STATUS_INVALID with the file's
 * problems, or where it has no span. Release with plan_arrivals_free, also after a failure. */
MUST_CHECK enum status plan_arrivals_read(struct plan_arrivals *arrivals, struct error *error);
void plan_arrivals_free(struct plan_arrivals *arrivals); /* safe on a zeroed struct, and twice */

bool plan_arrivals_have_days(const struct plan_arrivals *arrivals); /* a day and more */

/* Whether stretches have requests enough for their times to say more than chance does. */
bool plan_arrivals_have_times(const struct plan_arrivals *arrivals);

/* Tokens of the longest request, prompt and answer, with lengths scaled to the means of traffic. */
int32_t plan_arrivals_longest(const struct plan_arrivals *arrivals,
                              const struct cost_traffic *traffic);

/* The file's requests at a rate for so long: from its busiest stretch on, again and again, every
 * stretch stretched to that rate; where plan_arrivals_have_times is false at Poisson times. Their
 * lengths are the file's, scaled to the means of traffic. Release drawn with arrivals_free, also
 * after a failure. STATUS_INVALID when none comes, STATUS_NO_MEMORY. */
MUST_CHECK enum status plan_arrivals_draw(struct arrivals *drawn,
                                          const struct plan_arrivals *arrivals,
                                          const struct cost_traffic *traffic, double rate_per_s,
                                          double duration_s, uint64_t seed, struct error *error);

#endif
