/*
 * trace_writer.h -- writes a trace directory shard by shard.
 *
 * Everything goes into a directory beside the target named PATH.partial and is renamed at the end,
 * so what a crash leaves is never taken for a trace.
 */
#ifndef MOESIM_TRACE_WRITER_H
#define MOESIM_TRACE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "trace.h"

/* What trace.yaml says. Strings are borrowed until trace_writer_finish. */
struct trace_description {
    const char *model;
    int32_t num_experts;
    int32_t top_k;
    int32_t num_layers;
    const int32_t *model_layer; /* [num_layers] */
    int64_t tokens_per_shard;
    int64_t num_tokens; /* if exactly so many come, packed, without weights and scores: no shard is
                           held in memory; 0: it is not known */
    bool has_gate_weights;
    bool has_scores;        /* of all experts, for tools that try other routers on a trace */
    enum trace_score score; /* what those are */
    bool has_gaps;      /* rows may hold EXPERT_NOT_ROUTED; matters for exactly 256 experts only */
    const char *origin; /* measured, generated or mock */
    const char *source;
    const char *licence;
};

struct trace_writer;

/* Creates PATH.partial. STATUS_INVALID if path exists, unless replace. */
MUST_CHECK enum status trace_writer_open(struct trace_writer **writer, const char *path,
                                         const struct trace_description *description, bool replace,
                                         struct error *error);

/* Tokens to append: arrays over layers, tokens and choices, or experts. */
struct trace_rows {
    const int32_t *expert;    /* [num_layers][layer_tokens][top_k] ids, EXPERT_NOT_ROUTED allowed */
    const void *packed;       /* the same as bytes of the file, instead; not checked again */
    const float *gate_weight; /* the same shape, or NULL when the description has none */
    const float *score;       /* [num_layers][layer_tokens][num_experts] finite, or NULL likewise */
    int64_t layer_tokens;     /* room for tokens in each layer of the arrays */
};

/* Appends the first num_tokens (at most layer_tokens) tokens of every layer. */
MUST_CHECK enum status trace_writer_append_rows(struct trace_writer *writer,
                                                const struct trace_rows *rows, int64_t num_tokens,
                                                struct error *error);

/* The same for arrays of exactly num_tokens tokens, without scores. */
MUST_CHECK enum status trace_writer_append(struct trace_writer *writer, const int32_t *expert,
                                           const float *gate_weight, int64_t num_tokens,
                                           struct error *error);

/* PATH.partial, where the caller may put optional files of the trace before trace_writer_finish. */
const char *trace_writer_directory(const struct trace_writer *writer);

/* Writes trace.yaml and requests.csv (num_requests may be 0), syncs and renames into place.
 * The writer is gone afterwards, whatever the status. */
MUST_CHECK enum status trace_writer_finish(struct trace_writer *writer,
                                           const struct trace_request *requests,
                                           int64_t num_requests, struct error *error);

/* Removes PATH.partial. Safe on NULL. */
void trace_writer_abandon(struct trace_writer *writer);

#endif
