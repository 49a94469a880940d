/* trace_edit_write.c -- streams the rows of an edit into a new trace, a chunk at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "import/import.h"
#include "trace_edit.h"
#include "trace_internal.h"
#include "trace_side.h"
#include "trace_writer.h"

#define CHUNK_NUMBERS  (1 << 20) /* ids or scores of a chunk */
#define CHUNK_ROWS_MIN 64

struct copy {
    struct trace_edit *edit;
    const struct trace_output *output;
    struct error *error;
    struct trace_side *side; /* [num_traces] */
    bool keeps[TRACE_SIDE_COUNT];
    bool has_weights;
    int64_t tokens_per_shard;
    struct trace_writer *writer;
    struct npy_writer side_file[TRACE_SIDE_COUNT]; /* of the shard at hand; scores: unused */
    int64_t num_done;
    int64_t piece;  /* at hand */
    int64_t offset; /* rows of it that are done */

    int32_t capacity; /* rows of a chunk */
    int64_t *row;     /* [capacity] of one trace */
    int32_t *expert;  /* [num_layers][capacity][top_k] */
    float *weight;
    float *score; /* [num_layers][capacity][num_experts] */
    uint8_t *phase;
    uint16_t *source_rank;
};

/* What every trace has is kept. */
static enum status open_sides(struct copy *copy, struct arena *arena)
{
    struct trace_edit *edit = copy->edit;
    int32_t num_with[TRACE_SIDE_COUNT] = {0};
    int32_t num_with_weights = 0;
    enum status status = STATUS_OK;
    copy->side = arena_alloc(arena, (size_t)edit->num_traces, sizeof *copy->side);
    if (copy->side == NULL) {
        return error_add(copy->error, STATUS_NO_MEMORY, "no memory for %d traces",
                         edit->num_traces);
    }
    for (int32_t i = 0; i < edit->num_traces; i++) {
        enum status outcome = trace_side_open(&copy->side[i], &edit->trace[i], copy->error);
        status = outcome != STATUS_OK ? outcome : status;
        num_with_weights += edit->trace[i].has_gate_weights ? 1 : 0;
        for (int32_t kind = 0; kind < TRACE_SIDE_COUNT; kind++) {
            num_with[kind] += copy->side[i].file[kind] != NULL ? 1 : 0;
        }
    }
    copy->has_weights = num_with_weights == edit->num_traces;
    if (num_with_weights > 0 && !copy->has_weights) {
        trace_edit_note(edit, "gate_weights are left out: %d of %d traces have them",
                        num_with_weights, edit->num_traces);
    }
    for (int32_t kind = 0; kind < TRACE_SIDE_COUNT; kind++) {
        copy->keeps[kind] = num_with[kind] == edit->num_traces;
        if (num_with[kind] > 0 && !copy->keeps[kind]) {
            trace_edit_note(edit, "%s is left out: %d of %d traces have it", trace_side_stem[kind],
                            num_with[kind], edit->num_traces);
        }
    }
    for (int32_t i = 1; i < edit->num_traces && copy->keeps[TRACE_SIDE_SCORES]; i++) {
        if (edit->trace[i].score != edit->trace[0].score) {
            copy->keeps[TRACE_SIDE_SCORES] = false;
            trace_edit_note(edit, "scores are left out: of some traces they are logits, of others "
                                  "sigmoids");
        }
    }
    return status;
}

static enum status allocate(struct copy *copy, struct arena *arena)
{
    const struct trace *trace = &copy->edit->trace[0];
    size_t top_k = (size_t)trace->top_k;
    size_t num_experts = copy->keeps[TRACE_SIDE_SCORES] ? (size_t)trace->num_experts : 0;
    size_t columns = num_experts > top_k ? num_experts : top_k;
    size_t rows = CHUNK_NUMBERS / ((size_t)copy->edit->num_layers * columns);
    rows = rows > CHUNK_ROWS_MIN ? rows : CHUNK_ROWS_MIN;
    copy->capacity = (int32_t)rows;
    size_t all = rows * (size_t)copy->edit->num_layers;
    copy->row = arena_alloc(arena, rows, sizeof *copy->row);
    copy->expert = arena_alloc(arena, all * top_k, sizeof *copy->expert);
    copy->weight = arena_alloc(arena, all * top_k, sizeof *copy->weight);
    copy->score = arena_alloc(arena, all * num_experts, sizeof *copy->score);
    copy->phase = arena_alloc(arena, rows, sizeof *copy->phase);
    copy->source_rank = arena_alloc(arena, rows, sizeof *copy->source_rank);
    return copy->row != NULL && copy->expert != NULL && copy->weight != NULL &&
                   copy->score != NULL && copy->phase != NULL && copy->source_rank != NULL
               ? STATUS_OK
               : error_add(copy->error, STATUS_NO_MEMORY, "no memory for %zu rows", rows);
}

/* Of all traces, what one may believe least; and their licences. */
static enum status open_writer(struct copy *copy)
{
    static const char *const origins[] = {"measured", "generated", "mock"};
    const struct trace_edit *edit = copy->edit;
    const struct trace *first = &edit->trace[0];
    const char *licence = first->licence;
    size_t origin = 0;
    bool has_gaps = false;
    int32_t model_layer[TRACE_LAYERS_MAX];
    for (int32_t i = 0; i < edit->num_traces; i++) {
        const struct trace *trace = &edit->trace[i];
        for (size_t rank = 0; rank < sizeof origins / sizeof origins[0]; rank++) {
            origin = strcmp(trace->origin, origins[rank]) == 0 && rank > origin ? rank : origin;
        }
        licence = strcmp(trace->licence, first->licence) == 0 ? licence : "several";
        for (int32_t shard = 0; shard < trace->num_shards; shard++) {
            has_gaps = has_gaps || trace->shards[shard].expert_u16 != NULL;
        }
    }
    for (int32_t i = 0; i < edit->num_layers; i++) {
        model_layer[i] = first->model_layer[edit->layer[i]];
    }
    int64_t tokens = copy->output->tokens_per_shard;
    tokens = tokens > 0 ? tokens : first->tokens_per_shard;
    copy->tokens_per_shard = tokens < edit->num_tokens ? tokens : edit->num_tokens;
    const struct trace_description description = {
        .model = first->model,
        .num_experts = first->num_experts,
        .top_k = first->top_k,
        .num_layers = edit->num_layers,
        .model_layer = model_layer,
        .tokens_per_shard = copy->tokens_per_shard,
        .has_gate_weights = copy->has_weights,
        .has_scores = copy->keeps[TRACE_SIDE_SCORES],
        .score = first->score,
        .has_gaps = has_gaps,
        .origin = origins[origin],
        .source = edit->source,
        .licence = licence,
    };
    return trace_writer_open(&copy->writer, copy->output->path, &description, copy->output->replace,
                             copy->error);
}

/* Collects the next rows, all of one trace. Returns their number; *trace is its index. */
static int32_t collect(struct copy *copy, int32_t *trace)
{
    const struct trace_edit *edit = copy->edit;
    int32_t count = 0;
    *trace = edit->piece[copy->piece].trace;
    while (count < copy->capacity && copy->piece < edit->num_pieces &&
           edit->piece[copy->piece].trace == *trace) {
        const struct trace_piece *piece = &edit->piece[copy->piece];
        copy->row[count++] = piece->first + copy->offset++;
        if (copy->offset == piece->count) {
            copy->piece++;
            copy->offset = 0;
        }
    }
    return count;
}

/* Lets go of the pages of a chunk's first shard when the chunk ended in a later one. */
static void forget(const struct copy *copy, const struct trace *trace, int32_t trace_index,
                   int32_t count)
{
    int64_t shard = copy->row[0] / trace->tokens_per_shard;
    if (shard == copy->row[count - 1] / trace->tokens_per_shard) {
        return;
    }
    const struct trace_shard *files = &trace->shards[shard];
    import_forget(files->expert_file.mapping, files->expert_file.mapping_bytes);
    import_forget(files->gate_weight_file.mapping, files->gate_weight_file.mapping_bytes);
    if (copy->keeps[TRACE_SIDE_SCORES]) {
        const struct npy *scores = &copy->side[trace_index].file[TRACE_SIDE_SCORES][shard];
        import_forget(scores->mapping, scores->mapping_bytes);
    }
}

/* Writes bytes of rows to the files of a kind, which change with the shard. */
static enum status write_side(struct copy *copy, enum trace_side_kind kind, const void *data,
                              int32_t count)
{
    enum npy_type type = kind == TRACE_SIDE_PHASE ? NPY_UINT8 : NPY_UINT16;
    struct npy_writer *file = &copy->side_file[kind];
    enum status status = STATUS_OK;
    int64_t left = 0;
    for (int64_t done = 0; done < count && status == STATUS_OK; done += left) {
        int64_t at = copy->num_done + done;
        int64_t in_shard = at % copy->tokens_per_shard;
        int64_t shard_tokens = copy->edit->num_tokens - (at - in_shard);
        shard_tokens =
            shard_tokens < copy->tokens_per_shard ? shard_tokens : copy->tokens_per_shard;
        left = shard_tokens - in_shard;
        left = left < count - done ? left : count - done;
        if (in_shard == 0) {
            char path[TRACE_PATH_BYTES];
            bool fits =
                trace_shard_path(path, trace_writer_directory(copy->writer), trace_side_stem[kind],
                                 (int32_t)(at / copy->tokens_per_shard));
            status = fits ? npy_writer_open(file, path, type, 1, &shard_tokens, copy->error)
                          : error_add(copy->error, STATUS_INVALID, "%s: the path is too long",
                                      copy->output->path);
        }
        int64_t bytes = npy_type_bytes(type);
        if (status == STATUS_OK) {
            status = npy_writer_append(file, (const char *)data + done * bytes,
                                       (size_t)(left * bytes), copy->error);
        }
        if (status == STATUS_OK && in_shard + left == shard_tokens) {
            status = npy_writer_close(file, copy->error);
        }
    }
    return status;
}

static enum status copy_chunk(struct copy *copy)
{
    int32_t index = 0;
    int32_t count = collect(copy, &index);
    const struct trace *trace = &copy->edit->trace[index];
    const struct trace_side *side = &copy->side[index];
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < copy->edit->num_layers && status == STATUS_OK; i++) {
        int64_t at = (int64_t)i * copy->capacity;
        int32_t layer = copy->edit->layer[i];
        status = trace_read(trace, copy->expert + at * trace->top_k,
                            copy->has_weights ? copy->weight + at * trace->top_k : NULL, layer,
                            copy->row, count, copy->error);
        if (copy->keeps[TRACE_SIDE_SCORES]) {
            trace_side_scores(side, copy->score + at * trace->num_experts, layer, copy->row, count);
        }
    }
    const struct trace_rows rows = {
        .expert = copy->expert,
        .gate_weight = copy->has_weights ? copy->weight : NULL,
        .score = copy->keeps[TRACE_SIDE_SCORES] ? copy->score : NULL,
        .layer_tokens = copy->capacity,
    };
    if (status == STATUS_OK) {
        status = trace_writer_append_rows(copy->writer, &rows, count, copy->error);
    }
    if (status == STATUS_OK && copy->keeps[TRACE_SIDE_PHASE]) {
        trace_side_phase(side, copy->phase, copy->row, count);
        status = write_side(copy, TRACE_SIDE_PHASE, copy->phase, count);
    }
    if (status == STATUS_OK && copy->keeps[TRACE_SIDE_SOURCE_RANK]) {
        trace_side_source_rank(side, copy->source_rank, copy->row, count);
        status = write_side(copy, TRACE_SIDE_SOURCE_RANK, copy->source_rank, count);
    }
    forget(copy, trace, index, count);
    copy->num_done += count;
    return status;
}

static enum status write_steps(const struct copy *copy)
{
    const struct trace_edit *edit = copy->edit;
    struct npy_writer file;
    char path[TRACE_PATH_BYTES];
    int64_t count = edit->num_steps + 1;
    if (!trace_join(path, trace_writer_directory(copy->writer), "steps.npy")) {
        return error_add(copy->error, STATUS_INVALID, "%s: the path is too long",
                         copy->output->path);
    }
    enum status status = npy_writer_open(&file, path, NPY_INT64, 1, &count, copy->error);
    if (status == STATUS_OK) {
        status = npy_writer_append(&file, edit->step_begin,
                                   (size_t)count * sizeof *edit->step_begin, copy->error);
        if (status == STATUS_OK) {
            return npy_writer_close(&file, copy->error);
        }
        npy_writer_abandon(&file);
    }
    return status;
}

static enum status copy_all(struct copy *copy)
{
    const struct trace_edit *edit = copy->edit;
    enum status status = open_writer(copy);
    if (status != STATUS_OK) {
        return status;
    }
    copy->side_file[TRACE_SIDE_PHASE].descriptor = -1;
    copy->side_file[TRACE_SIDE_SOURCE_RANK].descriptor = -1;
    while (status == STATUS_OK && copy->num_done < edit->num_tokens) {
        status = copy_chunk(copy);
        if (copy->output->progress != NULL) {
            copy->output->progress(copy->output->context, copy->num_done, edit->num_tokens);
        }
    }
    if (status == STATUS_OK && edit->num_steps > 0) {
        status = write_steps(copy);
    }
    if (status == STATUS_OK) {
        return trace_writer_finish(copy->writer, edit->requests, edit->num_requests, copy->error);
    }
    npy_writer_abandon(&copy->side_file[TRACE_SIDE_PHASE]);
    npy_writer_abandon(&copy->side_file[TRACE_SIDE_SOURCE_RANK]);
    trace_writer_abandon(copy->writer);
    return status;
}

enum status trace_edit_write(struct trace_edit *edit, const struct trace_output *output,
                             struct error *error)
{
    struct copy copy = {.edit = edit, .output = output, .error = error};
    struct arena arena = {0};
    if (edit->num_tokens == 0) {
        return error_add(error, STATUS_INVALID, "%s: no row is left", output->path);
    }
    enum status status = open_sides(&copy, &arena);
    if (status == STATUS_OK) {
        status = allocate(&copy, &arena);
    }
    if (status == STATUS_OK) {
        status = copy_all(&copy);
    }
    for (int32_t i = 0; copy.side != NULL && i < edit->num_traces; i++) {
        trace_side_close(&copy.side[i]);
    }
    arena_free(&arena);
    return status;
}
