/*
 * engine_rank.c -- the life of a rank within a step: its lanes and their stages.
 *
 *   [gather] attention [scatter] -> gate -> shared expert -> dispatch -> expert -> combine -> next
 *                                \-> [gather] dense FFN [scatter] -> next layer
 *
 * gather and scatter are there when attention is tensor-parallel; micro-batches of prefill compute
 * the shared expert behind the routed ones, those of decode cut attention in two. A collective that
 * holds the GPU spends its start-up behind gate and experts. No stage waits for more than the
 * data it needs: ranks drift apart and meet where one waits for another's tokens. A rank has one
 * lane, or one for each chunk of each micro-batch (engine_split.c):
 *
 *   lane 0: layers before the first MoE layer -+-> micro-batch 0 ---------------------+-> the rest
 *   lane 1:                                    +-> micro-batch 1: gate -+-> chunk 0 -+-+
 *   lane 2:                                                             +-> chunk 1 -+
 *
 * Lanes of a rank share its GPU (engine_compute.c). What its GPU does, or else what ends its
 * idleness, is what a rank's time is booked to.
 */
#include "engine_internal.h"

#include <assert.h>

#include "digest.h"

static const enum step_phase phase_of_stage[] = {
    [STAGE_REBALANCE] = STEP_REBALANCE,
    [STAGE_ATTENTION_GATHER] = STEP_EXCHANGE,
    [STAGE_ATTENTION] = STEP_ATTENTION,
    [STAGE_ATTENTION_SCATTER] = STEP_EXCHANGE,
    [STAGE_DENSE_GATHER] = STEP_EXCHANGE,
    [STAGE_DENSE] = STEP_DENSE,
    [STAGE_DENSE_SCATTER] = STEP_EXCHANGE,
    [STAGE_GATE] = STEP_GATE,
    [STAGE_SHARED] = STEP_EXPERT,
    [STAGE_DISPATCH] = STEP_DISPATCH,
    [STAGE_EXPERT] = STEP_EXPERT,
    [STAGE_COMBINE] = STEP_COMBINE,
    [STAGE_HEAD] = STEP_DENSE,
    [STAGE_ATTENTION_CORE] = STEP_ATTENTION,
};

enum step_phase rank_phase(enum stage stage)
{
    assert(stage != STAGE_DONE && stage != STAGE_JOIN);
    return phase_of_stage[stage];
}

/* The transfer a stage waits for, or NULL for a stage that computes. */
static struct transfer *transfer_of(struct engine *engine, const struct rank_state *state,
                                    int32_t lane_index)
{
    const struct lane *lane = &state->lane[lane_index];
    struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
    switch (lane->stage) {
    case STAGE_REBALANCE:
        return &engine->weights;
    case STAGE_ATTENTION_GATHER:
        return &run->transfer[TRANSFER_ATTENTION_GATHER];
    case STAGE_ATTENTION_SCATTER:
        return &run->transfer[TRANSFER_ATTENTION_SCATTER];
    case STAGE_DENSE_GATHER:
        return &run->transfer[TRANSFER_DENSE_GATHER];
    case STAGE_DENSE_SCATTER:
        return &run->transfer[TRANSFER_DENSE_SCATTER];
    case STAGE_DISPATCH:
        return &run->transfer[TRANSFER_DISPATCH];
    case STAGE_COMBINE:
        return &run->transfer[TRANSFER_COMBINE];
    case STAGE_ATTENTION:
    case STAGE_DENSE:
    case STAGE_GATE:
    case STAGE_SHARED:
    case STAGE_EXPERT:
    case STAGE_HEAD:
    case STAGE_DONE:
    case STAGE_JOIN:
    case STAGE_ATTENTION_CORE:
        break;
    }
    return NULL;
}

void rank_book(struct engine *engine, int32_t rank, int32_t lane_index, enum step_phase first,
               int64_t first_ns, enum step_phase phase)
{
    struct rank_state *state = &engine->rank[rank];
    const struct lane *lane = &state->lane[lane_index];
    int64_t now_ns = engine->queue.now_ns;
    int64_t split_ns = state->mark_ns + first_ns;
    assert(first_ns >= 0 && split_ns <= now_ns);
    state->phase_ns[first] += first_ns;
    state->phase_ns[phase] += now_ns - split_ns;
    bool in_layer = lane->stage != STAGE_REBALANCE && lane->stage != STAGE_HEAD;
    int32_t layer = in_layer ? lane->layer : -1;
    record_time(engine, rank, layer, first, state->mark_ns, split_ns);
    record_time(engine, rank, layer, phase, split_ns, now_ns);
    state->mark_ns = now_ns;
}

/* Data has come for a lane whose rank was idle. Of the idle time, the part before the last sender
 * was ready is waiting for a slower rank; the rest is the transfer's own. */
static void book_idle(struct engine *engine, int32_t rank, int32_t lane_index,
                      const struct transfer *transfer)
{
    const struct rank_state *state = &engine->rank[rank];
    enum stage stage = state->lane[lane_index].stage;
    int64_t waiting_ns = 0;
    if (stage != STAGE_REBALANCE) {
        waiting_ns = transfer->rank[rank].root_ns - state->mark_ns;
        waiting_ns = waiting_ns < 0 ? 0 : waiting_ns;
    }
    rank_book(engine, rank, lane_index, STEP_WAITING, waiting_ns, rank_phase(stage));
}

static bool stage_exists(const struct engine *engine, const struct lane *lane)
{
    bool is_moe =
        lane->layer < engine->scenario->model.num_layers && engine->moe_layer[lane->layer] >= 0;
    switch (lane->stage) {
    case STAGE_REBALANCE:
        return engine->weights_moving;
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION_SCATTER:
        return engine->scenario->tp > 1;
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE_SCATTER:
        return !is_moe && engine->scenario->tp > 1;
    case STAGE_DENSE:
        return !is_moe;
    case STAGE_SHARED:
        return is_moe && engine->scenario->model.shared_ffn_dim > 0 && !engine->shares_beside;
    case STAGE_ATTENTION_CORE:
        return engine->halves_attention && split_layer(engine, lane->layer);
    case STAGE_GATE:
    case STAGE_DISPATCH:
    case STAGE_EXPERT:
    case STAGE_COMBINE:
        return is_moe;
    case STAGE_ATTENTION:
    case STAGE_HEAD:
    case STAGE_DONE:
    case STAGE_JOIN:
        break;
    }
    return true;
}

/* Collective kernels pay their start-up, unless the GPU has just spent it; plain exchanges pay a
 * kernel's. */
static enum status start_transfer(struct engine *engine, struct transfer *transfer, int32_t rank)
{
    const struct scenario *scenario = engine->scenario;
    double startup_ns = scenario->cluster.gpu.kernel_ns;
    if (transfer_is_collective(transfer)) {
        startup_ns = scenario->collective->holds_gpu ? 0.0 : transfer->cost.startup_ns;
        engine->rank[rank].collectives++;
        engine->rank[rank].collective_bytes_per_s += transfer->hbm_bytes_per_s[rank];
    }
    return network_schedule_release(engine, transfer, rank, startup_ns);
}

/* Begins the lane's present stage: compute, send and wait, or finish. */
static enum status begin_stage(struct engine *engine, int32_t rank, int32_t lane_index)
{
    struct rank_state *state = &engine->rank[rank];
    enum stage stage = state->lane[lane_index].stage;
    if (stage == STAGE_DONE) {
        engine->ranks_done++;
        return STATUS_OK;
    }
    struct transfer *transfer = transfer_of(engine, state, lane_index);
    if (transfer == NULL) {
        bool is_offloaded = stage == STAGE_EXPERT && engine->offload != NULL;
        return is_offloaded ? offload_begin_experts(engine, rank)
                            : compute_want(engine, rank, lane_index);
    }
    if (stage == STAGE_DISPATCH || (stage == STAGE_COMBINE && engine->shares_late)) {
        return rank_data_arrived(engine, rank, transfer); /* sent when gate or experts were done */
    }
    return start_transfer(engine, transfer, rank);
}

/* Moves a leader to the first stage of a layer, or behind the last layer to the head. */
static enum status enter_layer(struct engine *engine, int32_t rank, int32_t lane_index,
                               int32_t layer)
{
    struct lane *lane = &engine->rank[rank].lane[lane_index];
    lane->layer = layer;
    lane->layer_ns = engine->queue.now_ns;
    lane->stage = STAGE_HEAD;
    if (layer == engine->scenario->model.num_layers) {
        return STATUS_OK;
    }
    lane->stage = STAGE_ATTENTION_GATHER;
    while (!stage_exists(engine, lane)) {
        lane->stage++;
    }
    return layer_enter(engine, lane_index, layer);
}

/* The leaders of all micro-batches set out from this layer, which lane 0 has just reached. */
static enum status fork_micro_batches(struct engine *engine, int32_t rank, int32_t layer)
{
    const struct scenario *scenario = engine->scenario;
    engine->rank[rank].micro_batches_left = scenario->micro_batches;
    enum status status = STATUS_OK;
    for (int32_t part = 0; part < scenario->micro_batches && status == STATUS_OK; part++) {
        int32_t leader = part * scenario->chunks;
        status = enter_layer(engine, rank, leader, layer);
        if (status == STATUS_OK) {
            status = begin_stage(engine, rank, leader);
        }
    }
    return status;
}

/* A leader goes from one layer into the next: where micro-batches begin, all of their leaders do;
 * where they end, lane 0 goes on when the last of them is there. */
static enum status next_layer(struct engine *engine, int32_t rank, int32_t leader)
{
    struct rank_state *state = &engine->rank[rank];
    int32_t layer = state->lane[leader].layer;
    if (layer == engine->split_last) {
        state->lane[leader].stage = STAGE_JOIN;
        if (--state->micro_batches_left > 0) {
            return STATUS_OK;
        }
        leader = 0;
    }
    if (layer + 1 == engine->split_first) {
        return fork_micro_batches(engine, rank, layer + 1);
    }
    enum status status = enter_layer(engine, rank, leader, layer + 1);
    return status == STATUS_OK ? begin_stage(engine, rank, leader) : status;
}

/* The gate has decided: every chunk of the micro-batch is sent; the leader goes on, the others wait
 * for theirs. */
static enum status fork_chunks(struct engine *engine, int32_t rank, int32_t leader)
{
    struct rank_state *state = &engine->rank[rank];
    int32_t chunks = engine->scenario->chunks;
    int32_t layer = state->lane[leader].layer;
    state->lane[leader].chunks_left = chunks;
    state->lane[leader].shared_ns = engine->queue.now_ns;
    enum status status = STATUS_OK;
    for (int32_t index = leader; index < leader + chunks && status == STATUS_OK; index++) {
        if (index > leader) {
            status = layer_enter(engine, index, layer);
            state->lane[index].layer = layer;
            state->lane[index].stage = STAGE_DISPATCH;
        }
        if (status == STATUS_OK) {
            struct layer_run *run = layer_run_of(engine, index, layer);
            status = start_transfer(engine, &run->transfer[TRANSFER_DISPATCH], rank);
        }
    }
    if (engine->offload != NULL && engine->scenario->ep == 1) { /* all tokens are its own */
        offload_look_up(engine, rank, layer);
    }
    return status;
}

/* A lane has been through its layer. The leader goes on with the last of its chunks. */
static enum status leave_layer(struct engine *engine, int32_t rank, int32_t lane_index)
{
    struct rank_state *state = &engine->rank[rank];
    int32_t leader = leader_of(engine, lane_index);
    int32_t layer = state->lane[lane_index].layer;
    bool is_moe = engine->moe_layer[layer] >= 0;
    bool is_last = !is_moe || --state->lane[leader].chunks_left == 0;
    if (is_last) {
        struct layer_run *run = layer_run_of(engine, lane_index, layer);
        run->layer_ns_sum += (double)(engine->queue.now_ns - state->lane[leader].layer_ns);
    }
    layer_leave(engine, lane_index, layer);
    state->lane[lane_index].stage = STAGE_JOIN;
    return is_last ? next_layer(engine, rank, leader) : STATUS_OK;
}

/* The order of a lane's stages: that of their numbers, but for what micro-batches change, and that
 * shared experts which are cut need others' tokens, too. */
static enum stage stage_after(const struct engine *engine, enum stage stage)
{
    bool is_cut = scenario_gate_peers(engine->scenario) > 1;
    switch (stage) {
    case STAGE_ATTENTION:
        return STAGE_ATTENTION_CORE;
    case STAGE_ATTENTION_CORE:
        return STAGE_ATTENTION_SCATTER;
    case STAGE_GATE:
        return engine->shares_late || is_cut ? STAGE_DISPATCH : STAGE_SHARED;
    case STAGE_DISPATCH:
        return is_cut ? STAGE_SHARED : STAGE_EXPERT;
    case STAGE_EXPERT:
        return engine->shares_late ? STAGE_SHARED : STAGE_COMBINE;
    case STAGE_SHARED:
        return engine->shares_late ? STAGE_COMBINE : is_cut ? STAGE_EXPERT : STAGE_DISPATCH;
    case STAGE_REBALANCE:
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION_SCATTER:
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE:
    case STAGE_DENSE_SCATTER:
    case STAGE_COMBINE:
    case STAGE_HEAD:
    case STAGE_DONE:
    case STAGE_JOIN:
        break;
    }
    return stage + 1;
}

/* The present stage is over and booked: begins the next that exists. */
static enum status advance(struct engine *engine, int32_t rank, int32_t lane_index)
{
    struct lane *lane = &engine->rank[rank].lane[lane_index];
    enum status status = STATUS_OK;
    if (lane->stage == STAGE_REBALANCE && engine->split_first == 0) {
        return fork_micro_batches(engine, rank, 0);
    }
    if (lane->stage == STAGE_GATE) {
        status = fork_chunks(engine, rank, lane_index);
    } else if (lane->stage == STAGE_EXPERT && engine->shares_late) {
        struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
        status = start_transfer(engine, &run->transfer[TRANSFER_COMBINE], rank);
    }
    if (status != STATUS_OK) {
        return status;
    }
    do {
        if (lane->stage == STAGE_COMBINE) {
            return leave_layer(engine, rank, lane_index);
        }
        lane->stage = stage_after(engine, lane->stage);
    } while (!stage_exists(engine, lane));
    return begin_stage(engine, rank, lane_index);
}

enum status rank_begin_step(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    struct lane *lane = state->lane;
    *state =
        (struct rank_state){.lane = lane, .computing = NO_LANE, .mark_ns = engine->queue.now_ns};
    for (int32_t index = 0; index < engine->num_lanes; index++) {
        lane[index] = (struct lane){.stage = STAGE_JOIN};
    }
    lane[0] = (struct lane){.stage = STAGE_REBALANCE, .layer_ns = engine->queue.now_ns};
    enum status status = STATUS_OK;
    if (engine->split_first != 0) {
        status = layer_enter(engine, 0, 0);
    }
    if (status != STATUS_OK) {
        return status;
    }
    return stage_exists(engine, lane) ? begin_stage(engine, rank, 0) : advance(engine, rank, 0);
}

enum status rank_compute_done(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    int32_t lane_index = state->computing;
    const struct lane *lane = &state->lane[lane_index];
    uint64_t digest = digest_u64(engine->metrics.digest, (uint64_t)engine->queue.now_ns);
    engine->metrics.digest =
        digest_u64(digest, (uint64_t)lane_index << 48 |
                               (uint64_t)(((int64_t)rank * 4096 + lane->layer) * 16 + lane->stage));
    int64_t own_ns = engine->queue.now_ns - state->mark_ns - state->sending_ns;
    rank_book(engine, rank, lane_index, rank_phase(lane->stage), own_ns,
              lane->stage == STAGE_GATE   ? STEP_DISPATCH
              : lane->stage == STAGE_HEAD ? STEP_EXCHANGE
                                          : STEP_COMBINE);
    state->computing = NO_LANE;
    enum status status = advance(engine, rank, lane_index);
    return status == STATUS_OK ? compute_next(engine, rank) : status;
}

enum status rank_data_arrived(struct engine *engine, int32_t rank, const struct transfer *transfer)
{
    struct rank_state *state = &engine->rank[rank];
    if (transfer_of(engine, state, transfer->lane) != transfer || !transfer->rank_ready[rank]) {
        return STATUS_OK; /* still busy with something else, or not all is there */
    }
    if (state->computing == NO_LANE) {
        book_idle(engine, rank, transfer->lane, transfer);
    }
    enum status status = advance(engine, rank, transfer->lane);
    return status == STATUS_OK ? compute_next(engine, rank) : status; /* it may let others pass */
}
