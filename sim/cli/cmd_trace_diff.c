/* cmd_trace_diff.c -- moesim trace diff. */
#include <math.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "cli/trace_edit_cli.h"
#include "trace_diff.h"

#define RANKS_MAX 65536

static const char help[] =
    "usage: moesim trace diff A B [options]\n\n"
    "Sets the statistics of two traces side by side, as medians over layers, with the layer of "
    "the\n"
    "model where they differ most. Traces of other models are compared too, by these figures "
    "alone;\n"
    "trace stats --help explains them, NAME@N is at lag, batch size or capacity factor N. For\n"
    "layers both have:\n\n"
    "  moved        share of assignments that would have to go to another expert to turn A's "
    "loads\n"
    "               into B's: 0 the same experts are hot, 1 wholly others. It tells whether a\n"
    "               placement made on A suits B\n"
    "  correlation  of the experts' loads: 1 the same\n\n"
    "      --ep N        ranks that share the experts, default 8 when that divides them\n"
    "      --seed N      draws the rows that make up batches, default 1\n"
    "      --threads N   default all; the figures do not depend on it\n"
    "  -j, --json        print one JSON object: figures[] and layers[]\n\n"
    "example:\n"
    "  moesim trace diff traces/monday traces/sunday\n";

static const struct option long_options[] = {
    {"ep", required_argument, NULL, 'e'},      {"seed", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace diff", ":jh", long_options, help};

static void print_number(double value, const char *format, int width)
{
    if (isnan(value)) {
        printf("%*s", width, "-");
    } else {
        printf(format, width, value);
    }
}

static void print_layers(const struct trace_diff *diff)
{
    double most = -1.0;
    double least = 2.0;
    double sum = 0.0;
    int32_t most_layer = 0;
    if (diff->num_layers == 0) {
        printf("\nno layer is in both traces with as many experts: loads are not compared\n");
        return;
    }
    printf("\n%6s %8s %12s\n", "layer", "moved", "correlation");
    for (int32_t i = 0; i < diff->num_layers; i++) {
        const struct trace_diff_layer *layer = &diff->layer[i];
        printf("%6d %8.3f ", layer->model_layer, layer->moved);
        print_number(layer->correlation, "%*.3f", 12);
        putchar('\n');
        sum += layer->moved;
        least = layer->moved < least ? layer->moved : least;
        most_layer = layer->moved > most ? layer->model_layer : most_layer;
        most = layer->moved > most ? layer->moved : most;
    }
    printf("\n%.0f %% of assignments would have to move, mean over layers; from %.0f %% to %.0f %% "
           "(layer %d)\n",
           100.0 * sum / diff->num_layers, 100.0 * least, 100.0 * most, most_layer);
}

static void print_side(const char *letter, const struct trace *trace)
{
    char tokens[32];
    char requests[32];
    printf("%s  %s: %s tokens, %s requests, %d layers, top-%d of %d experts (%s, %s)\n", letter,
           trace->name, trace_cli_grouped(tokens, trace->num_tokens),
           trace->num_requests > 0 ? trace_cli_grouped(requests, trace->num_requests) : "unknown",
           trace->num_layers, trace->top_k, trace->num_experts, trace->model, trace->origin);
}

static int print_diff(const struct trace_diff *diff, const struct trace trace[2])
{
    print_side("A", &trace[0]);
    print_side("B", &trace[1]);
    printf("\n%-26s %9s %9s %9s   %s\n", "median over layers", "A", "B", "B - A",
           "largest in one layer");
    for (int32_t i = 0; i < diff->num_figures; i++) {
        const struct trace_diff_figure *figure = &diff->figure[i];
        printf("%-26s", figure->name);
        print_number(figure->a, " %*.3f", 9);
        print_number(figure->b, " %*.3f", 9);
        print_number(figure->b - figure->a, " %+*.3f", 9);
        if (!isnan(figure->most)) {
            printf("   %+.3f (layer %d)", figure->most, figure->most_layer);
        }
        putchar('\n');
    }
    print_layers(diff);
    return 0;
}

static cJSON *diff_json(const struct trace_diff *diff, const struct trace trace[2])
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "a", trace[0].name);
    cJSON_AddStringToObject(object, "b", trace[1].name);
    cJSON *figures = cJSON_AddArrayToObject(object, "figures");
    for (int32_t i = 0; i < diff->num_figures; i++) {
        const struct trace_diff_figure *figure = &diff->figure[i];
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "name", figure->name);
        cJSON_AddNumberToObject(entry, "a", figure->a);
        cJSON_AddNumberToObject(entry, "b", figure->b);
        cJSON_AddNumberToObject(entry, "most", figure->most);
        cJSON_AddNumberToObject(entry, "most_layer", figure->most_layer);
        cJSON_AddItemToArray(figures, entry);
    }
    cJSON *layers = cJSON_AddArrayToObject(object, "layers");
    for (int32_t i = 0; i < diff->num_layers; i++) {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddNumberToObject(entry, "layer", diff->layer[i].model_layer);
        cJSON_AddNumberToObject(entry, "moved", diff->layer[i].moved);
        cJSON_AddNumberToObject(entry, "correlation", diff->layer[i].correlation);
        cJSON_AddItemToArray(layers, entry);
    }
    return object;
}

static int measure(char **path, struct trace_stats_options *options, bool json)
{
    struct progress progress;
    struct error error = {0};
    struct trace trace[2] = {{.num_tokens = 0}, {.num_tokens = 0}};
    struct trace_diff diff = {.num_figures = 0};
    enum status status = trace_open(&trace[0], path[0], &error);
    enum status other = trace_open(&trace[1], path[1], &error);
    status = status == STATUS_OK ? other : status;
    options->progress = trace_cli_progress;
    options->context = &progress;
    progress_begin(&progress, "measuring", "layers");
    if (status == STATUS_OK) {
        status = trace_diff_read(&diff, &trace[0], &trace[1], options, &error);
    }
    progress_end(&progress);
    int code = status != STATUS_OK ? cli_fail(status, &error)
               : json              ? print_json(diff_json(&diff, trace))
                                   : print_diff(&diff, trace);
    trace_diff_free(&diff);
    trace_close(&trace[0]);
    trace_close(&trace[1]);
    return code;
}

int command_trace_diff(int argc, char **argv)
{
    struct trace_stats_options options = {.seed = 1};
    int64_t value = 0;
    bool json = false;
    int code = 0;
    int option;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        bool understood = true;
        if (option == 0) {
            return code;
        }
        if (option == 'j') {
            json = true;
        } else if (option == 'e') {
            understood = trace_cli_number(&value, grammar.command, "--ep", optarg, 1, RANKS_MAX);
            options.ep_ranks = (int32_t)value;
        } else if (option == 's') {
            understood = trace_cli_number(&value, grammar.command, "--seed", optarg, 0, INT64_MAX);
            options.seed = (uint64_t)value;
        } else {
            understood = trace_cli_number(&value, grammar.command, "--threads", optarg, 1,
                                          TRACE_THREADS_MAX);
            options.num_threads = (int32_t)value;
        }
        if (!understood) {
            return 1;
        }
    }
    return argc - optind == 2 ? measure(argv + optind, &options, json)
                              : cli_usage(grammar.command, "name two trace directories");
}
