/*
 * trace_fit.h -- makes a generator preset from a trace.
 *
 * The preset is a law of generate_coupled.h. Its table is learned layer by layer by maximum
 * likelihood from the rows as they are; then traces are generated from it, measured as
 * trace_stats.h does, and what decides popularity, also of each domain, locality and information
 * between layers is corrected until they come out as in the trace (simulated moments).
 */
#ifndef MOESIM_TRACE_FIT_H
#define MOESIM_TRACE_FIT_H

#include <stdint.h>

#include "generate_internal.h"
#include "status.h"
#include "trace.h"

#define FIT_SEEDS 1000 /* a fit generates with seed + 1 and following, far fewer than these */

struct trace_fit_options {
    uint64_t seed;
    const struct trace *gates; /* a trace of the model with gate weights; NULL: the trace itself */
    int32_t num_threads;       /* at least 1; the preset does not depend on it */
    void (*progress)(void *context, int64_t done, int64_t total); /* in steps; may be NULL */
    void *context;
};

/* preset out: model, source and licence are the trace's; name is empty. A trace of more than 2^18
 * tokens, 2,048 requests or 2^26 ids is learned from every m-th request. STATUS_INVALID: fewer than
 * 32 requests of two rows or more, fewer than 4,096 tokens in them, a row without an expert, shapes
 * that a preset cannot have, gates of another shape. Release with generate_preset_free, also after
 * a failure. */
MUST_CHECK enum status trace_fit(struct generate_preset *preset, const struct trace *trace,
                                 const struct trace_fit_options *options, struct error *error);

#endif
