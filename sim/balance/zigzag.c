/*
 * zigzag -- deal experts to ranks back and forth, whatever their load.
 *
 * Source: the idea of vllm-project/vllm #23745, to stripe expert groups across ranks. Differs: each
 * second round runs from the last rank to the first, so that rank 0 does not get the first expert
 * of every round. Spare slots copy even rounds, half the ranks further, so that a copy does not
 * stand beside its original.
 */
#include "balance/balance.h"

static enum status deal_zigzag(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: the answer is always the same */
    (void)error; /* every expert has a slot, since there are no fewer slots than experts */
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        int32_t *map = expert_of_slot + (int64_t)layer * input->num_slots;
        for (int32_t slot = 0; slot < input->num_slots; slot++) {
            int32_t round = slot % slots_per_rank;
            int32_t rank = slot / slots_per_rank;
            int32_t place = round % 2 == 0 ? rank : input->num_ranks - 1 - rank;
            int32_t card = round * input->num_ranks + place;
            int32_t spare = card - input->num_experts;
            int32_t copied = spare / input->num_ranks * 2 * input->num_ranks +
                             (rank + input->num_ranks / 2) % input->num_ranks;
            map[slot] = spare < 0 ? card : copied % input->num_experts;
        }
    }
    return STATUS_OK;
}

const struct balance_strategy balance_zigzag = {
    .name = "zigzag",
    .summary = "experts dealt to ranks back and forth, whatever the load",
    .source = "after vllm-project/vllm #23745",
    .ignores_load = true,
    .settles = true,
    .plan = deal_zigzag,
};
