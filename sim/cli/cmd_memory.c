/* cmd_memory.c -- moesim memory: on how many GPUs a model fits, and how many sequences beside it.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "format.h"
#include "memory_fit.h"

static const char help[] =
    "usage: moesim memory MODEL --gpu NAME [options]\n\n"
    "What a model needs on each GPU, part by part, one GPU more or less at a time: weights by\n"
    "precision, KV cache, activations, logits and buffers; whether it fits, and with how many\n"
    "sequences.\n\n"
    "      --gpu NAME          a GPU of moesim list gpus, or a YAML file\n"
    "  -n, --gpus N|A-B        how many (1-16)\n"
    "      --context TOKENS    KV tokens of every sequence (4096)\n"
    "      --attention dp|tp   how attention and dense FFN are shared (dp; a dense model: tp)\n"
    "      --experts ep|tp     whole experts on each GPU, or a part of every one (ep)\n"
    "      --redundant N       redundant experts a layer, at least (0)\n"
    "      --offload SLOTS     experts live in host memory or on drives; a GPU keeps so many of\n"
    "                          each layer, and two buffers for those that arrive\n"
    "      --dense FORMAT      attention, dense and shared FFN (the model's): fp32, bf16, fp8,\n"
    "                          int8, mxfp4, nvfp4\n"
    "      --expert FORMAT     routed experts (the model's)\n"
    "      --kv FORMAT         KV cache (the model's)\n"
    "      --fraction SHARE    of HBM that may be filled (0.9)\n"
    "  -j, --json              print the result as JSON\n\n"
    "example:\n"
    "  moesim memory deepseek-v3 --gpu h200-sxm --gpus 4-10 --attention tp\n"
    "  moesim memory mixtral-8x7b --gpu rtx-4090 --gpus 1 --expert mxfp4 --offload 4\n";

#define GPUS_MAX    4096
#define ROWS_MAX    64
#define CONTEXT_MAX (1 << 24)

struct memory_arguments {
    const char *model_name;
    const char *gpu_name;
    int32_t first;
    int32_t last;
    int attention; /* -1: by model, 0: dp, 1: tp */
    bool json;
    struct moe_model model;
    struct gpu_spec gpu;
    struct memory_question question;
    int precision[3]; /* dense, expert, kv; -1: the model's */
};

enum { OPTION_GPU = 256, OPTION_CONTEXT, OPTION_ATTENTION, OPTION_REDUNDANT, OPTION_FRACTION };
enum { OPTION_OFFLOAD = 290, OPTION_EXPERTS };
enum { OPTION_PRECISION = 300 }; /* and the next two: dense, expert, kv */

static bool take_whole(int32_t *value, const char *text, long min, long max, const char **end)
{
    char *stop;
    errno = 0;
    long number = strtol(text, &stop, 10);
    *end = stop;
    *value = (int32_t)number;
    return errno == 0 && stop != text && number >= min && number <= max;
}

/* Returns -1, or the exit code. */
static int take_gpus(struct memory_arguments *arguments, const char *text)
{
    const char *end;
    bool good = take_whole(&arguments->first, text, 1, GPUS_MAX, &end);
    arguments->last = arguments->first;
    if (good && *end == '-') {
        good = take_whole(&arguments->last, end + 1, arguments->first, GPUS_MAX, &end);
    }
    if (!good || *end != '\0' || arguments->last - arguments->first >= ROWS_MAX) {
        return cli_usage("memory", "--gpus %s: not a number or range A-B of at most %d in 1 ... %d",
                         text, ROWS_MAX, GPUS_MAX);
    }
    return -1;
}

static int take_precision(int *value, const char *text)
{
    for (int precision = 0; precision < PRECISION_COUNT; precision++) {
        if (strcmp(text, precision_choices[precision]) == 0) {
            *value = precision;
            return -1;
        }
    }
    return cli_usage("memory", "'%s' is none of fp32, bf16, fp8, int8, mxfp4, nvfp4", text);
}

static int take_number(int32_t *value, const char *name, const char *text, long min, long max)
{
    const char *end;
    if (!take_whole(value, text, min, max, &end) || *end != '\0') {
        return cli_usage("memory", "--%s %s: not a whole number in %ld ... %ld", name, text, min,
                         max);
    }
    return -1;
}

static int take_option(struct memory_arguments *arguments, int option)
{
    char *end = NULL;
    switch (option) {
    case OPTION_GPU:
        arguments->gpu_name = optarg;
        return -1;
    case 'n':
        return take_gpus(arguments, optarg);
    case OPTION_CONTEXT:
        return take_number(&arguments->question.context_tokens, "context", optarg, 1, CONTEXT_MAX);
    case OPTION_ATTENTION:
        arguments->attention = strcmp(optarg, "tp") == 0 ? 1 : 0;
        return arguments->attention == 1 || strcmp(optarg, "dp") == 0
                   ? -1
                   : cli_usage("memory", "--attention %s: neither dp nor tp", optarg);
    case OPTION_EXPERTS:
        arguments->question.cuts_experts = strcmp(optarg, "tp") == 0;
        return arguments->question.cuts_experts || strcmp(optarg, "ep") == 0
                   ? -1
                   : cli_usage("memory", "--experts %s: neither ep nor tp", optarg);
    case OPTION_REDUNDANT:
        return take_number(&arguments->question.redundant_experts, "redundant", optarg, 0, 65536);
    case OPTION_OFFLOAD:
        arguments->question.is_offloaded = true;
        return take_number(&arguments->question.offload_slots, "offload", optarg, 0, 65536);
    case OPTION_FRACTION:
        arguments->question.memory_fraction = strtod(optarg, &end);
        return end != optarg && *end == '\0' && arguments->question.memory_fraction > 0.0 &&
                       arguments->question.memory_fraction <= 1.0
                   ? -1
                   : cli_usage("memory", "--fraction %s: not a number above 0, up to 1", optarg);
    case OPTION_PRECISION:
    case OPTION_PRECISION + 1:
    case OPTION_PRECISION + 2:
        return take_precision(&arguments->precision[option - OPTION_PRECISION], optarg);
    case 'j':
        arguments->json = true;
        return -1;
    default:
        return -1; /* said already */
    }
}

static int parse(struct memory_arguments *arguments, int argc, char **argv)
{
    static const struct option long_options[] = {
        {"gpu", required_argument, NULL, OPTION_GPU},
        {"gpus", required_argument, NULL, 'n'},
        {"context", required_argument, NULL, OPTION_CONTEXT},
        {"attention", required_argument, NULL, OPTION_ATTENTION},
        {"experts", required_argument, NULL, OPTION_EXPERTS},
        {"redundant", required_argument, NULL, OPTION_REDUNDANT},
        {"fraction", required_argument, NULL, OPTION_FRACTION},
        {"offload", required_argument, NULL, OPTION_OFFLOAD},
        {"dense", required_argument, NULL, OPTION_PRECISION},
        {"expert", required_argument, NULL, OPTION_PRECISION + 1},
        {"kv", required_argument, NULL, OPTION_PRECISION + 2},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    static const struct cli_grammar grammar = {"memory", ":n:jh", long_options, help};
    int option = 0;
    int code = -1;
    optind = 1;
    while (code < 0 && (option = cli_next(&code, &grammar, argc, argv)) > 0) {
        code = take_option(arguments, option);
    }
    if (code >= 0) {
        return code;
    }
    if (optind + 1 != argc) {
        return cli_usage(argv[0], "name one model");
    }
    if (arguments->gpu_name == NULL) {
        return cli_usage(argv[0], "--gpu is missing");
    }
    arguments->model_name = argv[optind];
    return -1;
}

static enum status load(struct memory_arguments *arguments, struct error *error)
{
    enum status status = model_load(&arguments->model, arguments->model_name, error);
    enum status gpu_status = gpu_load(&arguments->gpu, arguments->gpu_name, error);
    if (status != STATUS_OK || gpu_status != STATUS_OK) {
        return status != STATUS_OK ? status : gpu_status;
    }
    enum precision *const chosen[] = {&arguments->model.precision_dense,
                                      &arguments->model.precision_expert,
                                      &arguments->model.precision_kv};
    for (int part = 0; part < 3; part++) {
        if (arguments->precision[part] >= 0) {
            *chosen[part] = (enum precision)arguments->precision[part];
        }
    }
    if ((arguments->question.is_offloaded || arguments->question.cuts_experts) &&
        arguments->model.num_experts == 0) {
        return error_add(error, STATUS_INVALID, "%s has no experts for --offload or --experts",
                         arguments->model.name);
    }
    if (arguments->question.is_offloaded && arguments->question.cuts_experts) {
        return error_add(error, STATUS_INVALID, "--experts tp: --offload keeps whole experts");
    }
    arguments->question.model = &arguments->model;
    arguments->question.gpu = &arguments->gpu;
    arguments->question.tensor_parallel =
        arguments->attention < 0 ? arguments->model.num_experts == 0 : arguments->attention == 1;
    return STATUS_OK;
}

static void print_row(const struct memory_fit *fit, bool has_experts)
{
    char weights[FORMAT_BYTES], total[FORMAT_BYTES], room[FORMAT_BYTES];
    int64_t weight_bytes = fit->use.dense_bytes + fit->use.expert_bytes;
    int64_t left_bytes = fit->use.limit_bytes - weight_bytes;
    printf("  %5d", (int)fit->num_gpus);
    if (has_experts) {
        printf(" %10d", (int)fit->redundant_experts);
    }
    if (!fit->divides) {
        printf("  does not divide attention heads, dense FFN or experts\n");
        return;
    }
    printf(" %9s %9s", format_bytes(weights, (double)weight_bytes),
           left_bytes > 0 ? format_bytes(room, (double)left_bytes) : "-");
    if (fit->batch_max > 0) {
        printf(" %10lld %10s\n", (long long)fit->sequences_max,
               format_bytes(total, (double)fit->use.total_bytes));
    } else {
        printf("  does not fit: %s too much\n",
               format_bytes(total, (double)(fit->use.total_bytes - fit->use.limit_bytes)));
    }
}

struct memory_line {
    const char *name;
    const char *key;
    int64_t bytes;
};

#define NUM_LINES 12

static void list_lines(struct memory_line lines[NUM_LINES], const struct memory_fit *fit)
{
    const struct memory_parts *parts = &fit->parts;
    const struct memory_line all[NUM_LINES] = {
        {"attention", "attention_bytes", parts->attention_bytes},
        {"dense FFN", "dense_ffn_bytes", parts->dense_ffn_bytes},
        {"embeddings", "embedding_bytes", parts->embedding_bytes},
        {"routers", "router_bytes", parts->router_bytes},
        {"shared experts", "shared_expert_bytes", parts->shared_expert_bytes},
        {"routed experts", "routed_expert_bytes", parts->routed_expert_bytes},
        {"redundant experts", "redundant_expert_bytes", parts->redundant_expert_bytes},
        {"KV cache", "kv_bytes", fit->use.kv_bytes},
        {"activations", "activation_bytes", parts->activation_bytes},
        {"logits", "logits_bytes", parts->logits_bytes},
        {"token copies", "copy_bytes", parts->copy_bytes},
        {"total", "total_bytes", fit->use.total_bytes},
    };
    memcpy(lines, all, sizeof all);
}

static void print_parts(const struct memory_fit *fit, int32_t context_tokens)
{
    struct memory_line lines[NUM_LINES];
    char amount[FORMAT_BYTES];
    int64_t sequences = fit->sequences_max > 0 ? fit->sequences_max : 1;
    printf("\none GPU of %d, with %lld sequence%s of %d tokens in all\n", (int)fit->num_gpus,
           (long long)sequences, sequences == 1 ? "" : "s", (int)context_tokens);
    list_lines(lines, fit);
    for (int i = 0; i < NUM_LINES; i++) {
        if (lines[i].bytes > 0) {
            printf("  %-18s %10s\n", lines[i].name, format_bytes(amount, (double)lines[i].bytes));
        }
    }
}

static void print_verdict(const struct memory_arguments *arguments)
{
    const struct memory_question *question = &arguments->question;
    int32_t fewest = memory_gpus_min(question, GPUS_MAX, false);
    int32_t server = memory_gpus_min(question, GPUS_MAX, true);
    printf("\n");
    if (fewest == 0) {
        printf("%s does not fit on up to %d %s\n", arguments->model.name, GPUS_MAX,
               arguments->gpu.name);
        return;
    }
    printf("%s fits from %d %s on", arguments->model.name, (int)fewest, arguments->gpu.name);
    if (server > 0 && server != fewest) {
        printf("; of powers of two, as servers are built, from %d on", (int)server);
    }
    printf("\n");
}

static void print_table(const struct memory_arguments *arguments)
{
    const struct moe_model *model = &arguments->model;
    const struct memory_question *question = &arguments->question;
    bool has_experts = model->num_experts > 0;
    char weights[FORMAT_BYTES], kv[FORMAT_BYTES], hbm[FORMAT_BYTES];
    struct memory_fit fit = {0};
    printf("%s: %.1f B parameters, %s of weights (dense %s, experts %s), KV %s a token (%s)\n",
           model->name, model_params(model).total / 1e9,
           format_bytes(weights, memory_weight_bytes(model)),
           precision_name(model->precision_dense), precision_name(model->precision_expert),
           format_bytes(kv, memory_kv_bytes_per_token(model)), precision_name(model->precision_kv));
    printf("%s: %s, of which %g may be filled; attention %s-parallel%s\n", arguments->gpu.name,
           format_bytes(hbm, (double)arguments->gpu.hbm_bytes), question->memory_fraction,
           question->tensor_parallel ? "tensor" : "data",
           question->cuts_experts ? ", experts cut over all GPUs" : "");
    if (question->is_offloaded) {
        printf("experts offloaded: %s in host memory or on drives, %d of each layer on a GPU\n",
               format_bytes(weights, memory_expert_bytes(model)), (int)question->offload_slots);
    }
    puts("");
    printf("  %5s%s %9s %9s %10s %10s\n", "GPUs", has_experts ? "  redundant" : "", "weights",
           "left", "sequences", "total");
    for (int32_t num_gpus = arguments->first; num_gpus <= arguments->last; num_gpus++) {
        fit = memory_fit(question, num_gpus);
        print_row(&fit, has_experts);
    }
    if (arguments->first == arguments->last && fit.divides) {
        print_parts(&fit, question->context_tokens);
    }
    print_verdict(arguments);
}

static cJSON *table_json(const struct memory_arguments *arguments)
{
    const struct memory_question *question = &arguments->question;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "model", arguments->model.name);
    cJSON_AddStringToObject(root, "gpu", arguments->gpu.name);
    cJSON_AddStringToObject(root, "attention", question->tensor_parallel ? "tp" : "dp");
    cJSON_AddStringToObject(root, "experts", question->cuts_experts ? "tp" : "ep");
    cJSON_AddNumberToObject(root, "context_tokens", question->context_tokens);
    cJSON_AddNumberToObject(root, "memory_fraction", question->memory_fraction);
    cJSON_AddNumberToObject(root, "weight_bytes", memory_weight_bytes(&arguments->model));
    if (question->is_offloaded) {
        cJSON_AddNumberToObject(root, "offload_slots", question->offload_slots);
        cJSON_AddNumberToObject(root, "offloaded_bytes", memory_expert_bytes(&arguments->model));
    }
    cJSON_AddNumberToObject(root, "kv_bytes_per_token",
                            memory_kv_bytes_per_token(&arguments->model));
    cJSON_AddNumberToObject(root, "gpus_min", memory_gpus_min(question, GPUS_MAX, false));
    cJSON_AddNumberToObject(root, "gpus_min_power_of_two",
                            memory_gpus_min(question, GPUS_MAX, true));
    cJSON *rows = cJSON_AddArrayToObject(root, "rows");
    for (int32_t num_gpus = arguments->first; num_gpus <= arguments->last; num_gpus++) {
        struct memory_fit fit = memory_fit(question, num_gpus);
        struct memory_line lines[NUM_LINES];
        cJSON *row = cJSON_CreateObject();
        cJSON_AddNumberToObject(row, "num_gpus", num_gpus);
        cJSON_AddBoolToObject(row, "divides", fit.divides);
        cJSON_AddBoolToObject(row, "fits", fit.divides && fit.batch_max > 0);
        cJSON_AddNumberToObject(row, "redundant_experts", fit.redundant_experts);
        cJSON_AddNumberToObject(row, "sequences_max", (double)fit.sequences_max);
        list_lines(lines, &fit);
        for (int i = 0; i < NUM_LINES; i++) {
            cJSON_AddNumberToObject(row, lines[i].key, (double)lines[i].bytes);
        }
        cJSON_AddNumberToObject(row, "limit_bytes", (double)fit.use.limit_bytes);
        cJSON_AddItemToArray(rows, row);
    }
    return root;
}

int command_memory(int argc, char **argv)
{
    struct memory_arguments arguments = {
        .first = 1,
        .last = 16,
        .attention = -1,
        .precision = {-1, -1, -1},
        .question = {.context_tokens = 4096, .memory_fraction = 0.9},
    };
    int code = parse(&arguments, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct error *error = calloc(1, sizeof *error);
    enum status status = error == NULL ? STATUS_NO_MEMORY : load(&arguments, error);
    if (status != STATUS_OK) {
        code = cli_fail(status, error != NULL ? error : &(struct error){0});
    } else if (arguments.json) {
        code = print_json(table_json(&arguments));
    } else {
        print_table(&arguments);
        code = 0;
    }
    free(error);
    return code;
}
