/*
 * engine_rank.c -- the life of a rank within a step.
 *
 *   [gather] attention [scatter] -> gate -> shared expert -> dispatch -> expert -> combine -> next
 *                                \-> [gather] dense FFN [scatter] -> next layer
 *
 * gather and scatter are there when attention is tensor-parallel. No stage waits for more than the
 * data it needs: ranks drift apart and meet where one waits for another's tokens.
 */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>

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
};

/* The transfer a stage waits for, or NULL for a stage that computes. */
static struct transfer *transfer_of(struct engine *engine, const struct rank_state *state)
{
    struct layer_run *run = engine->layer_run[state->layer];
    switch (state->stage) {
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
        break;
    }
    return NULL;
}

static int32_t rank_tokens(const struct engine *engine, int32_t rank)
{
    return engine->batch->rank_begin[rank + 1] - engine->batch->rank_begin[rank];
}

/* Tokens and looked-back positions of the ranks that compute attention together. */
static void sum_group(const struct engine *engine, struct gpu_work *work, int32_t rank)
{
    const struct scenario *scenario = engine->scenario;
    int32_t first = rank / scenario->tp * scenario->tp;
    for (int32_t member = first; member < first + scenario->tp; member++) {
        int32_t tokens = rank_tokens(engine, member);
        work->tokens += tokens;
        if (work->prefill) {
            int64_t prompt = scenario->context_tokens;
            int64_t attended =
                model_attended_tokens(&scenario->model, work->layer, (prompt + 1) / 2);
            work->attended_tokens += tokens * attended;
            work->context_tokens += tokens;
        } else if (scenario->model.sliding_window_tokens == 0) {
            work->attended_tokens += engine->rank[member].attended_tokens;
        } else {
            for (int32_t slot = engine->batch->rank_begin[member];
                 slot < engine->batch->rank_begin[member + 1]; slot++) {
                work->attended_tokens += model_attended_tokens(&scenario->model, work->layer,
                                                               engine->batch->context_tokens[slot]);
            }
        }
    }
    if (!work->prefill) {
        work->context_tokens = work->attended_tokens;
    }
}

/* Tokens whose logits are wanted: all in decode, the last of each prompt in prefill. */
static int32_t head_tokens(const struct engine *engine, int32_t rank)
{
    int32_t tokens = rank_tokens(engine, rank);
    if (engine->scenario->phase == PHASE_DECODE) {
        return tokens;
    }
    return (tokens + engine->scenario->context_tokens - 1) / engine->scenario->context_tokens;
}

/* Distinct tokens that a rank receives: each counts once a source, however many slots it chose. */
static int32_t received_tokens(const struct traffic *traffic, int32_t rank)
{
    int32_t tokens = 0;
    for (int32_t i = traffic->back_begin[rank]; i < traffic->back_begin[rank + 1]; i++) {
        tokens += traffic->rank_flow[traffic->back_flow[i]].tokens;
    }
    return tokens;
}

static struct gpu_work work_of(const struct engine *engine, int32_t rank)
{
    const struct rank_state *state = &engine->rank[rank];
    const struct scenario *scenario = engine->scenario;
    struct gpu_work work = {.model = &scenario->model,
                            .layer = state->layer,
                            .prefill = scenario->phase == PHASE_PREFILL,
                            .shards = 1,
                            .tokens = rank_tokens(engine, rank)};
    switch (state->stage) {
    case STAGE_ATTENTION:
    case STAGE_DENSE:
        work.phase = state->stage == STAGE_ATTENTION ? GPU_ATTENTION : GPU_DENSE_FFN;
        work.shards = scenario->tp;
        work.tokens = 0;
        sum_group(engine, &work, rank);
        break;
    case STAGE_GATE:
        work.phase = GPU_GATE;
        break;
    case STAGE_SHARED:
        work.phase = GPU_SHARED;
        work.sms_taken = scenario->collective->num_sms;
        break;
    case STAGE_EXPERT: {
        const struct layer_run *run = engine->layer_run[state->layer];
        const struct placement *placement = &engine->placement[run->moe_layer];
        work.phase = GPU_EXPERT;
        work.num_slots = placement->rank_begin[rank + 1] - placement->rank_begin[rank];
        work.slot_tokens = &run->slot_tokens[placement->rank_begin[rank]];
        work.token_rows = received_tokens(&run->traffic, rank);
        break;
    }
    case STAGE_HEAD:
        work.phase = GPU_HEAD;
        work.tokens = head_tokens(engine, rank);
        break;
    case STAGE_REBALANCE:
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION_SCATTER:
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE_SCATTER:
    case STAGE_DISPATCH:
    case STAGE_COMBINE:
    case STAGE_DONE:
        assert(!work.prefill && work.prefill); /* these do not compute */
    }
    return work;
}

static enum status start_compute(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    struct gpu_work work = work_of(engine, rank);
    double duration_ns =
        engine->scenario->gpu_model->duration_ns(&engine->scenario->cluster.gpu, &work);
    assert(duration_ns >= 0.0);
    if (state->stage == STAGE_EXPERT) {
        struct layer_run *run = engine->layer_run[state->layer];
        run->expert_ns_sum += duration_ns;
        run->expert_ns_max = fmax(run->expert_ns_max, duration_ns);
    }
    engine->metrics.rank_busy_ns[rank] += duration_ns;
    return event_push(&engine->queue, (struct event){.time_ns = engine->queue.now_ns +
                                                                (int64_t)llround(duration_ns),
                                                     .kind = EVENT_COMPUTE_DONE,
                                                     .rank = rank});
}

/* Books the time since the stage began. Of the time spent waiting for data, the part before the
 * last sender was ready is waiting for a slower rank; the rest is the transfer's own. */
static void book_time(struct engine *engine, struct rank_state *state, int32_t rank)
{
    int64_t now_ns = engine->queue.now_ns;
    int64_t elapsed_ns = now_ns - state->mark_ns;
    const struct transfer *transfer = transfer_of(engine, state);
    int64_t waiting_ns = 0;
    if (transfer != NULL && state->stage != STAGE_REBALANCE) {
        waiting_ns = transfer->rank[rank].root_ns - state->mark_ns;
        waiting_ns = waiting_ns < 0 ? 0 : waiting_ns;
        assert(waiting_ns <= elapsed_ns);
    }
    enum step_phase phase = phase_of_stage[state->stage];
    state->phase_ns[STEP_WAITING] += waiting_ns;
    state->phase_ns[phase] += elapsed_ns - waiting_ns;
    if (engine->observer->time_booked != NULL) {
        int64_t split_ns = state->mark_ns + waiting_ns;
        record_time(engine, state, STEP_WAITING, state->mark_ns, split_ns);
        record_time(engine, state, phase, split_ns, now_ns);
    }
    state->mark_ns = now_ns;
}

static bool stage_exists(const struct engine *engine, const struct rank_state *state)
{
    bool is_moe =
        state->layer < engine->scenario->model.num_layers && engine->moe_layer[state->layer] >= 0;
    switch (state->stage) {
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
        return is_moe && engine->scenario->model.shared_ffn_dim > 0;
    case STAGE_GATE:
    case STAGE_DISPATCH:
    case STAGE_EXPERT:
    case STAGE_COMBINE:
        return is_moe;
    case STAGE_ATTENTION:
    case STAGE_HEAD:
    case STAGE_DONE:
        break;
    }
    return true;
}

/* Goes on to the next stage that exists; past combine or the dense FFN, into the next layer or,
 * after the last, to the output head. */
static enum status next_stage(struct engine *engine, struct rank_state *state)
{
    do {
        if (state->stage != STAGE_COMBINE) {
            state->stage++;
            continue;
        }
        struct layer_run *run = engine->layer_run[state->layer];
        run->layer_ns_sum += (double)(engine->queue.now_ns - state->layer_ns);
        layer_leave(engine, state->layer);
        state->layer++;
        state->layer_ns = engine->queue.now_ns;
        if (state->layer == engine->scenario->model.num_layers) {
            state->stage = STAGE_HEAD;
        } else {
            state->stage = STAGE_ATTENTION_GATHER;
            enum status status = layer_enter(engine, state->layer);
            if (status != STATUS_OK) {
                return status;
            }
        }
    } while (!stage_exists(engine, state));
    return STATUS_OK;
}

/* Collective kernels pay their start-up; plain exchanges pay a kernel's. */
static enum status start_transfer(struct engine *engine, struct transfer *transfer, int32_t rank)
{
    const struct scenario *scenario = engine->scenario;
    bool collective = transfer->kind == TRANSFER_DISPATCH || transfer->kind == TRANSFER_COMBINE;
    double startup_ns =
        collective ? scenario->collective->startup_ns : scenario->cluster.gpu.kernel_ns;
    return network_schedule_release(engine, transfer, rank, startup_ns);
}

/* Begins the present stage: compute, send and wait, or finish. */
static enum status begin_stage(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    struct transfer *transfer = transfer_of(engine, state);
    if (state->stage == STAGE_DONE) {
        engine->ranks_done++;
        return STATUS_OK;
    }
    if (transfer == NULL) {
        return start_compute(engine, rank);
    }
    if (state->stage == STAGE_DISPATCH) { /* sent when the gate was done */
        return rank_data_arrived(engine, rank, transfer);
    }
    return start_transfer(engine, transfer, rank);
}

/* The present stage is over: books its time and begins the next. */
static enum status advance(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    book_time(engine, state, rank);
    if (state->stage == STAGE_GATE) {
        struct transfer *dispatch = &engine->layer_run[state->layer]->transfer[TRANSFER_DISPATCH];
        enum status status = start_transfer(engine, dispatch, rank);
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = next_stage(engine, state);
    return status == STATUS_OK ? begin_stage(engine, rank) : status;
}

enum status rank_begin_step(struct engine *engine, int32_t rank)
{
    struct rank_state *state = &engine->rank[rank];
    *state = (struct rank_state){.stage = STAGE_REBALANCE,
                                 .mark_ns = engine->queue.now_ns,
                                 .layer_ns = engine->queue.now_ns};
    for (int32_t slot = engine->batch->rank_begin[rank]; slot < engine->batch->rank_begin[rank + 1];
         slot++) {
        state->attended_tokens += engine->batch->context_tokens[slot];
    }
    enum status status = layer_enter(engine, 0);
    if (status == STATUS_OK && !stage_exists(engine, state)) {
        status = next_stage(engine, state);
    }
    return status == STATUS_OK ? begin_stage(engine, rank) : status;
}

enum status rank_compute_done(struct engine *engine, int32_t rank)
{
    const struct rank_state *state = &engine->rank[rank];
    uint64_t digest = digest_u64(engine->metrics.digest, (uint64_t)engine->queue.now_ns);
    engine->metrics.digest =
        digest_u64(digest, (uint64_t)(((int64_t)rank * 4096 + state->layer) * 16 + state->stage));
    return advance(engine, rank);
}

enum status rank_data_arrived(struct engine *engine, int32_t rank, const struct transfer *transfer)
{
    struct rank_state *state = &engine->rank[rank];
    if (transfer_of(engine, state) != transfer || !transfer->rank_ready[rank]) {
        return STATUS_OK; /* still busy with something else, or not all is there */
    }
    return advance(engine, rank);
}
