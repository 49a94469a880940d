/*
 * engine_compute.c -- the GPU of a rank: whose turn it is, and how long it takes.
 *
 * Stages of a rank's lanes compute one at a time and in the order in which a program launches them
 * into one stream: layer by layer, what comes before the experts of each lane, then the experts of
 * each lane. The GPU waits for the next in line even when a later one could go: all ranks keep the
 * same order, and a rank that overtook would be late for the others (first come, first served cost
 * 50 % of a DeepSeek-V3 step on 72 H100s, because ranks disagreed about whose turn it was).
 *
 * While a dispatch or combine of the rank is under way, a stage that starts has to do with the SMs
 * and the HBM bandwidth that it leaves; what begins or ends in the middle of a stage does not
 * change its time any more. Where micro-batches overlap, GEMMs keep off the SMs of communication at
 * all times: an engine sets their grid once (SGLang's deep_gemm_num_sms in operations_strategy.py;
 * 112 of 132 in DeepSeek's training trace, deepseek-ai/profile-data @ ae7fc078).
 */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>

#define NO_PLACE INT32_MAX

static int32_t rank_tokens(const struct trace_batch *batch, int32_t rank)
{
    return batch->rank_begin[rank + 1] - batch->rank_begin[rank];
}

/* Tokens and looked-back positions of the ranks that compute attention together. */
static void sum_group(const struct engine *engine, struct gpu_work *work,
                      const struct token_share *share, int32_t rank)
{
    const struct scenario *scenario = engine->scenario;
    const struct trace_batch *batch = share->batch;
    int32_t first = rank / scenario->tp * scenario->tp;
    for (int32_t member = first; member < first + scenario->tp; member++) {
        int32_t tokens = rank_tokens(batch, member);
        work->tokens += tokens;
        if (work->prefill) {
            int64_t prompt = scenario->context_tokens;
            int64_t attended =
                model_attended_tokens(&scenario->model, work->layer, (prompt + 1) / 2);
            work->attended_tokens += tokens * attended;
            work->context_tokens += tokens;
        } else if (scenario->model.sliding_window_tokens == 0) {
            work->attended_tokens += share->attended_tokens[member];
        } else {
            for (int32_t slot = batch->rank_begin[member]; slot < batch->rank_begin[member + 1];
                 slot++) {
                work->attended_tokens += model_attended_tokens(&scenario->model, work->layer,
                                                               batch->context_tokens[slot]);
            }
        }
    }
    if (!work->prefill) {
        work->context_tokens = work->attended_tokens;
    }
}

/* Tokens whose logits are wanted: all in decode, the last of each prompt in prefill. */
static int32_t head_tokens(const struct scenario *scenario, int32_t tokens)
{
    if (scenario->phase == PHASE_DECODE) {
        return tokens;
    }
    return (tokens + scenario->context_tokens - 1) / scenario->context_tokens;
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

static struct gpu_work work_of(const struct engine *engine, int32_t rank, int32_t lane_index)
{
    const struct rank_state *state = &engine->rank[rank];
    const struct lane *lane = &state->lane[lane_index];
    const struct scenario *scenario = engine->scenario;
    const struct token_share *share =
        split_share(engine, leader_of(engine, lane_index), lane->layer);
    struct gpu_work work = {.model = &scenario->model,
                            .layer = lane->layer,
                            .prefill = scenario->phase == PHASE_PREFILL,
                            .shards = 1,
                            .tokens = rank_tokens(share->batch, rank),
                            .hbm_bytes_per_s_taken = (double)state->collective_bytes_per_s};
    work.sms_taken = state->collectives > 0 ? scenario_num_sms(scenario) : 0;
    work.sms_kept = scenario->micro_batches > 1 ? scenario_num_sms(scenario) : 0;
    switch (lane->stage) {
    case STAGE_ATTENTION:
    case STAGE_DENSE:
        work.phase = lane->stage == STAGE_ATTENTION ? GPU_ATTENTION : GPU_DENSE_FFN;
        work.shards = scenario->tp;
        work.tokens = 0;
        sum_group(engine, &work, share, rank);
        break;
    case STAGE_GATE:
        work.phase = GPU_GATE;
        break;
    case STAGE_SHARED:
        work.phase = GPU_SHARED;
        break;
    case STAGE_EXPERT: {
        const struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
        const struct placement *placement = run->placement;
        work.phase = GPU_EXPERT;
        work.num_slots = placement->rank_begin[rank + 1] - placement->rank_begin[rank];
        work.slot_tokens = &run->slot_tokens[placement->rank_begin[rank]];
        if (engine->offload != NULL) {
            work.slot_tokens = offload_gpu_tokens(engine, rank);
        }
        work.token_rows = received_tokens(&run->traffic, rank);
        break;
    }
    case STAGE_HEAD:
        work.phase = GPU_HEAD;
        work.tokens = head_tokens(scenario, work.tokens);
        break;
    case STAGE_REBALANCE:
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION_SCATTER:
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE_SCATTER:
    case STAGE_DISPATCH:
    case STAGE_COMBINE:
    case STAGE_DONE:
    case STAGE_JOIN:
        assert(!work.prefill && work.prefill); /* these do not compute */
    }
    return work;
}

static enum status start(struct engine *engine, int32_t rank, int32_t lane_index)
{
    struct rank_state *state = &engine->rank[rank];
    struct lane *lane = &state->lane[lane_index];
    assert(state->mark_ns == engine->queue.now_ns); /* all before is booked */
    struct gpu_work work = work_of(engine, rank, lane_index);
    double duration_ns =
        engine->scenario->gpu_model->duration_ns(&engine->scenario->cluster.gpu, &work) /
        engine->compute_share[rank];
    assert(duration_ns >= 0.0);
    if (lane->stage == STAGE_EXPERT) {
        struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
        if (engine->offload != NULL) {
            duration_ns = offload_expert_ns(engine, rank, duration_ns);
        }
        run->expert_ns_sum += duration_ns;
        run->expert_ns_max = fmax(run->expert_ns_max, duration_ns);
    }
    engine->metrics.rank_busy_ns[rank] += duration_ns;
    if (engine->scenario->gpu_model->table_share != NULL) {
        engine->metrics.table_busy_ns += duration_ns * engine->scenario->gpu_model->table_share(
                                                           &engine->scenario->cluster.gpu, &work);
    }
    lane->wants_gpu = false;
    state->computing = lane_index;
    return event_push(&engine->queue, (struct event){.time_ns = engine->queue.now_ns +
                                                                (int64_t)llround(duration_ns),
                                                     .kind = EVENT_COMPUTE_DONE,
                                                     .rank = rank});
}

/* A lane's next place in the stream: twice the layer, one more for its experts. */
static int32_t next_place(const struct engine *engine, const struct lane *lane, bool is_leader)
{
    switch (lane->stage) {
    case STAGE_REBALANCE:
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION:
    case STAGE_ATTENTION_SCATTER:
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE:
    case STAGE_DENSE_SCATTER:
    case STAGE_GATE:
    case STAGE_SHARED:
        return 2 * lane->layer;
    case STAGE_DISPATCH:
    case STAGE_EXPERT:
        return 2 * lane->layer + 1;
    case STAGE_COMBINE:
        return is_leader ? 2 * lane->layer + 2 : NO_PLACE;
    case STAGE_JOIN:
        return lane->chunks_left > 0 ? 2 * lane->layer + 2 : NO_PLACE;
    case STAGE_HEAD:
        return 2 * engine->scenario->model.num_layers;
    case STAGE_DONE:
        break;
    }
    return NO_PLACE;
}

enum status compute_next(struct engine *engine, int32_t rank)
{
    const struct rank_state *state = &engine->rank[rank];
    if (state->computing != NO_LANE) {
        return STATUS_OK;
    }
    int32_t next = NO_LANE;
    int32_t next_is_at = NO_PLACE;
    for (int32_t index = 0; index < engine->num_lanes; index++) { /* of equals, the first */
        bool is_leader = leader_of(engine, index) == index;
        int32_t place = next_place(engine, &state->lane[index], is_leader);
        if (place < next_is_at) {
            next = index;
            next_is_at = place;
        }
    }
    bool is_ready = next != NO_LANE && state->lane[next].wants_gpu;
    return is_ready ? start(engine, rank, next) : STATUS_OK;
}

enum status compute_want(struct engine *engine, int32_t rank, int32_t lane_index)
{
    engine->rank[rank].lane[lane_index].wants_gpu = true;
    return compute_next(engine, rank);
}
