/* cmd_place.c -- moesim place: a placement from measured loads, ready for a serving engine. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "place.h"
#include "placement_file.h"
#include "suggest.h"

#define FORMATS_BYTES 128

static const char help[] =
    "usage: moesim place --strategy NAME --load FILE --slots N --gpus N --out FILE [options]\n\n"
    "Places and replicates experts by measured loads and says what that is worth.\n\n"
    "      --strategy NAME    a strategy of moesim list strategies\n"
    "      --load FILE        tokens by expert: CSV, one row a layer; .npy of integers,\n"
    "                         [layers][experts] or [steps][layers][experts]; or a trace, which\n"
    "                         is counted in 64 steps; affinity and trtllm_cooccurrence want a\n"
    "                         trace, for they look at experts that tokens choose together\n"
    "      --slots N          physical experts a layer, a multiple of --gpus\n"
    "      --gpus N           ranks of the expert-parallel group\n"
    "      --nodes N          nodes the ranks are on (1)\n"
    "      --groups N         expert groups of group-limited routing (1)\n"
    "      --lost-ranks A,B   ranks whose GPUs are gone, for elasticity_aware\n"
    "      --previous FILE    placement in force, in any of the formats below; otherwise slot s\n"
    "                         holds expert s % experts\n"
    "      --expert-bytes N   weights of one expert, for strategies that price moves (44040192)\n"
    "      --out FILE         where the placement goes; replaced only when the new one is whole\n"
    "      --format NAME      csv, sglang, trtllm or ascend (csv)\n"
    "      --first-layer N    the model's number of the first layer, for trtllm and ascend (0)\n"
    "  -j, --json             print the result as JSON\n\n"
    "example:\n"
    "  moesim place --strategy eplb --load loads.csv --slots 288 --gpus 32 --nodes 4 --groups 8 "
    "\\\n"
    "    --out placement.csv\n";

struct place_arguments {
    const char *strategy;
    const char *load;
    const char *previous;
    const char *lost_ranks;
    const char *out;
    const char *format;
    int32_t first_layer;
    bool json;
    struct place_options options;
    enum place_format format_id;
};

/* Numbers among the options; val is its index + 256. */
static const struct number {
    const char *name;
    size_t offset;
    long long min;
} numbers[] = {
    {"slots", offsetof(struct place_arguments, options.num_slots), 1},
    {"gpus", offsetof(struct place_arguments, options.num_ranks), 1},
    {"nodes", offsetof(struct place_arguments, options.num_nodes), 1},
    {"groups", offsetof(struct place_arguments, options.num_groups), 1},
    {"first-layer", offsetof(struct place_arguments, first_layer), 0},
};

#define NUM_NUMBERS   ((int)(sizeof numbers / sizeof numbers[0]))
#define NUMBER_OPTION 256
#define NUMBER_MAX    (1 << 20)

/* Returns -1, or the exit code for a bad number. */
static int take_number(void *field, const char *command, const char *name, const char *text,
                       long long min, long long max, size_t bytes)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < min || number > max) {
        return cli_usage(command, "--%s %s: not a whole number in %lld ... %lld", name, text, min,
                         max);
    }
    int32_t narrow = (int32_t)number;
    int64_t wide = number;
    memcpy(field, bytes == sizeof narrow ? (const void *)&narrow : (const void *)&wide, bytes);
    return -1;
}

static int find_names(struct place_arguments *arguments, const char *command)
{
    arguments->options.strategy = balance_find(arguments->strategy);
    if (arguments->options.strategy == NULL) {
        struct suggestion suggestion = {.word = arguments->strategy};
        int32_t count = 0;
        const struct balance_strategy *const *all = balance_all(&count);
        for (int32_t i = 0; i < count; i++) {
            suggest_offer(&suggestion, all[i]->name);
        }
        return suggestion.nearest != NULL
                   ? cli_usage(command, "there is no strategy '%s'; did you mean '%s'?",
                               arguments->strategy, suggestion.nearest)
                   : cli_usage(command, "there is no strategy '%s'", arguments->strategy);
    }
    char known[FORMATS_BYTES] = "";
    for (int format = 0; format < PLACE_FORMAT_COUNT; format++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "",
                 place_format_name((enum place_format)format));
        if (strcmp(arguments->format, place_format_name((enum place_format)format)) == 0) {
            arguments->format_id = (enum place_format)format;
            return -1;
        }
    }
    return cli_usage(command, "'%s' is none of the formats %s", arguments->format, known);
}

/* Returns -1 to go on, else the exit code. */
static int take_option(struct place_arguments *arguments, int option)
{
    if (option >= NUMBER_OPTION) {
        const struct number *number = &numbers[option - NUMBER_OPTION];
        return take_number((char *)arguments + number->offset, "place", number->name, optarg,
                           number->min, NUMBER_MAX, sizeof(int32_t));
    }
    switch (option) {
    case 's':
        arguments->strategy = optarg;
        return -1;
    case 'l':
        arguments->load = optarg;
        return -1;
    case 'p':
        arguments->previous = optarg;
        return -1;
    case 'r':
        arguments->lost_ranks = optarg;
        return -1;
    case 'o':
        arguments->out = optarg;
        return -1;
    case 'f':
        arguments->format = optarg;
        return -1;
    case 'b':
        return take_number(&arguments->options.expert_bytes, "place", "expert-bytes", optarg, 1,
                           INT64_C(1) << 40, sizeof(int64_t));
    case 'j':
        arguments->json = true;
        return -1;
    default:
        return -1; /* said already */
    }
}

static int parse(struct place_arguments *arguments, int argc, char **argv)
{
    static const struct option long_options[] = {
        {"strategy", required_argument, NULL, 's'},
        {"load", required_argument, NULL, 'l'},
        {"previous", required_argument, NULL, 'p'},
        {"lost-ranks", required_argument, NULL, 'r'},
        {"out", required_argument, NULL, 'o'},
        {"format", required_argument, NULL, 'f'},
        {"expert-bytes", required_argument, NULL, 'b'},
        {"slots", required_argument, NULL, NUMBER_OPTION},
        {"gpus", required_argument, NULL, NUMBER_OPTION + 1},
        {"nodes", required_argument, NULL, NUMBER_OPTION + 2},
        {"groups", required_argument, NULL, NUMBER_OPTION + 3},
        {"first-layer", required_argument, NULL, NUMBER_OPTION + 4},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    static const struct cli_grammar grammar = {"place", ":jh", long_options, help};
    int option = 0;
    int code = -1;
    optind = 1;
    while (code < 0 && (option = cli_next(&code, &grammar, argc, argv)) > 0) {
        code = take_option(arguments, option);
    }
    if (code >= 0) {
        return code;
    }
    if (optind != argc) {
        return cli_usage(argv[0], "'%s' is not expected", argv[optind]);
    }
    const char *missing = arguments->strategy == NULL         ? "--strategy"
                          : arguments->load == NULL           ? "--load"
                          : arguments->options.num_slots == 0 ? "--slots"
                          : arguments->options.num_ranks == 0 ? "--gpus"
                          : arguments->out == NULL            ? "--out"
                                                              : NULL;
    return missing != NULL ? cli_usage(argv[0], "%s is missing", missing)
                           : find_names(arguments, argv[0]);
}

static void print_text(const struct place_arguments *arguments, const struct load_file *load,
                       const struct place_result *result)
{
    const struct place_quality *before = &result->before;
    const struct place_quality *after = &result->after;
    printf("%s: %d layers, %d experts on %d slots, %d GPUs, %d node%s\n\n", arguments->strategy,
           (int)load->num_layers, (int)load->num_experts, (int)arguments->options.num_slots,
           (int)arguments->options.num_ranks, (int)arguments->options.num_nodes,
           arguments->options.num_nodes == 1 ? "" : "s");
    printf("                               before    after\n");
    printf("  balancedness, window       %8.4f %8.4f\n", before->balancedness, after->balancedness);
    if (load->num_steps > 1) {
        printf("  balancedness, step by step %8.4f %8.4f  (%d steps)\n", before->balancedness_step,
               after->balancedness_step, (int)load->num_steps);
    }
    printf("  max / mean, all layers     %8.4f %8.4f\n", before->max_over_mean,
           after->max_over_mean);
    printf("  max / mean, worst layer    %8.4f %8.4f\n", before->max_over_mean_max,
           after->max_over_mean_max);
    printf("  experts twice on a GPU     %8d %8d\n", (int)before->duplicates,
           (int)after->duplicates);
    if (arguments->lost_ranks != NULL) {
        printf("  experts that nobody holds  %8d %8d\n", (int)before->homeless,
               (int)after->homeless);
    }
    printf("\n  %d experts to send, %d slots changed in %d layers\n", (int)result->moves,
           (int)result->slots_changed, (int)result->layers_changed);
    printf("  written: %s\n", arguments->out);
}

static void add_quality(cJSON *root, const char *name, const struct place_quality *quality)
{
    cJSON *object = cJSON_AddObjectToObject(root, name);
    cJSON_AddNumberToObject(object, "balancedness", quality->balancedness);
    cJSON_AddNumberToObject(object, "balancedness_step", quality->balancedness_step);
    cJSON_AddNumberToObject(object, "max_over_mean", quality->max_over_mean);
    cJSON_AddNumberToObject(object, "max_over_mean_max", quality->max_over_mean_max);
    cJSON_AddNumberToObject(object, "duplicates", quality->duplicates);
    cJSON_AddNumberToObject(object, "homeless", quality->homeless);
}

static cJSON *result_json(const struct place_arguments *arguments, const struct load_file *load,
                          const struct place_result *result)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "strategy", arguments->strategy);
    cJSON_AddStringToObject(root, "out", arguments->out);
    cJSON_AddStringToObject(root, "format", arguments->format);
    cJSON_AddNumberToObject(root, "num_steps", load->num_steps);
    cJSON_AddNumberToObject(root, "num_layers", load->num_layers);
    cJSON_AddNumberToObject(root, "num_experts", load->num_experts);
    add_quality(root, "before", &result->before);
    add_quality(root, "after", &result->after);
    cJSON_AddNumberToObject(root, "moves", result->moves);
    cJSON_AddNumberToObject(root, "slots_changed", result->slots_changed);
    cJSON_AddNumberToObject(root, "layers_changed", result->layers_changed);
    return root;
}

/* Reads "3,7" into flags by rank. */
static enum status read_lost(struct place_arguments *arguments, struct arena *arena,
                             struct error *error)
{
    const char *text = arguments->lost_ranks;
    int32_t num_ranks = arguments->options.num_ranks;
    bool *is_lost = text != NULL ? arena_alloc(arena, (size_t)num_ranks, sizeof *is_lost) : NULL;
    if (text != NULL && is_lost == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for %d ranks", (int)num_ranks);
    }
    arguments->options.rank_is_lost = is_lost;
    for (const char *at = text; at != NULL;) {
        char *end;
        long rank = strtol(at, &end, 10);
        if (end == at || rank < 0 || rank >= num_ranks || (*end != ',' && *end != '\0')) {
            return error_add(error, STATUS_INVALID,
                             "--lost-ranks %s: expected ranks from 0 to %d with commas between",
                             text, (int)num_ranks - 1);
        }
        is_lost[rank] = true;
        at = *end == ',' ? end + 1 : NULL;
    }
    return STATUS_OK;
}

static int run(struct place_arguments *arguments, struct arena *arena, struct error *error)
{
    struct load_file load = {0};
    struct place_result result = {0};
    int32_t *previous = NULL;
    enum status status = read_lost(arguments, arena, error);
    if (status == STATUS_OK) {
        status = load_file_read(&load, arguments->load, arena, error);
    }
    if (status == STATUS_OK) {
        status = place_count_pairs(&arguments->options, arguments->load, arena, error);
    }
    if (status == STATUS_OK && arguments->previous != NULL) {
        status = placement_file_read(&previous, arguments->previous, &load,
                                     arguments->options.num_slots, arena, error);
    }
    if (status == STATUS_OK) {
        status = place(&result, &arguments->options, &load, previous, arena, error);
    }
    if (status == STATUS_OK) {
        status = place_write(arguments->out, arguments->format_id, result.expert_of_slot,
                             &arguments->options, load.num_layers, arguments->first_layer, error);
    }
    if (status != STATUS_OK) {
        return cli_fail(status, error);
    }
    if (arguments->json) {
        return print_json(result_json(arguments, &load, &result));
    }
    print_text(arguments, &load, &result);
    return 0;
}

int command_place(int argc, char **argv)
{
    struct place_arguments arguments = {
        .format = "csv", .options = {.num_nodes = 1, .num_groups = 1, .expert_bytes = 44040192}};
    int code = parse(&arguments, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct arena arena = {0};
    struct error *error = calloc(1, sizeof *error);
    code = error == NULL ? cli_fail(STATUS_NO_MEMORY, &(struct error){0})
                         : run(&arguments, &arena, error);
    arena_free(&arena);
    free(error);
    return code;
}
