/* engine.c -- sets a run up, and loops over its steps and events. */
#include "engine_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "digest.h"

/* Finds for each MoE layer the recorded layer that replays it. */
static enum status match_layers(struct engine *engine)
{
    const struct moe_model *model = &engine->scenario->model;
    const struct trace *trace = engine->trace;
    enum status status = STATUS_OK;
    for (int32_t layer = 0, moe_layer = 0; layer < model->num_layers; layer++) {
        engine->moe_layer[layer] = -1;
        if (!model_layer_is_moe(model, layer)) {
            continue;
        }
        int32_t recorded = 0;
        while (recorded < trace->num_layers && trace->model_layer[recorded] != layer) {
            recorded++;
        }
        if (recorded == trace->num_layers) {
            status = error_add(engine->error, STATUS_INVALID,
                               "trace %s: layer %d of %s is an MoE layer but was not recorded; "
                               "record all layers or choose the model the trace was taken from",
                               trace->name, (int)layer, model->name);
        }
        engine->trace_layer[moe_layer] = recorded;
        engine->moe_layer[layer] = moe_layer++;
    }
    return status;
}

static enum status check_trace(struct engine *engine)
{
    const struct moe_model *model = &engine->scenario->model;
    const struct trace *trace = engine->trace;
    enum status status = STATUS_OK;
    if (trace->num_experts != model->num_experts) {
        status = error_add(engine->error, STATUS_INVALID,
                           "trace %s has %d experts a layer, model %s has %d: choose the model the "
                           "trace was taken from (%s)",
                           trace->name, (int)trace->num_experts, model->name,
                           (int)model->num_experts, trace->model);
    }
    if (trace->top_k != model->top_k) {
        status = error_add(engine->error, STATUS_INVALID,
                           "trace %s holds %d experts a token, model %s routes to %d", trace->name,
                           (int)trace->top_k, model->name, (int)model->top_k);
    }
    if (engine->scenario->context_tokens == 0 && trace->num_requests == 0) {
        status = error_add(engine->error, STATUS_INVALID,
                           "context_tokens is 0, but trace %s has no requests.csv that tells how "
                           "long each token's context is: set context_tokens",
                           trace->name);
    }
    return status == STATUS_OK ? match_layers(engine) : status;
}

static struct batch_config batch_config(const struct scenario *scenario, const struct trace *trace)
{
    struct batch_config config = {
        .batching = scenario->batching,
        .tokens_per_step = (int64_t)scenario->tokens_per_rank * scenario->ep,
        .num_ranks = scenario->ep,
        .num_steps_max = scenario->num_steps,
        .context_tokens = scenario->context_tokens,
        .seed = scenario->seed,
    };
    if (trace == NULL && config.num_steps_max == 0) {
        config.num_steps_max = 1; /* every step of a dense model is like the next */
    }
    return config;
}

/* A fixed context is known; one that comes from the trace's requests is found by running the
 * batches once without simulating them. */
enum status engine_kv_tokens_max(int64_t *kv_tokens, const struct scenario *scenario,
                                 const struct trace *trace, struct error *error)
{
    *kv_tokens = 0;
    if (scenario->phase == PHASE_PREFILL) {
        *kv_tokens = scenario->tokens_per_rank;
        return STATUS_OK;
    }
    if (scenario->context_tokens > 0) {
        *kv_tokens = (int64_t)scenario->tokens_per_rank * scenario->context_tokens;
        return STATUS_OK;
    }
    struct batch_config config = batch_config(scenario, trace);
    struct batcher *batcher = NULL;
    enum status status = batcher_open(&batcher, trace, &config, error);
    const struct trace_batch *batch = NULL;
    while (status == STATUS_OK && (batch = batcher_next(batcher)) != NULL) {
        for (int32_t rank = 0; rank < config.num_ranks; rank++) {
            int64_t sum = 0;
            for (int32_t slot = batch->rank_begin[rank]; slot < batch->rank_begin[rank + 1];
                 slot++) {
                sum += batch->context_tokens[slot];
            }
            *kv_tokens = sum > *kv_tokens ? sum : *kv_tokens;
        }
    }
    batcher_close(batcher);
    return status;
}

static enum status check_memory(const struct engine *engine)
{
    int64_t kv_tokens = 0;
    enum status status =
        engine_kv_tokens_max(&kv_tokens, engine->scenario, engine->trace, engine->error);
    if (status != STATUS_OK) {
        return status;
    }
    return scenario_check_memory(engine->scenario, kv_tokens, engine->error);
}

static enum status make_placements(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    engine->num_slots = scenario->model.num_experts + scenario->redundant_experts;
    engine->placement =
        arena_alloc(&engine->run_arena, (size_t)engine->num_moe_layers, sizeof *engine->placement);
    if (engine->placement == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t layer = 0; layer < engine->num_moe_layers; layer++) {
        enum status status = placement_init(&engine->placement[layer], &engine->run_arena,
                                            scenario->model.num_experts, engine->num_slots,
                                            scenario_expert_groups(scenario), engine->error);
        if (status == STATUS_OK && scenario->initial_expert_of_slot != NULL) {
            const int32_t *initial =
                scenario->initial_expert_of_slot + (int64_t)layer * engine->num_slots;
            status = placement_set(&engine->placement[layer], initial, engine->error);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static size_t router_state_bytes(const struct router *router, const struct trace *trace)
{
    size_t cells = trace != NULL ? (size_t)trace->num_layers * (size_t)trace->num_experts : 0;
    return router->state_bytes + cells * router->expert_state_bytes;
}

static enum status allocate(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    struct arena *arena = &engine->run_arena;
    size_t layers = (size_t)scenario->model.num_layers;
    size_t experts = (size_t)scenario->model.num_experts;
    engine->trace_layer = arena_alloc(arena, layers, sizeof(int32_t));
    engine->moe_layer = arena_alloc(arena, layers, sizeof(int32_t));
    size_t ranks = (size_t)scenario->ep;
    size_t lanes = (size_t)engine->num_lanes;
    struct lane *lane = arena_alloc(arena, ranks * lanes, sizeof *lane);
    engine->node_of_rank = arena_alloc(arena, ranks, sizeof(int32_t));
    engine->cell_of_rank = arena_alloc(arena, ranks, sizeof(int32_t));
    engine->rank = arena_alloc(arena, ranks, sizeof *engine->rank);
    engine->compute_share = arena_alloc(arena, ranks, sizeof(double));
    engine->timed_work =
        arena_alloc(arena, ranks * lanes * GPU_PHASE_COUNT, sizeof *engine->timed_work);
    engine->layer_run = arena_alloc(arena, lanes * (layers + 1), sizeof(struct layer_run *));
    engine->interval_tokens =
        arena_alloc(arena, (size_t)engine->num_moe_layers * ranks, sizeof(int64_t));
    engine->layer_tokens = arena_alloc(arena, experts, sizeof(int64_t));
    engine->source_tokens = arena_alloc(arena, experts, sizeof(int32_t));
    engine->router_state =
        arena_alloc(arena, router_state_bytes(scenario->router, engine->trace), 1);
    engine->replica_state = arena_alloc(arena, scenario->replica->state_bytes, 1);
    engine->strategy_state = arena_alloc(
        arena, balance_state_bytes(scenario->strategy, engine->num_moe_layers, (int32_t)experts),
        1);
    bool complete = engine->trace_layer != NULL && engine->moe_layer != NULL &&
                    engine->rank != NULL && engine->compute_share != NULL && lane != NULL &&
                    engine->timed_work != NULL && engine->node_of_rank != NULL &&
                    engine->cell_of_rank != NULL && engine->layer_run != NULL &&
                    engine->interval_tokens != NULL && engine->layer_tokens != NULL &&
                    engine->source_tokens != NULL && engine->router_state != NULL &&
                    engine->replica_state != NULL && engine->strategy_state != NULL;
    if (!complete) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank < scenario->ep; rank++) {
        engine->rank[rank].lane = &lane[(size_t)rank * lanes];
        engine->compute_share[rank] = 1.0;
        engine->node_of_rank[rank] = cluster_node(&scenario->cluster, rank);
    }
    return STATUS_OK;
}

static enum status set_up(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    enum status status = allocate(engine);
    if (status == STATUS_OK && engine->num_moe_layers > 0) {
        status = check_trace(engine);
        const char *whoever = scenario_needs_scores(scenario);
        if (status == STATUS_OK && whoever != NULL) {
            status = trace_side_open_scores(&engine->side, engine->trace, whoever, engine->error);
        }
    } else if (status == STATUS_OK) {
        for (int32_t layer = 0; layer < scenario->model.num_layers; layer++) {
            engine->moe_layer[layer] = -1;
        }
    }
    if (status == STATUS_OK) {
        status = check_memory(engine);
    }
    if (status == STATUS_OK) {
        struct batch_config config = batch_config(scenario, engine->trace);
        status = batcher_open(&engine->batcher, engine->trace, &config, engine->error);
    }
    if (status == STATUS_OK) {
        status = split_init(engine);
    }
    if (status == STATUS_OK) {
        status = make_placements(engine);
    }
    if (status == STATUS_OK && engine->num_moe_layers > 0 && scenario->strategy->needs == 0 &&
        scenario->initial_expert_of_slot == NULL) {
        status = rebalance_place(engine);
    }
    if (status == STATUS_OK) {
        status = metrics_init(&engine->metrics, scenario, batcher_num_steps(engine->batcher),
                              &engine->run_arena);
    }
    for (int32_t rank = 0; rank < scenario->ep && status == STATUS_OK; rank++) {
        engine->cell_of_rank[rank] = rank / engine->metrics.ranks_per_cell;
    }
    if (status == STATUS_OK) {
        status = rebalance_init(engine);
    }
    if (status == STATUS_OK) {
        status = offload_open(engine);
    }
    if (status == STATUS_OK) {
        status = scenario->net->open(&engine->net, &scenario->cluster, scenario->ep);
    }
    engine->metrics.gate_mass_is_known = !scenario->router->is_blind;
    engine->metrics.digest = DIGEST_START;
    message_fold_init(&engine->message_fold);
    return status;
}

enum status engine_open(struct engine **engine, const struct scenario *scenario,
                        const struct trace *trace, struct error *error)
{
    *engine = calloc(1, sizeof **engine);
    if (*engine == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory while setting the run up");
    }
    (*engine)->scenario = scenario;
    (*engine)->trace = trace;
    (*engine)->route_settings = scenario_route_settings(scenario);
    (*engine)->weighs_gates =
        trace != NULL && (trace->has_gate_weights || scenario->router != route_find("trace") ||
                          drop_applies(scenario->drop, &(*engine)->route_settings));
    (*engine)->num_moe_layers = model_num_moe_layers(&scenario->model);
    (*engine)->num_lanes = scenario->micro_batches * scenario->chunks;
    (*engine)->in_flight_free = -1;
    (*engine)->net_wake_ns = NET_IDLE;
    (*engine)->error = error;
    assert((trace != NULL) == ((*engine)->num_moe_layers > 0));
    enum status status = set_up(*engine);
    if (status == STATUS_NO_MEMORY) {
        status = error_add(error, status, "out of memory while setting the run up");
    }
    return status;
}

static enum status handle(struct engine *engine, const struct event *event)
{
    engine->metrics.events++;
    switch (event->kind) {
    case EVENT_COMPUTE_DONE:
        return rank_compute_done(engine, event->rank);
    case EVENT_RELEASE:
        return network_release(engine, event->transfer, event->rank);
    case EVENT_GROUP_READY:
        return network_send_group(engine, event->transfer, event->rank);
    case EVENT_RANK_READY:
        return network_rank_ready(engine, event->transfer, event->rank);
    case EVENT_NET_WAKE: /* an old epoch: overtaken by a later send */
        return event->epoch == engine->net_epoch ? network_wake(engine) : STATUS_OK;
    case EVENT_FETCHED:
        return offload_fetched(engine, event->rank);
    }
    assert(event->kind == EVENT_NET_WAKE);
    return STATUS_OK;
}

/* All ranks start together: schedulers agree on the batch before every step. */
static enum status run_step(struct engine *engine)
{
    engine->step_begin_ns = engine->queue.now_ns;
    engine->ranks_done = 0;
    fault_begin_step(engine);
    split_step(engine);
    enum status status = STATUS_OK;
    for (int32_t rank = 0; rank < engine->scenario->ep && status == STATUS_OK; rank++) {
        status = rank_begin_step(engine, rank);
    }
    struct event event;
    while (status == STATUS_OK && engine->ranks_done < engine->scenario->ep) {
        bool pending = event_pop(&engine->queue, &event);
        assert(pending); /* else ranks wait for what nobody sends */
        status = handle(engine, &event);
    }
    return status;
}

static enum status run_steps(struct engine *engine)
{
    const struct engine_observer *observer = engine->observer;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (engine->batch = batcher_next(engine->batcher)) != NULL) {
        status = run_step(engine);
        if (status == STATUS_OK) {
            record_step(engine, engine->queue.now_ns);
            status = rebalance_after_step(engine);
        }
        engine->step++;
        if (status == STATUS_OK && observer->step_done != NULL &&
            !observer->step_done(observer->context, engine->step, engine->metrics.num_steps)) {
            status = error_add(engine->error, STATUS_INVALID, "interrupted");
        }
    }
    return status;
}

enum status engine_run(struct engine *engine, const struct engine_observer *observer,
                       struct error *error)
{
    static const struct engine_observer nobody = {0};
    engine->observer = observer != NULL ? observer : &nobody;
    engine->error = error;
    enum status status = run_steps(engine);
    if (status == STATUS_OK) {
        assert(engine->metrics.bytes_sent == engine->metrics.bytes_received);
        status = record_run(engine);
    }
    if (status == STATUS_NO_MEMORY) {
        status = error_add(error, status, "out of memory in step %lld", (long long)engine->step);
    }
    return status;
}

const struct run_metrics *engine_metrics(const struct engine *engine)
{
    return &engine->metrics;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    while (engine->all_runs != NULL) {
        struct layer_run *run = engine->all_runs;
        engine->all_runs = run->next_run;
        arena_free(&run->arena);
        free(run);
    }
    if (engine->net != NULL) {
        engine->scenario->net->close(engine->net);
    }
    trace_side_close(&engine->side);
    batcher_close(engine->batcher);
    event_queue_free(&engine->queue);
    free(engine->in_flight);
    free(engine->outbox);
    free(engine->arrival_ns);
    arena_free(&engine->scratch);
    arena_free(&engine->rebalance_arena);
    arena_free(&engine->run_arena);
    free(engine);
}
