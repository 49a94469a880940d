/*
 * trace_writer.c -- writes a trace directory so that it is there whole or not at all.
 *
 * A shard's file holds layer after layer; so one shard is gathered in memory, in the bytes of the
 * file, unless it is known beforehand how many tokens come: then every row has its place.
 * Everything is synced before the rename, and a replaced trace goes only after it.
 */
#include "trace_writer.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "trace_internal.h"

struct trace_writer {
    struct trace_description description; /* strings are the caller's */
    int32_t *model_layer;                 /* [num_layers] a copy */
    char path[TRACE_PATH_BYTES];
    char partial[TRACE_PATH_BYTES];  /* path.partial: where all is written */
    char replaced[TRACE_PATH_BYTES]; /* path.replaced: the old trace for a moment */
    int lock;                        /* on partial, so that nobody else writes there */
    bool replace;
    int32_t id_bytes;
    int32_t num_shards;     /* written */
    int64_t shard_tokens;   /* gathered, not yet written */
    int64_t num_tokens;     /* written and gathered */
    bool is_placed;         /* rows are written where they belong */
    struct npy_writer file; /* if so: of the shard at hand, if it has a token */
    unsigned char *expert;  /* [num_layers][tokens_per_shard][top_k] of id_bytes each */
    uint16_t *gate_weight;  /* the same shape, or NULL */
    uint16_t *score;        /* [num_layers][tokens_per_shard][num_experts], or NULL */
};

static bool text_fits(const char *text, size_t bytes)
{
    return text == NULL || strlen(text) < bytes;
}

/* What trace.yaml could not say, or would be refused for, is refused here. */
static enum status check_description(const struct trace_description *description, const char *path,
                                     struct error *error)
{
    const int64_t ids_max = INT64_C(1) << 48; /* of a shard: far below any overflow in bytes */
    if (description->num_experts < 1 || description->num_experts > TRACE_EXPERTS_MAX ||
        description->top_k < 1 || description->top_k > description->num_experts) {
        return error_add(error, STATUS_INVALID,
                         "%s: num_experts must be 1 to %d, top_k 1 to num_experts", path,
                         TRACE_EXPERTS_MAX);
    }
    if (description->num_layers < 1 || description->num_layers > TRACE_LAYERS_MAX) {
        return error_add(error, STATUS_INVALID, "%s: num_layers must be 1 to %d", path,
                         TRACE_LAYERS_MAX);
    }
    int32_t columns = description->has_scores ? description->num_experts : description->top_k;
    if (description->tokens_per_shard < 1 ||
        description->tokens_per_shard > ids_max / description->num_layers / columns) {
        return error_add(error, STATUS_INVALID,
                         "%s: tokens_per_shard must be at least 1 and fit into memory", path);
    }
    if (!trace_is_origin(description->origin)) {
        return error_add(error, STATUS_INVALID, "%s: origin must be measured, generated or mock",
                         path);
    }
    if (!text_fits(description->model, NAME_BYTES) || description->model[0] == '\0' ||
        !text_fits(description->source, SOURCE_BYTES) ||
        !text_fits(description->licence, NAME_BYTES)) {
        return error_add(error, STATUS_INVALID,
                         "%s: model and licence must have less than %d bytes, source less than %d",
                         path, NAME_BYTES, SOURCE_BYTES);
    }
    for (int32_t i = 0; i < description->num_layers; i++) {
        int32_t previous = i == 0 ? -1 : description->model_layer[i - 1];
        if (description->model_layer[i] <= previous) {
            return error_add(error, STATUS_INVALID, "%s: layer numbers must ascend from 0", path);
        }
    }
    return STATUS_OK;
}

static void writer_free(struct trace_writer *writer)
{
    npy_writer_abandon(&writer->file);
    (void)close(writer->lock); /* -1 where there is none is fine */
    free(writer->model_layer);
    free(writer->expert);
    free(writer->gate_weight);
    free(writer->score);
    free(writer);
}

enum status trace_writer_open(struct trace_writer **writer, const char *path,
                              const struct trace_description *description, bool replace,
                              struct error *error)
{
    *writer = NULL;
    enum status status = check_description(description, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct trace_writer *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: no memory", path);
    }
    size_t num_layers = (size_t)description->num_layers;
    size_t ids = num_layers * (size_t)description->tokens_per_shard * (size_t)description->top_k;
    fresh->description = *description;
    fresh->replace = replace;
    fresh->id_bytes = trace_id_bytes(description->num_experts, description->has_gaps);
    fresh->model_layer = malloc(num_layers * sizeof *fresh->model_layer);
    fresh->file.descriptor = -1;
    fresh->lock = -1;
    fresh->is_placed =
        description->num_tokens > 0 && !description->has_gate_weights && !description->has_scores;
    fresh->expert = malloc(fresh->is_placed ? 1 : ids * (size_t)fresh->id_bytes);
    if (description->has_gate_weights) {
        fresh->gate_weight = malloc(ids * sizeof *fresh->gate_weight);
    }
    if (description->has_scores) {
        fresh->score = malloc(ids / (size_t)description->top_k * (size_t)description->num_experts *
                              sizeof *fresh->score);
    }
    if (fresh->model_layer == NULL || fresh->expert == NULL ||
        (description->has_gate_weights && fresh->gate_weight == NULL) ||
        (description->has_scores && fresh->score == NULL)) {
        status = error_add(error, STATUS_NO_MEMORY, "%s: no memory for a shard of %lld tokens",
                           path, (long long)description->tokens_per_shard);
    } else {
        memcpy(fresh->model_layer, description->model_layer,
               num_layers * sizeof *fresh->model_layer);
        fresh->description.model_layer = fresh->model_layer;
        status = trace_prepare_paths(fresh->path, fresh->partial, fresh->replaced, &fresh->lock,
                                     path, replace, error);
    }
    if (status != STATUS_OK) {
        writer_free(fresh);
        return status;
    }
    *writer = fresh;
    return STATUS_OK;
}

static enum status open_shard(struct npy_writer *file, const struct trace_writer *writer,
                              const char *stem, enum npy_type type, int64_t num_tokens,
                              int32_t columns, struct error *error)
{
    const int64_t dim[3] = {writer->description.num_layers, num_tokens, columns};
    char path[TRACE_PATH_BYTES];
    if (writer->num_shards == TRACE_SHARDS_MAX) {
        return error_add(error, STATUS_INVALID, "%s: more than %d shards; make shards larger",
                         writer->path, TRACE_SHARDS_MAX);
    }
    if (!trace_shard_path(path, writer->partial, stem, writer->num_shards)) {
        return error_add(error, STATUS_INVALID, "%s: the path is too long", writer->partial);
    }
    return npy_writer_open(file, path, type, 3, dim, error);
}

/* Writes the gathered tokens of one array, layer after layer, and closes the gaps between them. */
static enum status write_array(const struct trace_writer *writer, const char *stem,
                               enum npy_type type, const void *array, int32_t columns,
                               struct error *error)
{
    const struct trace_description *description = &writer->description;
    const int64_t row_bytes = (int64_t)columns * npy_type_bytes(type);
    const int64_t layer_bytes = description->tokens_per_shard * row_bytes;
    const int64_t used_bytes = writer->shard_tokens * row_bytes;
    struct npy_writer file;
    enum status status =
        open_shard(&file, writer, stem, type, writer->shard_tokens, columns, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t layer = 0; layer < description->num_layers && status == STATUS_OK; layer++) {
        status = npy_writer_append(&file, (const unsigned char *)array + layer * layer_bytes,
                                   (size_t)used_bytes, error);
    }
    if (status != STATUS_OK) {
        npy_writer_abandon(&file);
        return status;
    }
    return npy_writer_close(&file, error);
}

static enum status write_shard(struct trace_writer *writer, struct error *error)
{
    enum npy_type type = writer->id_bytes == 1 ? NPY_UINT8 : NPY_UINT16;
    int32_t top_k = writer->description.top_k;
    enum status status = write_array(writer, "experts", type, writer->expert, top_k, error);
    if (status == STATUS_OK && writer->gate_weight != NULL) {
        status =
            write_array(writer, "gate_weights", NPY_FLOAT16, writer->gate_weight, top_k, error);
    }
    if (status == STATUS_OK && writer->score != NULL) {
        status = write_array(writer, "scores", NPY_FLOAT16, writer->score,
                             writer->description.num_experts, error);
    }
    writer->num_shards++;
    writer->shard_tokens = 0;
    return status;
}

/* Puts one layer's ids behind those of the shard. */
static enum status gather_experts(struct trace_writer *writer, const int32_t *expert, int32_t layer,
                                  int64_t num_tokens, struct error *error)
{
    const struct trace_description *description = &writer->description;
    int32_t top_k = description->top_k;
    bool gap_fits = writer->id_bytes == 2 || description->num_experts <= 255;
    int64_t at = (layer * description->tokens_per_shard + writer->shard_tokens) * top_k;
    uint16_t *wide = (uint16_t *)(void *)writer->expert; /* from malloc, so aligned */
    for (int64_t i = 0; i < num_tokens * top_k; i++) {
        bool is_gap = expert[i] == EXPERT_NOT_ROUTED;
        if (is_gap ? !gap_fits : expert[i] < 0 || expert[i] >= description->num_experts) {
            return error_add(error, STATUS_INVALID, "%s: layer %d, token %lld: expert %d %s",
                             writer->path, layer, (long long)(writer->num_tokens + i / top_k),
                             expert[i],
                             is_gap ? "leaves a gap, which 256 experts in one byte have no room for"
                                    : "is out of range");
        }
        if (writer->id_bytes == 1) { /* -1 becomes 255 or 65535 by truncation */
            writer->expert[at + i] = (uint8_t)expert[i];
        } else {
            wide[at + i] = (uint16_t)expert[i];
        }
    }
    return STATUS_OK;
}

/* Puts one layer's rows of columns numbers from min to 65504 behind those of the shard. */
static enum status gather_halves(struct trace_writer *writer, uint16_t *half, const float *value,
                                 int32_t columns, float min, int32_t layer, int64_t num_tokens,
                                 struct error *error)
{
    int64_t at = (layer * writer->description.tokens_per_shard + writer->shard_tokens) * columns;
    for (int64_t i = 0; i < num_tokens * columns; i++) {
        if (!(value[i] >= min && value[i] < 65520.0f)) { /* what rounds to a finite half */
            return error_add(error, STATUS_INVALID,
                             "%s: layer %d, token %lld: %s %g is not between %g and 65504",
                             writer->path, layer, (long long)(writer->num_tokens + i / columns),
                             half == writer->score ? "score" : "gate weight", (double)value[i],
                             (double)min);
        }
        half[at + i] = npy_float_to_half(value[i]);
    }
    return STATUS_OK;
}

/* Tokens that the shard at hand will have. */
static int64_t shard_room(const struct trace_writer *writer)
{
    const struct trace_description *description = &writer->description;
    int64_t left = description->num_tokens - (writer->num_tokens - writer->shard_tokens);
    return writer->is_placed && left < description->tokens_per_shard
               ? left
               : description->tokens_per_shard;
}

/* Writes tokens first .. first + num_tokens - 1 of packed rows to their places in the shard. */
static enum status place(struct trace_writer *writer, const struct trace_rows *rows, int64_t first,
                         int64_t num_tokens, struct error *error)
{
    const int64_t room = shard_room(writer);
    const int64_t row_bytes = (int64_t)writer->description.top_k * writer->id_bytes;
    enum status status = STATUS_OK;
    assert(rows->packed != NULL);
    if (writer->shard_tokens == 0) {
        status = open_shard(&writer->file, writer, "experts",
                            writer->id_bytes == 1 ? NPY_UINT8 : NPY_UINT16, room,
                            writer->description.top_k, error);
    }
    for (int32_t i = 0; i < writer->description.num_layers && status == STATUS_OK; i++) {
        const unsigned char *from =
            (const unsigned char *)rows->packed + (i * rows->layer_tokens + first) * row_bytes;
        status = npy_writer_put(&writer->file, (i * room + writer->shard_tokens) * row_bytes, from,
                                (size_t)(num_tokens * row_bytes), error);
    }
    writer->shard_tokens += num_tokens;
    writer->num_tokens += num_tokens;
    if (status == STATUS_OK && writer->shard_tokens == room) {
        status = npy_writer_close(&writer->file, error);
        writer->num_shards++;
        writer->shard_tokens = 0;
    }
    return status;
}

/* Appends tokens first .. first + num_tokens - 1 of rows to the shard at hand. */
static enum status gather(struct trace_writer *writer, const struct trace_rows *rows, int64_t first,
                          int64_t num_tokens, struct error *error)
{
    const struct trace_description *description = &writer->description;
    const int64_t row_bytes = (int64_t)description->top_k * writer->id_bytes;
    enum status status = STATUS_OK;
    for (int32_t layer = 0; layer < description->num_layers && status == STATUS_OK; layer++) {
        int64_t row = layer * rows->layer_tokens + first;
        if (rows->packed != NULL) {
            const unsigned char *from = (const unsigned char *)rows->packed + row * row_bytes;
            int64_t to = layer * description->tokens_per_shard + writer->shard_tokens;
            memcpy(writer->expert + to * row_bytes, from, (size_t)(num_tokens * row_bytes));
        } else {
            status = gather_experts(writer, rows->expert + row * description->top_k, layer,
                                    num_tokens, error);
        }
        if (status == STATUS_OK && rows->gate_weight != NULL) {
            status = gather_halves(writer, writer->gate_weight,
                                   rows->gate_weight + row * description->top_k, description->top_k,
                                   0.0f, layer, num_tokens, error);
        }
        if (status == STATUS_OK && rows->score != NULL) {
            status =
                gather_halves(writer, writer->score, rows->score + row * description->num_experts,
                              description->num_experts, -65504.0f, layer, num_tokens, error);
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    writer->shard_tokens += num_tokens;
    writer->num_tokens += num_tokens;
    if (writer->shard_tokens == description->tokens_per_shard) {
        status = write_shard(writer, error);
    }
    return status;
}

enum status trace_writer_append_rows(struct trace_writer *writer, const struct trace_rows *rows,
                                     int64_t num_tokens, struct error *error)
{
    enum status status = STATUS_OK;
    int64_t count = 0; /* of tokens at a time */
    assert(num_tokens >= 0 && num_tokens <= rows->layer_tokens);
    assert((rows->gate_weight != NULL) == writer->description.has_gate_weights);
    assert((rows->score != NULL) == writer->description.has_scores);
    for (int64_t first = 0; first < num_tokens && status == STATUS_OK; first += count) {
        int64_t room = shard_room(writer) - writer->shard_tokens;
        count = num_tokens - first < room ? num_tokens - first : room;
        assert(count > 0); /* no more come than were promised */
        status = writer->is_placed ? place(writer, rows, first, count, error)
                                   : gather(writer, rows, first, count, error);
    }
    return status;
}

enum status trace_writer_append(struct trace_writer *writer, const int32_t *expert,
                                const float *gate_weight, int64_t num_tokens, struct error *error)
{
    const struct trace_rows rows = {expert, NULL, gate_weight, NULL, num_tokens};
    return trace_writer_append_rows(writer, &rows, num_tokens, error);
}

const char *trace_writer_directory(const struct trace_writer *writer)
{
    return writer->partial;
}

enum status trace_writer_finish(struct trace_writer *writer, const struct trace_request *requests,
                                int64_t num_requests, struct error *error)
{
    enum status status = STATUS_OK;
    if (writer->num_tokens == 0) {
        status =
            error_add(error, STATUS_INVALID, "%s: a trace needs at least one token", writer->path);
    }
    if (status == STATUS_OK && writer->shard_tokens > 0) {
        assert(!writer->is_placed); /* as many came as were promised */
        status = write_shard(writer, error);
    }
    if (status == STATUS_OK && num_requests > 0) {
        status = trace_requests_write(writer->partial, requests, num_requests, writer->num_tokens,
                                      error);
    }
    if (status == STATUS_OK) {
        status = trace_yaml_write(writer->partial, &writer->description, writer->num_tokens, error);
    }
    if (status == STATUS_OK) {
        status = trace_sync_directory(writer->partial, error);
    }
    if (status == STATUS_OK) {
        status = trace_move_into_place(writer->path, writer->partial, writer->replaced,
                                       writer->replace, error);
    }
    trace_writer_abandon(writer); /* after a success PATH.partial is no more */
    return status;
}

void trace_writer_abandon(struct trace_writer *writer)
{
    if (writer != NULL) {
        enum status status = trace_remove(writer->partial, NULL);
        (void)status; /* what cannot be removed is named .partial, so nobody takes it for a trace */
        writer_free(writer);
    }
}
