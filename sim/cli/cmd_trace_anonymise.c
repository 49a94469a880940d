/* cmd_trace_anonymise.c -- moesim trace anonymise. */
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/trace_edit_cli.h"
#include "trace_tools.h"

static const char help[] =
    "usage: moesim trace anonymise DIR --out DIR [options]\n\n"
    "Takes out of a trace what names people, machines and moments, to hand it on: requests in a\n"
    "random order under new numbers, tags as meaningless words, arrivals from 0 and rounded, no\n"
    "steps, no source. What it cannot hide is said: the routing itself tells of the text.\n\n"
    "      --drop-tags         no tags at all\n"
    "      --drop-arrivals     no arrivals at all\n"
    "      --round-arrivals S  arrivals become multiples of S seconds (1; 0: as they are)\n"
    "      --source TEXT       what the new trace says of its source (anonymised)\n"
    "      --seed N            for a result that can be repeated. Who knows it can turn order and\n"
    "                          words back, so by default nobody knows it\n"
    "  -o, --out DIR           where the trace goes\n"
    "      --force             replace a trace that is there\n"
    "  -j, --json              print one JSON object, as trace info does\n\n"
    "example:\n"
    "  moesim trace anonymise traces/tenants --round-arrivals 10 --out traces/to-share\n";

static const struct option long_options[] = {{"drop-tags", no_argument, NULL, 't'},
                                             {"drop-arrivals", no_argument, NULL, 'a'},
                                             {"round-arrivals", required_argument, NULL, 'r'},
                                             {"source", required_argument, NULL, 'S'},
                                             {"seed", required_argument, NULL, 's'},
                                             TRACE_EDIT_OPTIONS};
static const struct cli_grammar grammar = {"trace anonymise", ":o:jh", long_options, help};

/* False: not understood, and said so. */
static bool take(struct trace_anonymise *options, struct trace_edit_request *request, int option)
{
    int64_t seed = 0;
    char *end = NULL;
    switch (option) {
    case 't':
        options->drops_tags = true;
        return true;
    case 'a':
        options->drops_arrivals = true;
        return true;
    case 'r':
        options->arrival_round_s = strtod(optarg, &end);
        if (end == optarg || *end != '\0' ||
            !(options->arrival_round_s >= 0.0 && options->arrival_round_s <= 1e9)) {
            (void)cli_usage(grammar.command, "--round-arrivals %s: expected seconds, at least 0",
                            optarg);
            return false;
        }
        return true;
    case 'S':
        options->source = optarg;
        return true;
    case 's':
        if (!trace_cli_number(&seed, grammar.command, "--seed", optarg, 1, INT64_MAX)) {
            return false;
        }
        options->seed = (uint64_t)seed;
        return true;
    default:
        return trace_edit_take(request, option);
    }
}

int command_trace_anonymise(int argc, char **argv)
{
    struct trace_edit_request request = {.grammar = &grammar, .verb = "anonymising"};
    struct trace_anonymise options = {.arrival_round_s = 1.0};
    struct trace_edit edit = {0};
    struct error error = {0};
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&options, &request, option)) {
            return 1;
        }
    }
    const char *path = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (path == NULL) {
        return code;
    }
    if (!trace_edit_may_write(&request)) {
        return 1;
    }
    enum status status = trace_anonymise(&edit, path, &options, &error);
    return trace_edit_finish(&request, &edit, status, &error);
}
