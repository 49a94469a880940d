/*
 * trace_replay.h -- what the recorded routing of a trace sends where, layer by layer.
 *
 * Runs replay.h over all shards of a trace, several threads at a time. Experts lie on ranks and
 * ranks on nodes by number, neighbours together; the rows are dealt to the ranks as sources,
 * tokens_per_rank each in turn. Pages of the trace that have been counted are given back, so that
 * memory does not grow with the trace.
 */
#ifndef MOESIM_TRACE_REPLAY_H
#define MOESIM_TRACE_REPLAY_H

#include "arena.h"
#include "replay.h"
#include "trace.h"

struct trace_replay_options {
    int32_t num_ranks;                                            /* divides the experts */
    int32_t num_nodes;                                            /* divides the ranks */
    int64_t tokens_per_rank;                                      /* at least 1 */
    int32_t num_threads;                                          /* 0: as many as OpenMP gives */
    void (*progress)(void *context, int64_t done, int64_t total); /* rows of layers; may be NULL */
    void *context;
};

/* Sums over all rows, as replay.h defines them. */
struct trace_replay_layer {
    int32_t model_layer;
    int64_t *expert_tokens; /* [num_experts] */
    int64_t *load_tokens;   /* [num_ranks] assignments */
    int64_t *rank_tokens;   /* [num_ranks] */
    int64_t *node_tokens;   /* [num_ranks as sources][num_nodes] */
};

struct trace_replay {
    int32_t num_layers;
    int32_t num_experts;
    int32_t num_ranks;
    int32_t num_nodes;
    int64_t num_tokens;
    enum replay_path path;            /* the one that counted */
    struct trace_replay_layer *layer; /* [num_layers] */
    struct arena arena;               /* holds the arrays */
};

/* STATUS_INVALID as trace_read, or when the options do not divide. Release with trace_replay_free,
 * also after a failure. */
MUST_CHECK enum status trace_replay_read(struct trace_replay *replay, const struct trace *trace,
                                         const struct trace_replay_options *options,
                                         struct error *error);

void trace_replay_free(struct trace_replay *replay); /* safe on a zeroed struct, and twice */

/* Tokens, of all sources, that leave their node: once for each other node they reach. */
int64_t trace_replay_off_node(const struct trace_replay *replay, int32_t layer);

#endif
