/*
 * trace.h -- recorded token-to-expert assignments, mapped into memory.
 *
 * A trace is a directory that three lines of Python can write. NNNNN counts shards of tokens from
 * 00000; T is the number of tokens in the shard.
 *
 *   trace.yaml               what is recorded, see below
 *   experts-NNNNN.npy        [num_layers][T][top_k] uint8 or uint16, best expert first. Ids of one
 *                            byte are for up to 256 experts. 255 (uint8) and 65535 (uint16) mean
 *                            "not routed", but with exactly 256 experts a uint8 255 is an expert:
 *                            rows with gaps need uint16 then.
 *   gate_weights-NNNNN.npy   optional, for all shards or none: float16 of the same shape
 *   requests.csv             optional: a header line, then a request a line in order of row_offset
 *   steps.npy                optional int64 [num_steps + 1]: first row of each recorded batch, then
 *                            the end of the last; strictly ascending
 *   scores-NNNNN.npy         optional float16 [num_layers][T][num_experts]    } trace_check looks
 *   phase-NNNNN.npy          optional uint8 [T]                               } at type and shape,
 *   source_rank-NNNNN.npy    optional uint16 [T]                              } trace_side reads
 *
 * trace.yaml has the keys version (1), model, num_experts, top_k, layers (model layer number of
 * each recorded layer, ascending) and origin (measured, generated or mock), all required; scores
 * (what the files of that name hold: logits, the default, or sigmoids of them), tokens_per_shard
 * (default: those of shard 0; only the last shard may have fewer), num_tokens (of all shards, so
 * that a lost shard is noticed), source and licence are optional.
 *
 * requests.csv has the columns request, tag, arrival_s, prompt_tokens, decode_tokens and
 * row_offset, in any order; further columns are ignored. A request's rows go on to the next
 * row_offset or the end of the trace; the first row_offset is 0. A field may be quoted ("a, b").
 * prompt_tokens is the context before the request's first row.
 *
 * Headers, sizes and shapes are checked when the trace is opened, before a payload byte is touched;
 * ids when they are read.
 */
#ifndef MOESIM_TRACE_H
#define MOESIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "status.h"

#define EXPERT_NOT_ROUTED (-1)

/* What a trace holds as scores: how far the gate had got when they were recorded. */
enum trace_score {
    TRACE_SCORE_LOGITS,
    TRACE_SCORE_SIGMOIDS, /* 1 / (1 + exp(-logit)), before any bias */
};

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
    enum trace_score score; /* of scores-NNNNN.npy, where there are such */
    int64_t num_requests;
    struct trace_request *requests; /* [num_requests], by row_offset, not overlapping */
    int64_t num_steps;              /* recorded batches; 0: none */
    const int64_t *step_begin;      /* [num_steps + 1] rows, ascending */
    uint64_t digest;                /* 0 until trace_digest */
    char *directory;                /* private: for messages and trace_check; NULL in memory */
    void *steps_mapping;            /* private */
};

/* Opens and checks a trace directory. All problems are reported, each with its file.
 * Release with trace_close, also after a failure. */
MUST_CHECK enum status trace_open(struct trace *trace, const char *path, struct error *error);

void trace_close(struct trace *trace); /* safe on a zeroed struct, and twice */

/* Reads the ids of the given rows (tokens) at a recorded layer.
 *   expert       [num_rows][top_k]  out: 0 .. num_experts - 1, or EXPERT_NOT_ROUTED
 *   gate_weight  [num_rows][top_k]  out: as recorded, 1 when the trace has none, 0 where not
 *                                   routed; NULL when not wanted
 *   row          [num_rows]         in: 0 .. num_tokens - 1, in any order
 * STATUS_INVALID names file, layer and token of an id out of range or a weight that is not finite
 * and >= 0. */
MUST_CHECK enum status trace_read(const struct trace *trace, int32_t *expert, float *gate_weight,
                                  int32_t layer, const int64_t *row, int32_t num_rows,
                                  struct error *error);

/* The same, and how many ids are EXPERT_NOT_ROUTED: reading knows where there can be none. */
MUST_CHECK enum status trace_read_counted(const struct trace *trace, int32_t *expert,
                                          float *gate_weight, int64_t *num_gaps, int32_t layer,
                                          const int64_t *row, int32_t num_rows,
                                          struct error *error);

/* Adds one to load_tokens[num_experts] for every assignment of rows first .. first + count - 1 at a
 * layer: the fast path of statistics. Errors as trace_read; load_tokens is then half counted. */
MUST_CHECK enum status trace_count(const struct trace *trace, int64_t *load_tokens, int32_t layer,
                                   int64_t first, int64_t count, struct error *error);

/* Reads every byte: ids in range, no expert twice in a token, weights finite, not negative and not
 * increasing within a token, optional files of the right type and shape. Of each file the first
 * problems are reported and the rest counted. */
MUST_CHECK enum status trace_check(const struct trace *trace, struct error *error);

/* Folds all that a run can depend on (model, shape, layers, requests, steps, ids, gate weights)
 * into a fingerprint, kept in trace->digest. Name, origin, source and licence are left out, and so
 * are sharding and the width of ids: the same assignments have the same digest. Errors as
 * trace_read. */
MUST_CHECK enum status trace_digest(struct trace *trace, struct error *error);

#endif
