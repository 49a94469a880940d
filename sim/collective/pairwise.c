/* pairwise.c -- bytes of a pair = tokens, or copies of tokens, between them x bytes a token. */
#include "collective/pairwise.h"

/* Messages from a rank for flows first .. end - 1, written without a branch: to points behind the
 * last, and has room for one more. */
static inline struct message *add(struct message *restrict to, const struct rank_flow *flow,
                                  int32_t first, int32_t end, int32_t src_rank,
                                  enum pairwise_unit unit, double bytes_per_token)
{
    for (int32_t i = first; i < end; i++) {
        int32_t count = unit == PAIRWISE_COPIES ? flow[i].copies : flow[i].tokens;
        int64_t bytes = (int64_t)((double)count * bytes_per_token + 0.5); /* to the nearest */
        *to = (struct message){flow[i].rank, message_awaited(NO_GROUP, true), bytes};
        to += bytes > 0 && flow[i].rank != src_rank;
    }
    return to;
}

/* A group of each rank's flows, which begin at begin[rank]. */
static enum status plan_flows(struct transfer_plan *plan, const int32_t *begin,
                              const struct rank_flow *flow, enum pairwise_unit unit,
                              double bytes_per_token)
{
    plan_reserve(plan, begin[plan->num_ranks] + 1);
    for (int32_t rank = 0; rank < plan->num_ranks && !plan->out_of_memory; rank++) {
        plan_add_group(plan, rank);
        int32_t start = begin[rank];
        while (start < begin[rank + 1] && flow[start].rank <= rank) {
            start++;
        }
        struct message *to = &plan->message[plan->num_messages];
        to = add(to, flow, start, begin[rank + 1], rank, unit, bytes_per_token);
        to = add(to, flow, begin[rank], start, rank, unit, bytes_per_token);
        plan_close_group(plan, to);
    }
    return plan_finish(plan);
}

enum status pairwise_dispatch(const struct collective_input *input, struct transfer_plan *plan,
                              enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    return plan_flows(plan, traffic->rank_begin, traffic->rank_flow, unit,
                      input->dispatch_bytes_per_token);
}

enum status pairwise_combine(const struct collective_input *input, struct transfer_plan *plan,
                             enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    return plan_flows(plan, traffic->back_begin, traffic->back_flow, unit,
                      input->combine_bytes_per_token);
}
