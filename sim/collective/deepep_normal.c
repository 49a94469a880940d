/*
 * deepep_normal -- DeepEP's prefill kernels: one copy a destination node, forwarded inside it.
 *
 * A token crosses the scale-out network once for each node that holds one of its experts, to the
 * GPU with the sender's index there (the relay), and goes on over NVLink once for each rank. The
 * way back mirrors it: ranks of a node send their partial results to the relay, which adds them up
 * and sends one. Both hops run as a pipeline of chunks; DeepEP's chunks are a few tokens, ours are
 * a quarter of a message, so up to a quarter of the second hop is not hidden (an upper bound).
 * The start-up costs are the constants of linear fits over tokens of DeepEP on 8 H100 with 24 SMs
 * (aiconfigurator @ 095f58a51c4c).
 */
#include "collective/collective.h"

#include <math.h>

#define CHUNKS_MAX       4
#define CHUNK_TOKENS_MIN 64

/* The forwarding groups of one (source, remote node): chunks of them in a row. */
struct relay {
    int32_t rank;
    int32_t first_group; /* NO_GROUP: nothing to forward */
    int32_t chunks;
};

static int32_t relay_rank(const struct collective_input *input, int32_t source, int32_t node)
{
    int32_t per_node = input->cluster->gpus_per_node;
    int32_t first = node * per_node;
    int32_t ranks_there = input->traffic->num_ranks - first;
    ranks_there = ranks_there < per_node ? ranks_there : per_node;
    return first + source % per_node % ranks_there;
}

static int32_t num_chunks(int32_t tokens)
{
    int32_t chunks = tokens / CHUNK_TOKENS_MIN;
    return chunks < 1 ? 1 : chunks > CHUNKS_MAX ? CHUNKS_MAX : chunks;
}

/* Bytes of chunk c of n: they add up to the whole, rounded once. */
static int64_t chunk_bytes(int32_t tokens, double bytes_per_token, int32_t chunk, int32_t chunks)
{
    int64_t bytes = (int64_t)llround((double)tokens * bytes_per_token);
    return bytes * (chunk + 1) / chunks - bytes * chunk / chunks;
}

/* Flows of a source into one node stand together, because both lists ascend. Advances *flow past
 * them and returns where they began. */
static int32_t node_flows(const struct collective_input *input, int32_t source, int32_t node,
                          int32_t *flow)
{
    const struct traffic *traffic = input->traffic;
    int32_t first = *flow;
    while (*flow < traffic->rank_begin[source + 1] &&
           cluster_node(input->cluster, traffic->rank_flow[*flow].dst_rank) == node) {
        (*flow)++;
    }
    return first;
}

static void add_forwarding(const struct collective_input *input, struct transfer_plan *plan,
                           const struct relay *relay, int32_t first_flow, int32_t end_flow)
{
    for (int32_t chunk = 0; chunk < relay->chunks; chunk++) {
        plan_add_group(plan, relay->rank);
        for (int32_t flow = first_flow; flow < end_flow; flow++) {
            const struct rank_flow *to = &input->traffic->rank_flow[flow];
            plan_add_message(
                plan, to->dst_rank,
                chunk_bytes(to->tokens, input->dispatch_bytes_per_token, chunk, relay->chunks),
                true, NO_GROUP);
        }
    }
}

/* Opens the forwarding groups of a source, node after node; relays [num_nodes] out. */
static void open_relays(const struct collective_input *input, struct transfer_plan *plan,
                        struct relay *relays, int32_t source)
{
    const struct traffic *traffic = input->traffic;
    int32_t flow = traffic->rank_begin[source];
    for (int32_t index = traffic->node_begin[source]; index < traffic->node_begin[source + 1];
         index++) {
        const struct node_flow *to = &traffic->node_flow[index];
        int32_t first = node_flows(input, source, to->dst_node, &flow);
        if (to->dst_node == cluster_node(input->cluster, source)) {
            continue;
        }
        struct relay *relay = &relays[to->dst_node];
        *relay = (struct relay){relay_rank(input, source, to->dst_node), plan->num_groups,
                                num_chunks(to->tokens)};
        add_forwarding(input, plan, relay, first, flow);
    }
}

static void add_dispatch_of(const struct collective_input *input, struct transfer_plan *plan,
                            const struct relay *relays, int32_t source)
{
    const struct traffic *traffic = input->traffic;
    int32_t own_node = cluster_node(input->cluster, source);
    plan_add_group(plan, source);
    int32_t flow = traffic->rank_begin[source];
    for (int32_t index = traffic->node_begin[source]; index < traffic->node_begin[source + 1];
         index++) {
        const struct node_flow *to = &traffic->node_flow[index];
        int32_t first = node_flows(input, source, to->dst_node, &flow);
        if (to->dst_node == own_node) {
            for (int32_t own = first; own < flow; own++) {
                const struct rank_flow *near = &traffic->rank_flow[own];
                plan_add_message(plan, near->dst_rank,
                                 chunk_bytes(near->tokens, input->dispatch_bytes_per_token, 0, 1),
                                 true, NO_GROUP);
            }
            continue;
        }
        const struct relay *relay = &relays[to->dst_node];
        bool wanted = false; /* by the relay itself */
        for (int32_t there = first; there < flow; there++) {
            wanted |= traffic->rank_flow[there].dst_rank == relay->rank;
        }
        for (int32_t chunk = 0; chunk < relay->chunks; chunk++) {
            plan_add_message(
                plan, relay->rank,
                chunk_bytes(to->tokens, input->dispatch_bytes_per_token, chunk, relay->chunks),
                wanted, relay->first_group + chunk);
        }
    }
}

static enum status normal_dispatch(const struct collective_input *input, struct transfer_plan *plan)
{
    struct relay *relays =
        arena_alloc(input->scratch, (size_t)input->traffic->num_nodes, sizeof *relays);
    if (relays == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t source = 0; source < input->traffic->num_ranks; source++) {
        open_relays(input, plan, relays, source);
        add_dispatch_of(input, plan, relays, source);
    }
    return plan_finish(plan);
}

/* One group a chunk and (source, remote node): the relay sends the sum home. */
static void open_returns(const struct collective_input *input, struct transfer_plan *plan,
                         struct relay *relays, int32_t source)
{
    const struct traffic *traffic = input->traffic;
    for (int32_t index = traffic->node_begin[source]; index < traffic->node_begin[source + 1];
         index++) {
        const struct node_flow *from = &traffic->node_flow[index];
        if (from->dst_node == cluster_node(input->cluster, source)) {
            continue;
        }
        struct relay *relay = &relays[from->dst_node];
        *relay = (struct relay){relay_rank(input, source, from->dst_node), plan->num_groups,
                                num_chunks(from->tokens)};
        for (int32_t chunk = 0; chunk < relay->chunks; chunk++) {
            plan_add_group(plan, relay->rank);
            plan_add_message(
                plan, source,
                chunk_bytes(from->tokens, input->combine_bytes_per_token, chunk, relay->chunks),
                true, NO_GROUP);
        }
    }
}

static void add_combine_of(const struct collective_input *input, struct transfer_plan *plan,
                           const struct relay *relays, int32_t rank)
{
    const struct traffic *traffic = input->traffic;
    int32_t node = cluster_node(input->cluster, rank);
    plan_add_group(plan, rank);
    for (int32_t index = traffic->back_begin[rank]; index < traffic->back_begin[rank + 1];
         index++) {
        int32_t source = traffic->back_src[index];
        int32_t tokens = traffic->rank_flow[traffic->back_flow[index]].tokens;
        if (cluster_node(input->cluster, source) == node) {
            plan_add_message(plan, source,
                             chunk_bytes(tokens, input->combine_bytes_per_token, 0, 1), true,
                             NO_GROUP);
            continue;
        }
        const struct relay *relay = &relays[(int64_t)source * traffic->num_nodes + node];
        for (int32_t chunk = 0; chunk < relay->chunks; chunk++) {
            plan_add_message(
                plan, relay->rank,
                chunk_bytes(tokens, input->combine_bytes_per_token, chunk, relay->chunks), false,
                relay->first_group + chunk);
        }
    }
}

static enum status normal_combine(const struct collective_input *input, struct transfer_plan *plan)
{
    int32_t num_ranks = input->traffic->num_ranks;
    int32_t num_nodes = input->traffic->num_nodes;
    struct relay *relays =
        arena_alloc(input->scratch, (size_t)num_ranks * (size_t)num_nodes, sizeof *relays);
    if (relays == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t source = 0; source < num_ranks; source++) {
        open_returns(input, plan, &relays[(int64_t)source * num_nodes], source);
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        add_combine_of(input, plan, relays, rank);
    }
    return plan_finish(plan);
}

const struct collective collective_deepep_normal = {
    .name = "deepep_normal",
    .summary = "one copy a destination node over RDMA, forwarded over NVLink (prefill)",
    .source = "deepseek-ai/DeepEP, normal kernels",
    .dispatch_startup_ns = 32900.0,
    .combine_startup_ns = 54700.0,
    .num_sms = 24,
    .copied = COPIED_TOKENS_AND_RELAYED,
    .plan_dispatch = normal_dispatch,
    .plan_combine = normal_combine,
};
