/*
 * engine_offload.c -- experts that live in host memory or on drives, and when they arrive.
 *
 * Each rank has a cache a layer (offload/cache.h) and one link to its host, on which transfers
 * queue. A node's ranks share its memory or drives, where that has a rate, and its CPUs; both serve
 * one expert at a time. A transfer is over when the slower of link and home is.
 *
 *   gate -> look up -+-> missing experts queue on the link -----> fetch -> experts on the GPU
 *                    +-> or at the CPUs ------------------------------------> their results
 *                    +-> the likely ones of the next MoE layer queue behind them
 *
 * A rank that has all tokens itself looks up when its gate is done, so weights travel beside its
 * shared expert; others look up when the dispatch is in. The GPU begins when all the weights it
 * needs are in, and then waits for the CPUs, as a stream does that a host function blocks.
 *
 * An expert that arrives takes the slot of another, if the policy keeps it, or else a buffer of the
 * few that every GPU has beside its slots. What the CPUs computed is fetched for later lookups if
 * the policy would keep it and the link is idle.
 *
 * Left out: computing some experts while others arrive (with few tokens a small part of the fetch:
 * the GPU reads weights 30 times as fast); giving up transfers that turn out to be in vain.
 */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "digest.h"
#include "offload/cache.h"

#define DIGEST_STAGE 15 /* none of enum stage */

struct offload {
    const struct offload_settings *settings;
    int32_t num_served;          /* experts of a rank and layer */
    double link_ns;              /* of one expert, but for latencies */
    double home_ns;              /* likewise; 0: as fast as all links together */
    double latency_ns;           /* of the link and what lies behind it */
    struct offload_cache *cache; /* [ep][num_moe_layers] */
    struct follows *next_layer;  /* [ep][num_moe_layers] from the layer before; NULL: no prefetch */
    int64_t *ready_ns;           /* [ep][num_moe_layers][num_served] weights are in */
    bool *is_ahead;              /* likewise: prefetched, not yet looked for */
    int64_t *link_free_ns;       /* [ep] */
    int64_t *home_free_ns;       /* [num_nodes] */
    int64_t *cpus_free_ns;       /* [num_nodes] */
    int64_t *fetched_ns;         /* [ep] when all that the GPU needs is in */
    int64_t *computed_ns;        /* [ep] when the CPUs are done */
    int32_t *gpu_tokens;         /* [ep][num_served] */
    int32_t *touched;            /* [num_served] scratch, as are the next three */
    int32_t *computed;
    int32_t *arrived;
    double *chance;
};

static struct offload_cache *cache_of(const struct engine *engine, int32_t rank, int32_t moe_layer)
{
    return &engine->offload->cache[(int64_t)rank * engine->num_moe_layers + moe_layer];
}

/* Where a rank's experts of a layer begin in ready_ns and is_ahead. */
static int64_t first_of(const struct engine *engine, int32_t rank, int32_t moe_layer)
{
    int64_t index = (int64_t)rank * engine->num_moe_layers + moe_layer;
    return index * engine->offload->num_served;
}

static enum status allocate(struct engine *engine, struct offload *offload)
{
    struct arena *arena = &engine->run_arena;
    size_t ranks = (size_t)engine->scenario->ep;
    size_t nodes = (size_t)engine->scenario->cluster.num_nodes;
    size_t served = (size_t)offload->num_served;
    size_t caches = ranks * (size_t)engine->num_moe_layers;
    offload->cache = arena_alloc(arena, caches, sizeof *offload->cache);
    offload->next_layer = arena_alloc(arena, caches, sizeof *offload->next_layer);
    offload->ready_ns = arena_alloc(arena, caches * served, sizeof(int64_t));
    offload->is_ahead = arena_alloc(arena, caches * served, sizeof(bool));
    offload->link_free_ns = arena_alloc(arena, ranks, sizeof(int64_t));
    offload->home_free_ns = arena_alloc(arena, nodes, sizeof(int64_t));
    offload->cpus_free_ns = arena_alloc(arena, nodes, sizeof(int64_t));
    offload->fetched_ns = arena_alloc(arena, ranks, sizeof(int64_t));
    offload->computed_ns = arena_alloc(arena, ranks, sizeof(int64_t));
    offload->gpu_tokens = arena_alloc(arena, ranks * served, sizeof(int32_t));
    offload->touched = arena_alloc(arena, served, sizeof(int32_t));
    offload->computed = arena_alloc(arena, served, sizeof(int32_t));
    offload->arrived = arena_alloc(arena, served, sizeof(int32_t));
    offload->chance = arena_alloc(arena, served, sizeof(double));
    bool complete = offload->cache != NULL && offload->next_layer != NULL &&
                    offload->ready_ns != NULL && offload->is_ahead != NULL &&
                    offload->link_free_ns != NULL && offload->home_free_ns != NULL &&
                    offload->cpus_free_ns != NULL && offload->fetched_ns != NULL &&
                    offload->computed_ns != NULL && offload->gpu_tokens != NULL &&
                    offload->touched != NULL && offload->computed != NULL &&
                    offload->arrived != NULL && offload->chance != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status offload_open(struct engine *engine)
{
    const struct scenario *scenario = engine->scenario;
    const struct offload_settings *settings = &scenario->offload;
    if (settings->home == OFFLOAD_NOTHING) {
        return STATUS_OK;
    }
    struct offload *offload = arena_alloc(&engine->run_arena, 1, sizeof *offload);
    if (offload == NULL) {
        return STATUS_NO_MEMORY;
    }
    double expert_bytes = (double)model_expert_bytes(&scenario->model);
    bool has_rate = settings->home_bytes_per_s > 0.0;
    offload->settings = settings;
    offload->num_served = engine->num_slots / scenario->ep;
    offload->link_ns = expert_bytes / settings->link_bytes_per_s * 1e9;
    offload->home_ns = has_rate ? expert_bytes / settings->home_bytes_per_s * 1e9 : 0.0;
    offload->latency_ns = settings->link_latency_ns + settings->home_latency_ns;
    enum status status = allocate(engine, offload);
    int32_t caches = scenario->ep * engine->num_moe_layers;
    int32_t served = offload->num_served;
    for (int32_t index = 0; index < caches && status == STATUS_OK; index++) {
        status =
            offload_cache_init(&offload->cache[index], settings->policy, served,
                               settings->num_slots, settings->profile_steps, &engine->run_arena);
        if (status == STATUS_OK && settings->prefetch > 0) {
            status = follows_init(&offload->next_layer[index], served, served, &engine->run_arena);
        }
    }
    engine->offload = offload;
    return status;
}

static int64_t later(int64_t a_ns, int64_t b_ns)
{
    return a_ns > b_ns ? a_ns : b_ns;
}

/* When a transfer that is asked for now would be in; taking it keeps link and home busy. */
static int64_t transfer(struct engine *engine, int32_t rank, bool takes_place)
{
    struct offload *offload = engine->offload;
    int64_t *link_free_ns = &offload->link_free_ns[rank];
    int64_t *home_free_ns = &offload->home_free_ns[engine->node_of_rank[rank]];
    int64_t begin_ns = later(engine->queue.now_ns, *link_free_ns);
    if (offload->home_ns > 0.0) {
        begin_ns = later(begin_ns, *home_free_ns);
    }
    int64_t end_ns = begin_ns + llround(fmax(offload->link_ns, offload->home_ns));
    if (takes_place) {
        *link_free_ns = end_ns;
        *home_free_ns = begin_ns + llround(offload->home_ns);
    }
    return end_ns + llround(offload->latency_ns);
}

/* When the CPUs would have computed an expert of so many tokens: the slower of reading its weights
 * and of arithmetic; tokens travel there and back, which costs half of the CPUs' latency each way.
 */
static int64_t compute(struct engine *engine, int32_t rank, int32_t tokens, bool takes_place)
{
    struct offload *offload = engine->offload;
    const struct offload_settings *settings = offload->settings;
    const struct moe_model *model = &engine->scenario->model;
    int64_t *cpus_free_ns = &offload->cpus_free_ns[engine->node_of_rank[rank]];
    double read_s = (double)model_expert_bytes(model) / settings->cpu_bytes_per_s;
    double flops = 2.0 * model_expert_params(model) * (double)tokens;
    double expert_ns = fmax(read_s, flops / settings->cpu_flops_per_s) * 1e9;
    double token_bytes =
        (double)model->hidden_dim * precision_activation_bytes(PRECISION_BF16) * (double)tokens;
    double way_ns = settings->link_latency_ns + settings->cpu_latency_ns / 2.0 +
                    token_bytes / settings->link_bytes_per_s * 1e9;
    int64_t arrived_ns = engine->queue.now_ns + llround(way_ns);
    int64_t begin_ns = later(arrived_ns, *cpus_free_ns);
    int64_t end_ns = begin_ns + llround(expert_ns);
    if (takes_place) {
        *cpus_free_ns = end_ns;
    }
    return end_ns + llround(way_ns);
}

/* An expert that the GPU lacks. Returns whether the CPUs compute it. */
static bool miss(struct engine *engine, int32_t rank, int32_t tokens, int64_t *ready_ns)
{
    struct offload *offload = engine->offload;
    enum offload_misses misses = offload->settings->misses;
    bool on_cpu = misses == OFFLOAD_CPU;
    if (misses == OFFLOAD_FASTER) {
        on_cpu = compute(engine, rank, tokens, false) < transfer(engine, rank, false);
    }
    if (on_cpu) {
        offload->computed_ns[rank] =
            later(offload->computed_ns[rank], compute(engine, rank, tokens, true));
    } else {
        *ready_ns = transfer(engine, rank, true);
    }
    return on_cpu;
}

/* Looks for every touched expert. What arrives is kept, if the policy likes, when all have been
 * looked for: none takes the slot of one that is still to be used. Those that the CPUs compute are
 * left in offload->computed. Returns how many. */
static int32_t serve(struct engine *engine, int32_t rank, int32_t moe_layer, int32_t num_touched,
                     struct offload_counts *counts)
{
    struct offload *offload = engine->offload;
    struct offload_cache *cache = cache_of(engine, rank, moe_layer);
    int64_t *ready_ns = &offload->ready_ns[first_of(engine, rank, moe_layer)];
    bool *is_ahead = &offload->is_ahead[first_of(engine, rank, moe_layer)];
    int32_t *gpu_tokens = &offload->gpu_tokens[(int64_t)rank * offload->num_served];
    int32_t num_computed = 0;
    int32_t num_arrived = 0;
    for (int32_t i = 0; i < num_touched; i++) {
        int32_t expert = offload->touched[i];
        if (cache->is_kept[expert]) {
            counts->hits++;
        } else if (is_ahead[expert]) {
            counts->ahead++;
            offload->arrived[num_arrived++] = expert;
        } else if (miss(engine, rank, gpu_tokens[expert], &ready_ns[expert])) {
            counts->on_cpu++;
            offload->computed[num_computed++] = expert;
            gpu_tokens[expert] = 0;
            continue;
        } else {
            counts->fetched++;
            offload->arrived[num_arrived++] = expert;
        }
        offload->fetched_ns[rank] = later(offload->fetched_ns[rank], ready_ns[expert]);
    }
    for (int32_t i = 0; i < num_arrived; i++) {
        offload_cache_keep(cache, offload->arrived[i]);
    }
    memset(is_ahead, 0, (size_t)offload->num_served * sizeof *is_ahead); /* used or in vain */
    counts->transfers += counts->fetched;
    return num_computed;
}

/* While the link is idle, brings what the CPUs computed and the policy would keep. */
static void promote(struct engine *engine, int32_t rank, int32_t moe_layer, int32_t num_computed,
                    struct offload_counts *counts)
{
    struct offload *offload = engine->offload;
    struct offload_cache *cache = cache_of(engine, rank, moe_layer);
    int64_t *ready_ns = &offload->ready_ns[first_of(engine, rank, moe_layer)];
    for (int32_t i = 0; i < num_computed; i++) {
        int32_t expert = offload->computed[i];
        bool is_idle = offload->link_free_ns[rank] <= engine->queue.now_ns;
        if (is_idle && offload_cache_wants(cache, expert)) {
            ready_ns[expert] = transfer(engine, rank, true);
            offload_cache_keep(cache, expert);
            counts->transfers++;
        }
    }
}

/* Learns how experts of this layer follow those of the one before, and fetches what is likely to
 * follow in the next: the `prefetch` likeliest, less what is there. */
static void prefetch(struct engine *engine, int32_t rank, int32_t moe_layer,
                     struct offload_counts *counts)
{
    struct offload *offload = engine->offload;
    struct follows *follows = &offload->next_layer[rank * engine->num_moe_layers];
    struct offload_cache *here = cache_of(engine, rank, moe_layer);
    if (moe_layer > 0) {
        const struct offload_cache *before = cache_of(engine, rank, moe_layer - 1);
        follows_learn(&follows[moe_layer], before->touched, before->num_touched, here->touched,
                      here->num_touched);
    }
    if (moe_layer + 1 == engine->num_moe_layers) {
        return;
    }
    const struct offload_cache *next = cache_of(engine, rank, moe_layer + 1);
    int64_t first = first_of(engine, rank, moe_layer + 1);
    follows_predict(&follows[moe_layer + 1], here->touched, here->num_touched, next->touches,
                    next->lookups, offload->chance);
    for (int32_t turn = 0; turn < offload->settings->prefetch; turn++) {
        int32_t likely = 0;
        for (int32_t expert = 1; expert < offload->num_served; expert++) {
            likely = offload->chance[expert] > offload->chance[likely] ? expert : likely;
        }
        if (offload->chance[likely] <= 0.0) {
            return; /* nothing is known of the others */
        }
        offload->chance[likely] = 0.0;
        if (!next->is_kept[likely]) {
            offload->is_ahead[first + likely] = true;
            offload->ready_ns[first + likely] = transfer(engine, rank, true);
            counts->transfers++;
        }
    }
}

void offload_look_up(struct engine *engine, int32_t rank, int32_t layer)
{
    struct offload *offload = engine->offload;
    const struct layer_run *run = layer_run_of(engine, 0, layer);
    const int32_t *tokens = &run->slot_tokens[run->placement->rank_begin[rank]];
    int32_t *gpu_tokens = &offload->gpu_tokens[(int64_t)rank * offload->num_served];
    struct offload_counts counts = {0};
    for (int32_t expert = 0; expert < offload->num_served; expert++) {
        gpu_tokens[expert] = tokens[expert];
        if (tokens[expert] > 0) {
            offload->touched[counts.touches++] = expert;
        }
    }
    offload->fetched_ns[rank] = engine->queue.now_ns;
    offload->computed_ns[rank] = engine->queue.now_ns;
    int32_t num_touched = (int32_t)counts.touches;
    struct offload_cache *cache = cache_of(engine, rank, run->moe_layer);
    counts.best_hits = offload_cache_look_up(cache, offload->touched, num_touched);
    int32_t computed = serve(engine, rank, run->moe_layer, num_touched, &counts);
    promote(engine, rank, run->moe_layer, computed, &counts);
    if (offload->settings->prefetch > 0) {
        prefetch(engine, rank, run->moe_layer, &counts);
    }
    struct run_metrics *metrics = &engine->metrics;
    offload_add(&metrics->offload_layer[run->moe_layer], &counts);
    offload_add(&metrics->offload_window[engine->step / metrics->window_steps], &counts);
}

enum status offload_begin_experts(struct engine *engine, int32_t rank)
{
    struct offload *offload = engine->offload;
    if (engine->scenario->ep > 1) {
        offload_look_up(engine, rank, engine->rank[rank].lane[0].layer);
    }
    if (offload->fetched_ns[rank] <= engine->queue.now_ns) {
        return compute_want(engine, rank, 0);
    }
    return event_push(
        &engine->queue,
        (struct event){.time_ns = offload->fetched_ns[rank], .kind = EVENT_FETCHED, .rank = rank});
}

enum status offload_fetched(struct engine *engine, int32_t rank)
{
    int32_t layer = engine->rank[rank].lane[0].layer;
    uint64_t digest = digest_u64(engine->metrics.digest, (uint64_t)engine->queue.now_ns);
    engine->metrics.digest =
        digest_u64(digest, (uint64_t)(((int64_t)rank * 4096 + layer) * 16 + DIGEST_STAGE));
    rank_book(engine, rank, 0, STEP_FETCH, 0, STEP_FETCH);
    return compute_want(engine, rank, 0);
}

const int32_t *offload_gpu_tokens(const struct engine *engine, int32_t rank)
{
    return &engine->offload->gpu_tokens[(int64_t)rank * engine->offload->num_served];
}

double offload_expert_ns(const struct engine *engine, int32_t rank, double gpu_ns)
{
    return fmax(gpu_ns, (double)(engine->offload->computed_ns[rank] - engine->queue.now_ns));
}
