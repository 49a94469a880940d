/*
 * zigzag -- deal the experts to the ranks back and forth, the hottest first.
 *
 * With ranks 0 to 3 the order is 0 1 2 3 3 2 1 0 0 1 ...: who got the hottest expert of one round
 * gets the coldest of the next. Slots beyond the number of experts hold the hottest once more.
 */
#include "balance/balance.h"

#include <stdlib.h>

struct heat {
    int64_t tokens;
    int32_t expert;
};

/* Hottest first; of equals the lower id, so that runs repeat everywhere. */
static int compare_heat(const void *left, const void *right)
{
    const struct heat *a = left;
    const struct heat *b = right;
    if (a->tokens != b->tokens) {
        return a->tokens > b->tokens ? -1 : 1;
    }
    return (a->expert > b->expert) - (a->expert < b->expert);
}

/* Ranks may differ in size: one that is full is passed over. */
static void deal(int32_t *expert_of_slot, const struct heat *order, int32_t num_experts,
                 const struct placement *placement)
{
    int32_t dealt = 0;
    for (int32_t round = 0; dealt < placement->num_slots; round++) {
        for (int32_t turn = 0; turn < placement->num_ranks; turn++) {
            int32_t rank = round % 2 == 0 ? turn : placement->num_ranks - 1 - turn;
            int32_t slot = placement->rank_begin[rank] + round;
            if (slot < placement->rank_begin[rank + 1]) {
                expert_of_slot[slot] = order[dealt++ % num_experts].expert;
            }
        }
    }
}

static enum status zigzag(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                          struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct heat *order = arena_alloc(input->scratch, (size_t)input->num_experts, sizeof *order);
    if (order == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "zigzag: no memory for %d experts",
                         (int)input->num_experts);
    }
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        const int64_t *load_tokens = input->load_tokens + (int64_t)layer * input->num_experts;
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            order[expert] = (struct heat){load_tokens[expert], expert};
        }
        qsort(order, (size_t)input->num_experts, sizeof *order, compare_heat);
        deal(expert_of_slot + (int64_t)layer * input->num_slots, order, input->num_experts,
             &input->placement[layer]);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_zigzag = {
    .name = "zigzag",
    .summary = "deals experts to ranks back and forth, the hottest first",
    .source = "",
    .needs = BALANCE_NEEDS_WINDOW,
    .plan = zigzag,
};
