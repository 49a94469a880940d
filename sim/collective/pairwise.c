/* pairwise.c -- bytes of a pair = tokens, or copies of tokens, between them x bytes a token. */
#include "collective/pairwise.h"

#define WHOLE_BYTES_MAX 1048576.0 /* as many, times a count, are a whole number in a double too */

/* Flows as one end sees them, and the other. */
struct flows {
    const int32_t *begin; /* [num_ranks + 1] into flow */
    const struct rank_flow *flow;
    const int32_t *other_begin; /* [num_ranks + 1] of the same flows by the rank they lead to */
    double bytes_per_token;
    bool are_whole; /* bytes_per_token is a whole number, and no flow is empty */
};

/* One source's flows, and the plan that they become messages of. */
struct sender {
    struct transfer_plan *plan;
    const struct rank_flow *flow; /* ascending */
    double bytes_per_token;
    int64_t sent_bytes[TIER_COUNT];
};

/* Of flows begin .. end - 1, the first to this rank or one behind it: not far from where it would
 * be, were there a flow to each rank. */
static int32_t flow_from(const struct rank_flow *flow, int32_t begin, int32_t end, int32_t rank)
{
    int32_t at = end - begin > rank ? begin + rank : end;
    while (at > begin && flow[at - 1].rank >= rank) {
        at--;
    }
    return at;
}

/* Messages for flows first .. end - 1, all on one tier, written and counted without a branch: to
 * points behind the last, and has room for one more. whole: flows are, so nothing is rounded and
 * each makes a message; arrivals are then counted elsewhere. */
__attribute__((always_inline)) static inline struct message *
add(struct sender *sender, struct message *restrict to, int32_t first, int32_t end, enum tier tier,
    enum pairwise_unit unit, bool whole)
{
    const struct rank_flow *restrict flow = sender->flow;
    int32_t *restrict arrivals = sender->plan->arrivals;
    struct port_bytes *restrict ports = sender->plan->port_bytes;
    const double bytes_per_token = sender->bytes_per_token;
    const int64_t whole_bytes = (int64_t)bytes_per_token;
    int64_t sum = 0;
    for (int32_t i = first; i < end; i++) {
        int32_t count = unit == PAIRWISE_COPIES ? flow[i].copies : flow[i].tokens;
        int64_t bytes = whole ? count * whole_bytes
                              : (int64_t)((double)count * bytes_per_token + 0.5); /* to nearest */
        *to = (struct message){flow[i].rank, message_awaited(NO_GROUP, true), bytes};
        to += whole || bytes > 0;
        arrivals[flow[i].rank] += !whole && bytes > 0;
        ports[flow[i].rank].of[tier][RECEIVED] += bytes;
        sum += bytes;
    }
    sender->sent_bytes[tier] += sum;
    return to;
}

/* A group of one rank's flows. */
__attribute__((always_inline)) static inline void plan_rank(struct transfer_plan *plan,
                                                            const struct flows *flows, int32_t rank,
                                                            enum pairwise_unit unit, bool whole)
{
    const int32_t gpus = plan->cluster->gpus_per_node;
    const enum tier near = plan->by_nic ? TIER_SCALE_OUT : TIER_SCALE_UP;
    const int32_t first = flows->begin[rank];
    const int32_t end = flows->begin[rank + 1];
    const int32_t node = cluster_node(plan->cluster, rank) * gpus;
    const int32_t node_begin = flow_from(flows->flow, first, end, node);
    const int32_t node_end = flow_from(flows->flow, first, end, node + gpus);
    const int32_t self = flow_from(flows->flow, first, end, rank);
    const int32_t next = flow_from(flows->flow, first, end, rank + 1);
    struct sender sender = {plan, flows->flow, flows->bytes_per_token, {0}};
    plan_add_group(plan, rank);
    struct message *to = &plan->message[plan->num_messages];
    to = add(&sender, to, next, node_end, near, unit, whole);
    to = add(&sender, to, node_end, end, TIER_SCALE_OUT, unit, whole);
    to = add(&sender, to, first, node_begin, TIER_SCALE_OUT, unit, whole);
    to = add(&sender, to, node_begin, self, near, unit, whole);
    if (whole) {
        int32_t arrivals = flows->other_begin[rank + 1] - flows->other_begin[rank];
        plan->arrivals[rank] += arrivals - (next - self); /* its own are the GPU's work */
    }
    plan_close_group(plan, to, sender.sent_bytes);
}

/* A group of each rank's flows. */
static enum status plan_flows(struct transfer_plan *plan, const struct flows *flows,
                              enum pairwise_unit unit)
{
    const int32_t num_ranks = plan->num_ranks;
    plan_reserve(plan, flows->begin[num_ranks] + 1);
    for (int32_t rank = 0; rank < num_ranks && !plan->out_of_memory; rank++) {
        if (flows->are_whole) { /* as a rule */
            plan_rank(plan, flows, rank, unit, true);
        } else {
            plan_rank(plan, flows, rank, unit, false);
        }
    }
    return plan_finish(plan);
}

static bool are_whole(const struct traffic *traffic, double bytes_per_token)
{
    return !traffic->has_empty_flows && bytes_per_token >= 1.0 &&
           bytes_per_token <= WHOLE_BYTES_MAX &&
           bytes_per_token == (double)(int64_t)bytes_per_token;
}

enum status pairwise_dispatch(const struct collective_input *input, struct transfer_plan *plan,
                              enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    const double bytes = input->dispatch_bytes_per_token;
    const struct flows flows = {traffic->rank_begin, traffic->rank_flow, traffic->back_begin, bytes,
                                are_whole(traffic, bytes)};
    return plan_flows(plan, &flows, unit);
}

enum status pairwise_combine(const struct collective_input *input, struct transfer_plan *plan,
                             enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    const double bytes = input->combine_bytes_per_token;
    const struct flows flows = {traffic->back_begin, traffic->back_flow, traffic->rank_begin, bytes,
                                are_whole(traffic, bytes)};
    return plan_flows(plan, &flows, unit);
}
