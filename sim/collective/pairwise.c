/* pairwise.c -- bytes of a pair = tokens, or copies of tokens, between them x bytes a token. */
#include "collective/pairwise.h"

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
 * points behind the last, and has room for one more. */
static inline struct message *add(struct sender *sender, struct message *restrict to, int32_t first,
                                  int32_t end, enum tier tier, enum pairwise_unit unit)
{
    const struct rank_flow *restrict flow = sender->flow;
    int32_t *restrict arrivals = sender->plan->arrivals;
    struct port_bytes *restrict ports = sender->plan->port_bytes;
    const double bytes_per_token = sender->bytes_per_token;
    int64_t sum = 0;
    for (int32_t i = first; i < end; i++) {
        int32_t count = unit == PAIRWISE_COPIES ? flow[i].copies : flow[i].tokens;
        int64_t bytes = (int64_t)((double)count * bytes_per_token + 0.5); /* to the nearest */
        *to = (struct message){flow[i].rank, message_awaited(NO_GROUP, true), bytes};
        to += bytes > 0;
        arrivals[flow[i].rank] += bytes > 0;
        ports[flow[i].rank].of[tier][RECEIVED] += bytes;
        sum += bytes;
    }
    sender->sent_bytes[tier] += sum;
    return to;
}

/* A group of each rank's flows, which begin at begin[rank]. */
static enum status plan_flows(struct transfer_plan *plan, const int32_t *begin,
                              const struct rank_flow *flow, double bytes_per_token,
                              enum pairwise_unit unit)
{
    const int32_t gpus = plan->cluster->gpus_per_node;
    const enum tier near = plan->by_nic ? TIER_SCALE_OUT : TIER_SCALE_UP;
    plan_reserve(plan, begin[plan->num_ranks] + 1);
    for (int32_t rank = 0; rank < plan->num_ranks && !plan->out_of_memory; rank++) {
        const int32_t first = begin[rank];
        const int32_t end = begin[rank + 1];
        const int32_t node = cluster_node(plan->cluster, rank) * gpus;
        const int32_t node_begin = flow_from(flow, first, end, node);
        const int32_t node_end = flow_from(flow, first, end, node + gpus);
        const int32_t self = flow_from(flow, first, end, rank);
        const int32_t next = flow_from(flow, first, end, rank + 1);
        struct sender sender = {plan, flow, bytes_per_token, {0}};
        plan_add_group(plan, rank);
        struct message *to = &plan->message[plan->num_messages];
        to = add(&sender, to, next, node_end, near, unit);
        to = add(&sender, to, node_end, end, TIER_SCALE_OUT, unit);
        to = add(&sender, to, first, node_begin, TIER_SCALE_OUT, unit);
        to = add(&sender, to, node_begin, self, near, unit);
        plan_close_group(plan, to, sender.sent_bytes);
    }
    return plan_finish(plan);
}

enum status pairwise_dispatch(const struct collective_input *input, struct transfer_plan *plan,
                              enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    return plan_flows(plan, traffic->rank_begin, traffic->rank_flow,
                      input->dispatch_bytes_per_token, unit);
}

enum status pairwise_combine(const struct collective_input *input, struct transfer_plan *plan,
                             enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    return plan_flows(plan, traffic->back_begin, traffic->back_flow, input->combine_bytes_per_token,
                      unit);
}
