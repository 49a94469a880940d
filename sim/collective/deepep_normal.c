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
           cluster_node(input->cluster, traffic->rank_flow[*flow].rank) == node) {
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
                plan, to->rank,
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
                plan_add_message(plan, near->rank,
                                 chunk_bytes(near->tokens, input->dispatch_bytes_per_token, 0, 1),
                                 true, NO_GROUP);
            }
            continue;
        }
        const struct relay *relay = &relays[to->dst_node];
        bool wanted = false; /* by the relay itself */
        for (int32_t there = first; there < flow; there++) {
            wanted |= traffic->rank_flow[there].rank == relay->rank;
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

/* A sum that a relay sends home: of a remote source, from the relay's node. */
struct sum {
    int32_t source;
    int32_t tokens;
    int32_t chunks; /* in which it goes, and in which its parts come */
};

/* The sums of every relay, by source ascending, and where those of each begin [num_ranks + 1]. */
struct sums {
    struct sum *sum;
    int32_t *begin;
    int32_t *chunks; /* [num_ranks][num_nodes] of the sum for a source from a node */
};

/* The relay of a source's flow to a node, or -1 for its own node. */
static int32_t relay_of(const struct collective_input *input, int32_t source, int32_t flow)
{
    int32_t node = input->traffic->node_flow[flow].dst_node;
    return node == cluster_node(input->cluster, source) ? -1 : relay_rank(input, source, node);
}

/* Counts, then fills. */
static enum status list_sums(const struct collective_input *input, struct sums *sums)
{
    const struct traffic *traffic = input->traffic;
    int32_t num_ranks = traffic->num_ranks;
    int32_t num_flows = traffic->node_begin[num_ranks];
    sums->sum = arena_take(input->scratch, (size_t)num_flows + 1, sizeof *sums->sum);
    sums->begin = arena_alloc(input->scratch, (size_t)num_ranks + 2, sizeof *sums->begin);
    sums->chunks = arena_alloc(input->scratch, (size_t)num_ranks * (size_t)traffic->num_nodes,
                               sizeof *sums->chunks);
    if (sums->sum == NULL || sums->begin == NULL || sums->chunks == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t *next = sums->begin + 1; /* begin of a relay, one place up, moves while it is filled */
    for (int32_t source = 0; source < num_ranks; source++) {
        for (int32_t i = traffic->node_begin[source]; i < traffic->node_begin[source + 1]; i++) {
            int32_t relay = relay_of(input, source, i);
            if (relay >= 0) {
                next[relay + 1]++;
            }
        }
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        next[rank + 1] += next[rank];
    }
    for (int32_t source = 0; source < num_ranks; source++) {
        for (int32_t i = traffic->node_begin[source]; i < traffic->node_begin[source + 1]; i++) {
            int32_t relay = relay_of(input, source, i);
            if (relay >= 0) {
                int32_t tokens = traffic->node_flow[i].tokens;
                sums->sum[next[relay]++] = (struct sum){source, tokens, num_chunks(tokens)};
                sums->chunks[(int64_t)source * traffic->num_nodes +
                             traffic->node_flow[i].dst_node] = num_chunks(tokens);
            }
        }
    }
    return STATUS_OK;
}

/* A rank's results of one chunk: to sources of its own node at once, to others by their relay,
 * whose group of that chunk waits for them. group_of_chunk is the first rank's. */
static void add_results(const struct collective_input *input, struct transfer_plan *plan,
                        const struct sums *sums, int32_t rank, int32_t chunk,
                        int32_t group_of_chunk)
{
    const struct traffic *traffic = input->traffic;
    int32_t begin = traffic->back_begin[rank];
    int32_t count = traffic->back_begin[rank + 1] - begin;
    int32_t node = cluster_node(input->cluster, rank);
    int32_t start = 0;
    while (start < count && traffic->back_flow[begin + start].rank <= rank) {
        start++;
    }
    for (int32_t turn = 0; turn < count; turn++) {
        int32_t index = begin + (start + turn) % count;
        int32_t source = traffic->back_flow[index].rank;
        int32_t tokens = traffic->back_flow[index].tokens;
        bool is_near = cluster_node(input->cluster, source) == node;
        int32_t goal = is_near ? source : relay_rank(input, source, node);
        int32_t chunks = is_near ? num_chunks(tokens)
                                 : sums->chunks[(int64_t)source * traffic->num_nodes + node];
        if (chunk < chunks) {
            plan_add_message(plan, goal,
                             chunk_bytes(tokens, input->combine_bytes_per_token, chunk, chunks),
                             is_near, is_near ? NO_GROUP : group_of_chunk + goal);
        }
    }
}

static void add_sums(const struct collective_input *input, struct transfer_plan *plan,
                     const struct sums *sums, int32_t rank, int32_t chunk)
{
    for (int32_t i = sums->begin[rank]; i < sums->begin[rank + 1]; i++) {
        const struct sum *sum = &sums->sum[i];
        if (chunk < sum->chunks) {
            plan_add_message(
                plan, sum->source,
                chunk_bytes(sum->tokens, input->combine_bytes_per_token, chunk, sum->chunks), true,
                NO_GROUP);
        }
    }
}

/* In rounds: a rank sends its results of the first chunk; once it has what it relays of a chunk, it
 * sends those sums home and its own results of the next. So no chunk overtakes the one before, and
 * both hops are busy from the second round on. Groups are opened from the last round to the first,
 * because a message names the group that waits for it. */
static enum status normal_combine(const struct collective_input *input, struct transfer_plan *plan)
{
    int32_t num_ranks = input->traffic->num_ranks;
    struct sums sums;
    if (list_sums(input, &sums) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    int32_t waiting = NO_GROUP;
    for (int32_t round = CHUNKS_MAX; round >= 0; round--) {
        int32_t first_group = plan->num_groups;
        for (int32_t rank = 0; rank < num_ranks; rank++) {
            plan_add_group(plan, rank);
            if (round > 0) {
                add_sums(input, plan, &sums, rank, round - 1);
            }
            if (round < CHUNKS_MAX) {
                add_results(input, plan, &sums, rank, round, waiting);
            }
        }
        waiting = first_group;
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
