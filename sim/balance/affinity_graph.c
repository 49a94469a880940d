/*
 * affinity_graph.c -- the graph of all experts of all layers, and its partition by METIS.
 *
 * Edges are pairs that are above their layer's mean: with all of them the graph of DeepSeek-V3 has
 * eleven million, and what every expert has in common with every other parts nothing.
 */
#include "balance/affinity_graph.h"

#include <metis.h>

#define WEIGHTS_MAX (1 << 29) /* METIS adds edge weights up in int32_t */

static int64_t mean_of(const int32_t *counts, int64_t num_experts)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < num_experts * num_experts; i++) {
        sum += counts[i];
    }
    return sum / (num_experts * num_experts);
}

/* As METIS takes it: vertex (layer, expert) is layer * num_experts + expert. */
struct graph {
    idx_t *begin;     /* [num_layers * num_experts + 1] */
    idx_t *neighbour; /* both ways; NULL: edges are only counted */
    idx_t *weight;
    int64_t num_edges; /* both ways */
    int64_t sum;       /* of weights, both ways */
    int64_t divisor;   /* of weights, so that their sum fits */
};

static void add_edge(struct graph *graph, int64_t neighbour, int64_t count)
{
    if (graph->neighbour != NULL) {
        graph->neighbour[graph->num_edges] = (idx_t)neighbour;
        graph->weight[graph->num_edges] = (idx_t)(1 + count / graph->divisor);
    }
    graph->num_edges++;
    graph->sum += count;
}

/*   mean  [num_layers][2]  of pairs and of transitions to the next layer */
static void list_vertex(struct graph *graph, const struct balance_input *input, int32_t layer,
                        int32_t expert, int64_t (*mean)[2])
{
    int64_t experts = input->num_experts;
    const int32_t *pairs = input->pair_tokens + affinity_block(input, layer) + expert * experts;
    for (int64_t other = 0; layer > 0 && other < experts; other++) {
        int64_t count =
            input->transition_tokens[affinity_block(input, layer - 1) + other * experts + expert];
        if (count > mean[layer - 1][1]) {
            add_edge(graph, (layer - 1) * experts + other, count);
        }
    }
    for (int64_t other = 0; other < experts; other++) {
        if (pairs[other] > mean[layer][0]) {
            add_edge(graph, layer * experts + other, pairs[other]);
        }
    }
    for (int64_t other = 0; layer + 1 < input->num_layers && other < experts; other++) {
        int64_t count =
            input->transition_tokens[affinity_block(input, layer) + expert * experts + other];
        if (count > mean[layer][1]) {
            add_edge(graph, (layer + 1) * experts + other, count);
        }
    }
}

static void list_edges(struct graph *graph, const struct balance_input *input, int64_t (*mean)[2])
{
    graph->num_edges = 0;
    graph->sum = 0;
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            graph->begin[(int64_t)layer * input->num_experts + expert] = (idx_t)graph->num_edges;
            list_vertex(graph, input, layer, expert, mean);
        }
    }
    graph->begin[(int64_t)input->num_layers * input->num_experts] = (idx_t)graph->num_edges;
}

static enum status no_memory(struct error *error)
{
    return error_add(error, STATUS_NO_MEMORY, "affinity: no memory for the graph of experts");
}

/* METIS draws from the C library's generator, which all threads share: one at a time, each from
 * the same seed. */
static int call_metis(struct graph *graph, idx_t num_vertices, idx_t num_parts, idx_t *part)
{
    idx_t options[METIS_NOPTIONS];
    idx_t num_constraints = 1;
    idx_t cut = 0;
    int result = METIS_ERROR;
    METIS_SetDefaultOptions(options);
    options[METIS_OPTION_SEED] = 1;
#pragma omp critical(metis)
    result = METIS_PartGraphRecursive(&num_vertices, &num_constraints, graph->begin,
                                      graph->neighbour, NULL, NULL, graph->weight, &num_parts, NULL,
                                      NULL, options, &cut, part);
    return result;
}

enum status affinity_part(int32_t *part_of, const struct balance_input *input, struct error *error)
{
    struct arena *arena = input->scratch;
    size_t vertices = (size_t)input->num_layers * (size_t)input->num_experts;
    int64_t(*mean)[2] = arena_alloc(arena, (size_t)input->num_layers, sizeof *mean);
    struct graph graph = {.begin = arena_alloc(arena, vertices + 1, sizeof(idx_t)), .divisor = 1};
    if (mean == NULL || graph.begin == NULL) {
        return no_memory(error);
    }
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        mean[layer][0] =
            mean_of(input->pair_tokens + affinity_block(input, layer), input->num_experts);
        if (layer + 1 < input->num_layers) {
            mean[layer][1] = mean_of(input->transition_tokens + affinity_block(input, layer),
                                     input->num_experts);
        }
    }
    list_edges(&graph, input, mean);
    if (graph.num_edges > WEIGHTS_MAX) {
        return error_add(error, STATUS_INVALID, "affinity: %lld pairs of experts are too many",
                         (long long)graph.num_edges);
    }
    graph.divisor = 1 + graph.sum / (WEIGHTS_MAX - graph.num_edges + 1);
    graph.neighbour = arena_take(arena, (size_t)graph.num_edges + 1, sizeof(idx_t));
    graph.weight = arena_take(arena, (size_t)graph.num_edges + 1, sizeof(idx_t));
    idx_t *part = arena_alloc(arena, vertices, sizeof *part);
    if (graph.neighbour == NULL || graph.weight == NULL || part == NULL) {
        return no_memory(error);
    }
    list_edges(&graph, input, mean);
    /* With fewer vertices than parts there is nothing to part: all stay in part 0. */
    if (input->num_ranks > 1 && vertices >= (size_t)input->num_ranks &&
        call_metis(&graph, (idx_t)vertices, (idx_t)input->num_ranks, part) != METIS_OK) {
        return no_memory(error);
    }
    for (size_t i = 0; i < vertices; i++) {
        part_of[i] = (int32_t)part[i];
    }
    return STATUS_OK;
}
