/*
 * small_trace.h -- the trace that the trace tests write, break and read.
 *
 * 2 layers (3 and 5 of the model), 5 tokens, top 2 of 8 experts with gaps, shards of 2 tokens, two
 * requests. Each test has a temporary directory of its own.
 */
#ifndef MOESIM_SMALL_TRACE_H
#define MOESIM_SMALL_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "npy.h"
#include "status.h"
#include "trace_writer.h"

#define SMALL_LAYERS 2
#define SMALL_TOKENS 5
#define SMALL_TOP_K  2

extern const int32_t small_model_layer[SMALL_LAYERS];
extern const int32_t small_ids[SMALL_LAYERS][SMALL_TOKENS][SMALL_TOP_K];
extern const float small_weights[SMALL_LAYERS][SMALL_TOKENS][SMALL_TOP_K];

extern struct error small_error;
extern char small_path[64]; /* TEMPORARY/small: where the trace is written */

void small_make_directory(void);
void small_remove_directory(void);

struct trace_description small_description(void);
void small_requests(struct trace_request requests[2]); /* rows 0 to 2 and 3 to 4 */

/* Appends all tokens, a shard at a time. */
void small_append(struct trace_writer *writer, bool with_weights);

/* Writes the trace to small_path, in place of one that may be there. */
void small_write(void);

/* A file of the trace, whatever was there. */
void small_write_text(const char *name, const char *text);
void small_write_array(const char *name, enum npy_type type, int32_t num_dims, const int64_t *dim,
                       const void *data);

/* Is there a file or directory of this name beside the trace? */
bool small_exists(const char *name);

/* Opening fails with exactly these parts, one a problem, in this order; second may be NULL. */
void small_expect_refused(const char *first, const char *second);

#endif
