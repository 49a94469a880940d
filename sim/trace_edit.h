/*
 * trace_edit.h -- a new trace of pieces of others: what merge, slice, sample and anonymise share.
 *
 * An edit is a list of pieces (consecutive rows of a trace) in the order of the new trace, with its
 * requests and steps. It is made first, from the lists that traces hold in memory anyway; the rows
 * are then streamed, so that memory does not grow with the traces. What all traces have is kept:
 * gate weights, scores, phase, source rank.
 */
#ifndef MOESIM_TRACE_EDIT_H
#define MOESIM_TRACE_EDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "trace.h"

#define TRACE_NOTES_BYTES 2048

struct trace_piece {
    int32_t trace; /* index */
    int64_t first; /* row */
    int64_t count;
};

/* Lists are malloc'ed. */
struct trace_edit {
    struct trace *trace; /* [num_traces] open, owned */
    int32_t num_traces;
    struct trace_piece *piece;
    int64_t num_pieces;
    int64_t num_tokens; /* of all pieces */
    struct trace_request *requests;
    int64_t num_requests;
    int64_t *step_begin; /* [num_steps + 1]; NULL: none */
    int64_t num_steps;
    int32_t *layer; /* [num_layers] index of each recorded layer that is kept, ascending */
    int32_t num_layers;
    char source[SOURCE_BYTES];
    char notes[TRACE_NOTES_BYTES]; /* lines: what was left out, and why */
};

/* Where the new trace goes. */
struct trace_output {
    const char *path;
    bool replace;
    int64_t tokens_per_shard;                                     /* 0: of the first trace */
    void (*progress)(void *context, int64_t done, int64_t total); /* tokens; may be NULL */
    void *context;
};

/* Opens the traces, which must be of one model: experts, top_k and layers alike. All layers are
 * kept. Release with trace_edit_free, also after a failure. */
MUST_CHECK enum status trace_edit_open(struct trace_edit *edit, const char *const *paths,
                                       int32_t num_paths, struct error *error);
void trace_edit_free(struct trace_edit *edit); /* safe on a zeroed struct, and twice */

/* Appends rows, if count > 0. */
MUST_CHECK enum status trace_edit_add(struct trace_edit *edit, int32_t trace, int64_t first,
                                      int64_t count, struct error *error);

/* Appends a request and those of its rows that lie in first .. end - 1 of its trace. Rows cut off
 * at its beginning become context. */
MUST_CHECK enum status trace_edit_add_request(struct trace_edit *edit, int32_t trace,
                                              const struct trace_request *request, int64_t first,
                                              int64_t end, struct error *error);

/* Makes the steps of pieces that ascend in each trace; empty ones are left out. Notes it when a
 * trace has none. */
MUST_CHECK enum status trace_edit_keep_steps(struct trace_edit *edit, struct error *error);

/* Appends a line to notes. */
void trace_edit_note(struct trace_edit *edit, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes the new trace. STATUS_INVALID when it has no rows. */
MUST_CHECK enum status trace_edit_write(struct trace_edit *edit, const struct trace_output *output,
                                        struct error *error);

#endif
