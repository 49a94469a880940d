/*
 * engine_record_route.c -- what a layer's router wishes, what dropping gave up, and how even it
 * was.
 *
 * Gate mass of a token: the gate weights of the experts that compute it, over what those of its
 * model_top_k likeliest experts would sum to. 1 for plain top-k without drops; above 1 where a
 * token has more experts than the model's k. A token that was not routed when it was recorded, and
 * that no gate chose for now, does not count.
 */
#include "engine_internal.h"

#include <assert.h>
#include <string.h>

/* What each factor lets an expert take of a scope; ranks mostly have as many tokens as the last. */
struct capacities {
    int64_t scope_tokens;
    int32_t assignments[DROP_FACTORS]; /* ascending, as the factors are; no more than INT32_MAX */
};

static void set_capacities(struct capacities *capacity, const struct route *route,
                           int64_t scope_tokens)
{
    for (int32_t factor = 0; factor < DROP_FACTORS && capacity->scope_tokens != scope_tokens;
         factor++) {
        int64_t assignments = capacity_assignments(
            scope_tokens, route->model_top_k > 0 ? route->model_top_k : route->top_k,
            route->num_experts, drop_factors[factor]);
        capacity->assignments[factor] =
            (int32_t)(assignments < INT32_MAX ? assignments : INT32_MAX);
    }
    capacity->scope_tokens = scope_tokens;
}

/* Adds what capacity factors would have dropped; where one drops nothing, larger ones do not. Three
 * at once, for a count that is loaded serves all. Tokens above a capacity, fewer than 2^32, are the
 * sum of the larger of tokens and capacity, less as many capacities, modulo 2^32. */
__attribute__((always_inline)) static inline void add_drops(int64_t *dropped_at,
                                                            const struct route *route,
                                                            const int32_t *restrict tokens,
                                                            const struct capacities *capacity)
{
    static_assert(DROP_FACTORS % 3 == 0, "factors come in threes");
    const int32_t num_experts = route->num_experts;
    int64_t dropped = 1;
    for (int32_t first = 0; first < DROP_FACTORS && dropped > 0; first += 3) {
        const int32_t *limit = &capacity->assignments[first]; /* low, middle, high */
        uint32_t low = 0;
        uint32_t middle = 0;
        uint32_t high = 0;
#pragma omp simd reduction(+ : low, middle, high)
        for (int32_t expert = 0; expert < num_experts; expert++) {
            low += (uint32_t)(tokens[expert] > limit[0] ? tokens[expert] : limit[0]);
            middle += (uint32_t)(tokens[expert] > limit[1] ? tokens[expert] : limit[1]);
            high += (uint32_t)(tokens[expert] > limit[2] ? tokens[expert] : limit[2]);
        }
        dropped = high - (uint32_t)num_experts * (uint32_t)limit[2];
        dropped_at[first] += low - (uint32_t)num_experts * (uint32_t)limit[0];
        dropped_at[first + 1] += middle - (uint32_t)num_experts * (uint32_t)limit[1];
        dropped_at[first + 2] += dropped;
    }
}

typedef void drop_counter(int64_t *dropped_at, const struct route *route, const int32_t *tokens,
                          const struct capacities *capacity);

static void add_drops_anywhere(int64_t *dropped_at, const struct route *route,
                               const int32_t *tokens, const struct capacities *capacity)
{
    add_drops(dropped_at, route, tokens, capacity);
}

#ifdef __x86_64__ /* whose baseline has no maximum of lanes, and half as many of them */
__attribute__((target("avx2"))) static void add_drops_avx2(int64_t *dropped_at,
                                                           const struct route *route,
                                                           const int32_t *tokens,
                                                           const struct capacities *capacity)
{
    add_drops(dropped_at, route, tokens, capacity);
}
#endif

static drop_counter *best_drop_counter(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        return add_drops_avx2;
    }
#endif
    return add_drops_anywhere;
}

/* The wishes begin .. end - 1. all: each is routed. Side by side, for a loop pays more than a
 * count.
 */
static inline void count_wishes(int32_t *restrict tokens, const int32_t *restrict expert,
                                int64_t begin, int64_t end, bool all)
{
#pragma GCC unroll 8
    for (int64_t wish = begin; wish < end; wish++) {
        if (all || expert[wish] != EXPERT_NOT_ROUTED) {
            tokens[expert[wish]]++;
        }
    }
}

/* Counts a source rank's wishes by expert in source_tokens. */
static void count_source(struct engine *engine, const struct layer_run *run, int32_t rank)
{
    const struct route *route = &run->route;
    int64_t begin = (int64_t)run->moe_batch->rank_begin[rank] * route->top_k;
    int64_t end = (int64_t)run->moe_batch->rank_begin[rank + 1] * route->top_k;
    int32_t *tokens = engine->source_tokens;
    memset(tokens, 0, (size_t)route->num_experts * sizeof *tokens);
    if (route->assignments == (int64_t)route->num_tokens * route->top_k) {
        count_wishes(tokens, route->expert, begin, end, true);
    } else {
        count_wishes(tokens, route->expert, begin, end, false);
    }
}

/* Adds wishes by expert up, source rank by source rank, and the drops of both scopes. */
void record_wishes(struct engine *engine, const struct layer_run *run, const int32_t *wish_tokens)
{
    const struct route *route = &run->route;
    size_t experts = (size_t)route->num_experts;
    int64_t *restrict layer_tokens = engine->layer_tokens;
    int32_t *restrict source_tokens = engine->source_tokens;
    struct capacities capacity = {.scope_tokens = -1};
    drop_counter *count_drops = best_drop_counter();
    memset(layer_tokens, 0, experts * sizeof *layer_tokens);
    for (int32_t rank = 0; rank < scenario_expert_groups(engine->scenario); rank++) {
        const int32_t *tokens = source_tokens;
        if (wish_tokens != NULL) {
            tokens = &wish_tokens[(size_t)rank * experts];
        } else {
            count_source(engine, run, rank);
        }
#pragma omp simd
        for (size_t expert = 0; expert < experts; expert++) {
            layer_tokens[expert] += tokens[expert];
        }
        const int32_t *begin = &run->moe_batch->rank_begin[rank];
        set_capacities(&capacity, route, begin[1] - begin[0]);
        count_drops(&engine->metrics.dropped_at[CAPACITY_RANK * DROP_FACTORS], route, tokens,
                    &capacity);
    }
    int64_t *total = &engine->metrics.expert_tokens[run->moe_layer * (int64_t)experts];
    for (size_t expert = 0; expert < experts; expert++) {
        total[expert] += layer_tokens[expert];
        source_tokens[expert] = (int32_t)layer_tokens[expert];
    }
    set_capacities(&capacity, route, route->num_tokens);
    count_drops(&engine->metrics.dropped_at[CAPACITY_GLOBAL * DROP_FACTORS], route, source_tokens,
                &capacity);
}

/* Of one token; -1: it does not count. */
static double gate_mass(const struct route *route, int32_t token, bool *is_computed)
{
    double kept = 0.0;
    double own = 0.0;
    int32_t num_kept = 0;
    int32_t num_wishes = 0;
    int64_t begin = (int64_t)token * route->top_k;
    for (int64_t wish = begin; wish < begin + route->top_k; wish++) {
        bool is_wish = route->expert[wish] != EXPERT_NOT_ROUTED;
        double recorded = route->gate_weight != NULL ? (double)route->gate_weight[wish] : 1.0;
        double weight = is_wish ? recorded : 0.0;
        bool is_kept = is_wish && (route->dropped == NULL || !route->dropped[wish]);
        own += weight;
        kept += is_kept ? weight : 0.0;
        num_wishes += is_wish;
        num_kept += is_kept;
    }
    *is_computed = num_kept > 0;
    if (num_wishes == 0 && route->full_weight == NULL) {
        return -1.0;
    }
    double full = route->full_weight != NULL ? (double)route->full_weight[token] : own;
    if (full > 0.0) {
        return kept / full;
    }
    return num_wishes > 0 ? (double)num_kept / (double)num_wishes : 0.0;
}

static void add_tokens(struct route_metrics *metrics, const struct route *route)
{
    bool is_plain = route->full_weight == NULL && route->dropped_assignments == 0 &&
                    route->assignments == (int64_t)route->num_tokens * route->top_k;
    if (is_plain) {
        metrics->tokens += route->num_tokens;
        metrics->gate_mass_sum += (double)route->num_tokens;
        return;
    }
    for (int32_t token = 0; token < route->num_tokens; token++) {
        bool is_computed = false;
        double mass = gate_mass(route, token, &is_computed);
        if (mass >= 0.0) {
            metrics->tokens++;
            metrics->tokens_without_expert += !is_computed;
            metrics->gate_mass_sum += mass;
        }
    }
}

void record_route(struct engine *engine, const struct layer_run *run)
{
    const struct route *route = &run->route;
    struct route_metrics *metrics = &engine->metrics.route[run->moe_layer];
    int64_t most = 0;
    for (int32_t expert = 0; expert < route->num_experts; expert++) {
        int64_t tokens = engine->layer_tokens[expert];
        most = tokens > most ? tokens : most;
    }
    double mean = (double)route->assignments / (double)route->num_experts;
    metrics->batches++;
    metrics->max_violation_sum += mean > 0.0 ? ((double)most - mean) / mean : 0.0;
    metrics->rerouted_assignments += route->rerouted_assignments;
    metrics->places += route->places;
    add_tokens(metrics, route);
}
