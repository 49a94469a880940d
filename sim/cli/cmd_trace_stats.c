/* cmd_trace_stats.c -- moesim trace stats. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/trace_cli.h"
#include "trace_stats.h"

#define RANKS_MAX 65536
#define DRAWS     20 /* of the requests of the trace to be like */
#define DRAWS_MAX 10000

static const char help[] =
    "usage: moesim trace stats DIR [options]\n\n"
    "Measures what the router does, layer by layer; with --against, beside another trace.\n\n"
    "  max/mean  hottest expert over the mean      dead      experts without a token\n"
    "  cv        standard deviation / mean         ep        busiest rank over the mean rank\n"
    "  gini      0 even, 1 one expert takes all    top-1     best expert is that of the row "
    "before\n"
    "  lagN      share of a row's experts that the same request chose N rows earlier\n"
    "  chance    the same for two rows of any requests: what is above it is locality\n"
    "  drift     share of assignments that sit elsewhere in the second half of the trace\n"
    "  lift      how often two experts are chosen together, over chance: 5 %, median, 95 % of "
    "pairs\n"
    "  next      what a row's best expert tells of that of the next layer: 0 nothing, 1 all\n\n"
    "      --ep N        ranks that share the experts, default 8 when that divides them\n"
    "      --seed N      draws the rows that make up batches, default 1\n"
    "      --threads N   default all; the figures do not depend on it\n"
    "      --against DIR a trace to be like: figures side by side, and whether they agree within\n"
    "                    10 % or twice what drawing that trace's requests anew changes them by\n"
    "      --draws N     of the other trace's requests, default 20; 0: 10 % alone\n"
    "      --fail        exit with 1 if a figure does not agree\n"
    "  -j, --json        print one JSON object: layers[] with expert_tokens[] and all figures,\n"
    "                    or figures[] of both traces\n\n"
    "examples:\n"
    "  moesim trace stats traces/gpt-oss-20b --ep 4\n"
    "  moesim trace stats traces/generated --against traces/gpt-oss-20b\n";

static const struct option long_options[] = {
    {"ep", required_argument, NULL, 'e'},
    {"seed", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'},
    {"json", no_argument, NULL, 'j'},
    {"against", required_argument, NULL, 'a'},
    {"draws", required_argument, NULL, 'd'},
    {"fail", no_argument, NULL, 'f'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace stats", ":jh", long_options, help};

static int measure(const char *directory, struct trace_stats_options *options, bool json)
{
    struct progress progress;
    struct error error = {0};
    struct trace trace = {0};
    struct trace_stats stats = {0};
    int code = 0;
    enum status status = trace_open(&trace, directory, &error);
    if (status == STATUS_OK) {
        options->progress = trace_cli_progress;
        options->context = &progress;
        progress_begin(&progress, "measuring", "layers");
        status = trace_stats_read(&stats, &trace, options, &error);
        progress_end(&progress);
    }
    if (status != STATUS_OK) {
        code = cli_fail(status, &error);
    } else {
        code = trace_cli_stats(&stats, &trace, json);
    }
    trace_stats_free(&stats);
    trace_close(&trace);
    return code;
}

/* What the command line asks for. */
struct request {
    struct trace_stats_options stats;
    const char *other;
    int32_t num_draws; /* -1: not said */
    bool fail;
    bool json;
};

/* False: not understood, and said so. */
static bool take(struct request *request, int option)
{
    int64_t value = 0;
    bool understood = true;
    switch (option) {
    case 'j':
        request->json = true;
        break;
    case 'f':
        request->fail = true;
        break;
    case 'a':
        request->other = optarg;
        break;
    case 'd':
        understood = trace_cli_number(&value, grammar.command, "--draws", optarg, 0, DRAWS_MAX);
        request->num_draws = (int32_t)value;
        break;
    case 'e':
        understood = trace_cli_number(&value, grammar.command, "--ep", optarg, 1, RANKS_MAX);
        request->stats.ep_ranks = (int32_t)value;
        break;
    case 's':
        understood = trace_cli_number(&value, grammar.command, "--seed", optarg, 0, INT64_MAX);
        request->stats.seed = (uint64_t)value;
        break;
    default:
        understood =
            trace_cli_number(&value, grammar.command, "--threads", optarg, 1, TRACE_THREADS_MAX);
        request->stats.num_threads = (int32_t)value;
        break;
    }
    return understood;
}

int command_trace_stats(int argc, char **argv)
{
    struct request request = {.stats = {.seed = 1}, .num_draws = -1};
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&request, option)) {
            return 1;
        }
    }
    if (request.other == NULL && (request.fail || request.num_draws >= 0)) {
        return cli_usage(grammar.command, "--draws and --fail go with --against");
    }
    const char *directory = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (directory == NULL) {
        return code;
    }
    if (request.other == NULL) {
        return measure(directory, &request.stats, request.json);
    }
    return trace_cli_against(directory, request.other, &request.stats,
                             request.num_draws < 0 ? DRAWS : request.num_draws, request.json,
                             request.fail);
}
