/*
 * deepep_low_latency_rdma -- DeepEP's decode kernels as first released: RDMA to every rank.
 *
 * As deepep_low_latency, but also a rank of the same node is reached through both NICs: the vintage
 * of February 2025 (deepseek-ai/DeepEP README at ebfe47e46f), before NVLink was used inside a node.
 * Its published times on 8 to 128 H800s are those of the NIC alone: 163 us for 128 tokens to 8
 * ranks, 182 us to 32. The start-up costs are taken over from deepep_low_latency.
 */
#include "collective/pairwise.h"

static enum status rdma_dispatch(const struct collective_input *input, struct transfer_plan *plan)
{
    return pairwise_dispatch(input, plan, PAIRWISE_COPIES);
}

static enum status rdma_combine(const struct collective_input *input, struct transfer_plan *plan)
{
    return pairwise_combine(input, plan, PAIRWISE_COPIES);
}

const struct collective collective_deepep_low_latency_rdma = {
    .name = "deepep_low_latency_rdma",
    .summary = "as deepep_low_latency, by RDMA also inside a node (first release, February 2025)",
    .source = "deepseek-ai/DeepEP @ ebfe47e46f, low-latency kernels",
    .dispatch_startup_ns = 11200.0,
    .combine_startup_ns = 8700.0,
    .num_sms = 0,
    .holds_gpu = true,
    .copied = COPIED_CHOICES,
    .by_nic = true,
    .plan_dispatch = rdma_dispatch,
    .plan_combine = rdma_combine,
};
