/*
 * ascend_default -- one spare copy a rank, the rest to the lightest; only for a gain of 5 %.
 *
 * Source: vllm-project/vllm-ascend, eplb/core/policy/policy_default_eplb.py @ 182b75e
 * (original_compute_balanced_pack_redundancy). The hottest expert a copy gets the next one; copies
 * go to ranks 0, 1, ... in the order of their experts; then each expert's first copy, heaviest
 * first, to the lightest rank with room that does not hold it. A kept expert keeps its slot.
 * Nothing changes unless the sum over layers of the busiest rank falls below 0.95 of what it is.
 * Differs: of equals the lowest expert first (there the order turns over with every copy); more
 * copies than ranks, which it refuses, go around again; where only ranks that hold the expert have
 * room, one of them takes it; what a slot served is taken to be an even share.
 */
#include "balance/deal.h"

#define GAIN_ENOUGH 0.95

static void balance_layer(struct deal_work *work, const struct balance_input *input)
{
    int32_t num_experts = input->num_experts;
    int32_t num_ranks = input->num_ranks;
    int32_t slots_per_rank = input->num_slots / num_ranks;
    int32_t next = 0;
    deal_replicate(work->replicas, work->tokens, num_experts, input->num_slots, INT32_MAX, false);
    deal_clear(work, num_ranks);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double share_tokens = work->tokens[expert] / work->replicas[expert];
        for (int32_t copy = 1; copy < work->replicas[expert]; copy++) {
            int32_t rank = next++ % num_ranks;
            work->fresh[rank * slots_per_rank + work->rank_used[rank]++] = expert;
            work->rank_tokens[rank] += share_tokens;
        }
        work->item[expert] = (struct deal_item){share_tokens, expert, expert};
    }
    deal_sort(work->item, num_experts);
    deal_to_lightest(work, num_experts, num_ranks, slots_per_rank, true);
}

static enum status plan_ascend(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct deal_work work;
    size_t slots = (size_t)input->num_layers * (size_t)input->num_slots;
    int32_t *answer = arena_alloc(input->scratch, slots, sizeof *answer);
    enum status status = deal_open(&work, "ascend_default", input, error);
    if (status == STATUS_OK && answer == NULL) {
        status =
            error_add(error, STATUS_NO_MEMORY, "ascend_default: no memory for %zu slots", slots);
    }
    double before_tokens = 0.0;
    double after_tokens = 0.0;
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        deal_load(&work, input, layer);
        before_tokens += deal_busiest(&work, input, in_force);
        balance_layer(&work, input);
        deal_keep_places(&work, work.fresh, in_force, input->num_slots,
                         input->num_slots / input->num_ranks);
        after_tokens += deal_busiest(&work, input, work.fresh);
        deal_copy(answer, &work, input, layer);
    }
    if (status == STATUS_OK && after_tokens < GAIN_ENOUGH * before_tokens) {
        for (size_t slot = 0; slot < slots; slot++) {
            expert_of_slot[slot] = answer[slot];
        }
    }
    return status;
}

const struct balance_strategy balance_ascend_default = {
    .name = "ascend_default",
    .summary = "a spare copy of a hot expert on each rank, for a gain of 5 % at least",
    .source = "vllm-project/vllm-ascend, eplb/core/policy/policy_default_eplb.py @ 182b75e",
    .needs = BALANCE_NEEDS_WINDOW,
    .spreads_replicas = true,
    .keeps_balanced = true,
    .settles = true,
    .plan = plan_ascend,
};
