/*
 * fastermoe -- a limited share of first choices may leave the node; all others stay on it.
 *
 * Two experts a token. Where a rank's first choices that lie off its node are fewer than
 * int(0.14 T) (routing.off_node_share), nothing changes. Else the highest int(0.14 T) of them stay,
 * as second experts, and every other choice is made among the experts on the node: also a second
 * choice of a token whose first one is near.
 *
 * Source: FasterMoE (He et al., PPoPP 2022), fastmoe faster_gate.py @ ee3c561, in
 * reference/gate_nodes.h. An expert is near where any replica is; there, where its only one is.
 */
#include "gate_nodes.h"
#include "route/from_scores.h"

static void find_near(const struct route_input *input, int32_t node, bool *is_near)
{
    const struct placement *placement = input->placement;
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        bool here = cluster_node(input->cluster, placement->rank_of_slot[slot]) == node;
        is_near[placement->expert_of_slot[slot]] |= here;
    }
}

static enum status route_rank(const struct route_input *input, struct route *route, int32_t rank,
                              struct error *error)
{
    int32_t first = input->batch->rank_begin[rank];
    int32_t count = input->batch->rank_begin[rank + 1] - first;
    int32_t node = cluster_node(input->cluster, rank);
    struct gate_batch batch = route_batch(input, route, first, count);
    uint64_t *work = arena_take(input->scratch, 2 * (size_t)count, sizeof *work);
    bool *is_near = arena_alloc(input->scratch, (size_t)route->num_experts, sizeof *is_near);
    if (batch.logits == NULL || work == NULL || is_near == NULL) {
        return STATUS_NO_MEMORY;
    }
    find_near(input, node, is_near);
    enum status status = ref_fastermoe(batch, route->expert + 2 * (int64_t)first,
                                       route->gate_weight + 2 * (int64_t)first, is_near,
                                       input->settings->off_node_share, work);
    if (status != STATUS_OK) {
        return error_add(error, status,
                         "routing.policy: fastermoe needs two experts on every node, but node %d "
                         "has fewer",
                         (int)node);
    }
    ref_full_weight(batch, false, route->full_weight + first, route->expert + 2 * (int64_t)first,
                    route->gate_weight + 2 * (int64_t)first);
    return STATUS_OK;
}

static enum status fastermoe(void *state, const struct route_input *input, struct route *route,
                             struct error *error)
{
    (void)state; /* memoryless: the batch says it all */
    enum status status = route_check_limits(route, error);
    if (status == STATUS_OK) {
        status = route_take_full_weight(input, route);
    }
    for (int32_t rank = 0; rank < input->settings->num_ranks && status == STATUS_OK; rank++) {
        status = route_rank(input, route, rank, error);
    }
    route->assignments = (int64_t)route->num_tokens * route->top_k;
    return status;
}

const struct router route_fastermoe = {
    .name = "fastermoe",
    .summary = "from scores, top-2: of first choices 14 % may leave the node, all else stays",
    .source = "FasterMoE, fastmoe faster_gate.py @ ee3c561",
    .needs_scores = true,
    .top_k = 2,
    .route = fastermoe,
};
