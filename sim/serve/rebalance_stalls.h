/*
 * rebalance_stalls.h -- how long a group's steps stop while experts move to a new placement.
 *
 * Every interval the strategy sees the loads of a window and answers; what is not resident is sent
 * at once, and the next step waits for the last of it, as in engine_rebalance.c. Windows follow one
 * another through the trace, and where it is too short for them, each is a part of it: loads of
 * fewer tokens scatter more, so strategies that follow them move more, and stalls come out too
 * long.
 *
 *     stall = a kernel's start + arrival of the last expert, by the scenario's network model, all
 * sent at one time
 *
 * Left out: steps that are faster or slower afterwards (the table of steps has one placement);
 * moves that are sent while steps go on, as vLLM's are unless eplb_config.use_async is false.
 */
#ifndef MOESIM_REBALANCE_STALLS_H
#define MOESIM_REBALANCE_STALLS_H

#include <stdint.h>

#include "scenario.h"
#include "status.h"
#include "trace.h"

#define REBALANCE_STALLS 8

struct rebalance_stalls {
    int32_t interval_steps; /* 0: there are none */
    double stall_ns[REBALANCE_STALLS];
    int64_t moves[REBALANCE_STALLS]; /* weights of one expert of one layer sent to one rank */
};

/* Of the scenario's strategy on its trace (NULL for a dense model). STATUS_INVALID where the
 * strategy refuses; STATUS_NO_MEMORY; errors of trace_count. */
MUST_CHECK enum status rebalance_stalls_measure(struct rebalance_stalls *stalls,
                                                const struct scenario *scenario,
                                                const struct trace *trace, struct error *error);

#endif
