/* pairwise.c -- bytes of a pair = tokens, or copies of tokens, between them x bytes a token. */
#include "collective/pairwise.h"

/* Flows become messages without a branch: to points behind the last, and has room for one more. */
static inline struct message *add(struct message *to, int32_t src_rank, int32_t dst_rank,
                                  const struct rank_flow *flow, enum pairwise_unit unit,
                                  double bytes_per_token)
{
    int32_t count = unit == PAIRWISE_COPIES ? flow->copies : flow->tokens;
    int64_t bytes = (int64_t)((double)count * bytes_per_token + 0.5); /* to the nearest */
    *to = (struct message){src_rank, dst_rank, NO_GROUP, true, bytes};
    return to + (bytes > 0 && dst_rank != src_rank);
}

/* To the destinations of flows first .. end - 1. */
static struct message *add_there(struct message *to, const struct traffic *traffic, int32_t source,
                                 int32_t first, int32_t end, enum pairwise_unit unit,
                                 double bytes_per_token)
{
    for (int32_t i = first; i < end; i++) {
        const struct rank_flow *flow = &traffic->rank_flow[i];
        to = add(to, source, flow->dst_rank, flow, unit, bytes_per_token);
    }
    return to;
}

/* To the sources of what rank received, first .. end - 1 of the lists by destination. */
static struct message *add_back(struct message *to, const struct traffic *traffic, int32_t rank,
                                int32_t first, int32_t end, enum pairwise_unit unit,
                                double bytes_per_token)
{
    for (int32_t i = first; i < end; i++) {
        const struct rank_flow *flow = &traffic->rank_flow[traffic->back_flow[i]];
        to = add(to, rank, traffic->back_src[i], flow, unit, bytes_per_token);
    }
    return to;
}

enum status pairwise_dispatch(const struct collective_input *input, struct transfer_plan *plan,
                              enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    const double bytes_per_token = input->dispatch_bytes_per_token;
    plan_reserve(plan, traffic->rank_begin[traffic->num_ranks] + 1);
    for (int32_t source = 0; source < traffic->num_ranks && !plan->out_of_memory; source++) {
        plan_add_group(plan, source);
        int32_t begin = traffic->rank_begin[source];
        int32_t end = traffic->rank_begin[source + 1];
        int32_t start = begin;
        while (start < end && traffic->rank_flow[start].dst_rank <= source) {
            start++;
        }
        struct message *to = &plan->message[plan->num_messages];
        to = add_there(to, traffic, source, start, end, unit, bytes_per_token);
        to = add_there(to, traffic, source, begin, start, unit, bytes_per_token);
        plan_close_group(plan, to);
    }
    return plan_finish(plan);
}

enum status pairwise_combine(const struct collective_input *input, struct transfer_plan *plan,
                             enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    const double bytes_per_token = input->combine_bytes_per_token;
    plan_reserve(plan, traffic->rank_begin[traffic->num_ranks] + 1);
    for (int32_t rank = 0; rank < traffic->num_ranks && !plan->out_of_memory; rank++) {
        plan_add_group(plan, rank);
        int32_t begin = traffic->back_begin[rank];
        int32_t end = traffic->back_begin[rank + 1];
        int32_t start = begin;
        while (start < end && traffic->back_src[start] <= rank) {
            start++;
        }
        struct message *to = &plan->message[plan->num_messages];
        to = add_back(to, traffic, rank, start, end, unit, bytes_per_token);
        to = add_back(to, traffic, rank, begin, start, unit, bytes_per_token);
        plan_close_group(plan, to);
    }
    return plan_finish(plan);
}
