/* cmd_diff.c -- moesim diff: two stored runs side by side, and limits for scripts. */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "diff.h"
#include "format.h"

#define GATES_MAX    32
#define LAYERS_SHOWN 5

static const char help[] =
    "usage: moesim diff RESULTS [RESULTS2] RUN_A RUN_B [options]\n\n"
    "Compares two complete runs of one or two results files: what was asked differently and what\n"
    "came out differently, as B - A and relative to A. With two files, RUN_A is looked up in the\n"
    "first and RUN_B in the second. A run is named by its id, its label, or as first or last.\n\n"
    "      --fail-if EXPR  exit with 1 if a metric changed by more than a limit: METRIC>LIMIT or\n"
    "                      METRIC<LIMIT, LIMIT as a percentage of A (+3%, -0.5%) or in the\n"
    "                      metric's own unit; may be repeated\n"
    "  -j, --json          print the differences as JSON\n\n"
    "example:\n"
    "  moesim diff results.db first last --fail-if 'step_ns_mean>+3%' \\\n"
    "      --fail-if 'dropped_share>0.01'\n\n"
    "metrics:\n";

static const struct option long_options[] = {
    {"fail-if", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct command {
    struct diff_options options;
    struct diff_gate gate[GATES_MAX];
    int32_t num_gates;
    bool json;
};

static void print_help(void)
{
    const char *name;
    fputs(help, stdout);
    for (int32_t index = 0; (name = diff_metric_name(index)) != NULL; index++) {
        printf("  %s\n", name);
    }
    puts("those up to usd_per_million_new only runs of moesim serve have");
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct command *command, int argc, char **argv, struct error *error)
{
    int letter;
    opterr = 0;
    optind = 1;
    while ((letter = getopt_long(argc, argv, ":jh", long_options, NULL)) != -1) {
        switch (letter) {
        case 'f':
            if (command->num_gates == GATES_MAX) {
                return cli_usage("diff", "more than %d --fail-if", GATES_MAX);
            }
            if (diff_gate_parse(&command->gate[command->num_gates++], optarg, error) != STATUS_OK) {
                return cli_fail(STATUS_INVALID, error);
            }
            break;
        case 'j':
            command->json = true;
            break;
        case 'h':
            print_help();
            return 0;
        default:
            return cli_refuse_option(argv[0], letter, long_options, argv);
        }
    }
    int count = argc - optind;
    if (count != 3 && count != 4) {
        return cli_usage("diff", "name one or two results files and two runs");
    }
    command->options = (struct diff_options){{argv[optind], argv[optind + (count == 4)]},
                                             {argv[argc - 2], argv[argc - 1]}};
    return -1;
}

static const char *format_value(char *text, enum diff_unit unit, double value,
                                const struct currency *currency)
{
    switch (unit) {
    case DIFF_NS:
        return format_ns(text, value);
    case DIFF_BYTES:
        return format_bytes(text, value);
    case DIFF_COUNT:
        return format_count(text, value);
    case DIFF_USD:
        return format_money(text, value, currency);
    case DIFF_PLAIN:
        break;
    }
    snprintf(text, FORMAT_BYTES, "%.4g", value);
    return text;
}

/* "+1.2 us": a sign in front of the formatted size. */
static const char *format_change(char *text, enum diff_unit unit, double change,
                                 const struct currency *currency)
{
    char size[FORMAT_BYTES];
    if (change == 0.0) {
        return "=";
    }
    format_value(size, unit, fabs(change), currency);
    snprintf(text, FORMAT_BYTES, "%c%.30s", change < 0.0 ? '-' : '+', size);
    return text;
}

static const char *format_relative(char *text, double relative)
{
    char size[FORMAT_BYTES];
    if (relative == 0.0) {
        return "=";
    }
    if (!isfinite(relative)) {
        return "from 0";
    }
    format_percent(size, fabs(relative));
    snprintf(text, FORMAT_BYTES, "%c%.30s", relative < 0.0 ? '-' : '+', size);
    return text;
}

static void print_metric(const struct diff_metric *metric, const struct currency *currency)
{
    char text[4][FORMAT_BYTES];
    double change = diff_change(metric);
    printf("%-26s %12s %12s %12s", metric->name,
           format_value(text[0], metric->unit, metric->value[0], currency),
           format_value(text[1], metric->unit, metric->value[1], currency),
           format_change(text[2], metric->unit, change, currency));
    if (change != 0.0) {
        printf(" %10s", format_relative(text[3], diff_relative(metric)));
    }
    putchar('\n');
}

/* Of equal runs what differs nevertheless; of others all but what neither run has. */
static void print_metrics(const struct diff *diff)
{
    bool begun = false;
    char absent[DIFF_METRICS_MAX * 40] = "zero in both:";
    bool any_absent = false;
    for (int32_t index = 0; index < diff->num_metrics; index++) {
        const struct diff_metric *metric = &diff->metric[index];
        if (!diff_has(metric)) {
            continue;
        }
        bool same = diff_change(metric) == 0.0;
        if (same && !diff->equal && metric->value[0] == 0.0) {
            size_t used = strlen(absent);
            snprintf(absent + used, sizeof absent - used, "%s %s", any_absent ? "," : "",
                     metric->name);
            any_absent = true;
        } else if (!same || !diff->equal) {
            if (!begun) {
                printf("\n%-26s %12s %12s %12s %10s\n", "metric", "A", "B", "B - A", "relative");
                begun = true;
            }
            print_metric(metric, &diff->money.shown);
        }
    }
    if (any_absent) {
        print_wrapped(absent, 0);
    }
}

static void print_layers(const struct diff *diff)
{
    if (diff->num_layers == 0) {
        return;
    }
    printf("\nlayers that changed most, %d of %d that changed\n",
           diff->num_layers < LAYERS_SHOWN ? (int)diff->num_layers : LAYERS_SHOWN,
           (int)diff->num_layers);
    for (int32_t index = 0; index < diff->num_layers && index < LAYERS_SHOWN; index++) {
        const struct diff_layer *layer = &diff->layer[index];
        struct diff_metric time = {.value = {layer->layer_ns[0], layer->layer_ns[1]}};
        char text[3][FORMAT_BYTES];
        printf("  layer %3d  %9s -> %9s %9s  busiest rank %.2f -> %.2f x the mean",
               (int)layer->layer, format_ns(text[0], layer->layer_ns[0]),
               format_ns(text[1], layer->layer_ns[1]),
               format_relative(text[2], diff_relative(&time)), layer->rank_tokens_max_over_mean[0],
               layer->rank_tokens_max_over_mean[1]);
        if (layer->dropped_share[0] > 0.0 || layer->dropped_share[1] > 0.0) {
            printf(", dropped %s -> %s", format_percent(text[0], layer->dropped_share[0]),
                   format_percent(text[1], layer->dropped_share[1]));
        }
        putchar('\n');
    }
}

static void print_text(const struct diff *diff)
{
    for (int i = 0; i < 2; i++) {
        const struct diff_run *run = &diff->run[i];
        printf("%s  %s  digest %s  %s%s%s in %s\n", i == 0 ? "A" : "B", run->run_id, run->digest,
               run->scenario, run->label[0] != '\0' ? ", " : "", run->label, run->results);
    }
    puts(diff->equal ? "\nequal: the digests are the same" : "\ndifferent: the digests differ");
    if (diff->num_keys > 0) {
        puts("\nasked differently");
    }
    for (int32_t index = 0; index < diff->num_keys; index++) {
        const struct diff_key *key = &diff->key[index];
        printf("  %s: %s -> %s\n", key->key, key->value[0] != NULL ? key->value[0] : "(not set)",
               key->value[1] != NULL ? key->value[1] : "(not set)");
    }
    print_metrics(diff);
    print_money_note(&diff->money);
    print_layers(diff);
}

static void add_number(cJSON *object, const char *name, double value)
{
    if (isfinite(value)) {
        cJSON_AddNumberToObject(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static void add_text(cJSON *object, const char *name, const char *text)
{
    if (text != NULL) {
        cJSON_AddStringToObject(object, name, text);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static void add_pair(cJSON *object, const char *name, const double value[2])
{
    cJSON *pair = cJSON_AddArrayToObject(object, name);
    cJSON_AddItemToArray(pair, cJSON_CreateNumber(value[0]));
    cJSON_AddItemToArray(pair, cJSON_CreateNumber(value[1]));
}

static void add_run(cJSON *object, const char *name, const struct diff_run *run)
{
    cJSON *json = cJSON_AddObjectToObject(object, name);
    add_text(json, "results", run->results);
    add_text(json, "run_id", run->run_id);
    add_text(json, "label", run->label);
    add_text(json, "scenario", run->scenario);
    add_text(json, "digest", run->digest);
}

static void add_layers(cJSON *object, const struct diff *diff)
{
    cJSON *layers = cJSON_AddArrayToObject(object, "layers");
    for (int32_t index = 0; index < diff->num_layers; index++) {
        const struct diff_layer *layer = &diff->layer[index];
        cJSON *json = cJSON_CreateObject();
        cJSON_AddNumberToObject(json, "layer", layer->layer);
        add_pair(json, "layer_ns", layer->layer_ns);
        add_pair(json, "expert_ns_max", layer->expert_ns_max);
        add_pair(json, "rank_tokens_max_over_mean", layer->rank_tokens_max_over_mean);
        add_pair(json, "dropped_share", layer->dropped_share);
        cJSON_AddItemToArray(layers, json);
    }
}

static cJSON *diff_json(const struct diff *diff, const struct command *command)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddBoolToObject(object, "equal", diff->equal);
    money_json(object, &diff->money.shown);
    add_run(object, "a", &diff->run[0]);
    add_run(object, "b", &diff->run[1]);
    cJSON *keys = cJSON_AddArrayToObject(object, "keys");
    for (int32_t index = 0; index < diff->num_keys; index++) {
        cJSON *json = cJSON_CreateObject();
        add_text(json, "key", diff->key[index].key);
        add_text(json, "a", diff->key[index].value[0]);
        add_text(json, "b", diff->key[index].value[1]);
        cJSON_AddItemToArray(keys, json);
    }
    cJSON *metrics = cJSON_AddObjectToObject(object, "metrics");
    for (int32_t index = 0; index < diff->num_metrics; index++) {
        const struct diff_metric *metric = &diff->metric[index];
        cJSON *json = cJSON_AddObjectToObject(metrics, metric->name);
        add_number(json, "a", metric->value[0]);
        add_number(json, "b", metric->value[1]);
        add_number(json, "change", diff_change(metric));
        add_number(json, "relative", diff_relative(metric));
    }
    add_layers(object, diff);
    cJSON *gates = cJSON_AddArrayToObject(object, "gates");
    for (int32_t index = 0; index < command->num_gates; index++) {
        cJSON *json = cJSON_CreateObject();
        add_text(json, "expression", command->gate[index].expression);
        cJSON_AddBoolToObject(json, "failed", diff_gate_fails(&command->gate[index], diff));
        cJSON_AddItemToArray(gates, json);
    }
    return object;
}

/* Returns the number of gates that fail. */
static int32_t print_gates(const struct diff *diff, const struct command *command)
{
    const struct currency dollar = {0}; /* limits are in it */
    int32_t num_failed = 0;
    for (int32_t index = 0; index < command->num_gates; index++) {
        const struct diff_gate *gate = &command->gate[index];
        const struct diff_metric *metric = &diff->metric[gate->metric];
        char text[4][FORMAT_BYTES];
        if (!diff_gate_fails(gate, diff)) {
            continue;
        }
        num_failed++;
        fprintf(stderr, "moesim: gate failed: %s (%s -> %s, %s, %s)\n", gate->expression,
                format_value(text[0], metric->unit, metric->value[0], &dollar),
                format_value(text[1], metric->unit, metric->value[1], &dollar),
                format_change(text[2], metric->unit, diff_change(metric), &dollar),
                format_relative(text[3], diff_relative(metric)));
    }
    if (command->num_gates > num_failed && !command->json) {
        printf("\n%d of %d gates passed\n", (int)(command->num_gates - num_failed),
               (int)command->num_gates);
    }
    return num_failed;
}

static int run(const struct command *command, struct error *error)
{
    struct diff diff = {0};
    enum status status = diff_load(&diff, &command->options, error);
    bool is_loaded = status == STATUS_OK;
    int code = 0;
    for (int32_t gate = 0; gate < command->num_gates && is_loaded; gate++) {
        enum status checked = diff_gate_check(&command->gate[gate], &diff, error);
        status = status == STATUS_OK ? checked : status;
    }
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (command->json) {
        code = print_json(diff_json(&diff, command));
    } else {
        print_text(&diff);
    }
    if (code == 0) {
        code = print_gates(&diff, command) > 0;
    }
    diff_free(&diff);
    return code;
}

int command_diff(int argc, char **argv)
{
    struct command command = {0};
    struct error *error = calloc(1, sizeof *error);
    if (error == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    int code = parse(&command, argc, argv, error);
    if (code < 0) {
        code = run(&command, error);
    }
    free(error);
    return code;
}
