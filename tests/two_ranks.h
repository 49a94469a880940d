/*
 * two_ranks.h -- the smallest scenario with an all-to-all, whose steps are computed by hand.
 */
#ifndef MOESIM_TWO_RANKS_H
#define MOESIM_TWO_RANKS_H

#include "engine.h"
#include "scenario.h"
#include "trace.h"

/* Two ranks in one node over 1 byte/ns ports with 50 ns latency, two experts, top-1. A token is
 * 200 bytes both ways; flat pays 30,000 ns of start-up. Attention takes 1000 ns, the gate 100,
 * experts that have tokens 500, the head 10. */
struct scenario two_ranks(void);

/* A trace of one expert a token, in order: "011" wants expert 0, then twice expert 1. Release with
 * trace_close. */
void two_ranks_trace(struct trace *trace, const struct scenario *scenario, const char *experts);

/* Opens and runs; a failure ends the test. Close with engine_close. */
struct engine *two_ranks_run(const struct scenario *scenario, const struct trace *trace);

#endif
