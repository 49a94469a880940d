/*
 * trace_import_internal.h -- between the four parts of an import: driver, shape, rows and requests.
 */
#ifndef MOESIM_TRACE_IMPORT_INTERNAL_H
#define MOESIM_TRACE_IMPORT_INTERNAL_H

#include "arena.h"
#include "npy.h"
#include "trace.h"
#include "trace_import.h"

#define IMPORT_CHUNK_IDS    (1 << 20) /* ids converted at a time: 4 MiB */
#define IMPORT_PROBLEMS_MAX 10        /* then reading stops: a wrong file is wrong everywhere */
#define IMPORT_RUN_TOKENS   32        /* this many identical tokens in a row are no traffic */

struct trace_import_job {
    const struct trace_import_options *options;
    struct trace_import_summary *summary;
    struct error *error;
    struct npy expert_file;
    struct npy gate_weight_file;      /* zero: none */
    int64_t stride[TRACE_AXIS_COUNT]; /* elements from one to the next along an axis */
    int64_t gate_weight_stride[TRACE_AXIS_COUNT];
    int32_t *file_layer;  /* [num_layers] which layer of the file is recorded */
    int32_t *model_layer; /* [num_layers] */
    struct arena arena;   /* holds the arrays */

    int64_t num_tokens_chunk;
    int32_t *expert;        /* [num_layers][num_tokens_chunk][top_k] */
    float *gate_weight;     /* the same shape; NULL: none */
    int32_t *expert_before; /* [num_layers][top_k] of the token before the chunk */
    int64_t num_tokens_run; /* identical tokens up to here */
    int32_t num_problems;
};

/* Opens the arrays, holds them against the model and fills summary but for shards, requests and
 * counts, and the job but for the buffers. The files stay open after a failure too. */
MUST_CHECK enum status trace_import_shape(struct trace_import_job *job);

/* Do any of the recorded ids mark a pad? */
bool trace_import_has_pads(const struct trace_import_job *job);

/* Converts and checks tokens first .. first + count - 1 into expert and gate_weight, laid out as
 * [num_layers][count][top_k]. */
MUST_CHECK enum status trace_import_rows(struct trace_import_job *job, int64_t first,
                                         int64_t count);

/* Reads a request list of any layout, by column names: row_offset is required; tag (else category,
 * else dataset), arrival_s, prompt_tokens, decode_tokens and first_position are used if there.
 * Row offsets ascend from 0 within num_tokens_in_file; what lies past num_tokens is then left out.
 * Release with free. */
MUST_CHECK enum status trace_import_requests(struct trace_request **requests, int64_t *num_requests,
                                             const char *path, int64_t num_tokens_in_file,
                                             int64_t num_tokens, struct error *error);

#endif
