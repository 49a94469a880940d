/*
 * two_sided -- TensorRT-LLM's earlier all-to-all over NVLink domains: counts first, then FIFOs.
 *
 * A token travels once to each rank that holds any of its experts, and one sum comes back. A
 * preparing kernel exchanges counts before the dispatch; its time is part of the dispatch's
 * start-up. Both are the medians of the measured times of 1 and 2 tokens a rank on 8 GPUs of a
 * GB200 NVL72 (prepare 12.7 us, dispatch 12.6 us, combine 14.5 us: aiconfigurator @ 095f58a51c4c,
 * trtllm_alltoall_perf 1.3.0rc10). How many SMs they hold is not published; here they take none.
 */
#include "collective/pairwise.h"

static enum status two_sided_dispatch(const struct collective_input *input,
                                      struct transfer_plan *plan)
{
    return pairwise_dispatch(input, plan, PAIRWISE_TOKENS);
}

static enum status two_sided_combine(const struct collective_input *input,
                                     struct transfer_plan *plan)
{
    return pairwise_combine(input, plan, PAIRWISE_TOKENS);
}

const struct collective collective_two_sided = {
    .name = "two_sided",
    .summary = "one copy a rank, counts exchanged first, over NVLink (TensorRT-LLM NVLinkTwoSided)",
    .source = "NVIDIA/TensorRT-LLM; ai-dynamo/aiconfigurator @ 095f58a51c4c",
    .dispatch_startup_ns = 25300.0,
    .combine_startup_ns = 14500.0,
    .num_sms = 0,
    .copied = COPIED_CHOICES,
    .plan_dispatch = two_sided_dispatch,
    .plan_combine = two_sided_combine,
};
