/* rebalance_stalls.c -- windows of the trace, one placement after the other, and the weights. */
#include "serve/rebalance_stalls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "place.h"
#include "placement.h"

#define WINDOW_PARTS 16 /* of a window, for strategies that look at single steps */

struct measuring {
    const struct scenario *scenario;
    const struct trace *trace;
    struct place_options options;
    struct load_file load;
    int64_t window_tokens;
    struct arena arena;
};

/* Adds the loads of rows first .. first + count - 1, beginning again at the end of the trace. */
static enum status count_rows(const struct trace *trace, int64_t *expert_tokens, int32_t layer,
                              int64_t first, int64_t count, struct error *error)
{
    enum status status = STATUS_OK;
    while (count > 0 && status == STATUS_OK) {
        int64_t begin = first % trace->num_tokens;
        int64_t rows = trace->num_tokens - begin < count ? trace->num_tokens - begin : count;
        status = trace_count(trace, expert_tokens, layer, begin, rows, error);
        first += rows;
        count -= rows;
    }
    return status;
}

static enum status count_window(struct measuring *measuring, int64_t window, struct error *error)
{
    struct load_file *load = &measuring->load;
    size_t row = (size_t)load->num_layers * (size_t)load->num_experts;
    int64_t first = window * measuring->window_tokens;
    enum status status = STATUS_OK;
    int64_t *counted = calloc((size_t)load->num_experts, sizeof *counted);
    if (counted == NULL) {
        return STATUS_NO_MEMORY;
    }
    memset(load->load_tokens, 0, row * sizeof *load->load_tokens);
    for (int32_t part = 0; part < load->num_steps && status == STATUS_OK; part++) {
        int64_t begin = first + measuring->window_tokens * part / load->num_steps;
        int64_t end = first + measuring->window_tokens * (part + 1) / load->num_steps;
        for (int32_t layer = 0; layer < load->num_layers && status == STATUS_OK; layer++) {
            memset(counted, 0, (size_t)load->num_experts * sizeof *counted);
            status = count_rows(measuring->trace, counted, layer, begin, end - begin, error);
            for (int32_t expert = 0; expert < load->num_experts; expert++) {
                size_t at = (size_t)layer * (size_t)load->num_experts + (size_t)expert;
                load->load_tokens[at] += counted[expert];
                load->step_tokens[(size_t)part * row + at] = (int32_t)counted[expert];
            }
        }
    }
    free(counted);
    return status;
}

/* All that fresh has and held has not, in the order of layers. */
static enum status list_moves(struct measuring *measuring, const int32_t *held,
                              const int32_t *fresh, struct expert_move *move, int64_t *num_moves,
                              struct error *error)
{
    const struct place_options *options = &measuring->options;
    struct placement placement;
    *num_moves = 0;
    enum status status = placement_init(&placement, &measuring->arena, measuring->load.num_experts,
                                        options->num_slots, options->num_ranks, error);
    for (int32_t layer = 0; layer < measuring->load.num_layers && status == STATUS_OK; layer++) {
        int64_t first = (int64_t)layer * options->num_slots;
        status = placement_set(&placement, held + first, error);
        if (status == STATUS_OK) {
            *num_moves += placement_moves(&placement, move + *num_moves, layer, fresh + first,
                                          options->num_ranks / options->num_nodes);
        }
    }
    return status;
}

static int compare_senders(const void *left, const void *right)
{
    const struct net_message *a = left;
    const struct net_message *b = right;
    return a->src_rank != b->src_rank ? (a->src_rank > b->src_rank) - (a->src_rank < b->src_rank)
                                      : (a->id > b->id) - (a->id < b->id);
}

/* When the last of them is in, sent rank by rank at one time. */
static enum status send_all(const struct measuring *measuring, const struct expert_move *move,
                            int64_t num_moves, double *stall_ns)
{
    const struct scenario *scenario = measuring->scenario;
    const struct net_model *net = scenario->net;
    void *state = NULL;
    const int32_t parts = scenario->expert_tp; /* each goes from rank to rank by itself */
    const int64_t num_messages = num_moves * parts;
    struct net_message *message = calloc((size_t)num_messages + 1, sizeof *message);
    enum status status =
        message == NULL ? STATUS_NO_MEMORY : net->open(&state, &scenario->cluster, scenario->ep);
    *stall_ns = 0.0;
    for (int64_t i = 0; i < num_messages && status == STATUS_OK; i++) {
        int32_t part = (int32_t)(i % parts);
        message[i] = (struct net_message){.id = (int32_t)i,
                                          .src_rank = move[i / parts].from_rank * parts + part,
                                          .dst_rank = move[i / parts].to_rank * parts + part,
                                          .bytes = measuring->options.expert_bytes};
    }
    if (status == STATUS_OK && num_moves > 0) {
        qsort(message, (size_t)num_messages, sizeof *message, compare_senders);
        status = net->send(state, 0, message, (int32_t)num_messages);
    }
    while (status == STATUS_OK && net->next_done_ns(state) != NET_IDLE) {
        *stall_ns = scenario->cluster.gpu.kernel_ns + (double)net->next_done_ns(state);
        (void)net->pop_done(state);
    }
    net->close(state);
    free(message);
    return status;
}

/* The first window's placement is there when serving begins. */
static enum status measure_all(struct rebalance_stalls *stalls, struct measuring *measuring,
                               struct error *error)
{
    const struct place_options *options = &measuring->options;
    size_t slots = (size_t)measuring->load.num_layers * (size_t)options->num_slots;
    struct expert_move *move = calloc(slots, sizeof *move);
    const int32_t *held = measuring->scenario->initial_expert_of_slot;
    enum status status = move == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (int32_t window = 0; window <= REBALANCE_STALLS && status == STATUS_OK; window++) {
        struct place_result result = {0};
        status = count_window(measuring, window, error);
        if (status == STATUS_OK) {
            status = place(&result, options, &measuring->load, held, &measuring->arena, error);
        }
        if (status == STATUS_OK && window > 0) {
            int64_t *moves = &stalls->moves[window - 1];
            status = list_moves(measuring, held, result.expert_of_slot, move, moves, error);
            if (status == STATUS_OK) {
                status = send_all(measuring, move, *moves, &stalls->stall_ns[window - 1]);
            }
        }
        held = result.expert_of_slot;
    }
    free(move);
    return status;
}

static int64_t window_tokens(const struct scenario *scenario, const struct trace *trace)
{
    int64_t steps =
        scenario->window_steps > 0 ? scenario->window_steps : scenario->rebalance_interval_steps;
    int64_t tokens = steps * scenario->tokens_per_rank * scenario->ep;
    int64_t part = trace->num_tokens / (REBALANCE_STALLS + 1);
    part = part > 0 ? part : 1;
    return tokens < part ? tokens : part;
}

enum status rebalance_stalls_measure(struct rebalance_stalls *stalls,
                                     const struct scenario *scenario, const struct trace *trace,
                                     struct error *error)
{
    const struct moe_model *model = &scenario->model;
    *stalls = (struct rebalance_stalls){0};
    if (trace == NULL || scenario->rebalance_interval_steps == 0 ||
        scenario->strategy->needs == 0) {
        return STATUS_OK;
    }
    struct measuring measuring = {
        .scenario = scenario,
        .trace = trace,
        .window_tokens = window_tokens(scenario, trace),
        .options = {.strategy = scenario->strategy,
                    .num_slots = model->num_experts + scenario->redundant_experts,
                    .num_ranks = scenario_expert_groups(scenario),
                    .num_nodes = scenario_group_nodes(scenario),
                    .num_groups = model->num_expert_groups,
                    .expert_bytes = scenario_expert_bytes(scenario)},
        .load = {.num_steps = WINDOW_PARTS,
                 .num_layers = trace->num_layers,
                 .num_experts = trace->num_experts}};
    struct load_file *load = &measuring.load;
    size_t row = (size_t)load->num_layers * (size_t)load->num_experts;
    stalls->interval_steps = scenario->rebalance_interval_steps;
    load->num_steps = measuring.window_tokens < WINDOW_PARTS ? 1 : WINDOW_PARTS;
    load->load_tokens = arena_alloc(&measuring.arena, row, sizeof *load->load_tokens);
    load->step_tokens =
        arena_alloc(&measuring.arena, row * WINDOW_PARTS, sizeof *load->step_tokens);
    enum status status = load->load_tokens == NULL || load->step_tokens == NULL
                             ? STATUS_NO_MEMORY
                             : measure_all(stalls, &measuring, error);
    arena_free(&measuring.arena);
    if (status == STATUS_NO_MEMORY) {
        status = error_add(error, status, "out of memory for the stalls of rebalances");
    }
    return status;
}
