/*
 * smart -- heaviest slot to the lightest rank, ties stay at home, and only if the maximum falls.
 *
 * Source: SmartMoE (Zhai et al., USENIX ATC 2023), its greedy placement: longest processing time
 * first, without replicas. Adapted: spare slots, which it does not know, keep the expert that they
 * have, so replica counts never change; each replica weighs an even share.
 */
#include "balance/deal.h"

/* The lightest rank with room that does not hold the expert; of equals, its old rank, then the
 * lowest. A rank that holds it already is taken only when all others are full. */
static int32_t pick_rank(const struct deal_work *work, const struct balance_input *input,
                         const struct deal_item *item)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    int32_t home = item->id / slots_per_rank;
    int32_t best = -1;
    bool best_holds = false;
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        if (work->rank_used[rank] == slots_per_rank) {
            continue;
        }
        bool holds =
            deal_holds(work->fresh + rank * slots_per_rank, work->rank_used[rank], item->expert);
        bool better = best < 0 || (best_holds && !holds);
        if (!better && holds == best_holds) {
            double more_tokens = work->rank_tokens[rank] - work->rank_tokens[best];
            better = more_tokens < 0.0 || (more_tokens == 0.0 && rank == home);
        }
        if (better) {
            best = rank;
            best_holds = holds;
        }
    }
    return best;
}

static void deal_layer(struct deal_work *work, const struct balance_input *input,
                       const int32_t *in_force)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    for (int32_t slot = 0; slot < input->num_slots; slot++) { /* deal_busiest counted replicas */
        int32_t expert = in_force[slot];
        work->item[slot] =
            (struct deal_item){work->tokens[expert] / work->replicas[expert], slot, expert};
    }
    deal_sort(work->item, input->num_slots);
    deal_clear(work, input->num_ranks);
    for (int32_t i = 0; i < input->num_slots; i++) {
        int32_t rank = pick_rank(work, input, &work->item[i]);
        work->fresh[rank * slots_per_rank + work->rank_used[rank]++] = work->item[i].expert;
        work->rank_tokens[rank] += work->item[i].tokens;
    }
    deal_keep_places(work, work->fresh, in_force, input->num_slots, slots_per_rank);
}

static enum status plan_smart(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct deal_work work;
    enum status status = deal_open(&work, "smart", input, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        deal_load(&work, input, layer);
        double before_tokens = deal_busiest(&work, input, in_force);
        deal_layer(&work, input, in_force);
        if (deal_busiest(&work, input, work.fresh) < before_tokens) {
            deal_copy(expert_of_slot, &work, input, layer);
        }
    }
    return status;
}

const struct balance_strategy balance_smart = {
    .name = "smart",
    .summary = "the slots there are, dealt anew, where that relieves the busiest rank",
    .source = "adapted from SmartMoE (Zhai et al., USENIX ATC 2023)",
    .needs = BALANCE_NEEDS_WINDOW,
    .keeps_balanced = true,
    .settles = true,
    .plan = plan_smart,
};
