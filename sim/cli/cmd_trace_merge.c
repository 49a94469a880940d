/* cmd_trace_merge.c -- moesim trace merge. */
#include "cli/cli.h"
#include "cli/trace_edit_cli.h"
#include "trace_tools.h"

static const char help[] = "usage: moesim trace merge DIR DIR... --out DIR [options]\n\n"
                           "Puts several traces of one model behind each other. Requests keep tag "
                           "and arrival; where only\n"
                           "some traces have requests, each of the others becomes one, tagged with "
                           "its name. Gate weights,\n"
                           "scores and the like are kept where all traces have them.\n\n"
                           "  -o, --out DIR   where the trace goes\n"
                           "      --force     replace a trace that is there\n"
                           "  -j, --json      print one JSON object, as trace info does\n\n"
                           "example:\n"
                           "  moesim trace merge traces/code traces/prose --out traces/mixed\n";

static const struct option long_options[] = {TRACE_EDIT_OPTIONS};
static const struct cli_grammar grammar = {"trace merge", ":o:jh", long_options, help};

int command_trace_merge(int argc, char **argv)
{
    struct trace_edit_request request = {.grammar = &grammar, .verb = "merging"};
    struct trace_edit edit = {0};
    struct error error = {0};
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        (void)trace_edit_take(&request, option);
    }
    if (argc - optind < 2) {
        return cli_usage(grammar.command, "name two trace directories or more");
    }
    if (!trace_edit_may_write(&request)) {
        return 1;
    }
    enum status status =
        trace_merge(&edit, (const char *const *)(argv + optind), argc - optind, &error);
    return trace_edit_finish(&request, &edit, status, &error);
}
