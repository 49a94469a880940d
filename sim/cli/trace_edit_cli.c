/* trace_edit_cli.c -- the end of merge, slice, sample and anonymise. */
#include "cli/trace_edit_cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

bool trace_edit_take(struct trace_edit_request *request, int option)
{
    switch (option) {
    case 'o':
        request->out = optarg;
        return true;
    case 'f':
        request->replace = true;
        return true;
    case 'j':
        request->json = true;
        return true;
    default:
        return false;
    }
}

bool trace_edit_may_write(const struct trace_edit_request *request)
{
    if (request->out == NULL) {
        (void)cli_usage(request->grammar->command, "give --out");
        return false;
    }
    return trace_cli_may_write(request->grammar->command, request->out, request->replace);
}

static void print_notes(const char *notes)
{
    for (const char *line = notes; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        fprintf(stderr, "moesim: note: %.*s\n", (int)length, line);
        line += length + (line[length] == '\n' ? 1 : 0);
    }
}

int trace_edit_finish(struct trace_edit_request *request, struct trace_edit *edit,
                      enum status status, struct error *error)
{
    struct progress progress;
    const struct trace_output output = {
        .path = request->out,
        .replace = request->replace,
        .progress = trace_cli_progress,
        .context = &progress,
    };
    progress_begin(&progress, request->verb, "tokens");
    if (status == STATUS_OK) {
        status = trace_edit_write(edit, &output, error);
    }
    progress_end(&progress);
    if (status == STATUS_OK) {
        print_notes(edit->notes);
    }
    trace_edit_free(edit);
    return status == STATUS_OK ? trace_cli_show(request->out, request->json)
                               : cli_fail(status, error);
}
