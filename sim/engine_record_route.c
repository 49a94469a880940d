/*
 * engine_record_route.c -- what routing and dropping gave up at a layer, and how even it was.
 *
 * Gate mass of a token: the gate weights of the experts that compute it, over what those of its
 * model_top_k likeliest experts would sum to. 1 for plain top-k without drops; above 1 where a
 * token has more experts than the model's k. A token that was not routed when it was recorded, and
 * that no gate chose for now, does not count.
 */
#include "engine_internal.h"

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
        bool is_kept = is_wish && !route->dropped[wish];
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
