/* cmd_kernels.c -- moesim kernels: what predicts a model's layers on a GPU, kernel by kernel. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "collective/collective.h"
#include "gpu/fitted_phases.h"
#include "gpu/glue.h"

#define TOKENS_MAX 1048576L

static const char help[] =
    "usage: moesim kernels MODEL [--gpu GPU] [--tokens N] [--prefill] [--set SET]\n"
    "                      [--json]\n\n"
    "Lists which measured constants the compute model 'fitted' takes for attention, GEMMs and\n"
    "experts of a model on a GPU (behind DeepEP, unless a scenario says else), what they rest on\n"
    "and how far they are off on rows held out;\n"
    "then the small kernels of a layer that stand between them, as engines of spring 2025 "
    "launched\n"
    "them: bytes read and written by a token (of experts: by a copy or by a token received),\n"
    "launches, time, and which constants hold a kernel already, so that it is not charged "
    "again.\n\n"
    "      --gpu GPU    a preset of moesim list gpus; default h800-sxm\n"
    "      --tokens N   tokens of a GPU; of experts: copies and rows; default 128\n"
    "      --prefill    reading prompts; default: decoding\n"
    "      --set SET    whose: deepseek, or sglang, which fused less; default deepseek, which\n"
    "                   scenarios are charged\n"
    "  -j, --json       print one JSON object: constants; kernels, each with bytes and ns\n\n"
    "example:\n"
    "  moesim kernels deepseek-v3 --gpu h800-sxm --tokens 4096 --prefill\n";

static const char *const phase_names[GPU_PHASE_COUNT] = {
    [GPU_ATTENTION] = "attention", [GPU_DENSE_FFN] = "dense", [GPU_GATE] = "gate",
    [GPU_SHARED] = "shared",       [GPU_EXPERT] = "experts",  [GPU_HEAD] = "head"};

static const char *const set_names[GLUE_SET_COUNT] = {
    [GLUE_DEEPSEEK] = "deepseek", [GLUE_SGLANG] = "sglang"};

static const char *const holder_names[] = {[GLUE_HELD_BY_NONE] = "-",
                                           [GLUE_HELD_BY_LINEAR] = "linear layers",
                                           [GLUE_HELD_BY_ATTENTION] = "attention modules",
                                           [GLUE_HELD_BY_CORE] = "engines' attention, modules",
                                           [GLUE_HELD_BY_TURNING] =
                                               "TensorRT-LLM's attention, modules",
                                           [GLUE_HELD_BY_EXPERTS] = "expert phases"};

struct kernels_arguments {
    const char *model;
    const char *gpu;
    int32_t tokens;
    enum glue_set set;
    bool prefill;
    bool json;
};

static int take_tokens(int32_t *tokens, const char *text)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 1 || number > TOKENS_MAX) {
        return cli_usage("kernels", "--tokens %s: not a whole number in 1 ... %ld", text,
                         TOKENS_MAX);
    }
    *tokens = (int32_t)number;
    return -1;
}

static int take_set(enum glue_set *set, const char *text)
{
    for (int32_t i = 0; i < GLUE_SET_COUNT; i++) {
        if (strcmp(text, set_names[i]) == 0) {
            *set = (enum glue_set)i;
            return -1;
        }
    }
    return cli_usage("kernels", "--set %s: neither deepseek nor sglang", text);
}

static int parse(struct kernels_arguments *arguments, int argc, char **argv)
{
    static const struct option long_options[] = {{"gpu", required_argument, NULL, 'g'},
                                                 {"tokens", required_argument, NULL, 't'},
                                                 {"prefill", no_argument, NULL, 'p'},
                                                 {"set", required_argument, NULL, 's'},
                                                 {"json", no_argument, NULL, 'j'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    static const struct cli_grammar grammar = {"kernels", ":jh", long_options, help};
    int option = 0;
    int code = -1;
    optind = 1;
    while (code < 0 && (option = cli_next(&code, &grammar, argc, argv)) > 0) {
        switch (option) {
        case 'g':
            arguments->gpu = optarg;
            break;
        case 't':
            code = take_tokens(&arguments->tokens, optarg);
            break;
        case 'p':
            arguments->prefill = true;
            break;
        case 's':
            code = take_set(&arguments->set, optarg);
            break;
        default:
            arguments->json = true;
        }
    }
    if (code < 0 && optind + 1 != argc) {
        return cli_usage("kernels", optind < argc ? "one model, please" : "which model?");
    }
    arguments->model = argv[optind];
    return code;
}

/* Of a dense model, which has no experts. */
static int32_t num_parts(const struct moe_model *model)
{
    return model->num_experts > 0 ? FITTED_PARTS : FITTED_EXPERTS;
}

static void print_constants(const struct fitted_part *part, int32_t count)
{
    printf("%-23s %-28s %-9s %6s %8s %8s\n", "fitted constants", "kernels", "precision", "rows",
           "median", "p90");
    for (int32_t i = 0; i < count; i++) {
        const struct fit_evidence *fit = part[i].fit;
        printf("%-23s %-28s %-9s", part[i].name, part[i].kernels,
               precision_name(part[i].precision));
        if (fit != NULL) {
            printf(" %6d %6.1f %% %6.1f %%\n  ", (int)fit->num_rows, 100.0 * fit->error_median,
                   100.0 * fit->error_p90);
            print_wrapped(fit->fitted_on, 2);
        } else {
            printf(" %6d %8s\n", 0, "unknown");
        }
    }
    puts("Errors are on rows that the fit had not seen.\n");
}

static void add_constants(cJSON *root, const struct fitted_part *part, int32_t count)
{
    cJSON *list = cJSON_AddArrayToObject(root, "constants");
    for (int32_t i = 0; i < count; i++) {
        const struct fit_evidence *fit = part[i].fit;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", part[i].name);
        cJSON_AddStringToObject(item, "kernels", part[i].kernels);
        cJSON_AddStringToObject(item, "precision", precision_name(part[i].precision));
        cJSON_AddNumberToObject(item, "num_rows", fit != NULL ? fit->num_rows : 0);
        if (fit != NULL) {
            cJSON_AddNumberToObject(item, "error_median", fit->error_median);
            cJSON_AddNumberToObject(item, "error_p90", fit->error_p90);
            cJSON_AddStringToObject(item, "fitted_on", fit->fitted_on);
        }
        cJSON_AddItemToArray(list, item);
    }
}

static void print_table(const struct kernels_arguments *arguments, const struct gpu_spec *gpu,
                        const struct moe_model *model)
{
    int32_t count = 0;
    const struct glue_kernel *kernel = glue_all(&count);
    struct fitted_part part[FITTED_PARTS];
    fitted_parts(part, gpu, model, arguments->prefill);
    printf("%s on %s, %s, %d tokens, set %s\n\n", model->name, gpu->name,
           arguments->prefill ? "prefill" : "decode", (int)arguments->tokens,
           set_names[arguments->set]);
    print_constants(part, num_parts(model));
    printf("%-10s %-33s %9s %9s %8s %9s  %s\n", "phase", "kernel", "read B", "written B",
           "launches", "us", "held by");
    for (int32_t i = 0; i < count; i++) {
        if (!glue_applies(&kernel[i], arguments->set, model, arguments->prefill)) {
            continue;
        }
        printf("%-10s %-33s %9.0f %9.0f %8d %9.1f  %s\n", phase_names[kernel[i].phase],
               kernel[i].name, glue_side_bytes(&kernel[i], &kernel[i].read, model, 1),
               glue_side_bytes(&kernel[i], &kernel[i].write, model, 1), (int)kernel[i].launches,
               glue_kernel_ns(&kernel[i], gpu, model, (double)arguments->tokens) * 1e-3,
               holder_names[kernel[i].held_by]);
    }
    printf(
        "\nAlone on the GPU. Shares of the copy rate are those of DeepSeek's kernels on an H800\n"
        "(deepseek-ai/profile-data @ ae7fc078, train.json)%s.\n",
        arguments->set == GLUE_SGLANG ? "; of SGLang's quantisation and joins, its\n"
                                        "pull requests 4396, 5045 and 10156"
                                      : "");
}

static int print_list(const struct kernels_arguments *arguments, const struct gpu_spec *gpu,
                      const struct moe_model *model)
{
    int32_t count = 0;
    const struct glue_kernel *kernel = glue_all(&count);
    struct fitted_part part[FITTED_PARTS];
    fitted_parts(part, gpu, model, arguments->prefill);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "model", model->name);
    cJSON_AddStringToObject(root, "gpu", gpu->name);
    cJSON_AddBoolToObject(root, "prefill", arguments->prefill);
    cJSON_AddNumberToObject(root, "tokens", arguments->tokens);
    cJSON_AddStringToObject(root, "set", set_names[arguments->set]);
    add_constants(root, part, num_parts(model));
    cJSON *list = cJSON_AddArrayToObject(root, "kernels");
    for (int32_t i = 0; i < count; i++) {
        if (!glue_applies(&kernel[i], arguments->set, model, arguments->prefill)) {
            continue;
        }
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "phase", phase_names[kernel[i].phase]);
        cJSON_AddStringToObject(item, "name", kernel[i].name);
        cJSON_AddNumberToObject(item, "read_bytes",
                                glue_side_bytes(&kernel[i], &kernel[i].read, model, 1));
        cJSON_AddNumberToObject(item, "written_bytes",
                                glue_side_bytes(&kernel[i], &kernel[i].write, model, 1));
        cJSON_AddNumberToObject(item, "launches", kernel[i].launches);
        cJSON_AddNumberToObject(item, "share", kernel[i].share[arguments->set]);
        cJSON_AddNumberToObject(item, "duration_ns",
                                glue_kernel_ns(&kernel[i], gpu, model, (double)arguments->tokens));
        cJSON_AddStringToObject(item, "held_by", holder_names[kernel[i].held_by]);
        cJSON_AddItemToArray(list, item);
    }
    return print_json(root);
}

int command_kernels(int argc, char **argv)
{
    struct kernels_arguments arguments = {.gpu = "h800-sxm", .tokens = 128};
    struct moe_model model;
    struct gpu_spec gpu;
    struct error error = {0};
    int code = parse(&arguments, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum status status = model_load(&model, arguments.model, &error);
    enum status gpu_status = gpu_load(&gpu, arguments.gpu, &error);
    if (status != STATUS_OK || gpu_status != STATUS_OK) {
        return cli_fail(status != STATUS_OK ? status : gpu_status, &error);
    }
    const struct kernels_wanted wanted = {
        .kernels = "any",
        .precision = model.precision_expert,
        .collective = collective_usual(arguments.prefill),
        .prefill = arguments.prefill,
    };
    (void)fitted_choose(&gpu, &wanted); /* as scenarios that say nothing do */
    gpu.glue_set = (int32_t)arguments.set;
    if (arguments.json) {
        return print_list(&arguments, &gpu, &model);
    }
    print_table(&arguments, &gpu, &model);
    return 0;
}
