/* pairwise.c -- bytes of a pair = tokens, or copies of tokens, between them x bytes a token. */
#include "collective/pairwise.h"

static int64_t payload_bytes(const struct rank_flow *flow, enum pairwise_unit unit,
                             double bytes_per_token)
{
    int32_t count = unit == PAIRWISE_COPIES ? flow->copies : flow->tokens;
    return (int64_t)((double)count * bytes_per_token + 0.5); /* to the nearest */
}

enum status pairwise_dispatch(const struct collective_input *input, struct transfer_plan *plan,
                              enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    plan_reserve(plan, traffic->rank_begin[traffic->num_ranks]);
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        plan_add_group(plan, source);
        int32_t begin = traffic->rank_begin[source];
        int32_t count = traffic->rank_begin[source + 1] - begin;
        int32_t start = 0;
        while (start < count && traffic->rank_flow[begin + start].dst_rank <= source) {
            start++;
        }
        for (int32_t turn = 0; turn < count; turn++) {
            int32_t next = start + turn < count ? start + turn : start + turn - count;
            const struct rank_flow *flow = &traffic->rank_flow[begin + next];
            plan_add_message(plan, flow->dst_rank,
                             payload_bytes(flow, unit, input->dispatch_bytes_per_token), true,
                             NO_GROUP);
        }
    }
    return plan_finish(plan);
}

enum status pairwise_combine(const struct collective_input *input, struct transfer_plan *plan,
                             enum pairwise_unit unit)
{
    const struct traffic *traffic = input->traffic;
    plan_reserve(plan, traffic->rank_begin[traffic->num_ranks]);
    for (int32_t rank = 0; rank < traffic->num_ranks; rank++) {
        plan_add_group(plan, rank);
        int32_t begin = traffic->back_begin[rank];
        int32_t count = traffic->back_begin[rank + 1] - begin;
        int32_t start = 0;
        while (start < count && traffic->back_src[begin + start] <= rank) {
            start++;
        }
        for (int32_t turn = 0; turn < count; turn++) {
            int32_t index = begin + (start + turn < count ? start + turn : start + turn - count);
            const struct rank_flow *flow = &traffic->rank_flow[traffic->back_flow[index]];
            plan_add_message(plan, traffic->back_src[index],
                             payload_bytes(flow, unit, input->combine_bytes_per_token), true,
                             NO_GROUP);
        }
    }
    return plan_finish(plan);
}
