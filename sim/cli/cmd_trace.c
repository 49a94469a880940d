/* cmd_trace.c -- moesim trace, with info and check; the longer subcommands have their own files. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "cli/trace_edit_cli.h"
#include "format.h"

#define LINE_BYTES  96
#define ENTRY_BYTES 4096

static const char info_help[] = "usage: moesim trace info DIR [--json]\n\n"
                                "Says what a trace holds and where it comes from.\n\n"
                                "  -j, --json   print one JSON object\n\n"
                                "example:\n"
                                "  moesim trace info traces/gpt-oss-20b\n";

static const char check_help[] =
    "usage: moesim trace check DIR [--json]\n\n"
    "Reads every byte of a trace: ids in range, no expert twice in a token, weights in order,\n"
    "files of the right type and shape. Prints all problems and exits with 1 if there are any.\n\n"
    "  -j, --json   print one JSON object with ok, digest and problems[]\n\n"
    "example:\n"
    "  moesim trace check traces/gpt-oss-20b\n";

static const struct option json_options[] = {
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar info_grammar = {"trace info", ":jh", json_options, info_help};
static const struct cli_grammar check_grammar = {"trace check", ":jh", json_options, check_help};

const char *trace_cli_argument(int *code, const struct cli_grammar *grammar, int argc, char **argv,
                               const char *what)
{
    if (optind == argc) {
        *code = cli_usage(grammar->command, "name %s", what);
        return NULL;
    }
    if (optind + 1 < argc) {
        *code = cli_usage(grammar->command, "name only %s, not also '%s'", what, argv[optind + 1]);
        return NULL;
    }
    return argv[optind];
}

bool trace_cli_number(int64_t *value, const char *command, const char *option, const char *text,
                      int64_t min, int64_t max)
{
    char *end = NULL;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *value < min || *value > max) {
        (void)cli_usage(command, "%s %s: expected a whole number from %lld to %lld", option, text,
                        (long long)min, (long long)max);
        return false;
    }
    return true;
}

bool trace_cli_may_write(const char *command, const char *path, bool force)
{
    struct stat info;
    if (force || lstat(path, &info) != 0) {
        return true;
    }
    (void)cli_usage(command, "%s exists: add --force to replace it, or name another", path);
    return false;
}

char *trace_cli_grouped(char *text, int64_t value)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)value);
    int to = 0;
    for (int from = 0; from < length; from++) {
        if (from > 0 && (length - from) % 3 == 0 && digits[from - 1] != '-') {
            text[to++] = ',';
        }
        text[to++] = digits[from];
    }
    text[to] = '\0';
    return text;
}

void trace_cli_progress(void *context, int64_t done, int64_t total)
{
    progress_update(context, done, total);
}

/* Of all files in the directory. */
static int64_t directory_bytes(const char *directory)
{
    char path[ENTRY_BYTES];
    struct stat info;
    int64_t bytes = 0;
    DIR *stream = opendir(directory);
    if (stream == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        int length = snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (length < (int)sizeof path && stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            bytes += info.st_size;
        }
    }
    closedir(stream);
    return bytes;
}

/* Ascending layer numbers as ranges: "3-60", "0-3, 5". Ends in "..." where the room does. */
static void word_layers(char text[LINE_BYTES], const struct trace *trace)
{
    size_t used = 0;
    text[0] = '\0';
    int32_t first = 0;
    while (first < trace->num_layers) {
        int32_t last = first;
        while (last + 1 < trace->num_layers &&
               trace->model_layer[last + 1] == trace->model_layer[last] + 1) {
            last++;
        }
        if (used + 32 > LINE_BYTES) {
            (void)snprintf(text + used, LINE_BYTES - used, ", ...");
            return;
        }
        used += (size_t)snprintf(text + used, LINE_BYTES - used, first == last ? "%s%d" : "%s%d-%d",
                                 first > 0 ? ", " : "", trace->model_layer[first],
                                 trace->model_layer[last]);
        first = last + 1;
    }
}

static void print_info(const struct trace *trace, const char *directory)
{
    char layers[LINE_BYTES];
    char number[32];
    char more[32];
    char bytes[FORMAT_BYTES];
    word_layers(layers, trace);
    printf("%s\n\n", trace->name);
    printf("  model         %s\n", trace->model);
    printf("  experts       %d, top-%d\n", trace->num_experts, trace->top_k);
    printf("  layers        %d (%s of the model)\n", trace->num_layers, layers);
    printf("  tokens        %s in %d shard%s of %s\n", trace_cli_grouped(number, trace->num_tokens),
           trace->num_shards, trace->num_shards == 1 ? "" : "s",
           trace_cli_grouped(more, trace->tokens_per_shard));
    printf("  requests      %s\n", trace->num_requests > 0
                                       ? trace_cli_grouped(number, trace->num_requests)
                                       : "not recorded");
    printf("  steps         %s\n",
           trace->num_steps > 0 ? trace_cli_grouped(number, trace->num_steps) : "not recorded");
    printf("  gate weights  %s\n", trace->has_gate_weights ? "recorded" : "not recorded");
    printf("  origin        %s\n", trace->origin);
    printf("  source        %s\n", trace->source[0] != '\0' ? trace->source : "unknown");
    printf("  licence       %s\n", trace->licence[0] != '\0' ? trace->licence : "unknown");
    printf("  size          %s\n", format_bytes(bytes, (double)directory_bytes(directory)));
}

static cJSON *info_json(const struct trace *trace, const char *directory)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", trace->name);
    cJSON_AddStringToObject(object, "model", trace->model);
    cJSON_AddNumberToObject(object, "num_experts", trace->num_experts);
    cJSON_AddNumberToObject(object, "top_k", trace->top_k);
    cJSON_AddNumberToObject(object, "num_layers", trace->num_layers);
    cJSON_AddItemToObject(object, "layers",
                          cJSON_CreateIntArray(trace->model_layer, trace->num_layers));
    cJSON_AddNumberToObject(object, "num_tokens", (double)trace->num_tokens);
    cJSON_AddNumberToObject(object, "num_shards", trace->num_shards);
    cJSON_AddNumberToObject(object, "tokens_per_shard", (double)trace->tokens_per_shard);
    cJSON_AddNumberToObject(object, "num_requests", (double)trace->num_requests);
    cJSON_AddNumberToObject(object, "num_steps", (double)trace->num_steps);
    cJSON_AddBoolToObject(object, "has_gate_weights", trace->has_gate_weights);
    cJSON_AddStringToObject(object, "origin", trace->origin);
    cJSON_AddStringToObject(object, "source", trace->source);
    cJSON_AddStringToObject(object, "licence", trace->licence);
    cJSON_AddNumberToObject(object, "bytes", (double)directory_bytes(directory));
    return object;
}

int trace_cli_show(const char *directory, bool json)
{
    struct error error = {0};
    struct trace trace = {0};
    int code = 0;
    enum status status = trace_open(&trace, directory, &error);
    if (status != STATUS_OK) {
        code = cli_fail(status, &error);
    } else if (json) {
        code = print_json(info_json(&trace, directory));
    } else {
        print_info(&trace, directory);
    }
    trace_close(&trace);
    return code;
}

/* Parses DIR [--json]. NULL: over, with *code. */
static const char *take_directory(int *code, bool *json, const struct cli_grammar *grammar,
                                  int argc, char **argv)
{
    int option;
    optind = 1;
    while ((option = cli_next(code, grammar, argc, argv)) != -1) {
        if (option == 0) {
            return NULL;
        }
        *json = true;
    }
    return trace_cli_argument(code, grammar, argc, argv, "one trace directory");
}

static int command_trace_info(int argc, char **argv)
{
    int code = 0;
    bool json = false;
    const char *directory = take_directory(&code, &json, &info_grammar, argc, argv);
    return directory == NULL ? code : trace_cli_show(directory, json);
}

/* The lines of error as an array. */
static cJSON *problems_json(const struct error *error)
{
    cJSON *problems = cJSON_CreateArray();
    char line[1024];
    for (const char *text = error->text; *text != '\0';) {
        size_t length = strcspn(text, "\n");
        (void)snprintf(line, sizeof line, "%.*s", (int)length, text);
        cJSON_AddItemToArray(problems, cJSON_CreateString(line));
        text += length + (text[length] == '\n' ? 1 : 0);
    }
    return problems;
}

static int command_trace_check(int argc, char **argv)
{
    int code = 0;
    bool json = false;
    const char *directory = take_directory(&code, &json, &check_grammar, argc, argv);
    if (directory == NULL) {
        return code;
    }
    struct error error = {0};
    struct trace trace = {0};
    char digest[20];
    enum status status = trace_open(&trace, directory, &error);
    if (status == STATUS_OK) {
        status = trace_check(&trace, &error);
    }
    if (status == STATUS_OK) {
        status = trace_digest(&trace, &error);
    }
    (void)snprintf(digest, sizeof digest, "%016llx", (unsigned long long)trace.digest);
    if (json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "trace", directory);
        cJSON_AddBoolToObject(object, "ok", status == STATUS_OK);
        cJSON_AddItemToObject(object, "digest",
                              status == STATUS_OK ? cJSON_CreateString(digest)
                                                  : cJSON_CreateNull());
        cJSON_AddItemToObject(object, "problems", problems_json(&error));
        code = print_json(object);
        code = status == STATUS_OK ? code : status == STATUS_NO_MEMORY ? 2 : 1;
    } else if (status != STATUS_OK) {
        code = cli_fail(status, &error);
    } else {
        char tokens[32];
        printf("%s: sound; %s tokens x %d layers, digest %s\n", directory,
               trace_cli_grouped(tokens, trace.num_tokens), trace.num_layers, digest);
    }
    trace_close(&trace);
    return code;
}

static const struct subcommand {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} subcommands[] = {
    {"info", "what a trace holds and where it comes from", command_trace_info},
    {"stats", "skew, locality, drift and co-activation, layer by layer", command_trace_stats},
    {"traffic", "what the routing sends to ranks and nodes", command_trace_traffic},
    {"check", "read every byte and report all problems", command_trace_check},
    {"import", "make a trace from what an engine recorded", command_trace_import},
    {"diff", "set two traces' statistics and loads side by side", command_trace_diff},
    {"merge", "put several traces of one model behind each other", command_trace_merge},
    {"slice", "take a part of a trace: requests, tags, arrivals, rows, layers",
     command_trace_slice},
    {"sample", "draw some of a trace's requests at random", command_trace_sample},
    {"anonymise", "hide who asked what when, before a trace is handed on", command_trace_anonymise},
    {"fit", "make a generator preset from a trace", command_trace_fit},
    {"generate", "make a synthetic trace that looks like a measured one", command_trace_generate},
};

#define NUM_SUBCOMMANDS (sizeof subcommands / sizeof subcommands[0])

static void print_help(void)
{
    puts("usage: moesim trace COMMAND ...\n\n"
         "A trace is a directory with the experts that a router chose, token by token.\n");
    for (size_t i = 0; i < NUM_SUBCOMMANDS; i++) {
        printf("  %-9s %s\n", subcommands[i].name, subcommands[i].summary);
    }
    puts("\nmoesim trace COMMAND --help shows options and an example:\n"
         "  moesim trace generate --preset deepseek-v3 --tokens 100000 --out traces/ds\n"
         "  moesim trace stats traces/ds");
}

int command_trace(int argc, char **argv)
{
    if (argc < 2) {
        return cli_usage("trace", "name a command; moesim trace --help lists them");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return 0;
    }
    for (size_t i = 0; i < NUM_SUBCOMMANDS; i++) {
        if (strcmp(argv[1], subcommands[i].name) == 0) {
            return subcommands[i].run(argc - 1, argv + 1);
        }
    }
    struct suggestion suggestion = {.word = argv[1]};
    for (size_t i = 0; i < NUM_SUBCOMMANDS; i++) {
        suggest_offer(&suggestion, subcommands[i].name);
    }
    return cli_no_command("trace ", &suggestion);
}
