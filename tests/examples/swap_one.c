/*
 * swap_one -- exchange the hottest slot of the busiest rank for the coldest of the idlest.
 *
 * One exchange a layer and window: two experts' weights travel, where a placement made anew may
 * send nearly all. It is left out where it would not relieve the busiest rank.
 */
#include "balance/balance.h"

/* Replicas share their expert's tokens evenly. */
static double slot_tokens(const struct placement *placement, const int64_t *load_tokens,
                          int32_t slot)
{
    int32_t expert = placement->expert_of_slot[slot];
    return (double)load_tokens[expert] / (double)placement_num_replicas(placement, expert);
}

static double rank_tokens(const struct placement *placement, const int64_t *load_tokens,
                          int32_t rank)
{
    double tokens = 0.0;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        tokens += slot_tokens(placement, load_tokens, slot);
    }
    return tokens;
}

static void swap_in_layer(const struct placement *placement, const int64_t *load_tokens,
                          int32_t *expert_of_slot)
{
    int32_t busiest = 0;
    int32_t idlest = 0;
    for (int32_t rank = 1; rank < placement->num_ranks; rank++) { /* of equals, the lowest rank */
        double tokens = rank_tokens(placement, load_tokens, rank);
        busiest = tokens > rank_tokens(placement, load_tokens, busiest) ? rank : busiest;
        idlest = tokens < rank_tokens(placement, load_tokens, idlest) ? rank : idlest;
    }
    int32_t hot = placement->rank_begin[busiest];
    for (int32_t slot = hot + 1; slot < placement->rank_begin[busiest + 1]; slot++) {
        double tokens = slot_tokens(placement, load_tokens, slot);
        hot = tokens > slot_tokens(placement, load_tokens, hot) ? slot : hot;
    }
    int32_t cold = placement->rank_begin[idlest];
    for (int32_t slot = cold + 1; slot < placement->rank_begin[idlest + 1]; slot++) {
        double tokens = slot_tokens(placement, load_tokens, slot);
        cold = tokens < slot_tokens(placement, load_tokens, cold) ? slot : cold;
    }
    if (cold == placement->rank_begin[idlest + 1]) {
        return; /* a rank that has lost its GPU holds nothing to exchange */
    }
    double moved_tokens =
        slot_tokens(placement, load_tokens, hot) - slot_tokens(placement, load_tokens, cold);
    if (moved_tokens > 0.0 && rank_tokens(placement, load_tokens, idlest) + moved_tokens <
                                  rank_tokens(placement, load_tokens, busiest)) {
        expert_of_slot[hot] = placement->expert_of_slot[cold];
        expert_of_slot[cold] = placement->expert_of_slot[hot];
    }
}

static enum status swap_one(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                            struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    (void)error; /* nothing can fail */
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        swap_in_layer(&input->placement[layer],
                      input->load_tokens + (int64_t)layer * input->num_experts,
                      expert_of_slot + (int64_t)layer * input->num_slots);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_swap_one = {
    .name = "swap_one",
    .summary = "exchanges the busiest rank's hottest slot for the idlest rank's coldest",
    .source = "",
    .needs = BALANCE_NEEDS_WINDOW,
    .plan = swap_one,
};
