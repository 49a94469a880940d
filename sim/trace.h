/*
 * trace.h -- recorded token-to-expert assignments, mapped into memory.
 *
 * A trace is a directory (see ARCHITECTURE.md, "Trace format"): trace.yaml names the model and the
 * layers, experts-NNNNN.npy holds [num_layers][tokens_in_shard][top_k] expert ids a shard of
 * tokens, best expert first, and optional files stand beside it. Headers, sizes and shapes are
 * checked when the trace is opened, before a payload byte is touched; ids when they are read.
 */
#ifndef MOESIM_TRACE_H
#define MOESIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "status.h"

#define EXPERT_NOT_ROUTED (-1)

struct trace_request {
    char tag[NAME_BYTES]; /* domain, tenant or dataset; "" when unknown */
    double arrival_s;
    int32_t prompt_tokens; /* context before the first recorded row */
    int64_t row_offset;    /* first row (token) of the trace */
    int64_t num_rows;      /* recorded rows: prompt and decode rows as far as the trace has them */
};

struct trace_shard; /* private: mappings of one shard's files */

struct trace {
    char name[NAME_BYTES];   /* last part of the path */
    char model[NAME_BYTES];  /* preset name, as trace.yaml says */
    char origin[NAME_BYTES]; /* measured, generated or mock */
    char source[SOURCE_BYTES];
    char licence[NAME_BYTES];
    int32_t num_experts;
    int32_t top_k;
    int32_t num_layers;
    int32_t *model_layer; /* [num_layers] which layer of the model each recorded layer is */
    int64_t num_tokens;
    int64_t tokens_per_shard; /* in every shard but the last, which may be shorter */
    int32_t num_shards;
    struct trace_shard *shards;
    bool has_gate_weights;
    int64_t num_requests;
    struct trace_request *requests; /* [num_requests], by row_offset, not overlapping */
    int64_t num_steps;              /* recorded batches; 0: none */
    const int64_t *step_begin;      /* [num_steps + 1] rows, ascending */
    uint64_t digest;                /* of everything above and all ids; 0 until trace_digest */
    void *steps_mapping;            /* private */
};

/* Opens and checks a trace directory. All problems are reported, each with its file.
 * Release with trace_close, also after a failure. */
MUST_CHECK enum status trace_open(struct trace *trace, const char *path, struct error *error);

void trace_close(struct trace *trace); /* safe on a zeroed struct, and twice */

/* Reads the ids of the given rows (tokens) at a recorded layer.
 *   expert       [num_rows][top_k]  out: 0 .. num_experts - 1, or EXPERT_NOT_ROUTED
 *   gate_weight  [num_rows][top_k]  out: as recorded; NULL when not wanted. 1.0 when the trace has
 *                                   none.
 *   row          [num_rows]         in: 0 .. num_tokens - 1, in any order
 * STATUS_INVALID names file, layer and token of an id out of range or a weight that is not finite
 * and >= 0. */
MUST_CHECK enum status trace_read(const struct trace *trace, int32_t *expert, float *gate_weight,
                                  int32_t layer, const int64_t *row, int32_t num_rows,
                                  struct error *error);

/* Adds one to load_tokens[num_experts] for every assignment of rows first .. first + count - 1 at a
 * layer: the fast path of statistics. Errors as trace_read. */
MUST_CHECK enum status trace_count(const struct trace *trace, int64_t *load_tokens, int32_t layer,
                                   int64_t first, int64_t count, struct error *error);

/* Reads every byte: ids in range, no expert twice in a token, weights finite, not negative and not
 * increasing within a token, requests inside the trace. All problems up to the room in error. */
MUST_CHECK enum status trace_check(const struct trace *trace, struct error *error);

/* Folds shape and all expert ids into a fingerprint, kept in trace->digest. */
MUST_CHECK enum status trace_digest(struct trace *trace, struct error *error);

#endif
