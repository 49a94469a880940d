/* cmd_trace_import.c -- moesim trace import. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/print_import.h"
#include "cli/trace_cli.h"
#include "import/import.h"

#define HELP_BYTES 8192

static const char help[] = /* with the list of formats in it */
    "usage: moesim trace import [--from FORMAT] [--model M] FILE... --out PATH [options]\n\n"
    "Makes a trace from what an inference engine recorded. Every id is checked; -1 or all ones "
    "mark\n"
    "what was not routed. Several files (ranks, responses) are read in the order given.\n\n"
    "Formats of loads, not tokens, become a .csv or .npy for moesim place --load, or a .yaml: a\n"
    "preset for moesim trace generate that gives every expert its share. Arrivals become a list "
    "of\n"
    "requests.\n\n"
    "      --from FORMAT         one of those below; found out when left out\n"
    "      --model M             preset, config.json or YAML: says experts, top_k and MoE layers;\n"
    "                            dense layers in FILE are dropped\n"
    "  -o, --out PATH            where the trace goes, or loads (.csv, .yaml: sums, .npy: steps)\n"
    "      --axes A,B,C          npy: order of token, layer and k, default token,layer,k\n"
    "      --requests FILE.csv   npy: where requests begin: a column row_offset, and if there tag\n"
    "                            (or category, or dataset), arrival_s, prompt_tokens,\n"
    "                            decode_tokens, first_position\n"
    "      --gate-weights FILE   npy: float16, 32 or 64 with the same axes\n"
    "      --physical-to-logical FILE\n"
    "                            ids are slots; FILE says their experts: SGLang's expert "
    "location,\n"
    "                            .npy or CSV, layers x slots\n"
    "      --strip-dummy         leave out runs of 32 or more identical tokens: profiling, "
    "padding\n"
    "      --attach TRACE        arrivals: instead of --out, give their times to the requests of "
    "a\n"
    "                            trace, in order\n"
    "      --tokens N            only the first N tokens\n"
    "      --num-experts N       instead of the model's\n"
    "      --top-k N             instead of the model's\n"
    "      --layers LIST         model layer of each layer in FILE, such as 3-60 or 0,7,15\n"
    "      --tokens-per-shard N  default: shards of at most 64 MiB\n"
    "      --source TEXT         where FILE comes from\n"
    "      --licence TEXT        of FILE\n"
    "      --force               replace a trace that is there\n"
    "  -j, --json                print what was read as one JSON object\n\n"
    "With --num-experts, a model that is no preset is a mere name; constant layers are then "
    "dense.\n\n"
    "formats:\n"
    "%s\n"
    "example:\n"
    "  moesim trace import --model deepseek-v3 responses.jsonl --strip-dummy --out traces/mine\n"
    "  moesim trace import --from npy --axes token,layer,k --model gpt-oss-20b experts.npy \\\n"
    "      --requests requests.csv --out traces/gpt-oss-20b\n";

static const struct option long_options[] = {
    {"from", required_argument, NULL, 'F'},
    {"axes", required_argument, NULL, 'a'},
    {"model", required_argument, NULL, 'm'},
    {"out", required_argument, NULL, 'o'},
    {"requests", required_argument, NULL, 'r'},
    {"gate-weights", required_argument, NULL, 'g'},
    {"tokens", required_argument, NULL, 'n'},
    {"num-experts", required_argument, NULL, 'e'},
    {"top-k", required_argument, NULL, 'k'},
    {"physical-to-logical", required_argument, NULL, 'P'},
    {"strip-dummy", no_argument, NULL, 'd'},
    {"attach", required_argument, NULL, 'A'},
    {"layers", required_argument, NULL, 'l'},
    {"tokens-per-shard", required_argument, NULL, 'p'},
    {"source", required_argument, NULL, 's'},
    {"licence", required_argument, NULL, 'c'},
    {"license", required_argument, NULL, 'c'},
    {"force", no_argument, NULL, 'f'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace import", ":o:jh", long_options, NULL};

struct request {
    struct import_options import;
    const char *out;
    bool json;
    int32_t layer[TRACE_CLI_LAYERS_MAX];
};

/* The options with a number. */
static bool take_number(struct request *request, int option)
{
    int64_t value = 0;
    if (option == 'e') {
        if (!trace_cli_number(&value, grammar.command, "--num-experts", optarg, 1, 65535)) {
            return false;
        }
        request->import.num_experts = (int32_t)value;
    } else if (option == 'k') {
        if (!trace_cli_number(&value, grammar.command, "--top-k", optarg, 1, 65535)) {
            return false;
        }
        request->import.top_k = (int32_t)value;
    } else if (option == 'n') {
        if (!trace_cli_number(&value, grammar.command, "--tokens", optarg, 1, INT64_MAX)) {
            return false;
        }
        request->import.num_tokens_max = value;
    } else {
        if (!trace_cli_number(&value, grammar.command, "--tokens-per-shard", optarg, 1,
                              INT64_MAX)) {
            return false;
        }
        request->import.tokens_per_shard = value;
    }
    return true;
}

/* False: not understood, and said so. */
static bool take(struct request *request, int option)
{
    switch (option) {
    case 'F':
        request->import.format = optarg;
        return true;
    case 'a':
        if (!trace_axes_parse(request->import.axis, optarg)) {
            (void)cli_usage(grammar.command,
                            "--axes %s: expected token, layer and k in the order of the file, "
                            "such as token,layer,k",
                            optarg);
            return false;
        }
        return true;
    case 'm':
        request->import.model = optarg;
        return true;
    case 'o':
        request->out = optarg;
        return true;
    case 'r':
        request->import.requests_path = optarg;
        return true;
    case 'g':
        request->import.gate_weight_path = optarg;
        return true;
    case 'P':
        request->import.physical_path = optarg;
        return true;
    case 'A':
        request->import.attach_path = optarg;
        return true;
    case 'd':
        request->import.strip_dummy = true;
        return true;
    case 'l':
        request->import.model_layer = request->layer;
        if (!trace_cli_layers(request->layer, &request->import.num_layers, optarg)) {
            (void)cli_usage(grammar.command,
                            "--layers %s: expected ascending numbers and ranges, such as 3-60 or "
                            "0,7,15",
                            optarg);
            return false;
        }
        return true;
    case 's':
        request->import.source = optarg;
        return true;
    case 'c':
        request->import.licence = optarg;
        return true;
    case 'f':
        request->import.replace = true;
        return true;
    case 'j':
        request->json = true;
        return true;
    default:
        return take_number(request, option);
    }
}

/* The help with a line a format. */
static void write_help(char *text, size_t room)
{
    char formats[HELP_BYTES / 2] = "";
    size_t used = 0;
    int32_t count = 0;
    const struct import_format *const *all = import_formats(&count);
    for (int32_t i = 0; i < count && used < sizeof formats; i++) {
        used += (size_t)snprintf(formats + used, sizeof formats - used, "  %-23s %s\n",
                                 all[i]->name, all[i]->summary);
    }
    (void)snprintf(text, room, help, formats);
}

static int import(struct request *request)
{
    struct progress progress;
    struct error error = {0};
    struct import_summary summary;
    request->import.progress = trace_cli_progress;
    request->import.context = &progress;
    progress_begin(&progress, "importing", "bytes");
    enum status status = import_run(request->out, &request->import, &summary, &error);
    progress_end(&progress);
    if (status != STATUS_OK) {
        return cli_fail(status, &error);
    }
    if (request->json) {
        const char *out = request->out != NULL ? request->out : request->import.attach_path;
        return print_json(import_json(&summary, out));
    }
    print_import(&request->import, &summary, request->out);
    return 0;
}

int command_trace_import(int argc, char **argv)
{
    struct request request = {
        .import = {.axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K}},
    };
    char text[HELP_BYTES];
    struct cli_grammar with_help = grammar;
    int code = 0;
    int option;
    write_help(text, sizeof text);
    with_help.help = text;
    optind = 1;
    while ((option = cli_next(&code, &with_help, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&request, option)) {
            return 1;
        }
    }
    if (optind == argc) {
        return cli_usage(grammar.command, "name one file or more");
    }
    request.import.paths = (const char *const *)(argv + optind);
    request.import.num_paths = argc - optind;
    if ((request.out == NULL) == (request.import.attach_path == NULL)) {
        return cli_usage(grammar.command, "say with --out where the trace goes (arrivals may go to "
                                          "a trace instead, with --attach)");
    }
    if (request.out != NULL &&
        !trace_cli_may_write(grammar.command, request.out, request.import.replace)) {
        return 1;
    }
    return import(&request);
}
