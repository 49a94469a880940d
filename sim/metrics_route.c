/* metrics_route.c -- a run's routing in a few numbers. */
#include "metrics.h"

double route_max_violation(const struct run_metrics *metrics, int32_t layer)
{
    const int64_t *tokens = &metrics->expert_tokens[(int64_t)layer * metrics->num_experts];
    int64_t sum = 0;
    int64_t most = 0;
    for (int32_t expert = 0; expert < metrics->num_experts; expert++) {
        sum += tokens[expert];
        most = tokens[expert] > most ? tokens[expert] : most;
    }
    double mean = (double)sum / (double)metrics->num_experts;
    return sum > 0 ? ((double)most - mean) / mean : 0.0;
}

struct route_totals route_totals(const struct run_metrics *metrics)
{
    struct route_totals totals = {0};
    double tokens = 0.0;
    double places = 0.0;
    double kept = 0.0;
    double batches = 0.0;
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        const struct route_metrics *route = &metrics->route[layer];
        tokens += (double)route->tokens;
        batches += (double)route->batches;
        places += route->places;
        kept +=
            (double)(metrics->layer[layer].assignments - metrics->layer[layer].dropped_assignments);
        totals.gate_mass += route->gate_mass_sum;
        totals.tokens_without_expert += (double)route->tokens_without_expert;
        totals.max_violation_batch += route->max_violation_sum;
        totals.max_violation_global += route_max_violation(metrics, layer) / metrics->num_layers;
        totals.rerouted_assignments += route->rerouted_assignments;
    }
    totals.gate_mass = tokens > 0.0 ? totals.gate_mass / tokens : 1.0;
    totals.tokens_without_expert = tokens > 0.0 ? totals.tokens_without_expert / tokens : 0.0;
    totals.max_violation_batch = batches > 0.0 ? totals.max_violation_batch / batches : 0.0;
    totals.places_filled = places > 0.0 ? kept / places : 1.0;
    return totals;
}
