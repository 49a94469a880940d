/* cmd_trace_import.c -- moesim trace import. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "import/import.h"

#define HELP_BYTES 8192
#define PEAK_MAX   2.0 /* of a plan's traffic: a day's cosine does not go below nothing */

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

/* Bytes of the reason's first word that one thing keeps: "responses" loses its s, "passes" es. */
static int singular_bytes(const char *reason, int word_bytes)
{
    bool is_plural = word_bytes > 1 && reason[word_bytes - 1] == 's';
    bool is_long = word_bytes > 4 && strncmp(reason + word_bytes - 4, "sses", 4) == 0;
    return word_bytes - (is_long ? 2 : is_plural ? 1 : 0);
}

static void print_drops(const struct import_summary *summary)
{
    char number[32];
    for (int32_t i = 0; i < summary->num_drops; i++) {
        const struct import_drop *drop = &summary->drop[i];
        int word_bytes = (int)strcspn(drop->reason, " ");
        int kept_bytes = drop->count == 1 ? singular_bytes(drop->reason, word_bytes) : word_bytes;
        printf("  left out            %s %.*s%s\n", trace_cli_grouped(number, drop->count),
               kept_bytes, drop->reason, drop->reason + word_bytes);
    }
}

static void print_loads(const struct import_summary *summary, const char *out)
{
    char number[32];
    char more[32];
    printf("imported loads of %s assignments: %d layer%s x %d experts, %s step%s, from %s\n",
           trace_cli_grouped(number, summary->num_assignments), summary->num_layers,
           summary->num_layers == 1 ? "" : "s", summary->num_experts,
           trace_cli_grouped(more, summary->num_steps), summary->num_steps == 1 ? "" : "s",
           summary->format);
    print_drops(summary);
    printf("loads: %s\n", out);
}

/* As the options of moesim plan. */
static void print_traffic(const struct import_summary *summary)
{
    char number[32];
    printf("  tokens a request    %.0f of prompt, %.0f of answer (means)\n",
           summary->prompt_tokens_mean, summary->decode_tokens_mean);
    if (summary->requests_per_day < 1.0) {
        return;
    }
    int64_t per_day = llround(summary->requests_per_day);
    printf("  requests a day      %s at this rate\n", trace_cli_grouped(number, per_day));
    if (summary->peak_over_mean > 0.0) {
        printf("  busiest hour        %.2f times the mean%s\n", summary->peak_over_mean,
               summary->peak_over_mean > PEAK_MAX ? " (moesim plan takes at most 2)" : "");
    }
    printf("  for moesim plan     --input %.0f --output %.0f --requests-per-day %lld",
           summary->prompt_tokens_mean, summary->decode_tokens_mean, (long long)per_day);
    if (summary->peak_over_mean > 1.0) {
        printf(" \\\n                      --set traffic.peak_over_mean=%.2f",
               fmin(summary->peak_over_mean, PEAK_MAX));
    }
    putchar('\n');
}

static void print_arrivals(const struct request *request, const struct import_summary *summary)
{
    char number[32];
    printf("imported %s arrival%s over %.0f s, from %s\n",
           trace_cli_grouped(number, summary->num_arrivals), summary->num_arrivals == 1 ? "" : "s",
           summary->arrivals_end_s, summary->format);
    print_traffic(summary);
    print_drops(summary);
    if (request->import.attach_path != NULL) {
        printf("trace: %s, %s requests have their times\n", request->import.attach_path,
               trace_cli_grouped(number, summary->num_requests));
    } else {
        printf("arrivals: %s\n", request->out);
    }
}

static void print_imported(const struct import_summary *summary, const char *out)
{
    char number[32];
    char more[32];
    printf("imported %s token%s x %d layer%s, top-%d of %d experts (%s), from %s\n",
           trace_cli_grouped(number, summary->num_tokens), summary->num_tokens == 1 ? "" : "s",
           summary->num_layers, summary->num_layers == 1 ? "" : "s", summary->top_k,
           summary->num_experts, summary->model, summary->format);
    if (summary->num_tokens < summary->num_tokens_in_file) {
        printf("  tokens left out     %s\n",
               trace_cli_grouped(number, summary->num_tokens_in_file - summary->num_tokens));
    }
    if (summary->num_dense_layers_dropped > 0) {
        printf("  dense layers left out %d\n", summary->num_dense_layers_dropped);
    }
    print_drops(summary);
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
        printf("  identical tokens    %s stand in runs of 32 or more: profiling or padding? Leave\n"
               "                      them out with --strip-dummy if they are no traffic\n",
               trace_cli_grouped(number, summary->num_tokens_alike));
    }
    printf("trace: %s\n", out);
}

static cJSON *drops_json(const struct import_summary *summary)
{
    cJSON *drops = cJSON_CreateArray();
    for (int32_t i = 0; i < summary->num_drops; i++) {
        cJSON *drop = cJSON_CreateObject();
        cJSON_AddStringToObject(drop, "reason", summary->drop[i].reason);
        cJSON_AddNumberToObject(drop, "count", (double)summary->drop[i].count);
        cJSON_AddItemToArray(drops, drop);
    }
    return drops;
}

static cJSON *summary_json(const struct import_summary *summary, const char *out)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "trace", out);
    cJSON_AddStringToObject(object, "format", summary->format);
    cJSON_AddStringToObject(object, "model", summary->model);
    cJSON_AddNumberToObject(object, "num_files", summary->num_files);
    cJSON_AddNumberToObject(object, "num_experts", summary->num_experts);
    cJSON_AddNumberToObject(object, "top_k", summary->top_k);
    cJSON_AddNumberToObject(object, "num_layers", summary->num_layers);
    cJSON_AddNumberToObject(object, "num_dense_layers_dropped", summary->num_dense_layers_dropped);
    cJSON_AddNumberToObject(object, "num_arrivals", (double)summary->num_arrivals);
    cJSON_AddNumberToObject(object, "arrivals_end_s", summary->arrivals_end_s);
    cJSON_AddNumberToObject(object, "prompt_tokens_mean", summary->prompt_tokens_mean);
    cJSON_AddNumberToObject(object, "decode_tokens_mean", summary->decode_tokens_mean);
    cJSON_AddNumberToObject(object, "requests_per_day", summary->requests_per_day);
    cJSON_AddNumberToObject(object, "peak_over_mean", summary->peak_over_mean);
    cJSON_AddNumberToObject(object, "num_steps", (double)summary->num_steps);
    cJSON_AddNumberToObject(object, "num_assignments", (double)summary->num_assignments);
    cJSON_AddNumberToObject(object, "num_tokens", (double)summary->num_tokens);
    cJSON_AddNumberToObject(object, "num_tokens_in_file", (double)summary->num_tokens_in_file);
    cJSON_AddNumberToObject(object, "num_shards", (double)summary->num_shards);
    cJSON_AddNumberToObject(object, "tokens_per_shard", (double)summary->tokens_per_shard);
    cJSON_AddNumberToObject(object, "num_requests", (double)summary->num_requests);
    cJSON_AddNumberToObject(object, "num_pads", (double)summary->num_pads);
    cJSON_AddNumberToObject(object, "num_rows_reordered", (double)summary->num_rows_reordered);
    cJSON_AddNumberToObject(object, "num_tokens_alike", (double)summary->num_tokens_alike);
    cJSON_AddBoolToObject(object, "has_gate_weights", summary->has_gate_weights);
    cJSON_AddBoolToObject(object, "has_scores", summary->has_scores);
    cJSON_AddItemToObject(object, "dropped", drops_json(summary));
    return object;
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
        return print_json(summary_json(&summary, out));
    }
    if (summary.num_arrivals > 0) {
        print_arrivals(request, &summary);
    } else if (summary.num_assignments > 0) {
        print_loads(&summary, request->out);
    } else {
        print_imported(&summary, request->out);
    }
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
