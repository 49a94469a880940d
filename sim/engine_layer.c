/*
 * engine_layer.c -- one layer of one step: its routing, its traffic and its transfer plans.
 *
 * Made for each lane when the first rank gets there, dropped when the last one leaves; ranks drift,
 * so several layers may be under way at once.
 */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "traffic_dealt.h"

static struct layer_run *take_run(struct engine *engine)
{
    struct layer_run *run = engine->free_runs;
    if (run != NULL) {
        engine->free_runs = run->next_free;
        return run;
    }
    run = calloc(1, sizeof *run);
    if (run != NULL) {
        run->next_run = engine->all_runs;
        engine->all_runs = run;
    }
    return run;
}

/* Each rank sends its part to every other of its tensor-parallel group: an all-gather sends its own
 * tokens, a reduce-scatter its partial sums of the others' tokens, both in bf16. */
static enum status plan_exchange(const struct scenario *scenario, const struct trace_batch *batch,
                                 struct transfer_plan *plan, bool gather)
{
    double bytes_per_token =
        (double)scenario->model.hidden_dim * precision_activation_bytes(PRECISION_BF16);
    for (int32_t rank = 0; rank < scenario->ep; rank++) {
        plan_add_group(plan, rank);
        int32_t first = rank / scenario->tp * scenario->tp;
        for (int32_t turn = 1; turn < scenario->tp; turn++) {
            int32_t peer = first + (rank - first + turn) % scenario->tp;
            int32_t owner = gather ? rank : peer;
            int32_t tokens = batch->rank_begin[owner + 1] - batch->rank_begin[owner];
            plan_add_message(plan, peer, (int64_t)llround((double)tokens * bytes_per_token), true,
                             NO_GROUP);
        }
    }
    return plan_finish(plan);
}

static enum status start_exchanges(struct engine *engine, struct layer_run *run)
{
    if (engine->scenario->tp == 1) {
        return STATUS_OK;
    }
    int32_t last = run->moe_layer < 0 ? TRANSFER_DENSE_SCATTER : TRANSFER_ATTENTION_SCATTER;
    for (int32_t kind = TRANSFER_ATTENTION_GATHER; kind <= last; kind++) {
        struct transfer *transfer = &run->transfer[kind];
        bool gather = kind == TRANSFER_ATTENTION_GATHER || kind == TRANSFER_DENSE_GATHER;
        *transfer = (struct transfer){.lane = run->lane, .layer = run->layer, .kind = kind};
        plan_init(&transfer->plan, &engine->scenario->cluster, engine->scenario->ep, false,
                  &run->arena);
        enum status status =
            plan_exchange(engine->scenario, run->share->batch, &transfer->plan, gather);
        if (status == STATUS_OK) {
            status = transfer_init(transfer, &run->arena);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status allocate_route(struct engine *engine, struct layer_run *run)
{
    const struct moe_model *model = &engine->scenario->model;
    struct route *route = &run->route;
    *route = (struct route){.num_tokens = run->moe_batch->num_tokens,
                            .top_k = model->top_k,
                            .num_experts = model->num_experts};
    size_t wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    route->expert = arena_take(&engine->scratch, wishes, sizeof(int32_t));
    if (engine->weighs_gates) {
        route->gate_weight = arena_take(&engine->scratch, wishes, sizeof(float));
    }
    bool complete = route->expert != NULL && (route->gate_weight != NULL || !engine->weighs_gates);
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

/* What drop policy and dispatch fill in, as wide as the router left the wishes. */
static enum status allocate_outcome(struct engine *engine, struct layer_run *run)
{
    struct route *route = &run->route;
    size_t wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    route->dropped = arena_alloc(&engine->scratch, wishes, sizeof(bool));
    route->slot = arena_take(&engine->scratch, wishes, sizeof(int32_t));
    return route->dropped != NULL && route->slot != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

/* What ranks ask for when they compute their experts. */
static enum status keep_counts(struct layer_run *run)
{
    size_t slots = (size_t)run->placement->num_slots;
    size_t ranks = (size_t)run->placement->num_ranks;
    run->slot_tokens = arena_take(&run->arena, slots, sizeof *run->slot_tokens);
    run->received_tokens = arena_take(&run->arena, ranks, sizeof *run->received_tokens);
    if (run->slot_tokens == NULL || run->received_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(run->slot_tokens, run->traffic.slot_tokens, slots * sizeof *run->slot_tokens);
    memcpy(run->received_tokens, run->traffic.received_tokens,
           ranks * sizeof *run->received_tokens);
    return STATUS_OK;
}

static enum status ask_router(struct engine *engine, struct layer_run *run,
                              const struct route_input *input)
{
    enum status status = allocate_route(engine, run);
    if (status == STATUS_OK) {
        status = engine->scenario->router->route(engine->router_state, input, &run->route,
                                                 engine->error);
    }
    return status;
}

/* Drops, if the policy has any, then replicas, wish by wish. */
static enum status assign_wishes(struct engine *engine, struct layer_run *run,
                                 const struct route_input *input,
                                 const struct dispatch_input *dispatch)
{
    const struct scenario *scenario = engine->scenario;
    struct route *route = &run->route;
    enum status status = allocate_outcome(engine, run);
    if (status == STATUS_OK && drop_applies(scenario->drop, &engine->route_settings)) {
        status = capacity_apply(route, scenario->drop, input);
    }
    if (status == STATUS_OK) {
        status = scenario->replica->assign(engine->replica_state, dispatch, route);
    }
    if (status != STATUS_OK) {
        return status;
    }
    run->placement = run->loans.num_moves > 0 ? &run->loans.placement : run->placement;
    return traffic_count(&run->traffic, route, run->placement, run->moe_batch,
                         engine->expert_cluster, &engine->scratch);
}

/* Wishes, then drops, then replicas. */
static enum status route_layer(struct engine *engine, struct layer_run *run)
{
    const struct scenario *scenario = engine->scenario;
    arena_reset(&engine->scratch);
    struct route_input input = {.settings = &engine->route_settings,
                                .model = &scenario->model,
                                .trace = engine->trace,
                                .side = &engine->side,
                                .batch = run->moe_batch,
                                .trace_layer = engine->trace_layer[run->moe_layer],
                                .placement = &engine->placement[run->moe_layer],
                                .cluster = engine->expert_cluster,
                                .scratch = &engine->scratch};
    run->placement = &engine->placement[run->moe_layer];
    run->loans.num_moves = 0;
    struct dispatch_input dispatch = {run->placement, run->moe_batch, engine->expert_cluster,
                                      run->moe_layer, &run->arena,    scenario->seed,
                                      run->lane,      &run->loans};
    bool is_dealt = false;
    int32_t *wish_tokens = NULL;
    enum status status = ask_router(engine, run, &input);
    if (status == STATUS_OK && !drop_applies(scenario->drop, &engine->route_settings)) {
        status = traffic_count_dealt(&run->traffic, &wish_tokens, &run->route, scenario->replica,
                                     &dispatch, &engine->scratch, &is_dealt);
    }
    if (status != STATUS_OK) {
        return status;
    }
    record_wishes(engine, run, is_dealt ? wish_tokens : NULL); /* before a policy sends them away */
    if (!is_dealt) {
        status = assign_wishes(engine, run, &input, &dispatch);
    }
    return status == STATUS_OK ? keep_counts(run) : status;
}

static void set_cost(struct engine *engine, const struct layer_run *run,
                     const struct collective_input *input, struct transfer *transfer)
{
    const struct scenario *scenario = engine->scenario;
    bool is_dispatch = transfer->kind == TRANSFER_DISPATCH;
    struct exchange_load load = {0};
    if (scenario->ep == 1) {
        transfer->cost = (struct exchange_cost){0}; /* nobody starts an exchange with itself */
        return;
    }
    if (scenario->cluster.fitted_used > 0) {
        exchange_measure(&load, scenario->collective, input, &transfer->plan,
                         is_dispatch ? input->dispatch_bytes_per_token
                                     : input->combine_bytes_per_token,
                         engine->placement[run->moe_layer].num_slots);
    }
    enum exchange exchange = is_dispatch ? EXCHANGE_DISPATCH
                             : precision_activation_bytes(scenario->combine_precision) < 2.0
                                 ? EXCHANGE_COMBINE_LOW
                                 : EXCHANGE_COMBINE;
    transfer->cost = exchange_cost_on(&scenario->cluster, scenario->collective, exchange, &load,
                                      scenario_num_sms(scenario));
}

/* Lent weights go with the dispatch, behind the tokens: only who borrows waits for them. */
static enum status plan_loans(const struct scenario *scenario, const struct layer_run *run,
                              struct transfer_plan *plan)
{
    const struct dispatch_loans *loans = &run->loans;
    int64_t bytes = model_expert_bytes(&scenario->model);
    for (int32_t index = 0; index < loans->num_moves; index++) {
        plan_add_group(plan, loans->move[index].from_rank);
        plan_add_message(plan, loans->move[index].to_rank, bytes, true, NO_GROUP);
    }
    return loans->num_moves > 0 ? plan_finish(plan) : STATUS_OK;
}

/* What the collective of experts that are cut is told: every token goes to every rank, so it asks
 * for no flows, and every rank of a group has the group's tokens. */
static struct traffic traffic_to_all(const struct scenario *scenario, const struct traffic *traffic)
{
    return (struct traffic){.num_ranks = scenario->ep,
                            .num_nodes = cluster_node(&scenario->cluster, scenario->ep - 1) + 1,
                            .copies = traffic->copies * scenario->expert_tp,
                            .tokens = traffic->tokens * scenario->expert_tp};
}

static enum status plan_tokens(struct engine *engine, struct layer_run *run)
{
    const struct scenario *scenario = engine->scenario;
    const bool is_cut = scenario->expert_tp > 1;
    const struct traffic to_all = traffic_to_all(scenario, &run->traffic);
    double hidden = (double)scenario->model.hidden_dim;
    assert(!is_cut || scenario->collective->goes_to_all);
    struct collective_input input = {
        &scenario->cluster,
        is_cut ? &to_all : &run->traffic,
        hidden * precision_activation_bytes(scenario->dispatch_precision),
        hidden * precision_activation_bytes(scenario->combine_precision),
        &engine->scratch,
        is_cut ? run->share->batch->rank_begin : run->moe_batch->rank_begin};
    for (int32_t kind = TRANSFER_DISPATCH; kind <= TRANSFER_COMBINE; kind++) {
        struct transfer *transfer = &run->transfer[kind];
        *transfer = (struct transfer){.lane = run->lane, .layer = run->layer, .kind = kind};
        plan_init(&transfer->plan, &scenario->cluster, scenario->ep, scenario->collective->by_nic,
                  &run->arena);
        enum status status = kind == TRANSFER_DISPATCH
                                 ? scenario->collective->plan_dispatch(&input, &transfer->plan)
                                 : scenario->collective->plan_combine(&input, &transfer->plan);
        if (status == STATUS_OK) {
            set_cost(engine, run, &input, transfer);
            status =
                kind == TRANSFER_DISPATCH ? plan_loans(scenario, run, &transfer->plan) : STATUS_OK;
        }
        if (status == STATUS_OK) {
            status = transfer_init(transfer, &run->arena);
        }
        if (status == STATUS_OK) {
            status = transfer_count_hbm(transfer, &scenario->cluster.gpu, &run->arena);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status make_moe(struct engine *engine, struct layer_run *run)
{
    enum status status = route_layer(engine, run);
    if (status == STATUS_OK) {
        status = plan_tokens(engine, run);
    }
    if (status == STATUS_OK) {
        status = record_layer_begin(engine, run);
        rebalance_note_load(engine, run);
    }
    return status;
}

enum status layer_enter(struct engine *engine, int32_t lane, int32_t layer)
{
    if (layer_run_of(engine, lane, layer) != NULL) {
        return STATUS_OK;
    }
    struct layer_run *run = take_run(engine);
    if (run == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t leader = leader_of(engine, lane);
    *layer_run_at(engine, lane, layer) = run;
    run->lane = lane;
    run->layer = layer;
    run->moe_layer = engine->moe_layer[layer];
    run->ranks_left = engine->scenario->ep;
    run->share = split_share(engine, leader, layer);
    run->moe_batch = engine->chunk[lane].batch;
    run->expert_ns_max = 0.0;
    run->expert_ns_sum = 0.0;
    run->layer_ns_sum = 0.0;
    arena_reset(&run->arena);
    enum status status = lane == leader ? start_exchanges(engine, run) : STATUS_OK;
    if (status == STATUS_OK && run->moe_layer >= 0) {
        status = make_moe(engine, run);
    }
    return status;
}

void layer_leave(struct engine *engine, int32_t lane, int32_t layer)
{
    struct layer_run *run = layer_run_of(engine, lane, layer);
    assert(run != NULL && run->ranks_left > 0);
    if (--run->ranks_left > 0) {
        return;
    }
    if (run->moe_layer >= 0) {
        record_layer_end(engine, run);
    }
    *layer_run_at(engine, lane, layer) = NULL;
    run->next_free = engine->free_runs;
    engine->free_runs = run;
}
