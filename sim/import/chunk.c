/*
 * chunk.c -- rows between conversion and writer: runs of identical tokens are found here.
 *
 * Engines route dummy tokens when they profile or pad a batch: all of them alike. A run that may
 * still become one of IMPORT_RUN_TOKENS waits in the chunk, so that it can be taken out again.
 */
#include <stdio.h>
#include <string.h>

#include "import/sink.h"
#include "trace_internal.h"

#define SHARD_BYTES (INT64_C(64) << 20) /* of the largest array in a shard */

static int64_t shard_tokens(const struct import_sink *sink)
{
    const struct import_summary *summary = sink->summary;
    int64_t token_bytes = summary->top_k;
    token_bytes *= summary->has_gate_weights ? 2 : sink->id_bytes;
    if (summary->has_scores && 2 * (int64_t)summary->num_experts > token_bytes) {
        token_bytes = 2 * (int64_t)summary->num_experts;
    }
    int64_t tokens = sink->options->tokens_per_shard;
    if (tokens == 0) {
        tokens = SHARD_BYTES / (summary->num_layers * token_bytes);
        tokens = tokens > 1 ? tokens : 1;
    }
    int64_t max = sink->options->num_tokens_max;
    tokens = max > 0 && max < tokens ? max : tokens;
    int64_t announced = sink->options->num_paths == 1 ? sink->num_tokens_announced : 0;
    return announced > 0 && announced < tokens ? announced : tokens;
}

static enum status allocate(struct import_sink *sink)
{
    const struct import_summary *summary = sink->summary;
    struct import_chunk *chunk = &sink->chunk;
    int64_t columns = summary->has_scores ? summary->num_experts : summary->top_k;
    int64_t ids = sink->num_tokens_exact > 0 ? IMPORT_PLACED_IDS : IMPORT_CHUNK_IDS;
    int64_t tokens = ids / (summary->num_layers * columns);
    chunk->capacity = tokens > 2 * IMPORT_RUN_TOKENS ? tokens : 2 * IMPORT_RUN_TOKENS;
    size_t rows = (size_t)(summary->num_layers * chunk->capacity);
    size_t top_k = (size_t)summary->top_k;
    size_t before = (size_t)summary->num_layers * top_k;
    size_t num_experts = (size_t)summary->num_experts;
    chunk->expert = arena_alloc(&sink->arena, rows * top_k, sizeof(uint16_t)); /* or one byte */
    sink->expert_before = arena_alloc(&sink->arena, before, sizeof(uint16_t));
    sink->stamp = arena_alloc(&sink->arena, num_experts, sizeof *sink->stamp);
    sink->row = arena_alloc(&sink->arena, top_k, sizeof *sink->row);
    bool fits = chunk->expert != NULL && sink->expert_before != NULL && sink->stamp != NULL &&
                sink->row != NULL;
    if (summary->has_gate_weights) {
        chunk->gate_weight = arena_alloc(&sink->arena, rows * top_k, sizeof *chunk->gate_weight);
        fits = fits && chunk->gate_weight != NULL;
    }
    if (summary->has_scores) {
        chunk->score = arena_alloc(&sink->arena, rows * num_experts, sizeof *chunk->score);
        fits = fits && chunk->score != NULL;
    }
    if (!fits) {
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory to import %lld tokens at a time",
                         (long long)chunk->capacity);
    }
    memset(sink->stamp, 0, num_experts * sizeof *sink->stamp);
    return STATUS_OK;
}

enum status import_chunk_open(struct import_sink *sink)
{
    const struct import_options *options = sink->options;
    struct import_summary *summary = sink->summary;
    char source[SOURCE_BYTES];
    enum status status = sink->chunk.expert == NULL ? allocate(sink) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    sink->id_bytes = trace_id_bytes(summary->num_experts, sink->has_gaps);
    const char *slash = strrchr(options->paths[0], '/');
    (void)snprintf(source, sizeof source, "imported from %s%s",
                   slash != NULL ? slash + 1 : options->paths[0],
                   options->num_paths > 1 ? " and others" : "");
    summary->tokens_per_shard = shard_tokens(sink);
    (void)snprintf(sink->source, sizeof sink->source, "%s",
                   options->source != NULL ? options->source : source);
    const struct trace_description description = {
        .model = summary->model,
        .num_experts = summary->num_experts,
        .top_k = summary->top_k,
        .num_layers = summary->num_layers,
        .model_layer = sink->model_layer,
        .tokens_per_shard = summary->tokens_per_shard,
        .num_tokens = sink->num_tokens_exact,
        .has_gate_weights = summary->has_gate_weights,
        .has_scores = summary->has_scores,
        .has_gaps = sink->has_gaps,
        .origin = "measured",
        .source = sink->source,
        .licence = options->licence != NULL ? options->licence : "unknown",
    };
    return trace_writer_open(&sink->writer, sink->path, &description, options->replace,
                             sink->error);
}

/* Copies token from of every array of the chunk to token to. */
static void move_token(struct import_sink *sink, int64_t from, int64_t to)
{
    const struct import_summary *summary = sink->summary;
    struct import_chunk *chunk = &sink->chunk;
    size_t top_k = (size_t)summary->top_k;
    size_t row_bytes = top_k * (size_t)sink->id_bytes;
    size_t num_experts = (size_t)summary->num_experts;
    for (int32_t layer = 0; layer < summary->num_layers && from != to; layer++) {
        size_t source = (size_t)(layer * chunk->capacity + from);
        size_t target = (size_t)(layer * chunk->capacity + to);
        memcpy(chunk->expert + target * row_bytes, chunk->expert + source * row_bytes, row_bytes);
        if (chunk->gate_weight != NULL) {
            memcpy(chunk->gate_weight + target * top_k, chunk->gate_weight + source * top_k,
                   top_k * sizeof *chunk->gate_weight);
        }
        if (chunk->score != NULL) {
            memcpy(chunk->score + target * num_experts, chunk->score + source * num_experts,
                   num_experts * sizeof *chunk->score);
        }
    }
}

/* Keeps a token's ids, to be compared with those of a later chunk. */
static void remember(struct import_sink *sink, int64_t token)
{
    size_t row_bytes = (size_t)(sink->summary->top_k * sink->id_bytes);
    for (int32_t layer = 0; layer < sink->summary->num_layers; layer++) {
        size_t row = (size_t)(layer * sink->chunk.capacity + token);
        memcpy(sink->expert_before + (size_t)layer * row_bytes,
               sink->chunk.expert + row * row_bytes, row_bytes);
    }
    sink->has_before = true;
}

/* Is a token the same as the one before it, in all layers? That one stands before it in the chunk,
 * unless it is the first of its block. */
static bool is_alike(const struct import_sink *sink, int64_t token, bool is_first)
{
    const size_t row_bytes = (size_t)(sink->summary->top_k * sink->id_bytes);
    bool same = !is_first || sink->has_before;
    for (int32_t layer = 0; same && layer < sink->summary->num_layers; layer++) {
        const unsigned char *now =
            sink->chunk.expert + (size_t)(layer * sink->chunk.capacity + token) * row_bytes;
        const unsigned char *before =
            !is_first ? now - row_bytes : sink->expert_before + (size_t)layer * row_bytes;
        same = memcmp(now, before, row_bytes) == 0;
    }
    return same;
}

/* Takes back the newest tokens of the chunk, which are a run of dummies. */
static void take_back(struct import_sink *sink, int64_t *count)
{
    for (int64_t i = 1; i <= IMPORT_RUN_TOKENS; i++) {
        int64_t request = sink->tail_request[(sink->num_tokens_kept - i) % IMPORT_RUN_TOKENS];
        if (request >= 0) {
            sink->requests[request].num_rows--;
        }
    }
    sink->num_tokens_kept -= IMPORT_RUN_TOKENS;
    *count -= IMPORT_RUN_TOKENS;
    sink->is_dropping = true;
}

/* The request of the next token of the file; -1: none. */
static int64_t request_of_next(struct import_sink *sink)
{
    int64_t token = sink->summary->num_tokens_in_file;
    while (sink->requests_listed && sink->request_now + 1 < sink->num_requests &&
           sink->requests[sink->request_now + 1].row_offset <= token) {
        sink->request_now++;
    }
    return sink->request_now;
}

enum status import_chunk_add(struct import_sink *sink, int64_t count)
{
    struct import_chunk *chunk = &sink->chunk;
    int64_t kept = chunk->count;
    int64_t end = chunk->count + count;
    for (int64_t token = chunk->count; token < end; token++) {
        bool alike = is_alike(sink, token, token == chunk->count);
        int64_t request = request_of_next(sink);
        sink->summary->num_tokens_in_file++;
        sink->num_tokens_run = alike ? sink->num_tokens_run + 1 : 1;
        if (sink->num_tokens_run >= IMPORT_RUN_TOKENS) {
            sink->summary->num_tokens_alike +=
                sink->num_tokens_run == IMPORT_RUN_TOKENS ? IMPORT_RUN_TOKENS : 1;
        }
        sink->is_dropping = sink->is_dropping && alike;
        if (sink->is_dropping) {
            continue;
        }
        move_token(sink, token, kept);
        kept++;
        if (request >= 0) {
            sink->requests[request].num_rows++;
        }
        sink->tail_request[sink->num_tokens_kept % IMPORT_RUN_TOKENS] = request;
        sink->num_tokens_kept++;
        if (sink->options->strip_dummy && sink->num_tokens_run == IMPORT_RUN_TOKENS) {
            take_back(sink, &kept);
        }
    }
    if (count > 0) {
        remember(sink, end - 1);
    }
    chunk->count = kept;
    return STATUS_OK;
}

enum status import_chunk_flush(struct import_sink *sink, bool last)
{
    struct import_chunk *chunk = &sink->chunk;
    bool may_go = sink->options->strip_dummy && !sink->is_dropping && !last;
    int64_t waiting = may_go ? sink->num_tokens_run : 0;
    int64_t count = chunk->count - waiting;
    const struct trace_rows rows = {
        .packed = chunk->expert,
        .gate_weight = chunk->gate_weight,
        .score = chunk->score,
        .layer_tokens = chunk->capacity,
    };
    enum status status = STATUS_OK;
    if (sink->num_problems == 0 && count > 0) {
        status = trace_writer_append_rows(sink->writer, &rows, count, sink->error);
    }
    for (int64_t token = 0; token < waiting; token++) {
        move_token(sink, count + token, token);
    }
    chunk->count = waiting;
    return status;
}
