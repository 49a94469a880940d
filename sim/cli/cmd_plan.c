/* cmd_plan.c -- moesim plan: the cheapest deployment that meets latency targets. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/plan_cli.h"
#include "data.h"
#include "yaml_file.h"

static const char help[] =
    "usage: moesim plan [PLAN.yaml] [options]\n\n"
    "Searches GPUs, expert-parallel degrees, batches, redundancy and overlap for the cheapest\n"
    "deployment that meets latency targets; says what bounds pruned, what the winner costs, what\n"
    "binds it and how it is launched. Points are kept in the results file: a search that was\n"
    "killed goes on, and other prices, traffic or targets need no new simulation.\n\n"
    "  -o, --results FILE        results file (SQLite), default plan.db\n"
    "  -r, --report DIR          also make the page\n"
    "      --serve DIR           also write the winner as scenarios for moesim serve, which knows\n"
    "                            queues, percentiles and requests of different length\n"
    "      --set KEY=VALUE       override one key of the plan; may be repeated\n"
    "      --model NAME          the same as --set model=NAME, as are the next:\n"
    "      --gpu NAME[:PRICE]    a GPU, or a cluster of moesim list clusters, whose exchanges are\n"
    "                            fitted, so that costs have an interval, or a YAML file of\n"
    "                            either; its price a preset, a YAML file or dollars an hour; may\n"
    "                            be repeated\n"
    "      --arrivals FILE       requests as they came (Azure, BurstGPT, Mooncake, or CSV with\n"
    "                            arrival_s, prompt_tokens, decode_tokens): how many a day, how\n"
    "                            long, when, and what a prefix cache could answer, in place of\n"
    "                            the plan's traffic; options below replace what the file says\n"
    "      --input TOKENS        of a request\n"
    "      --output TOKENS       of a request\n"
    "      --requests-per-day N  as 250k, 1M\n"
    "      --cached SHARE        of input tokens that the prefix cache answers\n"
    "      --ttft TIME           target for the time to the first token, as 2s, the mean of the\n"
    "                            busiest hour; '2s at p90' (p50, p90, p95, p99): the cheapest are\n"
    "                            simulated request by request and get the groups that takes\n"
    "      --tpot TIME           target for the time between tokens, as 50ms\n"
    "      --threads N           default all\n"
    "  -j, --json                print the answer as JSON. A deployment's judged_by says by what\n"
    "                            meets_targets is: means, or simulated requests; both are null\n"
    "                            where a target is a percentile and it was not simulated\n\n"
    "example:\n"
    "  moesim plan --model deepseek-v3 --gpu h800-cx7 --gpu h200-nvlink:2.30 --input 4096 \\\n"
    "      --output 1024 --requests-per-day 1M --ttft 2s --tpot 50ms\n";

#define TEXT_MAX     512
#define GPU_LIST_MAX 2048

/* The arguments, and the texts that they point to. */
struct plan_command {
    struct plan_arguments arguments;
    char override[PLAN_OVERRIDES][TEXT_MAX];
    char gpus[GPU_LIST_MAX]; /* "gpus=[{gpu: a, price: b}, {cluster: c}, ..." */
};

/* Options that are keys of the plan; val is the index + 256. */
static const struct {
    const char *option;
    const char *key;
} keys[] = {
    {"model", "model"},
    {"arrivals", "traffic.path"},
    {"input", "traffic.input_tokens"},
    {"output", "traffic.output_tokens"},
    {"requests-per-day", "traffic.requests_per_day"},
    {"cached", "traffic.cached_share"},
    {"ttft", "slo.ttft"},
    {"tpot", "slo.tpot"},
};

#define NUM_KEYS ((int)(sizeof keys / sizeof keys[0]))
#define KEY      256

static int add_override(struct plan_command *command, const char *key, const char *value)
{
    struct plan_arguments *arguments = &command->arguments;
    if (arguments->num_overrides == PLAN_OVERRIDES) {
        return cli_usage("plan", "more than %d settings", PLAN_OVERRIDES);
    }
    char *text = command->override[arguments->num_overrides];
    int length = snprintf(text, TEXT_MAX, "%s%s%s", key, key[0] != '\0' ? "=" : "", value);
    if (length >= TEXT_MAX) {
        return cli_usage("plan", "'%.40s...' is too long", value);
    }
    arguments->overrides[arguments->num_overrides++] = text;
    return -1;
}

/* A file is a cluster's when it names its GPU. What is neither is told when the plan is read, with
 * the GPUs there are. */
static bool is_cluster(const char *name)
{
    char path[TEXT_MAX];
    struct error ignored = {0};
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    if (data_find(path, sizeof path, "gpus", name, &ignored) != STATUS_OK) {
        return data_find(path, sizeof path, "clusters", name, &ignored) == STATUS_OK;
    }
    bool names_gpu =
        yaml_load(&root, path, &arena, &ignored) == STATUS_OK && yaml_get(root, "gpu") != NULL;
    arena_free(&arena);
    return names_gpu;
}

static int add_gpu(struct plan_command *command, const char *text)
{
    char name[TEXT_MAX];
    size_t used = strlen(command->gpus);
    const char *colon = strrchr(text, ':');
    (void)snprintf(name, sizeof name, "%.*s",
                   colon != NULL ? (int)(colon - text) : (int)strlen(text), text);
    int length = snprintf(command->gpus + used, sizeof command->gpus - used, "%s{%s: '%s'%s%s}",
                          used == 0 ? "gpus=[" : ", ", is_cluster(name) ? "cluster" : "gpu", name,
                          colon != NULL ? ", price: " : "", colon != NULL ? colon + 1 : "");
    return length < 0 || (size_t)length + 2 >= sizeof command->gpus - used
               ? cli_usage("plan", "too many --gpu")
               : -1;
}

/* Returns -1 to go on, else the exit code. */
static int take_option(struct plan_command *command, int option)
{
    struct plan_arguments *arguments = &command->arguments;
    if (option >= KEY) {
        return add_override(command, keys[option - KEY].key, optarg);
    }
    switch (option) {
    case 'o':
        arguments->results = optarg;
        return -1;
    case 'r':
        arguments->report = optarg;
        return -1;
    case 'w':
        arguments->serve = optarg;
        return -1;
    case 's':
        return add_override(command, "", optarg);
    case 'g':
        return add_gpu(command, optarg);
    case 't':
        return cli_take_threads(&arguments->num_threads, "plan", optarg);
    case 'j':
        arguments->json = true;
        return -1;
    case 'h':
        fputs(help, stdout);
        return 0;
    default:
        return -1; /* refused already */
    }
}

static int parse(struct plan_command *command, int argc, char **argv)
{
    struct plan_arguments *arguments = &command->arguments;
    struct option long_options[NUM_KEYS + 9] = {
        {"results", required_argument, NULL, 'o'}, {"report", required_argument, NULL, 'r'},
        {"set", required_argument, NULL, 's'},     {"gpu", required_argument, NULL, 'g'},
        {"threads", required_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {"serve", required_argument, NULL, 'w'}};
    for (int i = 0; i < NUM_KEYS; i++) {
        long_options[8 + i] = (struct option){keys[i].option, required_argument, NULL, KEY + i};
    }
    int option = 0;
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:r:jh", long_options, NULL)) != -1) {
        if (option == ':' || option == '?') {
            return cli_refuse_option(argv[0], option, long_options, argv);
        }
        int code = take_option(command, option);
        if (code >= 0) {
            return code;
        }
    }
    if (optind + 1 < argc && strcmp(argv[optind], "at") == 0) {
        return cli_usage(argv[0], "a time at a percentile is one word, in quotes: '2s at %s'",
                         argv[optind + 1]);
    }
    if (optind + 1 < argc) {
        return cli_usage(argv[0], "'%s' is not expected: one plan at a time", argv[optind + 1]);
    }
    arguments->plan = optind < argc ? argv[optind] : NULL;
    if (command->gpus[0] != '\0') {
        (void)snprintf(command->gpus + strlen(command->gpus), 2, "]");
        if (arguments->num_overrides == PLAN_OVERRIDES) {
            return cli_usage(argv[0], "more than %d settings", PLAN_OVERRIDES);
        }
        arguments->overrides[arguments->num_overrides++] = command->gpus;
    }
    if (arguments->plan == NULL && arguments->num_overrides == 0) {
        return cli_usage(argv[0], "name a plan, or say at least --model, --gpu and --arrivals, or "
                                  "--model, --gpu, --input, --output and --requests-per-day");
    }
    return -1;
}

int command_plan(int argc, char **argv)
{
    struct plan_command *command = calloc(1, sizeof *command);
    struct error *error = calloc(1, sizeof *error);
    int code = 2;
    if (command == NULL || error == NULL) {
        fputs("moesim: out of memory\n", stderr);
    } else {
        command->arguments.results = "plan.db";
        code = parse(command, argc, argv);
        if (code < 0) {
            code = cli_plan(&command->arguments, error);
        }
    }
    free(command);
    free(error);
    return code;
}
