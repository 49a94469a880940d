/*
 * alltoall_plan.c -- routing in expectation, the plan it makes, and how long that plan takes.
 *
 * A uniform token chooses top_k of the experts without putting back, so it meets one of g equal
 * shares of them with
 *
 *     P(g) = 1 - prod over i < top_k of (E - E/g - i) / (E - i)
 *
 * DeepEP's own measurement over more than four nodes lets a token choose among the experts of four
 * of them only (deepseek-ai/DeepEP tests/test_internode.py, num_topk_groups), as DeepSeek-V3 does:
 * P is then that of four nodes, met by 4 of num_nodes.
 *
 * Expected counts are whole numbers only in sum: a source's tokens are handed out to ranks behind
 * it so that each prefix of them holds its share, rounded down; so every rank gets as much as it
 * sends. Left out: that the busiest rank of a random routing gets more than the mean (3 % at 1,000
 * copies).
 */
#include <math.h>
#include <stdlib.h>

#include "alltoall_internal.h"

#define NODES_CHOSEN 4

/* The share of tokens that meet one of num_parts. */
static double hit_share(const struct alltoall_row *row, int32_t num_parts, int32_t num_nodes)
{
    bool is_limited =
        num_nodes > NODES_CHOSEN && row->collective == collective_find("deepep_normal");
    double chosen = is_limited ? (double)NODES_CHOSEN / (double)num_nodes : 1.0;
    double missed = 1.0;
    double per_part = (double)row->num_experts / (double)num_parts;
    for (int32_t i = 0; i < row->top_k; i++) {
        double left = (double)row->num_experts * chosen - (double)i;
        missed *= left > 0.0 ? fmax(left - per_part, 0.0) / left : 0.0;
    }
    double balanced = (double)row->top_k / (double)num_parts;
    return row->is_balanced ? fmin(balanced, 1.0) : chosen * (1.0 - missed);
}

/* Of amount a turn, what the given turn gets. */
static int32_t handed_out(double amount, int32_t turn)
{
    return (int32_t)(floor(amount * (turn + 1) + 1e-9) - floor(amount * turn + 1e-9));
}

static void fill_ranks(struct traffic *traffic, double copies, double tokens)
{
    int32_t ranks = traffic->num_ranks;
    traffic->has_empty_flows = true;
    for (int32_t source = 0; source < ranks; source++) {
        for (int32_t rank = 0; rank < ranks; rank++) {
            int32_t turn = (rank - source - 1 + ranks) % ranks; /* the rank itself comes last */
            int32_t of_copies = handed_out(copies, turn);
            int32_t of_tokens = handed_out(tokens, turn);
            traffic->rank_flow[source * ranks + rank] =
                (struct rank_flow){rank, of_copies, of_tokens};
            traffic->back_flow[rank * ranks + source] =
                (struct rank_flow){source, of_copies, of_tokens};
            traffic->copies += of_copies;
            traffic->tokens += of_tokens;
        }
        traffic->rank_begin[source + 1] = (source + 1) * ranks;
        traffic->back_begin[source + 1] = (source + 1) * ranks;
    }
}

static void fill_nodes(struct traffic *traffic, int32_t per_node, double tokens)
{
    int32_t nodes = traffic->num_nodes;
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        for (int32_t node = 0; node < nodes; node++) {
            int32_t turn = (node - source / per_node - 1 + nodes) % nodes;
            traffic->node_flow[source * nodes + node] =
                (struct node_flow){node, handed_out(tokens, turn)};
        }
        traffic->node_begin[source + 1] = (source + 1) * nodes;
    }
}

static enum status make_traffic(struct traffic *traffic, const struct alltoall_row *row,
                                int32_t num_nodes, struct arena *arena)
{
    size_t ranks = (size_t)row->ep;
    size_t nodes = (size_t)num_nodes;
    *traffic = (struct traffic){.num_ranks = row->ep, .num_nodes = num_nodes};
    traffic->rank_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->back_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->node_begin = arena_alloc(arena, ranks + 1, sizeof(int32_t));
    traffic->rank_flow = arena_alloc(arena, ranks * ranks, sizeof *traffic->rank_flow);
    traffic->back_flow = arena_alloc(arena, ranks * ranks, sizeof *traffic->back_flow);
    traffic->node_flow = arena_alloc(arena, ranks * nodes, sizeof *traffic->node_flow);
    if (traffic->rank_begin == NULL || traffic->back_begin == NULL || traffic->node_begin == NULL ||
        traffic->rank_flow == NULL || traffic->back_flow == NULL || traffic->node_flow == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (row->message_bytes > 0.0) { /* one copy for each rank, of as many bytes as it takes */
        fill_ranks(traffic, 1.0, 1.0);
        fill_nodes(traffic, row->gpus_per_node, 1.0);
    } else {
        double tokens = (double)row->tokens;
        fill_ranks(traffic, tokens * row->top_k / row->ep,
                   tokens * hit_share(row, row->ep, num_nodes));
        fill_nodes(traffic, row->gpus_per_node, tokens * hit_share(row, num_nodes, num_nodes));
    }
    return STATUS_OK;
}

void alltoall_cluster(struct cluster *cluster, const struct alltoall_row *row,
                      const struct gpu_spec *gpu)
{
    *cluster =
        (struct cluster){.gpu = *gpu,
                         .num_nodes = (row->ep + row->gpus_per_node - 1) / row->gpus_per_node,
                         .gpus_per_node = row->gpus_per_node,
                         .spine_oversubscription = 1.0};
}

static enum status plan_leg(struct alltoall_leg *leg, const struct alltoall_row *row,
                            const struct collective_input *input, struct arena *arena)
{
    bool is_dispatch = leg->exchange == EXCHANGE_DISPATCH;
    double bytes = is_dispatch ? input->dispatch_bytes_per_token : input->combine_bytes_per_token;
    plan_init(&leg->plan, input->cluster, row->ep, row->collective->by_nic, arena);
    if (leg->exchange == EXCHANGE_PREPARE) {
        leg->load = (struct exchange_load){.tokens = (double)row->tokens,
                                           .num_ranks = row->ep,
                                           .num_nodes = input->traffic->num_nodes,
                                           .num_slots = row->num_experts};
        return STATUS_OK;
    }
    enum status status = is_dispatch ? row->collective->plan_dispatch(input, &leg->plan)
                                     : row->collective->plan_combine(input, &leg->plan);
    if (status == STATUS_OK) {
        exchange_measure(&leg->load, row->collective, input, &leg->plan, bytes, row->num_experts);
    }
    return status;
}

enum status alltoall_plan(struct alltoall_row *row, const struct gpu_spec *gpu, struct arena *arena)
{
    struct arena scratch = {0};
    struct cluster *cluster = arena_alloc(&scratch, 1, sizeof *cluster);
    struct traffic traffic;
    int32_t *token_begin = arena_alloc(&scratch, (size_t)row->ep + 1, sizeof *token_begin);
    enum status status = cluster == NULL || token_begin == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        alltoall_cluster(cluster, row, gpu);
        status = make_traffic(&traffic, row, cluster->num_nodes, &scratch);
    }
    if (status == STATUS_OK) {
        double message = row->message_bytes / row->ep;
        bool is_buffer = row->message_bytes > 0.0;
        for (int32_t rank = 0; rank < row->ep; rank++) {
            token_begin[rank + 1] = token_begin[rank] + row->tokens;
        }
        struct collective_input input = {
            .cluster = cluster,
            .traffic = &traffic,
            .dispatch_bytes_per_token = is_buffer ? message : row->dispatch_bytes,
            .combine_bytes_per_token = is_buffer ? message : row->combine_bytes,
            .scratch = &scratch,
            .token_begin = token_begin};
        for (int32_t leg = 0; leg < row->num_legs && status == STATUS_OK; leg++) {
            status = plan_leg(&row->leg[leg], row, &input, arena);
        }
    }
    arena_free(&scratch);
    return status;
}
