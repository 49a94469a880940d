/* trace_merge.c -- several traces of one model as one. */
#include <stdio.h>
#include <string.h>

#include "trace_tools.h"

/* The traces' own sources, as far as there is room. */
static void name_sources(struct trace_edit *edit)
{
    char text[SOURCE_BYTES];
    size_t used = (size_t)snprintf(text, sizeof text, "merged: ");
    for (int32_t i = 0; i < edit->num_traces && used < sizeof text; i++) {
        const struct trace *trace = &edit->trace[i];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s%s%s", i > 0 ? "; " : "",
                                 trace->name, trace->source[0] != '\0' ? " (" : "", trace->source,
                                 trace->source[0] != '\0' ? ")" : "");
    }
    memcpy(edit->source, text, sizeof text);
}

static enum status add_requests(struct trace_edit *edit, int32_t index, struct error *error)
{
    const struct trace *trace = &edit->trace[index];
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < trace->num_requests && status == STATUS_OK; i++) {
        status =
            trace_edit_add_request(edit, index, &trace->requests[i], 0, trace->num_tokens, error);
    }
    if (trace->num_requests == 0) {
        struct trace_request whole = {.row_offset = 0, .num_rows = trace->num_tokens};
        (void)snprintf(whole.tag, sizeof whole.tag, "%s", trace->name);
        trace_edit_note(edit, "%s has no requests: its rows are one, tagged with its name",
                        trace->name);
        status = trace_edit_add_request(edit, index, &whole, 0, trace->num_tokens, error);
    }
    return status;
}

enum status trace_merge(struct trace_edit *edit, const char *const *paths, int32_t num_paths,
                        struct error *error)
{
    bool has_requests = false;
    enum status status = trace_edit_open(edit, paths, num_paths, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t i = 0; i < num_paths; i++) {
        has_requests = has_requests || edit->trace[i].num_requests > 0;
    }
    for (int32_t i = 0; i < num_paths && status == STATUS_OK; i++) {
        status = has_requests ? add_requests(edit, i, error)
                              : trace_edit_add(edit, i, 0, edit->trace[i].num_tokens, error);
    }
    name_sources(edit);
    return status == STATUS_OK ? trace_edit_keep_steps(edit, error) : status;
}
