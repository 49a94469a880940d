/*
 * trace_tools.h -- moesim trace merge, slice, sample and anonymise: what each puts into an edit.
 *
 * Each opens its traces into edit, plans the new one and says in edit->notes what is lost; the
 * caller then writes it (trace_edit_write). Release edit with trace_edit_free in any case.
 */
#ifndef MOESIM_TRACE_TOOLS_H
#define MOESIM_TRACE_TOOLS_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "trace_edit.h"

/* All rows of all traces, one trace behind the other; requests keep tag and arrival. Where only
 * some traces have requests, each of the others becomes one, tagged with its name. */
MUST_CHECK enum status trace_merge(struct trace_edit *edit, const char *const *paths,
                                   int32_t num_paths, struct error *error);

/* Which part of a trace. What is not given (0, NULL) selects all. */
struct trace_slice {
    const char *const *tags; /* [num_tags] any of them */
    int32_t num_tags;
    int64_t request_begin; /* by number, from 0 */
    int64_t request_end;   /* exclusive */
    double arrival_begin_s;
    double arrival_end_s;       /* exclusive */
    int64_t token_begin;        /* rows */
    int64_t token_end;          /* exclusive */
    const int32_t *model_layer; /* [num_layers] numbers of the model, ascending */
    int32_t num_layers;
};

/* The requests that every condition names, and of them the rows within the tokens. STATUS_INVALID
 * when nothing fits, or the trace has no requests to choose from. */
MUST_CHECK enum status trace_slice(struct trace_edit *edit, const char *path,
                                   const struct trace_slice *slice, struct error *error);

/* num_requests of the trace's requests (at least 1, at most all), drawn without replacement, in
 * their order. */
MUST_CHECK enum status trace_sample(struct trace_edit *edit, const char *path, int64_t num_requests,
                                    uint64_t seed, struct error *error);

struct trace_anonymise {
    bool drops_tags;        /* else they become words that differ where tags differ */
    bool drops_arrivals;    /* else the first arrives at 0 */
    double arrival_round_s; /* arrivals become multiples of it; 0: as they are */
    const char *source;     /* what trace.yaml says instead of its source; NULL: nothing */
    uint64_t seed;          /* of the order and of words for tags; 0: the kernel's randomness, so
                               that nobody can turn either back */
};

/* Requests in a random order, without steps. */
MUST_CHECK enum status trace_anonymise(struct trace_edit *edit, const char *path,
                                       const struct trace_anonymise *options, struct error *error);

#endif
