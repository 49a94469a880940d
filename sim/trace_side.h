/*
 * trace_side.h -- the optional arrays of a trace: scores, phase, source rank.
 */
#ifndef MOESIM_TRACE_SIDE_H
#define MOESIM_TRACE_SIDE_H

#include <stdint.h>

#include "npy.h"
#include "status.h"
#include "trace.h"

enum trace_side_kind {
    TRACE_SIDE_SCORES,      /* float16 [num_layers][tokens][num_experts] */
    TRACE_SIDE_PHASE,       /* uint8 [tokens] */
    TRACE_SIDE_SOURCE_RANK, /* uint16 [tokens] */
    TRACE_SIDE_COUNT,
};

extern const char *const trace_side_stem[TRACE_SIDE_COUNT]; /* of file names: "scores", ... */

struct trace_side {
    const struct trace *trace;          /* borrowed */
    struct npy *file[TRACE_SIDE_COUNT]; /* [num_shards]; NULL: the trace has none */
    float *logit_of_sigmoid; /* [65536] by the bits of the float16; NULL: scores are logits */
};

/* Maps what is there, of all shards. STATUS_INVALID: of some shards only, or of another type or
 * shape. Release with trace_side_close, also after a failure. */
MUST_CHECK enum status trace_side_open(struct trace_side *side, const struct trace *trace,
                                       struct error *error);
void trace_side_close(struct trace_side *side); /* safe on a zeroed struct, and twice */

/* trace_side_open for callers that cannot do without scores: STATUS_INVALID when the trace has none
 * says that whoever (such as "router softmax_topk") needs them, and what to do. */
MUST_CHECK enum status trace_side_open_scores(struct trace_side *side, const struct trace *trace,
                                              const char *whoever, struct error *error);

/* The scores of rows at one layer as the logits that they come from, float [num_rows][num_experts].
 * Of sigmoids, ln(s / (1 - s)) on a grid of 2^-18: finer than float16 tells sigmoids apart, so
 * order and ties stay, and coarse enough that every machine's libm gives the same. */
void trace_side_logits(const struct trace_side *side, float *logit, int32_t layer,
                       const int64_t *row, int32_t num_rows);

/* Folds what scores there are into a digest, whatever the sharding. */
uint64_t trace_side_digest_scores(const struct trace_side *side, uint64_t digest);

/* Copies the elements of rows (tokens of the trace): scores of one layer become float
 * [num_rows][num_experts], the others keep their type. */
void trace_side_scores(const struct trace_side *side, float *score, int32_t layer,
                       const int64_t *row, int32_t num_rows);
void trace_side_phase(const struct trace_side *side, uint8_t *phase, const int64_t *row,
                      int32_t num_rows);
void trace_side_source_rank(const struct trace_side *side, uint16_t *source_rank,
                            const int64_t *row, int32_t num_rows);

#endif
