/*
 * trace_import.c -- carries an array over, chunk by chunk.
 *
 * The array is mapped, the writer gathers one shard, and what lies between is a few megabytes.
 */
#include "trace_import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace_import_internal.h"
#include "trace_internal.h"
#include "trace_writer.h"

#define SHARD_BYTES (INT64_C(64) << 20) /* of the largest array in a shard */

static enum status size_buffers(struct trace_import_job *job, bool has_gaps)
{
    struct trace_import_summary *summary = job->summary;
    bool has_weights = job->options->gate_weight_path != NULL;
    int64_t token_ids = (int64_t)summary->num_layers * summary->top_k;
    int64_t id_bytes = has_weights ? 2 : trace_id_bytes(summary->num_experts, has_gaps);
    int64_t tokens = job->options->tokens_per_shard;
    if (tokens == 0) {
        tokens = SHARD_BYTES / (token_ids * id_bytes);
        tokens = tokens > 1 ? tokens : 1;
    }
    tokens = tokens < summary->num_tokens ? tokens : summary->num_tokens;
    summary->tokens_per_shard = tokens;
    summary->num_shards = (summary->num_tokens + tokens - 1) / tokens;
    job->num_tokens_chunk = IMPORT_CHUNK_IDS / token_ids;
    job->num_tokens_chunk = job->num_tokens_chunk > 1 ? job->num_tokens_chunk : 1;
    size_t chunk_ids = (size_t)(job->num_tokens_chunk * token_ids);
    job->expert = arena_alloc(&job->arena, chunk_ids, sizeof *job->expert);
    job->expert_before = arena_alloc(&job->arena, (size_t)token_ids, sizeof *job->expert_before);
    if (has_weights) {
        job->gate_weight = arena_alloc(&job->arena, chunk_ids, sizeof *job->gate_weight);
    }
    if (job->expert == NULL || job->expert_before == NULL ||
        (has_weights && job->gate_weight == NULL)) {
        return error_add(job->error, STATUS_NO_MEMORY, "no memory to import %lld tokens at a time",
                         (long long)job->num_tokens_chunk);
    }
    return STATUS_OK;
}

/* Reads all rows; they reach the writer as long as none was wrong. */
static enum status carry_over(struct trace_import_job *job, struct trace_writer *writer)
{
    struct trace_import_summary *summary = job->summary;
    enum status status = STATUS_OK;
    int64_t count = 0;
    for (int64_t first = 0; first < summary->num_tokens && status == STATUS_OK; first += count) {
        int64_t shard_end = (first / summary->tokens_per_shard + 1) * summary->tokens_per_shard;
        int64_t end = shard_end < summary->num_tokens ? shard_end : summary->num_tokens;
        count = end - first < job->num_tokens_chunk ? end - first : job->num_tokens_chunk;
        status = trace_import_rows(job, first, count);
        if (status == STATUS_OK && job->num_problems == 0) {
            status = trace_writer_append(writer, job->expert, job->gate_weight, count, job->error);
        }
        if (job->options->progress != NULL) {
            job->options->progress(job->options->context, first + count, summary->num_tokens);
        }
    }
    return job->num_problems > 0 ? STATUS_INVALID : status;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static enum status write_trace(struct trace_import_job *job, const char *path,
                               const struct trace_request *requests)
{
    const struct trace_import_options *options = job->options;
    struct trace_writer *writer = NULL;
    char source[SOURCE_BYTES];
    bool has_gaps = job->summary->num_experts == 256 && job->expert_file.type != NPY_UINT8 &&
                    trace_import_has_pads(job);
    enum status status = size_buffers(job, has_gaps);
    if (status != STATUS_OK) {
        return status;
    }
    (void)snprintf(source, sizeof source, "imported from %s", file_name(options->expert_path));
    struct trace_description description = {
        .model = job->summary->model,
        .num_experts = job->summary->num_experts,
        .top_k = job->summary->top_k,
        .num_layers = job->summary->num_layers,
        .model_layer = job->model_layer,
        .tokens_per_shard = job->summary->tokens_per_shard,
        .has_gate_weights = job->gate_weight != NULL,
        .has_gaps = has_gaps,
        .origin = "measured",
        .source = options->source != NULL ? options->source : source,
        .licence = options->licence != NULL ? options->licence : "unknown",
    };
    status = trace_writer_open(&writer, path, &description, options->replace, job->error);
    if (status != STATUS_OK) {
        return status;
    }
    status = carry_over(job, writer);
    if (status != STATUS_OK) {
        trace_writer_abandon(writer);
        return status;
    }
    return trace_writer_finish(writer, requests, job->summary->num_requests, job->error);
}

enum status trace_import(const char *path, const struct trace_import_options *options,
                         struct trace_import_summary *summary, struct error *error)
{
    *summary = (struct trace_import_summary){0};
    struct trace_import_job job = {.options = options, .summary = summary, .error = error};
    struct trace_request *requests = NULL;
    enum status status = trace_import_shape(&job);
    if (status == STATUS_OK && options->requests_path != NULL) {
        status = trace_import_requests(&requests, &summary->num_requests, options->requests_path,
                                       summary->num_tokens_in_file, summary->num_tokens, error);
    }
    if (status == STATUS_OK) {
        status = write_trace(&job, path, requests);
    }
    free(requests);
    npy_close(&job.expert_file);
    npy_close(&job.gate_weight_file);
    arena_free(&job.arena);
    return status;
}
