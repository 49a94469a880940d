/*
 * round_robin -- wish i of a source rank goes to replica i mod n of its expert.
 *
 * Source: vLLM @ 45232a4, eplb_map_to_physical_and_record: (flattened token * top_k + j) mod n.
 * Every rank computes this on its own tokens, so i counts within the source rank's batch. There
 * replicas stand in the order of the rebalance; here by slot.
 */
#include "dispatch/dispatch.h"

#include <assert.h>

static enum status assign_in_turn(void *state, const struct dispatch_input *input,
                                  struct route *route)
{
    (void)state; /* memoryless, as in vLLM */
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    int64_t wish = 0; /* into [num_tokens][top_k] */
    for (int32_t token = 0; token < route->num_tokens; token++) {
        int32_t first_token = input->batch->rank_begin[input->batch->source_rank[token]];
        uint32_t turn = (uint32_t)(token - first_token) * (uint32_t)route->top_k;
        for (int32_t k = 0; k < route->top_k; k++, wish++, turn++) {
            int32_t expert = route->expert[wish];
            if (expert == EXPERT_NOT_ROUTED || route->dropped[wish]) {
                route->slot[wish] = SLOT_DROPPED;
                continue;
            }
            uint32_t replicas = (uint32_t)placement_num_replicas(placement, expert);
            uint32_t replica = replicas == 1 ? 0 : turn % replicas;
            route->slot[wish] =
                placement->slot_of[placement->slot_begin[expert] + (int32_t)replica];
        }
    }
    return STATUS_OK;
}

const struct replica_dispatch dispatch_round_robin = {
    .name = "round_robin",
    .summary = "a source rank's wishes take the replicas in turn",
    .source = "vLLM @ 45232a4, eplb_map_to_physical_and_record",
    .assign = assign_in_turn,
};
