/*
 * flat -- a grouped send and receive between all pairs, as NCCL's all-to-all.
 *
 * A token travels once for each chosen expert, also to two experts of one rank: what engines that
 * permute by expert and call all_to_all_v send (Megatron-Core token_dispatcher.py,
 * MoEAlltoAllTokenDispatcher). The start-up cost covers the exchange of counts between host and
 * device, which that dispatcher waits for. It is stated, not fitted.
 */
#include "collective/pairwise.h"

const struct collective collective_flat = {
    .name = "flat",
    .summary = "one copy a chosen expert, straight to its rank (NCCL all-to-all)",
    .source = "NVIDIA/Megatron-LM token_dispatcher.py; NCCL point-to-point groups",
    .startup_ns = 30000.0,
    .num_sms = 16,
    .plan_dispatch = pairwise_dispatch,
    .plan_combine = pairwise_combine,
};
