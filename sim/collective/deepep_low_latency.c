/*
 * deepep_low_latency -- DeepEP's decode kernels: one copy a chosen expert, straight to its GPU.
 *
 * No forwarding and no removal of duplicates; results come back one a chosen expert and are added
 * up at the source. Inside a node this is the present vintage, which uses NVLink; the first release
 * (February 2025) used RDMA everywhere. The kernels write from the SMs and then free them: the
 * receive half polls in a hook, so no SM is held while data is under way. The start-up cost is the
 * constant of a linear fit over tokens of DeepEP on 8 H100 (dispatch 11.2 us, combine 8.7 us:
 * aiconfigurator @ 095f58a51c4c, DeepEP low-latency tables), rounded.
 */
#include "collective/pairwise.h"

const struct collective collective_deepep_low_latency = {
    .name = "deepep_low_latency",
    .summary = "one copy a chosen expert, NVLink in the node and RDMA beyond (decode)",
    .source = "deepseek-ai/DeepEP, low-latency kernels",
    .startup_ns = 10000.0,
    .num_sms = 0,
    .plan_dispatch = pairwise_dispatch,
    .plan_combine = pairwise_combine,
};
