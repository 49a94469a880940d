/*
 * trace_edit_cli.h -- the commands that write a trace of parts of others, and diff.
 */
#ifndef MOESIM_TRACE_EDIT_CLI_H
#define MOESIM_TRACE_EDIT_CLI_H

#include "cli/trace_cli.h"
#include "trace_edit.h"

int command_trace_merge(int argc, char **argv);
int command_trace_slice(int argc, char **argv);
int command_trace_sample(int argc, char **argv);
int command_trace_anonymise(int argc, char **argv);
int command_trace_diff(int argc, char **argv);

/* The options -o, --force and --json, which all of them have. */
struct trace_edit_request {
    const struct cli_grammar *grammar;
    const char *verb; /* "merging" */
    const char *out;
    bool replace;
    bool json;
};

#define TRACE_EDIT_OPTIONS                                                                         \
    {"out", required_argument, NULL, 'o'}, {"force", no_argument, NULL, 'f'},                      \
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},

/* Takes one of them; false: it is none. */
bool trace_edit_take(struct trace_edit_request *request, int option);

/* May it be written? Says so, if not. To be asked before traces are opened. */
bool trace_edit_may_write(const struct trace_edit_request *request);

/* Ends a command: writes the edit if its plan was made (status), says its notes on stderr and shows
 * the new trace. Frees the edit. Returns the exit code. */
int trace_edit_finish(struct trace_edit_request *request, struct trace_edit *edit,
                      enum status status, struct error *error);

#endif
