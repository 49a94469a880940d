/*
 * deepep_low_latency -- DeepEP's decode kernels: one copy a chosen expert, straight to its GPU.
 *
 * No forwarding and no removal of duplicates; results come back one a chosen expert and are added
 * up at the source. Inside a node this is the present vintage, which uses NVLink; the first release
 * (February 2025) used RDMA everywhere: deepep_low_latency_rdma. The kernels write from all SMs and
 * then free them: the receive half polls in a hook, so no SM is held while data is under way
 * (deepseek-ai/profile-data README; LMSYS's blog of 2025-05-05: all SMs while sending and
 * receiving, none in flight, dispatches 0.06 ms a layer of two micro-batches of 128 tokens). So the
 * start-up is the GPU's time, ours 0.05 ms a layer there, and whoever computes waits for it. The
 * start-up costs are the constants of linear fits over tokens of DeepEP on 8 H100 (aiconfigurator @
 * 095f58a51c4c, DeepEP low-latency tables).
 */
#include "collective/pairwise.h"

static enum status low_latency_dispatch(const struct collective_input *input,
                                        struct transfer_plan *plan)
{
    return pairwise_dispatch(input, plan, PAIRWISE_COPIES);
}

static enum status low_latency_combine(const struct collective_input *input,
                                       struct transfer_plan *plan)
{
    return pairwise_combine(input, plan, PAIRWISE_COPIES);
}

const struct collective collective_deepep_low_latency = {
    .name = "deepep_low_latency",
    .summary = "one copy a chosen expert, NVLink in the node and RDMA beyond (decode)",
    .source = "deepseek-ai/DeepEP, low-latency kernels",
    .dispatch_startup_ns = 11200.0,
    .combine_startup_ns = 8700.0,
    .num_sms = 0,
    .holds_gpu = true,
    .copied = COPIED_CHOICES,
    .plan_dispatch = low_latency_dispatch,
    .plan_combine = low_latency_combine,
};
