/* cmd_trace_sample.c -- moesim trace sample. */
#include "cli/cli.h"
#include "cli/trace_edit_cli.h"
#include "trace_tools.h"

static const char help[] =
    "usage: moesim trace sample DIR --requests N --out DIR [options]\n\n"
    "Draws some requests of a trace at random, each at most once, and keeps their order.\n\n"
    "      --requests N   how many\n"
    "      --seed N       default 1; the same seed draws the same requests\n"
    "  -o, --out DIR      where the trace goes\n"
    "      --force        replace a trace that is there\n"
    "  -j, --json         print one JSON object, as trace info does\n\n"
    "example:\n"
    "  moesim trace sample traces/day --requests 1000 --seed 7 --out traces/day-1000\n";

static const struct option long_options[] = {{"requests", required_argument, NULL, 'r'},
                                             {"seed", required_argument, NULL, 's'},
                                             TRACE_EDIT_OPTIONS};
static const struct cli_grammar grammar = {"trace sample", ":o:jh", long_options, help};

int command_trace_sample(int argc, char **argv)
{
    struct trace_edit_request request = {.grammar = &grammar, .verb = "sampling"};
    struct trace_edit edit = {0};
    struct error error = {0};
    int64_t num_requests = 0;
    int64_t seed = 1;
    bool is_understood = true;
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (option == 'r') {
            is_understood = trace_cli_number(&num_requests, grammar.command, "--requests", optarg,
                                             1, INT64_MAX);
        } else if (option == 's') {
            is_understood =
                trace_cli_number(&seed, grammar.command, "--seed", optarg, 0, INT64_MAX);
        } else {
            (void)trace_edit_take(&request, option);
        }
        if (!is_understood) {
            return 1;
        }
    }
    const char *path = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (path == NULL) {
        return code;
    }
    if (num_requests == 0) {
        return cli_usage(grammar.command, "give --requests");
    }
    if (!trace_edit_may_write(&request)) {
        return 1;
    }
    enum status status = trace_sample(&edit, path, num_requests, (uint64_t)seed, &error);
    return trace_edit_finish(&request, &edit, status, &error);
}
