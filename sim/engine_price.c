/*
 * engine_price.c -- what strategies are told a move and a token cost on the machine at hand.
 *
 *     move   latency + expert's bytes / port's rate, for a port on the node and one to another
 *     token  its bytes to the expert and back / port's rate, the far one where there are several
 *            nodes, and what a mean rank's experts would take more for one token each
 *
 * Estimates for deciding: what is charged is what the models say when it happens. Left out: queues,
 * start-ups, and tokens that share one copy on the way.
 */
#include "engine_internal.h"

static double port_ns(const struct engine *engine, enum tier tier, double bytes)
{
    const struct port_spec *port = &engine->scenario->cluster.gpu.port[tier];
    return bytes / (port->bytes_per_s * port->fraction) * 1e9;
}

/* Time of a rank's experts when each slot has so many tokens. */
static double experts_ns(const struct engine *engine, int32_t *slot_tokens, int32_t num_slots,
                         int32_t tokens)
{
    const struct scenario *scenario = engine->scenario;
    int32_t layer = 0;
    while (engine->moe_layer[layer] < 0) {
        layer++;
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        slot_tokens[slot] = tokens;
    }
    struct gpu_work work = {.phase = GPU_EXPERT,
                            .model = &scenario->model,
                            .layer = layer,
                            .prefill = scenario->phase == PHASE_PREFILL,
                            .shards = scenario->expert_tp,
                            .num_slots = num_slots,
                            .slot_tokens = slot_tokens};
    return scenario->gpu_model->duration_ns(&scenario->cluster.gpu, &work);
}

enum status price_moves(struct engine *engine, struct balance_input *input)
{
    const struct scenario *scenario = engine->scenario;
    const struct port_spec *port = scenario->cluster.gpu.port;
    double bytes = (double)input->expert_bytes;
    int32_t num_slots = engine->num_slots / scenario_expert_groups(scenario);
    int32_t *slot_tokens =
        arena_take(&engine->rebalance_arena, (size_t)num_slots, sizeof *slot_tokens);
    if (slot_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wishes = (int64_t)scenario->tokens_per_rank * scenario->model.top_k;
    int32_t tokens = (int32_t)(wishes / num_slots) + 1; /* of a slot of the mean rank */
    double hidden = (double)scenario->model.hidden_dim;
    double wire = hidden * (precision_activation_bytes(scenario->dispatch_precision) +
                            precision_activation_bytes(scenario->combine_precision));
    enum tier tier = input->num_nodes > 1 ? TIER_SCALE_OUT : TIER_SCALE_UP;
    double more_ns = experts_ns(engine, slot_tokens, num_slots, 2 * tokens) -
                     experts_ns(engine, slot_tokens, num_slots, tokens);
    input->near_move_ns = port[TIER_SCALE_UP].latency_ns + port_ns(engine, TIER_SCALE_UP, bytes);
    input->far_move_ns = port[TIER_SCALE_OUT].latency_ns + port_ns(engine, TIER_SCALE_OUT, bytes);
    input->token_ns = port_ns(engine, tier, wire) +
                      (more_ns > 0.0 ? more_ns / ((double)tokens * num_slots) : 0.0);
    return STATUS_OK;
}
