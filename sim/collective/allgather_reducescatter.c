/*
 * allgather_reducescatter -- every rank gets every token: vLLM's default without DeepEP.
 *
 * Dispatch gathers the hidden states of all ranks on all ranks, routed there or not; combine adds
 * up all partial results and gives each rank its own tokens' sums. The schedule is the one that
 * loads NICs and scale-up ports least, which NCCL's rings reach in bytes: each rank sends its
 * tokens to its rail's partner on every other node, and a partner hands what it gets to its node;
 * the way back mirrors it, sums at the partner. A ring's latency, a hop a rank, is left out. The
 * start-up costs are the floor of NCCL 2.29's all-to-all on 8 H100 (nccl-tests, 512 bytes, 7.4 us:
 * aiconfigurator @ 095f58a51c4c).
 */
#include "collective/rails.h"

#include <math.h>

static int32_t rank_tokens(const struct collective_input *input, int32_t rank)
{
    return input->token_begin[rank + 1] - input->token_begin[rank];
}

static int64_t rank_bytes(const struct collective_input *input, int32_t rank,
                          double bytes_per_token)
{
    return llround((double)rank_tokens(input, rank) * bytes_per_token);
}

/* One message from the open group's owner to each other rank of its node. */
static void tell_node(const struct collective_input *input, struct transfer_plan *plan,
                      int32_t owner, int64_t bytes)
{
    int32_t node = cluster_node(input->cluster, owner);
    int32_t begin = rails_node_begin(input, node);
    int32_t count = rails_node_begin(input, node + 1) - begin;
    for (int32_t turn = 1; turn < count; turn++) {
        plan_add_message(plan, begin + (owner - begin + turn) % count, bytes, true, NO_GROUP);
    }
}

/* For each source: on every other node its partner's group, then its own. */
static enum status gather(const struct collective_input *input, struct transfer_plan *plan)
{
    int32_t num_ranks = input->traffic->num_ranks;
    int32_t num_nodes = input->traffic->num_nodes;
    for (int32_t source = 0; source < num_ranks; source++) {
        int64_t bytes = rank_bytes(input, source, input->dispatch_bytes_per_token);
        int32_t own_node = cluster_node(input->cluster, source);
        int32_t first_group = plan->num_groups;
        for (int32_t turn = 1; turn < num_nodes; turn++) {
            int32_t partner = rails_partner(input, (own_node + turn) % num_nodes, source);
            plan_add_group(plan, partner);
            tell_node(input, plan, partner, bytes);
        }
        plan_add_group(plan, source);
        for (int32_t turn = 1; turn < num_nodes; turn++) {
            int32_t partner = rails_partner(input, (own_node + turn) % num_nodes, source);
            plan_add_message(plan, partner, bytes, true, first_group + turn - 1);
        }
        tell_node(input, plan, source, bytes);
    }
    return plan_finish(plan);
}

/* The mirror: on every node the partner of a source adds up its node's parts and sends the sum. */
static enum status scatter(const struct collective_input *input, struct transfer_plan *plan)
{
    int32_t num_ranks = input->traffic->num_ranks;
    int32_t num_nodes = input->traffic->num_nodes;
    int32_t *sum_group =
        arena_alloc(input->scratch, (size_t)num_ranks * (size_t)num_nodes, sizeof *sum_group);
    if (sum_group == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t source = 0; source < num_ranks; source++) {
        int64_t bytes = rank_bytes(input, source, input->combine_bytes_per_token);
        for (int32_t node = 0; node < num_nodes; node++) {
            sum_group[(int64_t)source * num_nodes + node] = NO_GROUP;
            if (node != cluster_node(input->cluster, source)) {
                sum_group[(int64_t)source * num_nodes + node] =
                    plan_add_group(plan, rails_partner(input, node, source));
                plan_add_message(plan, source, bytes, true, NO_GROUP);
            }
        }
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int32_t node = cluster_node(input->cluster, rank);
        plan_add_group(plan, rank);
        for (int32_t turn = 1; turn < num_ranks; turn++) {
            int32_t source = (rank + turn) % num_ranks;
            bool is_near = cluster_node(input->cluster, source) == node;
            int32_t goal = is_near ? source : rails_partner(input, node, source);
            plan_add_message(plan, goal, rank_bytes(input, source, input->combine_bytes_per_token),
                             is_near, sum_group[(int64_t)source * num_nodes + node]);
        }
    }
    return plan_finish(plan);
}

const struct collective collective_allgather_reducescatter = {
    .name = "allgather_reducescatter",
    .summary = "every token to every rank, sums back (vLLM's default)",
    .source = "vllm-project/vllm, all2all_backend allgather_reducescatter; NCCL",
    .dispatch_startup_ns = 7400.0,
    .combine_startup_ns = 7400.0,
    .num_sms = 16,
    .goes_to_all = true,
    .plan_dispatch = gather,
    .plan_combine = scatter,
};
