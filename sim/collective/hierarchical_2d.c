/*
 * hierarchical_2d -- Tutel's two-dimensional all-to-all: first inside the node, then along rails.
 *
 * Copies (one a chosen expert, as in flat) for the GPUs of a rail, whatever their node, are brought
 * together on the GPU of that rail in the sender's node; each then sends one message to every other
 * node, so the network carries nodes times fewer and larger messages of the same bytes. The way
 * back mirrors it. The second phase starts when the first has brought everything. The start-up
 * costs are twice the floor of NCCL 2.29's all-to-all on 8 H100 (nccl-tests, 512 bytes, 7.4 us:
 * aiconfigurator @ 095f58a51c4c), once a phase; rearranging copies between phases is left out.
 */
#include "collective/rails.h"

#include <math.h>

/* Copies on their way through one node's relays: relays are the node's ranks. */
struct relays {
    int32_t begin; /* first rank of the node */
    int32_t count;
    int32_t *near; /* [count sources][count relays] copies handed over inside the node */
    int32_t *far;  /* [count relays][num_ranks] copies between a relay and a rank elsewhere */
};

static int64_t copy_bytes(int32_t copies, double bytes_per_token)
{
    return llround((double)copies * bytes_per_token);
}

/* Adds up who hands what to whom for the tokens of one node's ranks. */
static enum status count_copies(const struct collective_input *input, struct relays *relays,
                                int32_t node)
{
    const struct traffic *traffic = input->traffic;
    relays->begin = rails_node_begin(input, node);
    relays->count = rails_node_begin(input, node + 1) - relays->begin;
    size_t count = (size_t)relays->count;
    relays->near = arena_alloc(input->scratch, count * count, sizeof *relays->near);
    relays->far =
        arena_alloc(input->scratch, count * (size_t)traffic->num_ranks, sizeof *relays->far);
    if (relays->near == NULL || relays->far == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t source = 0; source < relays->count; source++) {
        int32_t rank = relays->begin + source;
        for (int32_t i = traffic->rank_begin[rank]; i < traffic->rank_begin[rank + 1]; i++) {
            const struct rank_flow *flow = &traffic->rank_flow[i];
            int32_t relay = rails_partner(input, node, flow->rank) - relays->begin;
            relays->near[source * relays->count + relay] += flow->copies;
            if (cluster_node(input->cluster, flow->rank) != node) {
                relays->far[(int64_t)relay * traffic->num_ranks + flow->rank] += flow->copies;
            }
        }
    }
    return STATUS_OK;
}

/* Copies that a source hands to a relay for the relay itself: they end there. */
static int32_t ending_copies(const struct traffic *traffic, int32_t source, int32_t relay)
{
    int32_t copies = 0;
    for (int32_t i = traffic->rank_begin[source]; i < traffic->rank_begin[source + 1]; i++) {
        copies += traffic->rank_flow[i].rank == relay ? traffic->rank_flow[i].copies : 0;
    }
    return copies;
}

static void dispatch_node(const struct collective_input *input, struct transfer_plan *plan,
                          const struct relays *relays)
{
    int32_t num_ranks = input->traffic->num_ranks;
    double bytes_per_token = input->dispatch_bytes_per_token;
    int32_t first_group = plan->num_groups;
    for (int32_t relay = 0; relay < relays->count; relay++) {
        plan_add_group(plan, relays->begin + relay);
        for (int32_t turn = 1; turn < num_ranks; turn++) {
            int32_t rank = (relays->begin + relay + turn) % num_ranks;
            plan_add_message(
                plan, rank,
                copy_bytes(relays->far[(int64_t)relay * num_ranks + rank], bytes_per_token), true,
                NO_GROUP);
        }
    }
    for (int32_t source = 0; source < relays->count; source++) {
        plan_add_group(plan, relays->begin + source);
        for (int32_t turn = 1; turn < relays->count; turn++) {
            int32_t relay = (source + turn) % relays->count;
            bool ends =
                ending_copies(input->traffic, relays->begin + source, relays->begin + relay) > 0;
            plan_add_message(
                plan, relays->begin + relay,
                copy_bytes(relays->near[source * relays->count + relay], bytes_per_token), ends,
                first_group + relay);
        }
    }
}

static enum status dispatch(const struct collective_input *input, struct transfer_plan *plan)
{
    for (int32_t node = 0; node < input->traffic->num_nodes; node++) {
        struct relays relays;
        enum status status = count_copies(input, &relays, node);
        if (status != STATUS_OK) {
            return status;
        }
        dispatch_node(input, plan, &relays);
    }
    return plan_finish(plan);
}

/* Opens one group a relay of a node: it hands results to the sources of its node. */
static void open_returns(const struct collective_input *input, struct transfer_plan *plan,
                         const struct relays *relays)
{
    for (int32_t relay = 0; relay < relays->count; relay++) {
        plan_add_group(plan, relays->begin + relay);
        for (int32_t turn = 1; turn < relays->count; turn++) {
            int32_t source = (relay + turn) % relays->count;
            plan_add_message(plan, relays->begin + source,
                             copy_bytes(relays->near[source * relays->count + relay],
                                        input->combine_bytes_per_token),
                             true, NO_GROUP);
        }
    }
}

/* Results of one node's tokens, from the ranks elsewhere that computed them to its relays. */
static void return_from_afar(const struct collective_input *input, struct transfer_plan *plan,
                             const struct relays *relays, int32_t rank)
{
    int32_t num_ranks = input->traffic->num_ranks;
    for (int32_t relay = 0; relay < relays->count; relay++) {
        int32_t relay_rank = relays->begin + relay;
        int32_t copies = relays->far[(int64_t)relay * num_ranks + rank];
        bool ends = copies > 0 && ending_copies(input->traffic, relay_rank, rank) > 0;
        /* Groups of returns stand in the order of ranks: see combine. */
        plan_add_message(plan, relay_rank, copy_bytes(copies, input->combine_bytes_per_token), ends,
                         relay_rank);
    }
}

static enum status combine(const struct collective_input *input, struct transfer_plan *plan)
{
    int32_t num_nodes = input->traffic->num_nodes;
    struct relays *relays = arena_alloc(input->scratch, (size_t)num_nodes, sizeof *relays);
    enum status status = relays != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    for (int32_t node = 0; node < num_nodes && status == STATUS_OK; node++) {
        status = count_copies(input, &relays[node], node);
        if (status == STATUS_OK) {
            open_returns(input, plan, &relays[node]); /* group r belongs to rank r */
        }
    }
    for (int32_t rank = 0; rank < input->traffic->num_ranks && status == STATUS_OK; rank++) {
        int32_t own_node = cluster_node(input->cluster, rank);
        plan_add_group(plan, rank);
        for (int32_t turn = 1; turn < num_nodes; turn++) {
            return_from_afar(input, plan, &relays[(own_node + turn) % num_nodes], rank);
        }
    }
    return status == STATUS_OK ? plan_finish(plan) : status;
}

const struct collective collective_hierarchical_2d = {
    .name = "hierarchical_2d",
    .summary = "inside the node first, then one message a rail and node (Tutel 2DH)",
    .source = "microsoft/tutel; Hwang et al., Tutel, arXiv 2206.03382, 4.3",
    .dispatch_startup_ns = 14800.0,
    .combine_startup_ns = 14800.0,
    .num_sms = 16,
    .copied = COPIED_TOKENS_AND_RELAYED,
    .plan_dispatch = dispatch,
    .plan_combine = combine,
};
