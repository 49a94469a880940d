/*
 * engine_split.c -- the tokens of a step by micro-batch and chunk.
 *
 * Every rank's tokens are cut into micro-batches of equal size (to one token), each of them into
 * chunks. A micro-batch is a batch of its own between the first MoE layer and the last: another
 * computes while it waits for tokens. Chunks part only on the way to the experts and back: the
 * first are computed while the later ones travel.
 */
#include "engine_internal.h"

#include <assert.h>
#include <string.h>

static enum status share_init(struct engine *engine, struct token_share *share, bool is_part)
{
    struct arena *arena = &engine->run_arena;
    size_t ranks = (size_t)engine->scenario->ep;
    share->attended_tokens = arena_alloc(arena, ranks, sizeof(int64_t));
    if (!is_part) {
        return share->attended_tokens != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    }
    size_t tokens = (size_t)batcher_tokens_max(engine->batcher);
    struct trace_batch *own = &share->own;
    own->row = arena_take(arena, tokens, sizeof *own->row);
    own->source_rank = arena_take(arena, tokens, sizeof *own->source_rank);
    own->context_tokens = arena_take(arena, tokens, sizeof *own->context_tokens);
    own->rank_begin = arena_alloc(arena, ranks + 1, sizeof *own->rank_begin);
    bool complete = share->attended_tokens != NULL && own->row != NULL &&
                    own->source_rank != NULL && own->context_tokens != NULL &&
                    own->rank_begin != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

/* As many nodes, of groups instead of ranks. */
static enum status make_expert_cluster(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    engine->expert_cluster = &scenario->cluster;
    if (scenario->expert_tp == 1) {
        return STATUS_OK;
    }
    struct cluster *cluster = arena_alloc(&engine->run_arena, 1, sizeof *cluster);
    if (cluster == NULL) {
        return STATUS_NO_MEMORY;
    }
    *cluster = scenario->cluster;
    cluster->gpus_per_node = scenario_groups_per_node(scenario);
    cluster->num_nodes = scenario_group_nodes(scenario);
    engine->expert_cluster = cluster;
    return STATUS_OK;
}

enum status split_init(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    int32_t micro_batches = scenario->micro_batches;
    struct arena *arena = &engine->run_arena;
    engine->micro_batch = arena_alloc(arena, (size_t)micro_batches, sizeof *engine->micro_batch);
    engine->chunk = arena_alloc(arena, (size_t)engine->num_lanes, sizeof *engine->chunk);
    if (engine->micro_batch == NULL || engine->chunk == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = make_expert_cluster(engine);
    if (status == STATUS_OK) {
        status = share_init(engine, &engine->whole, false);
    }
    for (int32_t part = 0; part < micro_batches && status == STATUS_OK; part++) {
        status = share_init(engine, &engine->micro_batch[part], micro_batches > 1);
    }
    for (int32_t part = 0; part < engine->num_lanes && status == STATUS_OK; part++) {
        bool is_part = scenario->chunks > 1 || scenario->expert_tp > 1;
        status = share_init(engine, &engine->chunk[part], is_part);
    }
    bool is_split = micro_batches > 1;
    engine->halves_attention = is_split && scenario->phase == PHASE_DECODE;
    engine->shares_late = is_split && scenario->phase == PHASE_PREFILL && scenario->chunks == 1;
    engine->split_first = NO_LAYER;
    engine->split_last = NO_LAYER;
    for (int32_t layer = 0; layer < scenario->model.num_layers && is_split; layer++) {
        if (engine->moe_layer[layer] >= 0) {
            engine->split_first = engine->split_first == NO_LAYER ? layer : engine->split_first;
            engine->split_last = layer;
        }
    }
    return status;
}

/* Part part of parts of every rank's tokens of from; the whole is not copied. */
static void take_part(const struct engine *engine, struct token_share *share,
                      const struct trace_batch *from, int32_t part, int32_t parts)
{
    struct trace_batch *own = &share->own;
    share->batch = parts > 1 ? own : from;
    if (parts > 1) {
        own->step = from->step;
        own->num_tokens = 0;
    }
    for (int32_t rank = 0; rank < engine->scenario->ep; rank++) {
        int64_t begin = from->rank_begin[rank];
        int64_t count = from->rank_begin[rank + 1] - begin;
        int64_t first = begin + count * part / parts;
        int64_t end = begin + count * (part + 1) / parts;
        share->attended_tokens[rank] = 0;
        for (int64_t slot = first; slot < end; slot++) {
            share->attended_tokens[rank] += from->context_tokens[slot];
        }
        if (parts > 1) {
            size_t tokens = (size_t)(end - first);
            memcpy(&own->row[own->num_tokens], &from->row[first], tokens * sizeof *own->row);
            memcpy(&own->source_rank[own->num_tokens], &from->source_rank[first],
                   tokens * sizeof *own->source_rank);
            memcpy(&own->context_tokens[own->num_tokens], &from->context_tokens[first],
                   tokens * sizeof *own->context_tokens);
            own->num_tokens += (int32_t)tokens;
            own->rank_begin[rank + 1] = own->num_tokens;
        }
    }
}

/* The step as routing sees it where experts are cut: ranks of a group are one. */
static void join_groups(const struct engine *engine, struct token_share *share)
{
    const struct trace_batch *from = engine->batch;
    struct trace_batch *own = &share->own;
    int32_t expert_tp = engine->scenario->expert_tp;
    own->step = from->step;
    own->num_tokens = from->num_tokens;
    own->row = from->row;
    own->context_tokens = from->context_tokens;
    for (int32_t group = 0; group < scenario_expert_groups(engine->scenario); group++) {
        own->rank_begin[group + 1] = from->rank_begin[(group + 1) * expert_tp];
    }
    for (int32_t slot = 0; slot < from->num_tokens; slot++) {
        own->source_rank[slot] = from->source_rank[slot] / expert_tp;
    }
    share->batch = own;
}

/* All ranks do what the fullest does, as where they replay one CUDA graph. */
static bool shares_beside(const struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    if (scenario->phase != PHASE_DECODE || scenario->model.shared_ffn_dim == 0) {
        return false;
    }
    int32_t most = 0;
    for (int32_t first = 0; first < scenario->ep; first += scenario->tp) {
        const int32_t *begin = &engine->batch->rank_begin[first];
        int32_t tokens = begin[scenario->tp] - begin[0];
        most = tokens > most ? tokens : most;
    }
    return most <= scenario->shared_tokens;
}

void split_step(struct engine *engine)
{
    engine->shares_beside = shares_beside(engine);
    int32_t micro_batches = engine->scenario->micro_batches;
    int32_t chunks = engine->scenario->chunks;
    take_part(engine, &engine->whole, engine->batch, 0, 1);
    for (int32_t part = 0; part < micro_batches; part++) {
        struct token_share *micro_batch = &engine->micro_batch[part];
        take_part(engine, micro_batch, engine->batch, part, micro_batches);
        for (int32_t chunk = 0; chunk < chunks; chunk++) {
            take_part(engine, &engine->chunk[part * chunks + chunk], micro_batch->batch, chunk,
                      chunks);
        }
    }
    if (engine->scenario->expert_tp > 1) {
        assert(engine->num_lanes == 1); /* a scenario's check */
        join_groups(engine, &engine->chunk[0]);
    }
}

bool split_layer(const struct engine *engine, int32_t layer)
{
    return layer >= engine->split_first && layer <= engine->split_last;
}

const struct token_share *split_share(const struct engine *engine, int32_t lane, int32_t layer)
{
    return split_layer(engine, layer) ? &engine->micro_batch[lane / engine->scenario->chunks]
                                      : &engine->whole;
}
