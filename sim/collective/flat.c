/*
 * flat -- a grouped send and receive between all pairs, as NCCL's all-to-all.
 *
 * A token travels once for each chosen expert, also to two experts of one rank: what engines that
 * permute by expert and call all_to_all_v send (Megatron-Core token_dispatcher.py,
 * MoEAlltoAllTokenDispatcher). The start-up cost covers the exchange of counts between host and
 * device, which that dispatcher waits for. It is stated, not fitted.
 */
#include "collective/pairwise.h"

static enum status flat_dispatch(const struct collective_input *input, struct transfer_plan *plan)
{
    return pairwise_dispatch(input, plan, PAIRWISE_COPIES);
}

static enum status flat_combine(const struct collective_input *input, struct transfer_plan *plan)
{
    return pairwise_combine(input, plan, PAIRWISE_COPIES);
}

const struct collective collective_flat = {
    .name = "flat",
    .summary = "one copy a chosen expert, straight to its rank (NCCL all-to-all)",
    .source = "NVIDIA/Megatron-LM token_dispatcher.py; NCCL point-to-point groups",
    .dispatch_startup_ns = 30000.0,
    .combine_startup_ns = 30000.0,
    .num_sms = 16,
    .copied = COPIED_CHOICES,
    .plan_dispatch = flat_dispatch,
    .plan_combine = flat_combine,
};
