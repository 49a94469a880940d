/*
 * generate.h -- synthetic traces that look like measured ones.
 *
 * A preset holds what was measured: a layer's shares of the hottest expert and of the top 32 and
 * how strongly a request keeps its own preferences, or all that trace_fit.h learns from a whole
 * trace. Presets are scenarios/traces/NAME.yaml; figures in them name their source.
 */
#ifndef MOESIM_GENERATE_H
#define MOESIM_GENERATE_H

#include <stdint.h>

#include "status.h"
#include "trace.h"

struct generate_options {
    const char *preset; /* of scenarios/traces/, or the path of such a file */
    int64_t num_tokens; /* exactly: the last request is cut; a shorter trace begins a longer one */
    uint64_t seed;
    int32_t num_threads;    /* at least 1; the result does not depend on it */
    int32_t request_rows;   /* of every request; 0: drawn as the preset says */
    bool with_gate_weights; /* these two only into files, and of presets that were fitted */
    bool with_scores;       /* log-odds of all experts; 4 * num_experts / top_k times the ids */
    void (*progress)(void *context, int64_t done, int64_t total); /* in tokens; may be NULL */
    void *context;
};

/* Writes a trace directory (see trace_writer.h), in memory that does not grow with num_tokens but
 * for the list of requests. STATUS_INVALID: no such preset (known ones are listed), a preset that
 * breaks a rule, num_tokens below 1, gate weights or scores of a preset without. */
MUST_CHECK enum status generate_trace(const char *path, bool replace,
                                      const struct generate_options *options, struct error *error);

/* Makes the same trace in memory: trace reads as if it had been written and opened. Errors as
 * generate_trace. Release with trace_close, also after a failure. */
MUST_CHECK enum status generate_in_memory(struct trace *trace,
                                          const struct generate_options *options,
                                          struct error *error);

#endif
