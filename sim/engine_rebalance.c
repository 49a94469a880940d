/*
 * engine_rebalance.c -- load windows, new placements, and the weights that have to move.
 *
 * Every interval the strategy sees the window's load and answers with a placement. What is not yet
 * resident travels as messages from a holder; a rank begins its next step when its weights are in.
 */
#include "engine_internal.h"

#include <assert.h>
#include <string.h>

static int32_t window_steps(const struct scenario *scenario)
{
    int32_t interval = scenario->rebalance_interval_steps;
    int32_t window = scenario->window_steps;
    return window > 0 && window < interval ? window : interval;
}

static bool in_window(const struct engine *engine)
{
    int32_t interval = engine->scenario->rebalance_interval_steps;
    return interval > 0 && engine->step % interval >= interval - window_steps(engine->scenario);
}

/* Counts of pairs are int32_t: a token adds one at most. */
static enum status pairs_init(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    size_t experts = (size_t)scenario->model.num_experts;
    size_t layers = (size_t)engine->num_moe_layers;
    int64_t tokens_max = batcher_tokens_max(engine->batcher);
    unsigned needs = scenario->strategy->needs;
    if ((needs & (BALANCE_NEEDS_PAIRS | BALANCE_NEEDS_TRANSITIONS)) == 0) {
        return STATUS_OK;
    }
    if (tokens_max * window_steps(scenario) > INT32_MAX) {
        return error_add(engine->error, STATUS_INVALID,
                         "placement.window_steps: %s counts pairs of experts over fewer than 2^31 "
                         "tokens, %d steps of %lld are more",
                         scenario->strategy->name, (int)window_steps(scenario),
                         (long long)tokens_max);
    }
    struct arena *arena = &engine->run_arena;
    bool complete = true;
    if ((needs & BALANCE_NEEDS_PAIRS) != 0) {
        engine->window_pairs = arena_alloc(arena, layers * experts * experts, sizeof(int32_t));
        complete = engine->window_pairs != NULL;
    }
    if ((needs & BALANCE_NEEDS_TRANSITIONS) != 0) {
        size_t wishes = (size_t)tokens_max * (size_t)scenario->model.top_k;
        engine->window_transitions =
            arena_alloc(arena, (layers - 1) * experts * experts, sizeof(int32_t));
        engine->last_wishes =
            arena_alloc(arena, (size_t)engine->num_lanes * wishes, sizeof(int32_t));
        complete = complete && engine->window_transitions != NULL && engine->last_wishes != NULL;
    }
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status rebalance_init(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    if (engine->num_moe_layers == 0 || scenario->rebalance_interval_steps == 0) {
        return STATUS_OK;
    }
    size_t loads = (size_t)engine->num_moe_layers * (size_t)scenario->model.num_experts;
    engine->window_tokens = arena_alloc(&engine->run_arena, loads, sizeof(int64_t));
    if ((scenario->strategy->needs & BALANCE_NEEDS_STEPS) != 0) {
        engine->window_steps = arena_alloc(&engine->run_arena,
                                           (size_t)window_steps(scenario) * loads, sizeof(int32_t));
        if (engine->window_steps == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    return engine->window_tokens != NULL ? pairs_init(engine) : STATUS_NO_MEMORY;
}

static void note_pairs(struct engine *engine, const struct layer_run *run)
{
    const struct route *route = &run->route;
    int64_t num_experts = route->num_experts;
    int32_t *pairs = &engine->window_pairs[run->moe_layer * num_experts * num_experts];
    for (int32_t token = 0; token < route->num_tokens; token++) {
        const int32_t *wish = &route->expert[(int64_t)token * route->top_k];
        for (int32_t i = 0; i < route->top_k; i++) {
            for (int32_t j = 0; j < i && wish[i] != EXPERT_NOT_ROUTED; j++) {
                if (wish[j] != EXPERT_NOT_ROUTED) {
                    pairs[wish[i] * num_experts + wish[j]]++;
                    pairs[wish[j] * num_experts + wish[i]]++;
                }
            }
        }
    }
}

/* A lane's layers are routed one after the other, each with the same tokens. */
static void note_transitions(struct engine *engine, const struct layer_run *run)
{
    const struct route *route = &run->route;
    int64_t num_experts = route->num_experts;
    int64_t wishes = (int64_t)batcher_tokens_max(engine->batcher) * route->top_k;
    int32_t *last = &engine->last_wishes[run->lane * wishes];
    for (int32_t token = 0; token < route->num_tokens && run->moe_layer > 0; token++) {
        int32_t *counts =
            &engine->window_transitions[(run->moe_layer - 1) * num_experts * num_experts];
        const int32_t *from = &last[(int64_t)token * route->top_k];
        const int32_t *to = &route->expert[(int64_t)token * route->top_k];
        for (int32_t i = 0; i < route->top_k; i++) {
            for (int32_t j = 0; j < route->top_k && from[i] != EXPERT_NOT_ROUTED; j++) {
                if (to[j] != EXPERT_NOT_ROUTED) {
                    counts[from[i] * num_experts + to[j]]++;
                }
            }
        }
    }
    memcpy(last, route->expert, (size_t)route->num_tokens * (size_t)route->top_k * sizeof *last);
}

void rebalance_note_load(struct engine *engine, const struct layer_run *run)
{
    if (!in_window(engine)) {
        return;
    }
    int32_t moe_layer = run->moe_layer;
    if (engine->window_pairs != NULL) {
        note_pairs(engine, run);
    }
    if (engine->window_transitions != NULL) {
        note_transitions(engine, run);
    }
    int32_t num_experts = engine->scenario->model.num_experts;
    int64_t first = (int64_t)moe_layer * num_experts;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        engine->window_tokens[first + expert] += engine->layer_tokens[expert];
    }
    if (engine->window_steps != NULL) {
        int64_t step_first =
            (int64_t)engine->window_count * engine->num_moe_layers * num_experts + first;
        for (int32_t expert = 0; expert < num_experts; expert++) {
            engine->window_steps[step_first + expert] += (int32_t)engine->layer_tokens[expert];
        }
    }
}

/* Groups the moves by sender: one group a rank, in the order of layers. Of an expert that is cut
 * every rank sends its part to the rank that is to have the same. */
static enum status plan_weights(struct engine *engine, const struct expert_move *move,
                                int32_t num_moves)
{
    struct transfer *weights = &engine->weights;
    struct arena *arena = &engine->rebalance_arena;
    const int32_t expert_tp = engine->scenario->expert_tp;
    int64_t bytes = scenario_expert_bytes(engine->scenario);
    *weights = (struct transfer){.layer = -1, .kind = TRANSFER_WEIGHTS};
    plan_init(&weights->plan, &engine->scenario->cluster, engine->scenario->ep, false, arena);
    int32_t num_ranks = engine->scenario->ep;
    int32_t *begin = arena_alloc(arena, (size_t)num_ranks + 2, sizeof *begin);
    int32_t *order = arena_alloc(arena, (size_t)num_moves, sizeof *order);
    if (begin == NULL || order == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t index = 0; index < num_moves; index++) {
        begin[move[index].from_rank + 2]++;
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        begin[rank + 2] += begin[rank + 1];
    }
    for (int32_t index = 0; index < num_moves; index++) {
        order[begin[move[index].from_rank + 1]++] = index;
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int32_t group = rank / expert_tp;
        plan_add_group(&weights->plan, rank);
        for (int32_t index = begin[group]; index < begin[group + 1]; index++) {
            int32_t to_rank = move[order[index]].to_rank * expert_tp + rank % expert_tp;
            plan_add_message(&weights->plan, to_rank, bytes, true, NO_GROUP);
        }
    }
    enum status status = plan_finish(&weights->plan);
    return status == STATUS_OK ? transfer_init(weights, arena) : status;
}

/* Puts the strategy's answer in force; lists what has to move. */
static enum status apply_plan(struct engine *engine, const int32_t *expert_of_slot,
                              struct expert_move *move, int32_t *num_moves, int32_t *layers_changed)
{
    for (int32_t layer = 0; layer < engine->num_moe_layers; layer++) {
        const int32_t *fresh = &expert_of_slot[(int64_t)layer * engine->num_slots];
        struct placement *placement = &engine->placement[layer];
        if (memcmp(fresh, placement->expert_of_slot, (size_t)engine->num_slots * sizeof *fresh) ==
            0) {
            continue;
        }
        *num_moves += placement_moves(placement, &move[*num_moves], layer, fresh,
                                      scenario_groups_per_node(engine->scenario));
        (*layers_changed)++;
        enum status status = placement_set(placement, fresh, engine->error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status ask_strategy(struct engine *engine, int32_t *expert_of_slot)
{
    const struct scenario *scenario = engine->scenario;
    for (int32_t layer = 0; layer < engine->num_moe_layers; layer++) {
        memcpy(&expert_of_slot[(int64_t)layer * engine->num_slots],
               engine->placement[layer].expert_of_slot,
               (size_t)engine->num_slots * sizeof *expert_of_slot);
    }
    struct balance_input input = {
        .num_layers = engine->num_moe_layers,
        .num_experts = scenario->model.num_experts,
        .num_slots = engine->num_slots,
        .num_ranks = scenario_expert_groups(scenario),
        .num_nodes = scenario_group_nodes(scenario),
        .num_groups = scenario->model.num_expert_groups,
        .load_tokens = engine->window_tokens,
        .step_tokens = engine->window_steps,
        .num_steps = engine->window_count,
        .pair_tokens = engine->window_pairs,
        .transition_tokens = engine->window_transitions,
        .placement = engine->placement,
        .expert_bytes = scenario_expert_bytes(scenario),
        .interval_steps = scenario->rebalance_interval_steps,
        .scratch = &engine->rebalance_arena,
    };
    enum status status = price_moves(engine, &input);
    return status == STATUS_OK ? scenario->strategy->plan(engine->strategy_state, &input,
                                                          expert_of_slot, engine->error)
                               : status;
}

enum status rebalance_place(struct engine *engine)
{
    size_t slots = (size_t)engine->num_moe_layers * (size_t)engine->num_slots;
    arena_reset(&engine->rebalance_arena);
    int32_t *expert_of_slot = arena_alloc(&engine->rebalance_arena, slots, sizeof(int32_t));
    enum status status =
        expert_of_slot == NULL ? STATUS_NO_MEMORY : ask_strategy(engine, expert_of_slot);
    for (int32_t layer = 0; layer < engine->num_moe_layers && status == STATUS_OK; layer++) {
        status = placement_set(&engine->placement[layer],
                               &expert_of_slot[(int64_t)layer * engine->num_slots], engine->error);
    }
    return status;
}

static void clear_window(struct engine *engine)
{
    size_t loads = (size_t)engine->num_moe_layers * (size_t)engine->scenario->model.num_experts;
    memset(engine->window_tokens, 0, loads * sizeof *engine->window_tokens);
    if (engine->window_steps != NULL) {
        memset(engine->window_steps, 0,
               (size_t)engine->window_count * loads * sizeof *engine->window_steps);
    }
    size_t experts = (size_t)engine->scenario->model.num_experts;
    if (engine->window_pairs != NULL) {
        memset(engine->window_pairs, 0, loads * experts * sizeof *engine->window_pairs);
    }
    if (engine->window_transitions != NULL) {
        memset(engine->window_transitions, 0,
               (loads - experts) * experts * sizeof *engine->window_transitions);
    }
    engine->window_count = 0;
}

/* Begins the record of a rebalance: what it is worth shows in the steps behind it. */
static void note_rebalance(struct engine *engine, int32_t num_moves, int32_t layers_changed)
{
    struct run_metrics *metrics = &engine->metrics;
    const struct engine_observer *observer = engine->observer;
    assert(metrics->num_rebalances < metrics->num_rebalances_max);
    struct rebalance_record *record = &metrics->rebalance[metrics->num_rebalances++];
    *record =
        (struct rebalance_record){.step = engine->step + 1,
                                  .moves = num_moves,
                                  .bytes = num_moves * model_expert_bytes(&engine->scenario->model),
                                  .layers_changed = layers_changed};
    if (observer->rebalanced != NULL) {
        observer->rebalanced(observer->context, record, engine->queue.now_ns);
    }
}

enum status rebalance_after_step(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    int32_t interval = scenario->rebalance_interval_steps;
    engine->weights_moving = false;
    if (engine->num_moe_layers == 0 || interval == 0) {
        return STATUS_OK;
    }
    engine->window_count += in_window(engine);
    if ((engine->step + 1) % interval != 0 || engine->step + 1 == engine->metrics.num_steps) {
        return STATUS_OK;
    }
    arena_reset(&engine->rebalance_arena);
    size_t slots = (size_t)engine->num_moe_layers * (size_t)engine->num_slots;
    int32_t *expert_of_slot = arena_alloc(&engine->rebalance_arena, slots, sizeof(int32_t));
    struct expert_move *move =
        arena_alloc(&engine->rebalance_arena, slots, sizeof(struct expert_move));
    if (expert_of_slot == NULL || move == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t num_moves = 0;
    int32_t layers_changed = 0;
    enum status status = ask_strategy(engine, expert_of_slot);
    if (status == STATUS_OK) {
        status = apply_plan(engine, expert_of_slot, move, &num_moves, &layers_changed);
    }
    if (status == STATUS_OK && num_moves > 0) {
        engine->weights_moving = true;
        status = plan_weights(engine, move, num_moves);
    }
    note_rebalance(engine, num_moves, layers_changed);
    record_interval(engine);
    clear_window(engine);
    return status;
}
