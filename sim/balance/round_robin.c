/*
 * round_robin -- deal experts to ranks one by one, whatever their load.
 *
 * Source: vLLM's --expert-placement-strategy round_robin (vllm-project/vllm #23745): expert e lives
 * on rank e % ranks, so neighbours, and with them the experts of one group, part. There without
 * redundant experts only; here spare slots begin anew with expert 0, half the ranks further, so
 * that a copy does not stand beside its original.
 */
#include "balance/balance.h"

static enum status deal_round(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: the answer is always the same */
    (void)error; /* every expert has a slot, since there are no fewer slots than experts */
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        int32_t *map = expert_of_slot + (int64_t)layer * input->num_slots;
        for (int32_t slot = 0; slot < input->num_slots; slot++) {
            int32_t card = slot % slots_per_rank * input->num_ranks + slot / slots_per_rank;
            int32_t spare = card - input->num_experts;
            int32_t place = (card + input->num_ranks / 2) % input->num_ranks;
            int32_t copied = spare / input->num_ranks * input->num_ranks + place;
            map[slot] = spare < 0 ? card : copied % input->num_experts;
        }
    }
    return STATUS_OK;
}

const struct balance_strategy balance_round_robin = {
    .name = "round_robin",
    .summary = "expert e on rank e modulo ranks, whatever the load",
    .source = "vllm-project/vllm #23745",
    .ignores_load = true,
    .settles = true,
    .plan = deal_round,
};
