/* trace_slice.c -- a part of a trace: by request, tag, arrival, rows and layers. */
#include <stdio.h>
#include <string.h>

#include "trace_tools.h"

static bool has_tag(const struct trace_slice *slice, const char *tag)
{
    bool found = slice->num_tags == 0;
    for (int32_t i = 0; i < slice->num_tags && !found; i++) {
        found = strcmp(slice->tags[i], tag) == 0;
    }
    return found;
}

/* Keeps only the layers that are named. */
static enum status choose_layers(struct trace_edit *edit, const struct trace_slice *slice,
                                 struct error *error)
{
    const struct trace *trace = &edit->trace[0];
    enum status status = STATUS_OK;
    int32_t count = 0;
    for (int32_t i = 0; i < slice->num_layers; i++) {
        int32_t layer = 0;
        while (layer < trace->num_layers && trace->model_layer[layer] != slice->model_layer[i]) {
            layer++;
        }
        if (layer == trace->num_layers) {
            status = error_add(error, STATUS_INVALID, "%s: layer %d of the model is not recorded",
                               trace->name, slice->model_layer[i]);
        } else if (count < trace->num_layers) {
            edit->layer[count++] = layer;
        }
    }
    edit->num_layers = slice->num_layers > 0 ? count : edit->num_layers;
    return status;
}

static enum status choose_rows(struct trace_edit *edit, const struct trace_slice *slice,
                               struct error *error)
{
    const struct trace *trace = &edit->trace[0];
    bool by_request = slice->num_tags > 0 || slice->request_end > 0 || slice->arrival_end_s > 0.0;
    int64_t end = slice->token_end > 0 ? slice->token_end : trace->num_tokens;
    end = end < trace->num_tokens ? end : trace->num_tokens;
    if (trace->num_requests == 0) {
        return by_request
                   ? error_add(error, STATUS_INVALID,
                               "%s has no requests to choose from: slice it by tokens", trace->name)
                   : trace_edit_add(edit, 0, slice->token_begin, end - slice->token_begin, error);
    }
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < trace->num_requests && status == STATUS_OK; i++) {
        const struct trace_request *request = &trace->requests[i];
        bool is_wanted =
            has_tag(slice, request->tag) &&
            (slice->request_end == 0 || (i >= slice->request_begin && i < slice->request_end)) &&
            (slice->arrival_end_s <= 0.0 || (request->arrival_s >= slice->arrival_begin_s &&
                                             request->arrival_s < slice->arrival_end_s));
        if (is_wanted) {
            status = trace_edit_add_request(edit, 0, request, slice->token_begin, end, error);
        }
    }
    return status;
}

/* Names some tags of the trace for a user who misspelt one. */
static enum status refuse_empty(const struct trace *trace, const struct trace_slice *slice,
                                struct error *error)
{
    char tags[256] = "";
    size_t used = 0;
    for (int64_t i = 0; slice->num_tags > 0 && i < trace->num_requests && used < 200; i++) {
        const char *tag = trace->requests[i].tag;
        char quoted[NAME_BYTES + 4];
        (void)snprintf(quoted, sizeof quoted, "'%s'", tag);
        if (strstr(tags, quoted) == NULL) {
            used += (size_t)snprintf(tags + used, sizeof tags - used, "%s%s",
                                     used > 0 ? ", " : "; its tags are ", quoted);
        }
    }
    return error_add(error, STATUS_INVALID,
                     "%s: no row fits all conditions; it has %lld tokens and %lld requests%s",
                     trace->name, (long long)trace->num_tokens, (long long)trace->num_requests,
                     tags);
}

enum status trace_slice(struct trace_edit *edit, const char *path, const struct trace_slice *slice,
                        struct error *error)
{
    enum status status = trace_edit_open(edit, &path, 1, error);
    if (status == STATUS_OK) {
        status = choose_layers(edit, slice, error);
    }
    if (status == STATUS_OK) {
        status = choose_rows(edit, slice, error);
    }
    if (status == STATUS_OK && edit->num_tokens == 0) {
        status = refuse_empty(&edit->trace[0], slice, error);
    }
    return status == STATUS_OK ? trace_edit_keep_steps(edit, error) : status;
}
