/* trace_edit.c -- the plan of a new trace: pieces, requests, steps. */
#include "trace_edit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void trace_edit_note(struct trace_edit *edit, const char *format, ...)
{
    va_list arguments;
    size_t used = strlen(edit->notes);
    size_t room = sizeof edit->notes - used;
    va_start(arguments, format);
    int length = vsnprintf(edit->notes + used, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length + 2 > room) {
        edit->notes[used] = '\0'; /* whole lines only */
        return;
    }
    memcpy(edit->notes + used + length, "\n", 2);
}

static enum status no_memory(struct error *error)
{
    return error_add(error, STATUS_NO_MEMORY, "no memory for the plan of a trace");
}

/* One model, or a reason why not. */
static enum status check_alike(const struct trace *a, const struct trace *b, struct error *error)
{
    bool same_layers =
        a->num_layers == b->num_layers &&
        memcmp(a->model_layer, b->model_layer, (size_t)a->num_layers * sizeof *a->model_layer) == 0;
    if (strcmp(a->model, b->model) != 0) {
        return error_add(error, STATUS_INVALID, "%s is of %s, %s of %s: one model at a time",
                         b->name, b->model, a->name, a->model);
    }
    if (a->num_experts != b->num_experts || a->top_k != b->top_k || !same_layers) {
        return error_add(
            error, STATUS_INVALID,
            "%s has top-%d of %d experts in %d layers, %s top-%d of %d in %d%s", b->name, b->top_k,
            b->num_experts, b->num_layers, a->name, a->top_k, a->num_experts, a->num_layers,
            a->num_layers == b->num_layers && !same_layers ? ", which are other layers of the model"
                                                           : "");
    }
    return STATUS_OK;
}

enum status trace_edit_open(struct trace_edit *edit, const char *const *paths, int32_t num_paths,
                            struct error *error)
{
    *edit = (struct trace_edit){.num_traces = 0};
    edit->trace = calloc((size_t)num_paths, sizeof *edit->trace);
    if (edit->trace == NULL) {
        return no_memory(error);
    }
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < num_paths; i++) {
        edit->num_traces++;
        enum status outcome = trace_open(&edit->trace[i], paths[i], error);
        if (outcome == STATUS_OK && i > 0 && status == STATUS_OK) {
            outcome = check_alike(&edit->trace[0], &edit->trace[i], error);
        }
        status = outcome != STATUS_OK ? outcome : status;
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct trace *first = &edit->trace[0];
    edit->num_layers = first->num_layers;
    edit->layer = calloc((size_t)first->num_layers, sizeof *edit->layer);
    if (edit->layer == NULL) {
        return no_memory(error);
    }
    for (int32_t layer = 0; layer < first->num_layers; layer++) {
        edit->layer[layer] = layer;
    }
    (void)snprintf(edit->source, sizeof edit->source, "%s", first->source);
    return STATUS_OK;
}

void trace_edit_free(struct trace_edit *edit)
{
    for (int32_t i = 0; i < edit->num_traces; i++) {
        trace_close(&edit->trace[i]);
    }
    free(edit->trace);
    free(edit->piece);
    free(edit->requests);
    free(edit->step_begin);
    free(edit->layer);
    *edit = (struct trace_edit){.num_traces = 0};
}

/* Room for one more element behind count; arrays grow at powers of two. */
static void *grow(void *array, int64_t count, size_t size)
{
    bool is_full = (count & (count - 1)) == 0;
    size_t capacity = count == 0 ? 1 : 2 * (size_t)count;
    return is_full ? realloc(array, capacity * size) : array;
}

enum status trace_edit_add(struct trace_edit *edit, int32_t trace, int64_t first, int64_t count,
                           struct error *error)
{
    struct trace_piece *last = edit->num_pieces > 0 ? &edit->piece[edit->num_pieces - 1] : NULL;
    if (count <= 0) {
        return STATUS_OK;
    }
    edit->num_tokens += count;
    if (last != NULL && last->trace == trace && last->first + last->count == first) {
        last->count += count;
        return STATUS_OK;
    }
    struct trace_piece *larger = grow(edit->piece, edit->num_pieces, sizeof *edit->piece);
    if (larger == NULL) {
        return no_memory(error);
    }
    edit->piece = larger;
    edit->piece[edit->num_pieces++] =
        (struct trace_piece){.trace = trace, .first = first, .count = count};
    return STATUS_OK;
}

enum status trace_edit_add_request(struct trace_edit *edit, int32_t trace,
                                   const struct trace_request *request, int64_t first, int64_t end,
                                   struct error *error)
{
    int64_t begin = request->row_offset > first ? request->row_offset : first;
    int64_t stop = request->row_offset + request->num_rows;
    stop = stop < end ? stop : end;
    if (begin >= stop) {
        return STATUS_OK;
    }
    struct trace_request *larger = grow(edit->requests, edit->num_requests, sizeof *edit->requests);
    if (larger == NULL) {
        return no_memory(error);
    }
    int64_t context = request->prompt_tokens + begin - request->row_offset;
    edit->requests = larger;
    edit->requests[edit->num_requests] = *request;
    edit->requests[edit->num_requests].row_offset = edit->num_tokens;
    edit->requests[edit->num_requests].num_rows = stop - begin;
    edit->requests[edit->num_requests].prompt_tokens =
        context < INT32_MAX ? (int32_t)context : INT32_MAX;
    edit->num_requests++;
    return trace_edit_add(edit, trace, begin, stop - begin, error);
}

/* Appends the steps of one trace: each of its boundaries moves to the number of rows kept before
 * it. *piece is the trace's first, afterwards the next trace's; *kept counts rows of pieces passed.
 */
static void add_steps(struct trace_edit *edit, int32_t trace, int64_t *piece, int64_t *kept)
{
    const struct trace *source = &edit->trace[trace];
    for (int64_t i = 0; i <= source->num_steps; i++) {
        int64_t row = source->step_begin[i];
        while (*piece < edit->num_pieces && edit->piece[*piece].trace == trace &&
               edit->piece[*piece].first + edit->piece[*piece].count <= row) {
            *kept += edit->piece[*piece].count;
            (*piece)++;
        }
        bool is_inside = *piece < edit->num_pieces && edit->piece[*piece].trace == trace &&
                         edit->piece[*piece].first < row;
        int64_t begin = *kept + (is_inside ? row - edit->piece[*piece].first : 0);
        if (edit->num_steps == 0 || edit->step_begin[edit->num_steps - 1] < begin) {
            edit->step_begin[edit->num_steps++] = begin;
        }
    }
    while (*piece < edit->num_pieces && edit->piece[*piece].trace == trace) {
        *kept += edit->piece[*piece].count;
        (*piece)++;
    }
}

enum status trace_edit_keep_steps(struct trace_edit *edit, struct error *error)
{
    int64_t num_boundaries = 0;
    int32_t num_with = 0;
    for (int32_t i = 0; i < edit->num_traces; i++) {
        num_with += edit->trace[i].num_steps > 0 ? 1 : 0;
        num_boundaries += edit->trace[i].num_steps + 1;
    }
    if (num_with < edit->num_traces) {
        if (num_with > 0) {
            trace_edit_note(edit, "steps are left out: %d of %d traces have them", num_with,
                            edit->num_traces);
        }
        return STATUS_OK;
    }
    edit->step_begin = calloc((size_t)num_boundaries, sizeof *edit->step_begin);
    if (edit->step_begin == NULL) {
        return no_memory(error);
    }
    int64_t piece = 0;
    int64_t kept = 0;
    for (int32_t i = 0; i < edit->num_traces; i++) {
        add_steps(edit, i, &piece, &kept);
    }
    edit->num_steps--; /* the last boundary is an end */
    if (edit->num_steps < 1) {
        free(edit->step_begin);
        edit->step_begin = NULL;
        edit->num_steps = 0;
    }
    return STATUS_OK;
}
