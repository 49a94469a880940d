/*
 * validate_serving.h -- the tokens and the kernels of a published row of serving throughput.
 */
#ifndef MOESIM_VALIDATE_SERVING_H
#define MOESIM_VALIDATE_SERVING_H

#include <stdbool.h>

#include "scenario.h"
#include "trace.h"

struct serving_traffic {
    bool is_skewed;   /* as a generator preset named like the model says; else alike */
    bool is_placed;   /* experts by EPLB, from other requests of the same kind */
    bool is_repeated; /* a prompt is a short text over and over */
    bool is_random;   /* not skewed: each token by itself, not all dealt evenly */
};

/* Makes the trace of one step of the scenario, whose model has at most 1024 experts, and its
 * placement. Release with trace_close and scenario_free, also after a failure. STATUS_INVALID: no
 * such preset, or a shape that EPLB cannot serve; STATUS_NO_MEMORY. */
MUST_CHECK enum status serving_trace(struct trace *trace, struct scenario *scenario,
                                     const struct serving_traffic *traffic, struct error *error);

/* Sets the scenario's GPU model and the GPU's constants in use: of the experts DeepEP's engines'
 * where there are some in the format, else the first, of least held-out error. is_early: a Hopper
 * GPU gets the kernels of spring 2025, the small ones of that engine. STATUS_NO_MEMORY, or what
 * loading a preset says. */
MUST_CHECK enum status serving_kernels(struct scenario *scenario, const char *engine, bool is_early,
                                       struct error *error);

#endif
