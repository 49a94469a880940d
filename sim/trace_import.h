/*
 * trace_import.h -- turns an array of expert ids that an engine or a notebook saved into a trace.
 *
 * The array is one .npy file over tokens, layers and the top_k choices, its axes in any order and
 * of any integer type. It is read chunk by chunk, so that memory does not grow with the file, and
 * every id is checked on the way: what was imported once needs no second look.
 */
#ifndef MOESIM_TRACE_IMPORT_H
#define MOESIM_TRACE_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "status.h"

enum trace_axis {
    TRACE_AXIS_TOKEN,
    TRACE_AXIS_LAYER,
    TRACE_AXIS_K,
    TRACE_AXIS_COUNT,
};

struct trace_import_options {
    const char *expert_path;      /* .npy of expert ids, best expert first; -1 or all ones: pad */
    const char *gate_weight_path; /* float16, 32 or 64 of the same shape, or NULL; rows are then
                                     put into descending order of it */
    const char *requests_path;    /* CSV with a column row_offset, or NULL */
    enum trace_axis axis[TRACE_AXIS_COUNT]; /* from the slowest */
    const char *model;                      /* as model_load takes it, see below */
    int32_t num_experts;                    /* 0: the model's */
    const int32_t *model_layer; /* [num_layers] model layer of each layer of the file; NULL: the
                                   model's MoE layers */
    int32_t num_layers;
    int64_t num_tokens_max;   /* further tokens are left out; 0: all */
    int64_t tokens_per_shard; /* 0: as many as fit in 64 MiB */
    bool replace;
    const char *source;                                           /* NULL: the file's name */
    const char *licence;                                          /* NULL: unknown */
    void (*progress)(void *context, int64_t done, int64_t total); /* tokens; may be NULL */
    void *context;
};

struct trace_import_summary {
    char model[NAME_BYTES];
    int32_t num_experts;
    int32_t top_k;
    int32_t num_layers;
    int32_t num_dense_layers_dropped;
    int64_t num_tokens;
    int64_t num_tokens_in_file;
    int64_t tokens_per_shard;
    int64_t num_shards;
    int64_t num_requests;
    int64_t num_pads;           /* ids that mark "not routed" */
    int64_t num_rows_reordered; /* by gate weight */
    int64_t num_tokens_alike;   /* in runs of 32 or more identical tokens: profiling, not traffic */
};

/* Reads "token,layer,k", in any order. False when it is not that. */
bool trace_axes_parse(enum trace_axis axis[TRACE_AXIS_COUNT], const char *text);

/* Writes the trace directory path (see trace_writer.h). The model names experts, top_k and layers;
 * a file with all layers of the model loses the dense ones. With num_experts and model_layer both
 * given, the model is a mere name and top_k is the file's. STATUS_INVALID names file, token and
 * layer; after a failure nothing is left at path. */
MUST_CHECK enum status trace_import(const char *path, const struct trace_import_options *options,
                                    struct trace_import_summary *summary, struct error *error);

#endif
