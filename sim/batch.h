/*
 * batch.h -- which trace rows share a step, and on which rank each token starts.
 *
 * consecutive  rows in file order, tokens_per_step at a time
 * shuffled     the same over a seeded permutation of all rows
 * interleaved  every slot of a step holds a request and takes its next row; a finished request is
 *              replaced by the next in the list. When the list is through it wraps round, and from
 *              then on a request starts at a row drawn from the stream "batch", so that copies of
 *              one request do not march in step. Every step is full.
 * A trace with recorded steps (steps.npy) is replayed by them, whatever the batching says.
 *
 * By default a run has floor(num_tokens / tokens_per_step) steps. num_steps_max cuts them short,
 * but for interleaved, where the list wraps round: there it is the number of steps.
 *
 * Slot i of a step of S belongs to rank i * num_ranks / S. A trailing partial step is left out and
 * counted. Who shares a step matters as much as the router: GPT-OSS-20B drops 30 % at capacity
 * factor 1 with all requests mixed and 40 % with few requests a step.
 */
#ifndef MOESIM_BATCH_H
#define MOESIM_BATCH_H

#include <stdint.h>

#include "trace.h"

enum batching {
    BATCHING_INTERLEAVED,
    BATCHING_CONSECUTIVE,
    BATCHING_SHUFFLED,
};

struct batch_config {
    enum batching batching;
    int64_t tokens_per_step;
    int32_t num_ranks;
    int64_t num_steps_max;  /* 0: as many as the trace fills */
    int32_t context_tokens; /* context of every token; 0: prompt_tokens + position in request */
    uint64_t seed;
};

/* The tokens of one step, by slot; slots of a rank stand together, ranks ascend. */
struct trace_batch {
    int64_t step;
    int32_t num_tokens;
    int64_t *row;            /* [num_tokens] */
    int32_t *source_rank;    /* [num_tokens] */
    int32_t *context_tokens; /* [num_tokens] tokens in the KV cache before this one, at least 1 */
    int32_t *rank_begin;     /* [num_ranks + 1] first slot of each rank */
};

struct batcher;

/* trace may be NULL for a dense model: rows are then 0 and num_steps_max must be set. A trace
 * without requests counts as one request of all its rows. The batcher owns its arrays and borrows
 * the trace. STATUS_INVALID when there is not a single step; *batcher is NULL after a failure. */
MUST_CHECK enum status batcher_open(struct batcher **batcher, const struct trace *trace,
                                    const struct batch_config *config, struct error *error);
void batcher_close(struct batcher *batcher); /* safe on NULL */

int64_t batcher_num_steps(const struct batcher *batcher);

/* Rows of the trailing partial step; of a trace with recorded steps, rows outside them. Interleaved
 * steps leave none out. */
int64_t batcher_rows_left_out(const struct batcher *batcher);

int32_t batcher_tokens_max(const struct batcher *batcher); /* most tokens in one step */

/* The next step's tokens, valid until the next call; NULL after the last. */
const struct trace_batch *batcher_next(struct batcher *batcher);

#endif
