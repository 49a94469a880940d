/*
 * engine_compute.c -- the GPU of a rank: whose turn it is, and how long it takes.
 *
 * Stages of a rank's lanes compute one at a time and in the order in which a program launches them
 * into one stream. The GPU waits for the next in line even when a later one could go: all ranks
 * keep the same order, and a rank that overtook would be late for the others (first come, first
 * served cost 50 % of a DeepSeek-V3 step on 72 H100s, because ranks disagreed about whose turn it
 * was). The orders are DeepSeek's, which SGLang follows (deepseek-ai/open-infra-index @ 56d8685,
 * day 6; sgl-project/sglang @ 02ed4a5e, srt/operations_strategy.py), a and b two micro-batches:
 *
 *     prefill  attention a | attention b | experts a | experts b | shared a, next attention a | ...
 *     decode   shared a, projections b | experts a | core b | shared b, projections a | experts b
 *              | core a
 *
 * Decode's micro-batches are half a layer apart and its attention is cut in two, so that what is
 * under way of one always has the other's work beside it: a dispatch the shared expert and the
 * projections before the core, a combine the core of attention.
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

/* The same of the so many ranks that the rank is one of. */
static int32_t group_tokens(const struct trace_batch *batch, int32_t rank, int32_t num_ranks)
{
    int32_t first = rank / num_ranks * num_ranks;
    return batch->rank_begin[first + num_ranks] - batch->rank_begin[first];
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

/* What a stage of a lane has to compute. */
static struct gpu_work work_of(const struct engine *engine, int32_t rank, int32_t lane_index,
                               enum stage stage)
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
    switch (stage) {
    case STAGE_ATTENTION:
    case STAGE_ATTENTION_CORE:
    case STAGE_DENSE:
        work.phase = stage == STAGE_DENSE ? GPU_DENSE_FFN : GPU_ATTENTION;
        work.shards = scenario->tp;
        work.tokens = 0;
        sum_group(engine, &work, share, rank);
        break;
    case STAGE_GATE:
        work.phase = GPU_GATE;
        work.tokens = group_tokens(share->batch, rank, scenario_gate_peers(scenario));
        break;
    case STAGE_SHARED:
        work.phase = GPU_SHARED;
        work.shards = scenario_gate_peers(scenario);
        work.tokens = group_tokens(share->batch, rank, work.shards);
        break;
    case STAGE_EXPERT: {
        const struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
        int32_t group = rank / scenario->expert_tp;
        const int32_t *begin = &run->placement->rank_begin[group];
        work.phase = GPU_EXPERT;
        work.shards = scenario->expert_tp;
        work.num_slots = begin[1] - begin[0];
        work.slot_tokens = &run->slot_tokens[begin[0]];
        if (engine->offload != NULL) {
            work.slot_tokens = offload_gpu_tokens(engine, rank);
        }
        work.token_rows = run->received_tokens[group];
        work.group_tokens = group_tokens(share->batch, 0, scenario->ep);
        break;
    }
    case STAGE_HEAD:
        work.phase = GPU_HEAD;
        work.shards = scenario->tp;
        work.tokens = engine_head_tokens(scenario, group_tokens(share->batch, rank, scenario->tp));
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

/* Parameters of attention that a token passes before it looks back: all but the output projection
 * and, of MLA in its absorbed form, what turns latents into values. */
static double params_before_core(const struct moe_model *model)
{
    bool is_mla = model->attention == ATTENTION_MLA;
    double heads = (double)model->num_q_heads;
    double behind = is_mla ? (double)model->v_head_dim *
                                 ((double)model->hidden_dim + (double)model->kv_lora_rank)
                           : (double)model->head_dim * (double)model->hidden_dim;
    return model_attention_params(model) - heads * behind;
}

/* Of a whole attention's time, what a stage takes: the first half is the projections before the
 * core, as long as their part of an attention that looks back on nothing but its own token. */
static double attention_part_ns(const struct engine *engine, const struct lane *lane,
                                const struct gpu_work *work, double whole_ns)
{
    const struct scenario *scenario = engine->scenario;
    if (!engine->halves_attention || !split_layer(engine, lane->layer)) {
        return whole_ns;
    }
    struct gpu_work blind = *work;
    blind.attended_tokens = work->tokens;
    blind.context_tokens = work->tokens;
    double blind_ns = scenario->gpu_model->duration_ns(&scenario->cluster.gpu, &blind);
    double share = params_before_core(&scenario->model) / model_attention_params(&scenario->model);
    double first_ns = share * fmin(blind_ns, whole_ns);
    return lane->stage == STAGE_ATTENTION ? first_ns : whole_ns - first_ns;
}

/* What the kernels of a collective that holds the GPU take behind a gate or behind experts, and the
 * gathering of logits behind the head. */
static int64_t sending_ns(const struct engine *engine, int32_t lane_index, const struct lane *lane,
                          const struct gpu_work *work)
{
    const struct scenario *scenario = engine->scenario;
    if (lane->stage == STAGE_HEAD) {
        return (int64_t)llround(engine_logits_ns(scenario, work->tokens));
    }
    if (!scenario->collective->holds_gpu ||
        (lane->stage != STAGE_GATE && lane->stage != STAGE_EXPERT)) {
        return 0;
    }
    const struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
    bool is_dispatch = lane->stage == STAGE_GATE;
    const struct transfer *transfer =
        &run->transfer[is_dispatch ? TRANSFER_DISPATCH : TRANSFER_COMBINE];
    int32_t kernels = is_dispatch ? scenario->chunks : 1; /* all chunks are sent behind the gate */
    return kernels * (int64_t)llround(transfer->cost.startup_ns);
}

static bool is_same_work(const struct timed_work *last, const struct gpu_work *work)
{
    return last->tokens == work->tokens && last->attended_tokens == work->attended_tokens &&
           last->context_tokens == work->context_tokens && last->shards == work->shards &&
           last->sms_taken == work->sms_taken && last->sms_kept == work->sms_kept &&
           last->hbm_bytes_per_s_taken == work->hbm_bytes_per_s_taken;
}

/* What is not experts is mostly the same from layer to layer, so the model is asked once. */
static double work_ns(struct engine *engine, int32_t rank, int32_t lane_index,
                      const struct gpu_work *work)
{
    const struct gpu_model *model = engine->scenario->gpu_model;
    const struct gpu_spec *gpu = &engine->scenario->cluster.gpu;
    if (work->phase == GPU_EXPERT) {
        return model->duration_ns(gpu, work);
    }
    struct timed_work *last =
        &engine->timed_work[((int64_t)rank * engine->num_lanes + lane_index) * GPU_PHASE_COUNT +
                            work->phase];
    if (!is_same_work(last, work)) {
        *last = (struct timed_work){.ns = model->duration_ns(gpu, work),
                                    .hbm_bytes_per_s_taken = work->hbm_bytes_per_s_taken,
                                    .attended_tokens = work->attended_tokens,
                                    .context_tokens = work->context_tokens,
                                    .tokens = work->tokens,
                                    .shards = work->shards,
                                    .sms_taken = work->sms_taken,
                                    .sms_kept = work->sms_kept};
    }
    return last->ns;
}

/* Routed experts that take expert_ns from now on, with what is left of the shared expert on a
 * second stream beside them. Neither slows the other's launches and waits, but arithmetic and
 * memory are there once: each stream is longer by what the other keeps them busy. */
static double beside_ns(struct engine *engine, int32_t rank, int32_t lane_index,
                        const struct gpu_work *work, double expert_ns)
{
    const struct gpu_spec *gpu = &engine->scenario->cluster.gpu;
    const struct lane *lane = &engine->rank[rank].lane[lane_index];
    const struct gpu_work shared = work_of(engine, rank, lane_index, STAGE_SHARED);
    const double speed = engine->compute_share[rank];
    const double shared_ns = work_ns(engine, rank, lane_index, &shared) / speed;
    const double ago_ns =
        scenario_gate_peers(engine->scenario) > 1 /* its tokens came with the others' */
            ? 0.0
            : (double)(engine->queue.now_ns - lane->shared_ns);
    const double left_ns = fmax(0.0, shared_ns - ago_ns);
    if (left_ns <= 0.0) {
        return expert_ns;
    }
    const double shared_busy_ns =
        fmin(1.0, gpu_busy_ns(gpu, &shared) / speed / shared_ns) * left_ns;
    const double expert_busy_ns = fmin(expert_ns, gpu_busy_ns(gpu, work) / speed);
    return fmax(expert_ns + shared_busy_ns, left_ns + expert_busy_ns);
}

static enum status start(struct engine *engine, int32_t rank, int32_t lane_index)
{
    struct rank_state *state = &engine->rank[rank];
    struct lane *lane = &state->lane[lane_index];
    assert(state->mark_ns == engine->queue.now_ns); /* all before is booked */
    struct gpu_work work = work_of(engine, rank, lane_index, lane->stage);
    double duration_ns = work_ns(engine, rank, lane_index, &work) / engine->compute_share[rank];
    if (work.phase == GPU_ATTENTION) {
        duration_ns = attention_part_ns(engine, lane, &work, duration_ns);
    }
    assert(duration_ns >= 0.0);
    if (lane->stage == STAGE_EXPERT) {
        struct layer_run *run = layer_run_of(engine, lane_index, lane->layer);
        if (engine->offload != NULL) {
            duration_ns = offload_expert_ns(engine, rank, duration_ns);
        }
        run->expert_ns_sum += duration_ns;
        run->expert_ns_max = fmax(run->expert_ns_max, duration_ns);
        if (engine->shares_beside && lane_index == leader_of(engine, lane_index)) {
            duration_ns = beside_ns(engine, rank, lane_index, &work, duration_ns);
        }
    }
    engine->metrics.rank_busy_ns[rank] += duration_ns;
    if (engine->scenario->gpu_model->table_share != NULL) {
        engine->metrics.table_busy_ns += duration_ns * engine->scenario->gpu_model->table_share(
                                                           &engine->scenario->cluster.gpu, &work);
    }
    lane->wants_gpu = false;
    state->computing = lane_index;
    state->sending_ns = sending_ns(engine, lane_index, lane, &work);
    int64_t end_ns = engine->queue.now_ns + (int64_t)llround(duration_ns) + state->sending_ns;
    return event_push(&engine->queue,
                      (struct event){.time_ns = end_ns, .kind = EVENT_COMPUTE_DONE, .rank = rank});
}

/* Places of a layer, and how far a micro-batch is behind the one before. */
#define PLACES       5
#define HALF_A_LAYER 2

/* A lane's next place in the stream: 0 what comes before the core of attention (all that comes
 * before the experts, where attention is whole), 1 core and gate, 2 the shared expert, 3 the
 * experts, 4 what is behind them. */
static int32_t next_place(const struct engine *engine, int32_t lane_index, const struct lane *lane)
{
    int32_t chunks = engine->scenario->chunks;
    bool is_leader = lane_index % chunks == 0;
    bool goes_on = lane->layer != engine->split_last; /* where lanes meet, lane 0 goes on */
    int32_t late = engine->halves_attention ? HALF_A_LAYER * (lane_index / chunks) : 0;
    int32_t place = PLACES * lane->layer + late;
    switch (lane->stage) {
    case STAGE_REBALANCE:
    case STAGE_ATTENTION_GATHER:
    case STAGE_ATTENTION:
    case STAGE_DENSE_GATHER:
    case STAGE_DENSE:
    case STAGE_DENSE_SCATTER:
        return place;
    case STAGE_ATTENTION_CORE:
    case STAGE_ATTENTION_SCATTER:
    case STAGE_GATE:
        return place + (engine->halves_attention ? 1 : 0);
    case STAGE_SHARED:
        return place + (engine->halves_attention ? 2 : engine->shares_late ? PLACES : 0);
    case STAGE_DISPATCH:
    case STAGE_EXPERT:
        return place + 3;
    case STAGE_COMBINE:
        return is_leader && goes_on ? place + PLACES : NO_PLACE;
    case STAGE_JOIN:
        return lane->chunks_left > 0 && goes_on ? place + PLACES : NO_PLACE;
    case STAGE_HEAD:
        return PLACES * engine->scenario->model.num_layers;
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
        int32_t place = next_place(engine, index, &state->lane[index]);
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
