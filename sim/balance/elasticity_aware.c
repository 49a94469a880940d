/*
 * elasticity_aware -- EPLB over the ranks that are left.
 *
 * Source: sgl-project/sglang, srt/eplb/eplb_algorithms/elasticity_aware.py @ b47eaa9. While every
 * rank lives it is eplb. With ranks lost, EPLB's global policy places all experts on the slots of
 * the live ranks, in their order. Differs: there the slots of a lost rank are filled with expert 0
 * and left out of the table of replicas; here they keep what they held, because nothing is sent to
 * a GPU that is gone, and whoever reads the placement leaves them out.
 */
#include "balance/balance.h"
#include "balance/eplb.h"

#include <string.h>

static enum status plan_live(const struct balance_input *input, int32_t num_live,
                             int32_t *expert_of_slot, struct error *error)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    struct eplb_shape shape = {.num_experts = input->num_experts,
                               .num_slots = num_live * slots_per_rank,
                               .num_groups = 1,
                               .num_nodes = 1,
                               .num_ranks = num_live};
    if (num_live == 0 || shape.num_slots < shape.num_experts) {
        return error_add(error, STATUS_INVALID,
                         "elasticity_aware: the %d ranks left have %d slots for %d experts",
                         (int)num_live, (int)shape.num_slots, (int)input->num_experts);
    }
    size_t bytes = (size_t)slots_per_rank * sizeof *expert_of_slot;
    int32_t *live = arena_take(input->scratch, (size_t)shape.num_slots, sizeof *live);
    enum status status = live != NULL
                             ? eplb_check(&shape, error)
                             : error_add(error, STATUS_NO_MEMORY, "elasticity_aware: no memory");
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        int32_t *answer = expert_of_slot + (int64_t)layer * input->num_slots;
        const int32_t *next = live;
        status = eplb_layer(live, input->load_tokens + (int64_t)layer * input->num_experts, &shape,
                            input->scratch);
        for (int32_t rank = 0; status == STATUS_OK && rank < input->num_ranks; rank++) {
            if (!input->rank_is_lost[rank]) {
                memcpy(answer + rank * slots_per_rank, next, bytes);
                next += slots_per_rank;
            }
        }
    }
    return status;
}

static enum status plan_elasticity_aware(void *state, const struct balance_input *input,
                                         int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    int32_t num_live = 0;
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        num_live += input->rank_is_lost == NULL || !input->rank_is_lost[rank];
    }
    if (num_live < input->num_ranks) {
        return plan_live(input, num_live, expert_of_slot, error);
    }
    struct eplb_shape shape = {.num_experts = input->num_experts,
                               .num_slots = input->num_slots,
                               .num_groups = input->num_groups,
                               .num_nodes = input->num_nodes,
                               .num_ranks = input->num_ranks};
    enum status status = eplb_check(&shape, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        status = eplb_layer(expert_of_slot + (int64_t)layer * input->num_slots,
                            input->load_tokens + (int64_t)layer * input->num_experts, &shape,
                            input->scratch);
    }
    return status;
}

const struct balance_strategy balance_elasticity_aware = {
    .name = "elasticity_aware",
    .summary = "EPLB over the ranks that are left when some are lost",
    .source = "sgl-project/sglang, eplb_algorithms/elasticity_aware.py @ b47eaa9",
    .needs = BALANCE_NEEDS_WINDOW,
    .settles = true,
    .plan = plan_elasticity_aware,
};
