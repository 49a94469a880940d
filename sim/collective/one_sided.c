/*
 * one_sided -- TensorRT-LLM's all-to-all over NVLink domains: kernels that put and pull.
 *
 * A token is put once into the buffer of each rank that holds any of its experts; on the way back
 * its rank pulls one sum from each of them. No counts are exchanged beforehand. Start-up costs are
 * the medians of the published times of 1 to 8 tokens a rank, bf16, 8 to 32 GPUs of a GB200 NVL72
 * (dispatch 18.4 to 19.8 us, combine 30.8 to 32.2 us), in which a barrier is included. It is meant
 * for one scale-up domain. How many SMs its kernels hold is not published; here they take none.
 */
#include "collective/pairwise.h"

static enum status one_sided_dispatch(const struct collective_input *input,
                                      struct transfer_plan *plan)
{
    return pairwise_dispatch(input, plan, PAIRWISE_TOKENS);
}

static enum status one_sided_combine(const struct collective_input *input,
                                     struct transfer_plan *plan)
{
    return pairwise_combine(input, plan, PAIRWISE_TOKENS);
}

const struct collective collective_one_sided = {
    .name = "one_sided",
    .summary = "one copy a rank, put and pulled over NVLink (TensorRT-LLM NVLinkOneSided)",
    .source = "NVIDIA/TensorRT-LLM, tech blog 18",
    .dispatch_startup_ns = 18900.0,
    .combine_startup_ns = 31400.0,
    .num_sms = 0,
    .copied = COPIED_CHOICES,
    .plan_dispatch = one_sided_dispatch,
    .plan_combine = one_sided_combine,
};
