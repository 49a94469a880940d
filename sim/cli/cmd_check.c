/* cmd_check.c -- moesim check: everything a run would refuse, without running. */
#include <cjson/cJSON.h>
#include <getopt.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/variant.h"
#include "format.h"

static const char help[] =
    "usage: moesim check SCENARIO [--set KEY=VALUE]... [--json]\n\n"
    "Loads a scenario, opens or generates its trace, and checks that everything fits: names,\n"
    "ranges, shapes, memory. Prints what the fullest GPU has to hold. Nothing is simulated.\n\n"
    "      --set KEY=VALUE   override one key of the scenario; may be repeated\n"
    "  -j, --json            print the result as JSON\n\n"
    "example:\n"
    "  moesim check deepseek_v3_decode_32xh800 --set context_tokens=4096\n";

/* One line of the memory table. */
struct part {
    const char *name;
    const char *key;
    int64_t bytes;
    const char *what;
};

#define NUM_PARTS 6
#define FP8_BLOCK 128 /* rows and columns of weights that share a scale */

static void list_parts(struct part parts[NUM_PARTS], const struct memory_use *use)
{
    const struct part all[NUM_PARTS] = {
        {"dense", "dense_bytes", use->dense_bytes,
         "attention, dense and shared FFN, router, embeddings"},
        {"experts", "expert_bytes", use->expert_bytes,
         "all slots of all layers; offloaded: and buffers"},
        {"KV cache", "kv_bytes", use->kv_bytes, "the fullest step"},
        {"buffers", "buffer_bytes", use->buffer_bytes, "activations and messages of one step"},
        {"total", "total_bytes", use->total_bytes, ""},
        {"limit", "limit_bytes", use->limit_bytes, "memory_fraction of HBM"},
    };
    for (int32_t i = 0; i < NUM_PARTS; i++) {
        parts[i] = all[i];
    }
}

/* What redundant experts take of the fullest GPU. */
static int64_t redundant_bytes(const struct scenario *scenario)
{
    struct scenario plain = *scenario;
    plain.redundant_experts = 0;
    return scenario_memory(scenario, 0).expert_bytes - scenario_memory(&plain, 0).expert_bytes;
}

/* Formats with a scale a block of weights want whole blocks on every GPU. */
static void print_expert_blocks(const struct scenario *scenario)
{
    int32_t width = scenario->model.expert_ffn_dim / scenario->expert_tp;
    if (scenario->expert_tp > 1 && scenario->model.precision_expert == PRECISION_FP8 &&
        width % FP8_BLOCK != 0) {
        printf("  note     a GPU's %d columns of an expert are no multiple of %d, which vLLM "
               "refuses\n           of fp8 weights with a scale a block\n",
               (int)width, FP8_BLOCK);
    }
}

static void print_check(const struct variant *variant, const struct memory_use *use)
{
    const struct scenario *scenario = &variant->scenario;
    struct part parts[NUM_PARTS];
    char amount[FORMAT_BYTES];
    list_parts(parts, use);
    printf("%s\n", scenario->name);
    printf("  model    %s\n", scenario->model.name);
    printf("  cluster  %d x %d %s, ep %d, ", (int)scenario->cluster.num_nodes,
           (int)scenario->cluster.gpus_per_node, scenario->cluster.gpu.name, (int)scenario->ep);
    if (scenario->expert_tp > 1) {
        printf("expert_tp %d, ", (int)scenario->expert_tp);
    }
    printf("tp %d\n", (int)scenario->tp);
    print_expert_blocks(scenario);
    if (variant->trace != NULL) {
        printf("  trace    %s: %lld tokens, %d layers, top %d of %d experts (%s)\n",
               variant->trace->name, (long long)variant->trace->num_tokens,
               (int)variant->trace->num_layers, (int)variant->trace->top_k,
               (int)variant->trace->num_experts, variant->trace->origin);
    }
    printf("\nmemory of the fullest GPU\n");
    for (int32_t i = 0; i < NUM_PARTS; i++) {
        printf("  %-9s %10s%s%s\n", parts[i].name, format_bytes(amount, (double)parts[i].bytes),
               parts[i].what[0] != '\0' ? "  " : "", parts[i].what);
    }
    if (scenario->redundant_experts > 0) {
        printf("of the experts, %s are for %d redundant ones a layer\n",
               format_bytes(amount, (double)redundant_bytes(scenario)),
               (int)scenario->redundant_experts);
    }
    printf("\nok\n");
}

static cJSON *check_json(const struct variant *variant, const struct memory_use *use)
{
    struct part parts[NUM_PARTS];
    list_parts(parts, use);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddBoolToObject(root, "ok", 1);
    cJSON_AddStringToObject(root, "scenario", variant->scenario.name);
    cJSON_AddStringToObject(root, "run_id", variant->run_id);
    cJSON_AddStringToObject(root, "model", variant->scenario.model.name);
    cJSON_AddStringToObject(root, "gpu", variant->scenario.cluster.gpu.name);
    cJSON_AddNumberToObject(root, "ep", variant->scenario.ep);
    cJSON_AddNumberToObject(root, "expert_tp", variant->scenario.expert_tp);
    cJSON_AddNumberToObject(root, "tp", variant->scenario.tp);
    cJSON *memory = cJSON_AddObjectToObject(root, "memory");
    for (int32_t i = 0; i < NUM_PARTS; i++) {
        cJSON_AddNumberToObject(memory, parts[i].key, (double)parts[i].bytes);
    }
    cJSON_AddNumberToObject(memory, "redundant_bytes", (double)redundant_bytes(&variant->scenario));
    return root;
}

/* Takes the options. Returns -1 to go on, else the exit code. */
static int parse(struct cli_options *options, int argc, char **argv)
{
    static const struct option long_options[] = {{"set", required_argument, NULL, 's'},
                                                 {"json", no_argument, NULL, 'j'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    static const struct cli_grammar grammar = {"check", ":jh", long_options, help};
    int option = 0;
    int code = 0;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        if (option == 's' && options->num_overrides == OVERRIDES_MAX) {
            return cli_usage(argv[0], "more than %d --set", OVERRIDES_MAX);
        }
        if (option == 's') {
            options->override[options->num_overrides++] = optarg;
        } else {
            options->json = true;
        }
    }
    if (optind + 1 != argc) {
        return cli_usage(argv[0], "name one scenario file");
    }
    options->scenario = argv[optind];
    return -1;
}

static int check(struct variant *variant, const struct cli_options *options, struct error *error)
{
    enum status status = scenario_load(&variant->scenario, options->scenario, options->override,
                                       options->num_overrides, error);
    if (status == STATUS_OK) {
        status = variant_open(variant, NULL, 0, (int32_t)omp_get_max_threads(), error);
    }
    int64_t kv_tokens = 0;
    if (status == STATUS_OK) {
        status = engine_kv_tokens_max(&kv_tokens, &variant->scenario, variant->trace, error);
    }
    if (status != STATUS_OK) {
        return cli_fail(status, error);
    }
    struct memory_use use = scenario_memory(&variant->scenario, kv_tokens);
    if (options->json) {
        return print_json(check_json(variant, &use));
    }
    print_check(variant, &use);
    return 0;
}

int command_check(int argc, char **argv)
{
    struct cli_options options = {0};
    int code = parse(&options, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct variant *variant = calloc(1, sizeof *variant);
    struct error *error = calloc(1, sizeof *error);
    if (variant == NULL || error == NULL) {
        code = cli_fail(STATUS_NO_MEMORY, &(struct error){0});
    } else {
        code = check(variant, &options, error);
        variant_close(variant);
    }
    free(variant);
    free(error);
    return code;
}
