/* cmd_trace_slice.c -- moesim trace slice. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/trace_edit_cli.h"
#include "trace_tools.h"

#define TAGS_MAX 256

static const char help[] =
    "usage: moesim trace slice DIR --out DIR [options]\n\n"
    "Takes a part of a trace: the requests that every condition names, of them the rows within\n"
    "--tokens, in the layers of --layers. A:B is from A up to, not including, B; either may be "
    "left\n"
    "out.\n\n"
    "      --tag NAME      requests with this tag; may be given more than once\n"
    "      --requests A:B  requests by number, from 0\n"
    "      --arrival A:B   requests by arrival, in seconds\n"
    "      --tokens A:B    rows of the trace\n"
    "      --layers LIST   layers of the model, such as 3-10 or 0,7,15\n"
    "  -o, --out DIR       where the trace goes\n"
    "      --force         replace a trace that is there\n"
    "  -j, --json          print one JSON object, as trace info does\n\n"
    "example:\n"
    "  moesim trace slice traces/mixed --tag code --requests 0:500 --layers 0-3 --out "
    "traces/part\n";

static const struct option long_options[] = {
    {"tag", required_argument, NULL, 't'},     {"requests", required_argument, NULL, 'r'},
    {"arrival", required_argument, NULL, 'a'}, {"tokens", required_argument, NULL, 'n'},
    {"layers", required_argument, NULL, 'l'},  TRACE_EDIT_OPTIONS};
static const struct cli_grammar grammar = {"trace slice", ":o:jh", long_options, help};

struct request {
    struct trace_edit_request edit;
    struct trace_slice slice;
    const char *tag[TAGS_MAX];
    int32_t layer[TRACE_CLI_LAYERS_MAX];
};

/* Reads one end of a range; fallback where it is left out. */
static bool parse_end(double *value, const char *text, size_t length, double fallback)
{
    char copy[32];
    char *end = NULL;
    *value = fallback;
    if (length == 0) {
        return true;
    }
    if (length >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    errno = 0;
    *value = strtod(copy, &end);
    return errno == 0 && *end == '\0' && *value >= 0.0 && *value <= 9e15;
}

/* Reads "A:B". False: it is not that, and said so. */
static bool parse_range(double *begin, double *end, const char *option, bool is_whole)
{
    const char *colon = strchr(optarg, ':');
    bool is_range = colon != NULL && parse_end(begin, optarg, (size_t)(colon - optarg), 0.0) &&
                    parse_end(end, colon + 1, strlen(colon + 1), 9e15) && *begin < *end;
    is_range = is_range && (!is_whole || (floor(*begin) >= *begin && floor(*end) >= *end));
    if (!is_range) {
        (void)cli_usage(grammar.command, "%s %s: expected A:B with A below B, such as 0:500",
                        option, optarg);
    }
    return is_range;
}

/* False: not understood, and said so. */
static bool take(struct request *request, int option)
{
    struct trace_slice *slice = &request->slice;
    double begin = 0.0;
    double end = 0.0;
    switch (option) {
    case 't':
        if (slice->num_tags == TAGS_MAX) {
            (void)cli_usage(grammar.command, "at most %d tags", TAGS_MAX);
            return false;
        }
        request->tag[slice->num_tags++] = optarg;
        return true;
    case 'a':
        return parse_range(&slice->arrival_begin_s, &slice->arrival_end_s, "--arrival", false);
    case 'r':
    case 'n':
        if (!parse_range(&begin, &end, option == 'r' ? "--requests" : "--tokens", true)) {
            return false;
        }
        *(option == 'r' ? &slice->request_begin : &slice->token_begin) = (int64_t)begin;
        *(option == 'r' ? &slice->request_end : &slice->token_end) = (int64_t)end;
        return true;
    case 'l':
        if (!trace_cli_layers(request->layer, &slice->num_layers, optarg)) {
            (void)cli_usage(grammar.command,
                            "--layers %s: expected ascending numbers and ranges, such as 3-60 or "
                            "0,7,15",
                            optarg);
            return false;
        }
        return true;
    default:
        return trace_edit_take(&request->edit, option);
    }
}

int command_trace_slice(int argc, char **argv)
{
    struct request request = {.edit = {.grammar = &grammar, .verb = "slicing"}};
    struct trace_edit edit = {0};
    struct error error = {0};
    int code = 0;
    int option;
    optind = 1;
    request.slice.tags = request.tag;
    request.slice.model_layer = request.layer;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&request, option)) {
            return 1;
        }
    }
    const char *path = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (path == NULL) {
        return code;
    }
    if (!trace_edit_may_write(&request.edit)) {
        return 1;
    }
    enum status status = trace_slice(&edit, path, &request.slice, &error);
    return trace_edit_finish(&request.edit, &edit, status, &error);
}
