/* cmd_trace_traffic.c -- moesim trace traffic. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "trace_replay.h"

#define RANKS_MAX  65536
#define TOKENS_MAX (INT64_C(1) << 40)

static const char help[] =
    "usage: moesim trace traffic DIR --ep N [options]\n\n"
    "Counts what the recorded routing sends where, layer by layer, without simulating time.\n"
    "Experts lie on ranks by number, ranks on nodes; each rank takes the next rows in turn.\n\n"
    "  load      busiest rank over the mean rank, in assignments\n"
    "  ranks     ranks that a token is sent to, its own included; as much as top-k at most\n"
    "  nodes     the same for nodes: what a node-limited router keeps low\n"
    "  off-node  nodes beside its own that a token is sent to, once each: what the NICs carry\n"
    "  inbound   busiest node over the mean node, in tokens that arrive from other nodes\n\n"
    "      --ep N               ranks that share the experts\n"
    "      --nodes N            nodes that share the ranks, default 1\n"
    "      --tokens-per-rank N  rows that a rank takes in turn, default 128\n"
    "      --threads N          default all; the figures do not depend on it\n"
    "  -j, --json               print one JSON object: layers[] with all sums and the node "
    "matrix\n\n"
    "example:\n"
    "  moesim trace traffic traces/gpt-oss-20b --ep 8 --nodes 2\n";

static const struct option long_options[] = {
    {"ep", required_argument, NULL, 'e'},
    {"nodes", required_argument, NULL, 'n'},
    {"threads", required_argument, NULL, 't'},
    {"tokens-per-rank", required_argument, NULL, 'r'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct cli_grammar grammar = {"trace traffic", ":jh", long_options, help};

enum figure { LOAD, RANKS, NODES, OFF_NODE, INBOUND, FIGURE_COUNT };

static const char *const figure_names[FIGURE_COUNT] = {"load", "ranks", "nodes", "off-node",
                                                       "inbound"};
static const char *const figure_keys[FIGURE_COUNT] = {"load_max_over_mean", "ranks_per_token",
                                                      "nodes_per_token", "off_node_per_token",
                                                      "inbound_max_over_mean"};

static double max_over_mean(const int64_t *value, int32_t count)
{
    int64_t sum = 0;
    int64_t max = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += value[i];
        max = value[i] > max ? value[i] : max;
    }
    return sum > 0 ? (double)max * count / (double)sum : 1.0;
}

/* Tokens that arrive at a node from the ranks of others. */
static int64_t inbound_tokens(const struct trace_replay *replay, int32_t layer, int32_t node)
{
    int64_t tokens = 0;
    for (int32_t source = 0; source < replay->num_ranks; source++) {
        if (source / (replay->num_ranks / replay->num_nodes) != node) {
            tokens += replay->layer[layer].node_tokens[(int64_t)source * replay->num_nodes + node];
        }
    }
    return tokens;
}

static double inbound_max_over_mean(const struct trace_replay *replay, int32_t layer)
{
    int64_t max = 0;
    for (int32_t node = 0; node < replay->num_nodes; node++) {
        int64_t tokens = inbound_tokens(replay, layer, node);
        max = tokens > max ? tokens : max;
    }
    int64_t sum = trace_replay_off_node(replay, layer);
    return sum > 0 ? (double)max * replay->num_nodes / (double)sum : 1.0;
}

static void layer_figures(double figure[FIGURE_COUNT], const struct trace_replay *replay,
                          int32_t index)
{
    const struct trace_replay_layer *layer = &replay->layer[index];
    const double tokens = (double)replay->num_tokens;
    int64_t ranks = 0;
    int64_t nodes = 0;
    for (int32_t rank = 0; rank < replay->num_ranks; rank++) {
        ranks += layer->rank_tokens[rank];
    }
    for (int64_t i = 0; i < (int64_t)replay->num_ranks * replay->num_nodes; i++) {
        nodes += layer->node_tokens[i];
    }
    figure[LOAD] = max_over_mean(layer->load_tokens, replay->num_ranks);
    figure[RANKS] = (double)ranks / tokens;
    figure[NODES] = (double)nodes / tokens;
    figure[OFF_NODE] = (double)trace_replay_off_node(replay, index) / tokens;
    figure[INBOUND] = inbound_max_over_mean(replay, index);
}

static void print_line(const char *label, const double figure[FIGURE_COUNT])
{
    printf("%6s ", label);
    for (int i = 0; i < FIGURE_COUNT; i++) {
        printf(" %8.2f", figure[i]);
    }
    putchar('\n');
}

static void print_table(const struct trace_replay *replay, const struct trace *trace)
{
    char tokens[32];
    double mean[FIGURE_COUNT] = {0.0};
    printf("%s: %s tokens, %d layers, %d experts, top-%d; %d ranks on %d node%s\n\n%6s ",
           trace->name, trace_cli_grouped(tokens, replay->num_tokens), replay->num_layers,
           replay->num_experts, trace->top_k, replay->num_ranks, replay->num_nodes,
           replay->num_nodes == 1 ? "" : "s", "layer");
    for (int i = 0; i < FIGURE_COUNT; i++) {
        printf(" %8s", figure_names[i]);
    }
    putchar('\n');
    for (int32_t layer = 0; layer < replay->num_layers; layer++) {
        char label[16];
        double figure[FIGURE_COUNT];
        layer_figures(figure, replay, layer);
        (void)snprintf(label, sizeof label, "%d", replay->layer[layer].model_layer);
        print_line(label, figure);
        for (int i = 0; i < FIGURE_COUNT; i++) {
            mean[i] += figure[i] / replay->num_layers;
        }
    }
    putchar('\n');
    print_line("mean", mean);
}

static void add_sums(cJSON *object, const char *key, const int64_t *value, int64_t count)
{
    cJSON *array = cJSON_AddArrayToObject(object, key);
    for (int64_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(array, cJSON_CreateNumber((double)value[i]));
    }
}

static cJSON *replay_json(const struct trace_replay *replay, const struct trace *trace)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", trace->name);
    cJSON_AddNumberToObject(object, "num_tokens", (double)replay->num_tokens);
    cJSON_AddNumberToObject(object, "num_experts", replay->num_experts);
    cJSON_AddNumberToObject(object, "ep", replay->num_ranks);
    cJSON_AddNumberToObject(object, "nodes", replay->num_nodes);
    cJSON *layers = cJSON_AddArrayToObject(object, "layers");
    for (int32_t i = 0; i < replay->num_layers; i++) {
        const struct trace_replay_layer *layer = &replay->layer[i];
        double figure[FIGURE_COUNT];
        cJSON *item = cJSON_CreateObject();
        layer_figures(figure, replay, i);
        cJSON_AddNumberToObject(item, "layer", layer->model_layer);
        for (int key = 0; key < FIGURE_COUNT; key++) {
            cJSON_AddNumberToObject(item, figure_keys[key], figure[key]);
        }
        add_sums(item, "expert_tokens", layer->expert_tokens, replay->num_experts);
        add_sums(item, "load_tokens", layer->load_tokens, replay->num_ranks);
        add_sums(item, "rank_tokens", layer->rank_tokens, replay->num_ranks);
        cJSON *matrix = cJSON_AddArrayToObject(item, "node_tokens"); /* [source rank][node] */
        for (int32_t source = 0; source < replay->num_ranks; source++) {
            cJSON *row = cJSON_CreateArray();
            for (int32_t node = 0; node < replay->num_nodes; node++) {
                int64_t tokens = layer->node_tokens[(int64_t)source * replay->num_nodes + node];
                cJSON_AddItemToArray(row, cJSON_CreateNumber((double)tokens));
            }
            cJSON_AddItemToArray(matrix, row);
        }
        cJSON_AddItemToArray(layers, item);
    }
    return object;
}

static int measure(const char *directory, struct trace_replay_options *options, bool json)
{
    struct progress progress;
    struct error error = {0};
    struct trace trace = {0};
    struct trace_replay replay = {0};
    int code = 0;
    enum status status = trace_open(&trace, directory, &error);
    if (status == STATUS_OK) {
        options->progress = trace_cli_progress;
        options->context = &progress;
        progress_begin(&progress, "counting", "rows");
        status = trace_replay_read(&replay, &trace, options, &error);
        progress_end(&progress);
    }
    if (status != STATUS_OK) {
        code = cli_fail(status, &error);
    } else if (json) {
        code = print_json(replay_json(&replay, &trace));
    } else {
        print_table(&replay, &trace);
    }
    trace_replay_free(&replay);
    trace_close(&trace);
    return code;
}

int command_trace_traffic(int argc, char **argv)
{
    struct trace_replay_options options = {.num_nodes = 1, .tokens_per_rank = 128};
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
            options.num_ranks = (int32_t)value;
        } else if (option == 'n') {
            understood = trace_cli_number(&value, grammar.command, "--nodes", optarg, 1, RANKS_MAX);
            options.num_nodes = (int32_t)value;
        } else if (option == 'r') {
            understood = trace_cli_number(&options.tokens_per_rank, grammar.command,
                                          "--tokens-per-rank", optarg, 1, TOKENS_MAX);
        } else {
            understood = trace_cli_number(&value, grammar.command, "--threads", optarg, 1,
                                          TRACE_THREADS_MAX);
            options.num_threads = (int32_t)value;
        }
        if (!understood) {
            return 1;
        }
    }
    const char *directory = trace_cli_argument(&code, &grammar, argc, argv, "one trace directory");
    if (directory == NULL) {
        return code;
    }
    if (options.num_ranks == 0) {
        return cli_usage(grammar.command, "say with --ep how many ranks share the experts");
    }
    return measure(directory, &options, json);
}
