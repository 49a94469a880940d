/* cmd_trace_import.c -- moesim trace import. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "trace_import.h"

#define LAYERS_MAX 4096

static const char help[] =
    "usage: moesim trace import --from npy --model M FILE.npy --out DIR [options]\n\n"
    "Makes a trace from an array of expert ids, best expert first, of any integer type. -1 or all\n"
    "ones mark what was not routed. Every id is checked.\n\n"
    "      --from npy            the format of FILE\n"
    "      --axes A,B,C          order of token, layer and k in FILE, default token,layer,k\n"
    "      --model M             preset, config.json or YAML: says experts, top_k and MoE layers;\n"
    "                            dense layers in FILE are dropped\n"
    "  -o, --out DIR             where the trace goes\n"
    "      --requests FILE.csv   where requests begin: a column row_offset, and if there tag (or\n"
    "                            category, or dataset), arrival_s, prompt_tokens, decode_tokens,\n"
    "                            first_position\n"
    "      --gate-weights FILE   .npy of float16, 32 or 64 with the same axes\n"
    "      --tokens N            only the first N tokens\n"
    "      --num-experts N       instead of the model's\n"
    "      --layers LIST         model layer of each layer in FILE, such as 3-60 or 0,7,15;\n"
    "                            with --num-experts, --model is a mere name\n"
    "      --tokens-per-shard N  default: shards of at most 64 MiB\n"
    "      --source TEXT         where FILE comes from\n"
    "      --licence TEXT        of FILE\n"
    "      --force               replace a trace that is there\n"
    "  -j, --json                print what was read as one JSON object\n\n"
    "example:\n"
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

static const struct trace_cli_grammar grammar = {"trace import", ":o:jh", long_options, help};

struct request {
    struct trace_import_options import;
    const char *out;
    const char *format;
    bool json;
    int32_t layer[LAYERS_MAX];
};

/* Reads "0,7,15-18", ascending. False: it is not that. */
static bool parse_layers(struct request *request, const char *text)
{
    int32_t count = 0;
    long next = 0; /* the lowest number allowed */
    for (char separator = ','; separator == ',';) {
        char *end = NULL;
        bool digit = *text >= '0' && *text <= '9';
        long first = digit ? strtol(text, &end, 10) : -1;
        if (first < next || first >= LAYERS_MAX) {
            return false;
        }
        long last = first;
        if (*end == '-' && end[1] >= '0' && end[1] <= '9') {
            last = strtol(end + 1, &end, 10);
        }
        if (last < first || last >= LAYERS_MAX) {
            return false;
        }
        for (long layer = first; layer <= last; layer++) {
            request->layer[count++] = (int32_t)layer;
        }
        next = last + 1;
        separator = *end;
        text = separator == ',' ? end + 1 : end;
    }
    request->import.model_layer = request->layer;
    request->import.num_layers = count;
    return *text == '\0';
}

/* The options with a number. */
static bool take_number(struct request *request, int option)
{
    int64_t value = 0;
    if (option == 'e') {
        if (!trace_cli_number(&value, grammar.command, "--num-experts", optarg, 1, 65535)) {
            return false;
        }
        request->import.num_experts = (int32_t)value;
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
        request->format = optarg;
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
    case 'l':
        if (!parse_layers(request, optarg)) {
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

static void print_imported(const struct trace_import_summary *summary, const char *out)
{
    char number[32];
    char more[32];
    printf("imported %s tokens x %d layers, top-%d of %d experts (%s)\n",
           trace_cli_grouped(number, summary->num_tokens), summary->num_layers, summary->top_k,
           summary->num_experts, summary->model);
    if (summary->num_tokens < summary->num_tokens_in_file) {
        printf("  tokens left out     %s\n",
               trace_cli_grouped(number, summary->num_tokens_in_file - summary->num_tokens));
    }
    if (summary->num_dense_layers_dropped > 0) {
        printf("  dense layers left out %d\n", summary->num_dense_layers_dropped);
    }
    printf("  shards              %s of at most %s tokens\n",
           trace_cli_grouped(number, summary->num_shards),
           trace_cli_grouped(more, summary->tokens_per_shard));
    printf("  requests            %s\n", trace_cli_grouped(number, summary->num_requests));
    printf("  pads                %s\n", trace_cli_grouped(number, summary->num_pads));
    if (summary->num_rows_reordered > 0) {
        printf("  rows put in order   %s, best expert first\n",
               trace_cli_grouped(number, summary->num_rows_reordered));
    }
    if (summary->num_tokens_alike > 0) {
        printf("  identical tokens    %s stand in runs of 32 or more: profiling or padding? Cut\n"
               "                      them from the file if they are no traffic\n",
               trace_cli_grouped(number, summary->num_tokens_alike));
    }
    printf("trace: %s\n", out);
}

static cJSON *summary_json(const struct trace_import_summary *summary, const char *out)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "trace", out);
    cJSON_AddStringToObject(object, "model", summary->model);
    cJSON_AddNumberToObject(object, "num_experts", summary->num_experts);
    cJSON_AddNumberToObject(object, "top_k", summary->top_k);
    cJSON_AddNumberToObject(object, "num_layers", summary->num_layers);
    cJSON_AddNumberToObject(object, "num_dense_layers_dropped", summary->num_dense_layers_dropped);
    cJSON_AddNumberToObject(object, "num_tokens", (double)summary->num_tokens);
    cJSON_AddNumberToObject(object, "num_tokens_in_file", (double)summary->num_tokens_in_file);
    cJSON_AddNumberToObject(object, "num_shards", (double)summary->num_shards);
    cJSON_AddNumberToObject(object, "tokens_per_shard", (double)summary->tokens_per_shard);
    cJSON_AddNumberToObject(object, "num_requests", (double)summary->num_requests);
    cJSON_AddNumberToObject(object, "num_pads", (double)summary->num_pads);
    cJSON_AddNumberToObject(object, "num_rows_reordered", (double)summary->num_rows_reordered);
    cJSON_AddNumberToObject(object, "num_tokens_alike", (double)summary->num_tokens_alike);
    return object;
}

static int import(struct request *request)
{
    struct progress progress;
    struct error error = {0};
    struct trace_import_summary summary;
    request->import.progress = trace_cli_progress;
    request->import.context = &progress;
    progress_begin(&progress, "importing", "tokens");
    enum status status = trace_import(request->out, &request->import, &summary, &error);
    progress_end(&progress);
    if (status != STATUS_OK) {
        return cli_fail(status, &error);
    }
    if (request->json) {
        return print_json(summary_json(&summary, request->out));
    }
    print_imported(&summary, request->out);
    return 0;
}

int command_trace_import(int argc, char **argv)
{
    struct request request = {
        .import = {.axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K}},
        .format = "npy",
    };
    int code = 0;
    int option;
    optind = 1;
    while ((option = trace_cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (!take(&request, option)) {
            return 1;
        }
    }
    if (strcmp(request.format, "npy") != 0) {
        return cli_usage(grammar.command, "--from %s: the only format is npy", request.format);
    }
    request.import.expert_path = trace_cli_argument(&code, &grammar, argc, argv, "one .npy file");
    if (request.import.expert_path == NULL) {
        return code;
    }
    if (request.import.model == NULL || request.out == NULL) {
        return cli_usage(grammar.command, "give --model and --out");
    }
    if (!trace_cli_may_write(grammar.command, request.out, request.import.replace)) {
        return 1;
    }
    return import(&request);
}
