/*
 * node_aware -- prefers experts on nodes that the token goes to anyway, within a tolerance.
 *
 * Choice by choice the best expert left is taken, unless one on the token's own node, or on one
 * that it was sent to before, has at least (1 - routing.tolerance) of its score: then the best of
 * those. At tolerance 0 only ties are decided by nearness. What it saves is the run's
 * dispatch_cross_node_bytes; what it gives up is its gate mass. Weights are scores (routing.score)
 * over the sum of the chosen.
 *
 * Ours; nearest in the literature: device-limited routing (deepseek_v2), which bounds the devices
 * and not the loss. An expert with replicas on several nodes brings the token to the lowest of
 * them, which the replica dispatch may see otherwise.
 */
#include "gate_nodes.h"
#include "route/from_scores.h"

#define ROWS_AT_ONCE 64

struct part {
    float *logits;   /* [ROWS_AT_ONCE][num_experts] */
    float *affinity; /* the same */
    struct gate_nodes nodes;
};

static enum status find_nodes(const struct route_input *input, struct part *part)
{
    const struct placement *placement = input->placement;
    int32_t num_nodes = cluster_node(input->cluster, placement->num_ranks - 1) + 1;
    int32_t num_words = (num_nodes + 63) / 64;
    uint64_t *of_expert = arena_alloc(
        input->scratch, (size_t)placement->num_experts * (size_t)num_words, sizeof *of_expert);
    if (of_expert == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        int32_t node = cluster_node(input->cluster, placement->rank_of_slot[slot]);
        int64_t row = (int64_t)placement->expert_of_slot[slot] * num_words;
        of_expert[row + node / 64] |= UINT64_C(1) << (node % 64);
    }
    part->nodes = (struct gate_nodes){num_words, of_expert};
    return STATUS_OK;
}

static void route_rank(const struct route_input *input, struct route *route, int32_t rank,
                       const struct part *part)
{
    const struct route_settings *settings = input->settings;
    bool sigmoid = settings->score == ROUTE_SIGMOID;
    int32_t end = input->batch->rank_begin[rank + 1];
    int32_t count = 0;
    for (int32_t first = input->batch->rank_begin[rank]; first < end; first += count) {
        int64_t wish = (int64_t)first * route->top_k;
        count = end - first < ROWS_AT_ONCE ? end - first : ROWS_AT_ONCE;
        struct gate_batch batch = {count, route->num_experts, route->top_k, part->logits};
        trace_side_logits(input->side, part->logits, input->trace_layer, input->batch->row + first,
                          count);
        ref_affinity(batch, sigmoid, part->affinity);
        ref_node_aware(batch, route->expert + wish, route->gate_weight + wish, part->affinity,
                       part->nodes, cluster_node(input->cluster, rank), (float)settings->tolerance);
        ref_full_weight(batch, sigmoid, route->full_weight + first, route->expert + wish,
                        route->gate_weight + wish);
    }
}

static enum status node_aware(void *state, const struct route_input *input, struct route *route,
                              struct error *error)
{
    (void)state; /* memoryless: scores and placement say it all */
    size_t room = (size_t)ROWS_AT_ONCE * (size_t)route->num_experts;
    struct part part = {.logits = arena_take(input->scratch, room, sizeof(float)),
                        .affinity = arena_take(input->scratch, room, sizeof(float))};
    enum status status = route_check_limits(route, error);
    if (status == STATUS_OK && (part.logits == NULL || part.affinity == NULL)) {
        status = STATUS_NO_MEMORY;
    }
    if (status == STATUS_OK) {
        status = route_take_full_weight(input, route);
    }
    if (status == STATUS_OK) {
        status = find_nodes(input, &part);
    }
    if (status == STATUS_OK && part.nodes.num_words > GATE_NODE_WORDS_MAX) {
        status = error_add(error, STATUS_INVALID,
                           "routing.policy: node_aware knows up to %d nodes, the ranks are on more",
                           GATE_NODE_WORDS_MAX * 64);
    }
    for (int32_t rank = 0; rank < input->settings->num_ranks && status == STATUS_OK; rank++) {
        route_rank(input, route, rank, &part);
    }
    route->assignments = (int64_t)route->num_tokens * route->top_k;
    return status;
}

const struct router route_node_aware = {
    .name = "node_aware",
    .summary = "from scores: top-k, but near experts within a tolerance of the best",
    .source = "ours",
    .needs_scores = true,
    .route = node_aware,
};
