/*
 * run.c -- an import from beginning to end: a look at the first rows, then all of them.
 *
 * A trace of exactly 256 experts keeps ids in one byte and has no room for gaps there. Gaps are
 * rare, so none is assumed; the first one found begins the writing anew with two bytes.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/loads.h"
#include "import/sink.h"

#define LOOK_EXPERTS 65535 /* more than any id */

bool trace_axes_parse(enum trace_axis axis[TRACE_AXIS_COUNT], const char *text)
{
    static const char *const names[TRACE_AXIS_COUNT] = {"token", "layer", "k"};
    bool seen[TRACE_AXIS_COUNT] = {false};
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        size_t length = strcspn(text, ",");
        int32_t found = 0;
        while (found < TRACE_AXIS_COUNT &&
               (strlen(names[found]) != length || strncmp(text, names[found], length) != 0)) {
            found++;
        }
        if (found == TRACE_AXIS_COUNT || seen[found]) {
            return false;
        }
        seen[found] = true;
        axis[i] = (enum trace_axis)found;
        text += length;
        bool last = i == TRACE_AXIS_COUNT - 1;
        if (*text != (last ? '\0' : ',')) {
            return false;
        }
        text += last ? 0 : 1;
    }
    return true;
}

bool import_wants_more(const struct import_sink *sink)
{
    if (sink->pass == IMPORT_SURVEY) {
        return sink->survey.num_tokens < IMPORT_SURVEY_TOKENS;
    }
    int64_t max = sink->options->num_tokens_max;
    return !sink->wants_restart && (max == 0 || sink->summary->num_tokens_in_file < max);
}

void import_drop(struct import_sink *sink, const char *reason, int64_t count)
{
    struct import_summary *summary = sink->summary;
    int32_t i = 0;
    while (i < summary->num_drops && strcmp(summary->drop[i].reason, reason) != 0) {
        i++;
    }
    if (sink->pass == IMPORT_SURVEY || count == 0 || i == IMPORT_DROPS_MAX) {
        return;
    }
    if (i == summary->num_drops) {
        summary->num_drops++;
        (void)snprintf(summary->drop[i].reason, sizeof summary->drop[i].reason, "%s", reason);
    }
    summary->drop[i].count += count;
}

static enum status say(struct import_sink *sink, const char *path, const char *place,
                       const char *format, va_list arguments)
{
    char text[512];
    (void)vsnprintf(text, sizeof text, format, arguments);
    bool has_place = place != NULL && place[0] != '\0';
    return error_add(sink->error, STATUS_INVALID, "%s: %s%s%s", path, has_place ? place : "",
                     has_place ? ": " : "", text);
}

enum status import_complain(struct import_sink *sink, const char *path, const char *place,
                            const char *format, ...)
{
    va_list arguments;
    sink->num_problems++;
    va_start(arguments, format);
    enum status status = say(sink, path, place, format, arguments);
    va_end(arguments);
    if (sink->num_problems < IMPORT_PROBLEMS_MAX) {
        return STATUS_OK;
    }
    status = error_add(sink->error, status, "%s: stopped reading after %d problems", path,
                       IMPORT_PROBLEMS_MAX);
    return status;
}

enum status import_refuse(struct import_sink *sink, const char *path, const char *place,
                          const char *format, ...)
{
    va_list arguments;
    sink->num_problems++;
    va_start(arguments, format);
    enum status status = say(sink, path, place, format, arguments);
    va_end(arguments);
    return status;
}

int32_t import_num_problems(const struct import_sink *sink)
{
    return sink->num_problems;
}

void import_progress(struct import_sink *sink, int64_t done_bytes, int64_t total_bytes)
{
    if (sink->options->progress != NULL && sink->pass == IMPORT_WRITE) {
        sink->options->progress(sink->options->context, done_bytes, total_bytes);
    }
}

enum status import_total(struct import_sink *sink, int64_t num_tokens)
{
    sink->num_tokens_announced += num_tokens;
    return STATUS_OK;
}

enum status import_block(struct import_sink *sink, const struct import_block *block)
{
    if (sink->pass == IMPORT_SURVEY) {
        return import_survey_block(sink, block);
    }
    if (block->num_layers != sink->survey.num_layers || block->top_k != sink->survey.top_k) {
        return import_refuse(sink, block->path, block->place,
                             "has %d layers and top-%d, but the rows before had %d layers and "
                             "top-%d: import files of one model at a time",
                             block->num_layers, block->top_k, sink->survey.num_layers,
                             sink->survey.top_k);
    }
    for (int32_t i = 0; i < block->num_layers && block->model_layer != NULL; i++) {
        if (block->model_layer[i] != sink->survey.model_layer[i]) {
            return import_refuse(sink, block->path, block->place,
                                 "has layer %d where the rows before had layer %d: import files "
                                 "with the same layers at a time",
                                 block->model_layer[i], sink->survey.model_layer[i]);
        }
    }
    enum status status = STATUS_OK;
    int64_t end = block->num_tokens;
    int64_t max = sink->options->num_tokens_max;
    if (max > 0 && max - sink->summary->num_tokens_in_file < end) {
        end = max - sink->summary->num_tokens_in_file;
    }
    int64_t count = 0;
    for (int64_t first = 0; first < end && status == STATUS_OK; first += count) {
        int64_t room = sink->chunk.capacity - sink->chunk.count;
        count = end - first < room ? end - first : room;
        status = import_rows(sink, block, first, count);
        if (status == STATUS_OK) {
            status = import_chunk_add(sink, count);
        }
        if (status == STATUS_OK && sink->chunk.count == sink->chunk.capacity) {
            status = import_chunk_flush(sink, false);
        }
        status = sink->wants_restart ? STATUS_INVALID : status;
    }
    return status;
}

void import_pass_begin(struct import_sink *sink, enum import_pass pass)
{
    struct import_summary *summary = sink->summary;
    sink->pass = pass;
    sink->wants_restart = false;
    sink->num_problems = 0;
    sink->num_tokens_announced = 0;
    sink->is_dropping = false;
    sink->has_before = false;
    sink->num_tokens_run = 0;
    sink->num_tokens_kept = 0;
    sink->chunk.count = 0;
    sink->request_now = -1;
    sink->num_requests = sink->requests_listed ? sink->num_requests : 0;
    for (int64_t i = 0; i < sink->num_requests; i++) {
        sink->requests[i].num_rows = 0;
    }
    summary->num_tokens_in_file = 0;
    summary->num_pads = 0;
    summary->num_rows_reordered = 0;
    summary->num_tokens_alike = 0;
    summary->num_drops = 0;
}

enum status import_survey(struct import_sink *sink)
{
    struct error *error = sink->error;
    struct error *quiet = calloc(1, sizeof *quiet);
    if (quiet == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for messages");
    }
    import_pass_begin(sink, IMPORT_SURVEY);
    sink->error = quiet;
    sink->input.error = quiet;
    enum status status = sink->format->read(&sink->input, sink);
    bool has_seen = sink->format->level == IMPORT_LOADS /* which this pass reads to the end */
                        ? status == STATUS_OK && sink->num_problems == 0
                        : sink->survey.num_tokens > 0;
    if (!has_seen) {
        if (quiet->num_problems == 0) {
            (void)error_add(quiet, STATUS_INVALID, "%s: holds no routed token",
                            sink->options->paths[0]);
        }
        *error = *quiet;
        status = status != STATUS_OK ? status : STATUS_INVALID;
    } else {
        status = STATUS_OK;
    }
    sink->error = error;
    sink->input.error = error;
    free(quiet);
    return status;
}

/* One pass over all rows. STATUS_OK with wants_restart: begin again. */
static enum status write_rows(struct import_sink *sink)
{
    import_pass_begin(sink, IMPORT_WRITE);
    enum status status = import_chunk_open(sink);
    if (status == STATUS_OK) {
        status = sink->format->read(&sink->input, sink);
    }
    if (sink->wants_restart) {
        trace_writer_abandon(sink->writer);
        sink->writer = NULL;
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = import_chunk_flush(sink, true);
    }
    if (status == STATUS_OK && sink->num_problems > 0) {
        status = STATUS_INVALID;
    }
    if (status == STATUS_OK && sink->num_tokens_kept == 0) {
        status = error_add(sink->error, STATUS_INVALID,
                           "%s: nothing is left of %lld tokens: all were dummies",
                           sink->options->paths[0], (long long)sink->summary->num_tokens_in_file);
    }
    if (status != STATUS_OK) {
        trace_writer_abandon(sink->writer);
        sink->writer = NULL;
        return status;
    }
    import_requests_finish(sink);
    status = trace_writer_finish(sink->writer, sink->requests, sink->num_requests, sink->error);
    sink->writer = NULL;
    return status;
}

static enum status import_rows_of_format(struct import_sink *sink)
{
    struct import_summary *summary = sink->summary;
    enum status status = import_survey(sink);
    if (status == STATUS_OK) {
        status = import_shape(sink);
    }
    if (status == STATUS_OK && sink->options->requests_path != NULL) {
        if (sink->num_tokens_announced == 0 || sink->options->num_paths > 1) {
            return error_add(sink->error, STATUS_INVALID,
                             "--requests goes with one array; %s says itself which rows are whose",
                             sink->num_tokens_announced == 0 ? sink->format->name
                                                             : "a file a request");
        }
        sink->requests_listed = true;
        status =
            import_request_list(&sink->requests, &sink->num_requests, sink->options->requests_path,
                                sink->num_tokens_announced, sink->error);
    }
    if (status == STATUS_OK && sink->options->num_paths == 1 && !sink->options->strip_dummy) {
        int64_t max = sink->options->num_tokens_max;
        int64_t announced = sink->num_tokens_announced;
        sink->num_tokens_exact = max > 0 && max < announced ? max : announced;
    }
    if (status == STATUS_OK) {
        status = write_rows(sink);
    }
    if (status == STATUS_OK && sink->wants_restart) {
        sink->has_gaps = true;
        status = write_rows(sink);
    }
    summary->num_tokens = sink->num_tokens_kept;
    summary->num_requests = sink->num_requests;
    if (sink->num_tokens_announced > summary->num_tokens_in_file) {
        summary->num_tokens_in_file = sink->num_tokens_announced;
    }
    if (status == STATUS_OK) {
        summary->num_shards =
            (summary->num_tokens + summary->tokens_per_shard - 1) / summary->tokens_per_shard;
    }
    return status;
}

enum status import_run(const char *path, const struct import_options *options,
                       struct import_summary *summary, struct error *error)
{
    *summary = (struct import_summary){.num_files = options->num_paths};
    struct import_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to import");
    }
    sink->options = options;
    sink->summary = summary;
    sink->error = error;
    sink->path = path;
    enum status status = import_detect(&sink->format, options, error);
    if (status == STATUS_OK) {
        summary->format = sink->format->name;
        sink->pass = IMPORT_WRITE;
        if (sink->format->level == IMPORT_ARRIVALS) {
            status = import_arrivals_run(sink);
            free(sink);
            return status;
        }
        status = import_shape_begin(sink);
    }
    if (status == STATUS_OK && options->physical_path != NULL) {
        status = import_physical_read(sink);
    }
    if (status == STATUS_OK) {
        status = sink->format->level == IMPORT_LOADS ? import_loads_run(sink)
                                                     : import_rows_of_format(sink);
    }
    free(sink->requests);
    arena_free(&sink->arena);
    free(sink);
    return status;
}

enum status import_look(struct import_look *look, const struct import_options *options,
                        struct error *error)
{
    struct import_summary summary = {0};
    struct import_sink *sink = calloc(1, sizeof *sink);
    *look = (struct import_look){.format = NULL};
    if (sink == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to import");
    }
    sink->options = options;
    sink->summary = &summary;
    sink->error = error;
    sink->input =
        (struct import_input){.options = options, .num_experts = LOOK_EXPERTS, .error = error};
    enum status status = import_detect(&sink->format, options, error);
    if (status == STATUS_OK) {
        look->format = sink->format->name;
        look->is_routing = sink->format->level == IMPORT_ROWS;
        look->is_loads = sink->format->level == IMPORT_LOADS;
    }
    if (status == STATUS_OK && look->is_routing) {
        status = import_survey(sink);
        look->num_layers = sink->survey.num_layers;
        look->top_k = sink->survey.top_k_used;
        look->id_max = (int32_t)(sink->survey.id_max < INT32_MAX ? sink->survey.id_max : INT32_MAX);
    }
    free(sink->requests);
    arena_free(&sink->arena);
    free(sink);
    return status;
}
