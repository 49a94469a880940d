/*
 * hash -- k different experts by a hash of the row, whatever the token is.
 *
 * As even as chance allows, and needs no scores: what a perfectly balanced router would do to a
 * cluster, on any trace. A trace holds no token ids, so every row counts as a token of its own:
 * left out is the skew that frequent tokens bring to a real hash layer. Weights are 1 / k.
 *
 * Source: Hash Layers (Roller et al., arXiv 2106.04426), random hash, in reference/gate_batch.h.
 */
#include "gate_hash.h"
#include "route/from_scores.h"

static enum status hash(void *state, const struct route_input *input, struct route *route,
                        struct error *error)
{
    (void)state; /* memoryless: the row says it all */
    enum status status = route_check_limits(route, error);
    uint64_t *key = arena_take(input->scratch, (size_t)route->num_tokens, sizeof *key);
    if (status != STATUS_OK || key == NULL) {
        return status != STATUS_OK ? status : STATUS_NO_MEMORY;
    }
    uint64_t stream = gate_hash(input->settings->seed ^ gate_hash((uint64_t)input->trace_layer));
    for (int32_t token = 0; token < route->num_tokens; token++) {
        key[token] = stream ^ (uint64_t)input->batch->row[token];
    }
    ref_hash((struct gate_batch){route->num_tokens, route->num_experts, route->top_k, NULL},
             route->expert, route->gate_weight, key);
    route->assignments = (int64_t)route->num_tokens * route->top_k;
    return STATUS_OK;
}

const struct router route_hash = {
    .name = "hash",
    .summary = "k experts by a hash of the row: even, and blind to scores",
    .source = "Hash Layers, arXiv 2106.04426",
    .is_blind = true,
    .route = hash,
};
