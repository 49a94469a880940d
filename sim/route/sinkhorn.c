/*
 * sinkhorn -- top-k of scores that were scaled until all experts are wished alike.
 *
 * Each scope of routing.capacity_scope is scaled by itself, as each rank does in training. Weights
 * are softmax over all experts, or sigmoids where k is 1.
 *
 * Source: Megatron-LM, moe_utils.py and router.py @ d98e8a6, in reference/gate_batch.h. It does so
 * while training and routes by plain top-k when serving.
 */
#include "route/from_scores.h"

static enum status route_part(const struct route_input *input, struct route *route, int32_t first,
                              int32_t count)
{
    int64_t wish = (int64_t)first * route->top_k;
    struct gate_batch batch = route_batch(input, route, first, count);
    size_t room = ((size_t)count + 2) * (size_t)route->num_experts + (size_t)count;
    double *work = arena_take(input->scratch, room, sizeof *work);
    if (batch.logits == NULL || work == NULL) {
        return STATUS_NO_MEMORY;
    }
    ref_sinkhorn(batch, route->expert + wish, route->gate_weight + wish, work);
    ref_full_weight(batch, batch.top_k == 1, route->full_weight + first, route->expert + wish,
                    route->gate_weight + wish);
    return STATUS_OK;
}

static enum status sinkhorn(void *state, const struct route_input *input, struct route *route,
                            struct error *error)
{
    (void)state; /* memoryless: the batch says it all */
    enum status status = route_check_limits(route, error);
    if (status == STATUS_OK) {
        status = route_take_full_weight(input, route);
    }
    int32_t num_scopes = route_num_scopes(input->settings);
    for (int32_t scope = 0; scope < num_scopes && status == STATUS_OK; scope++) {
        int32_t first = 0;
        int32_t end = 0;
        route_scope(input, scope, route->num_tokens, &first, &end);
        status = route_part(input, route, first, end - first);
    }
    route->assignments = (int64_t)route->num_tokens * route->top_k;
    return status;
}

const struct router route_sinkhorn = {
    .name = "sinkhorn",
    .summary = "from scores: scaled until all experts are wished alike, then top-k",
    .source = "Megatron-LM moe_utils.py @ d98e8a6",
    .needs_scores = true,
    .route = sinkhorn,
};
