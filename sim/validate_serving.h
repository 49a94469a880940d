/*
 * validate_serving.h -- the tokens of a published row of serving throughput.
 */
#ifndef MOESIM_VALIDATE_SERVING_H
#define MOESIM_VALIDATE_SERVING_H

#include <stdbool.h>

#include "scenario.h"
#include "trace.h"

/* Makes the trace of one step of the scenario, whose model has at most 1024 experts, and with
 * is_placed its placement by EPLB. is_skewed: as a generator preset named like the model says, else
 * uniform. Release with trace_close and scenario_free, also after a failure. STATUS_INVALID: no
 * such preset, or a shape that EPLB cannot serve; STATUS_NO_MEMORY. */
MUST_CHECK enum status serving_trace(struct trace *trace, struct scenario *scenario, bool is_skewed,
                                     bool is_placed, struct error *error);

#endif
