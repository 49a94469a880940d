/*
 * run_json.c -- the same object for `moesim run --json`, `compare --json` and the library.
 */
#include "run_json.h"

#include <stdio.h>

#include "collective/exchange.h"
#include "whole_engine.h"

#define DIGEST_TEXT 17

double phase_share(const struct run_metrics *metrics, enum step_phase phase)
{
    double phase_ns = 0.0;
    double total_ns = 0.0;
    for (int32_t window = 0; window < metrics->num_windows; window++) {
        phase_ns += metrics->window[window].phase_ns[phase];
        total_ns += (double)metrics->window[window].step_ns_sum;
    }
    return total_ns > 0.0 ? phase_ns / total_ns : 0.0;
}

static cJSON *layers_json(const struct run_metrics *metrics)
{
    cJSON *layers = cJSON_CreateArray();
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        const struct layer_metrics *source = &metrics->layer[layer];
        double steps = (double)metrics->num_steps;
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "layer", source->model_layer);
        cJSON_AddNumberToObject(object, "assignments", (double)source->assignments);
        cJSON_AddNumberToObject(object, "dropped_assignments", (double)source->dropped_assignments);
        cJSON *ranks = cJSON_AddArrayToObject(object, "rank_tokens");
        for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
            cJSON_AddItemToArray(
                ranks,
                cJSON_CreateNumber(
                    (double)metrics->rank_tokens[(int64_t)layer * metrics->num_ranks + rank]));
        }
        cJSON_AddNumberToObject(object, "rank_tokens_max_over_mean",
                                source->rank_tokens_max_over_mean_sum / steps);
        cJSON_AddNumberToObject(object, "expert_ns_max", source->expert_ns_max_sum / steps);
        cJSON_AddNumberToObject(object, "expert_ns_mean", source->expert_ns_mean_sum / steps);
        cJSON_AddNumberToObject(object, "layer_ns", source->layer_ns_sum / steps);
        cJSON_AddItemToArray(layers, object);
    }
    return layers;
}

static void add_phases(cJSON *object, const struct run_metrics *metrics, double step_ns_mean)
{
    cJSON *phases = cJSON_AddObjectToObject(object, "phase_ns_mean");
    for (int phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        cJSON_AddNumberToObject(phases, step_phase_name((enum step_phase)phase),
                                phase_share(metrics, (enum step_phase)phase) * step_ns_mean);
    }
}

static cJSON *routing_json(const struct run_metrics *metrics)
{
    struct route_totals totals = route_totals(metrics);
    cJSON *object = cJSON_CreateObject();
    if (metrics->gate_mass_is_known) {
        cJSON_AddNumberToObject(object, "gate_mass", totals.gate_mass);
    } else {
        cJSON_AddNullToObject(object, "gate_mass");
    }
    cJSON_AddNumberToObject(object, "max_violation_global", totals.max_violation_global);
    cJSON_AddNumberToObject(object, "max_violation_batch", totals.max_violation_batch);
    cJSON_AddNumberToObject(object, "tokens_without_expert", totals.tokens_without_expert);
    cJSON_AddNumberToObject(object, "rerouted_assignments", (double)totals.rerouted_assignments);
    cJSON_AddNumberToObject(object, "places_filled", totals.places_filled);
    return object;
}

static cJSON *offload_json(const struct scenario *scenario, const struct run_metrics *metrics)
{
    const struct offload_settings *offload = &scenario->offload;
    struct offload_counts counts = offload_totals(metrics);
    double expert_bytes = (double)model_expert_bytes(&scenario->model);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "home", offload_home_name(offload->home));
    cJSON_AddStringToObject(object, "policy", offload->policy->name);
    cJSON_AddNumberToObject(object, "slots", offload->num_slots);
    cJSON_AddNumberToObject(object, "experts", scenario_experts_per_rank(scenario));
    cJSON_AddNumberToObject(object, "touches", (double)counts.touches);
    cJSON_AddNumberToObject(object, "hit_rate", offload_share(&counts, counts.hits));
    cJSON_AddNumberToObject(object, "hit_rate_max", offload_share(&counts, counts.best_hits));
    cJSON_AddNumberToObject(object, "ahead_share", offload_share(&counts, counts.ahead));
    cJSON_AddNumberToObject(object, "fetched_share", offload_share(&counts, counts.fetched));
    cJSON_AddNumberToObject(object, "on_cpu_share", offload_share(&counts, counts.on_cpu));
    cJSON_AddNumberToObject(object, "bytes_per_step",
                            (double)counts.transfers * expert_bytes / (double)metrics->num_steps);
    return object;
}

static void add_error(cJSON *object, const char *name, double error)
{
    if (error < 0.0) {
        cJSON_AddNullToObject(object, name);
    } else {
        cJSON_AddNumberToObject(object, name, error);
    }
}

void errors_json(cJSON *object, const struct scenario *scenario)
{
    double kernels = gpu_model_evidence(scenario->gpu_model, &scenario->cluster.gpu).error_median;
    const struct whole_engine_error *whole =
        whole_engine_error(scenario->phase == PHASE_PREFILL, scenario->expert_tp > 1);
    add_error(object, "gpu_model_error_median", kernels);
    add_error(object, "exchange_error_median", exchange_evidence(&scenario->cluster).error_median);
    add_error(object, "whole_engine_error_median", kernels < 0.0 ? -1.0 : whole->median);
}

cJSON *run_json(const char *run_id, const char *label, const struct scenario *scenario,
                const struct run_metrics *metrics)
{
    struct run_totals totals = run_totals(metrics, scenario);
    char digest[DIGEST_TEXT];
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)metrics->digest);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "run_id", run_id);
    cJSON_AddStringToObject(object, "label", label);
    cJSON_AddStringToObject(object, "digest", digest);
    cJSON_AddNumberToObject(object, "tokens", (double)totals.tokens);
    cJSON_AddNumberToObject(object, "assignments", (double)totals.assignments);
    cJSON_AddNumberToObject(object, "dropped_assignments", (double)totals.dropped_assignments);
    cJSON_AddNumberToObject(object, "num_steps", (double)metrics->num_steps);
    cJSON_AddNumberToObject(object, "rows_left_out", (double)metrics->rows_left_out);
    cJSON_AddNumberToObject(object, "step_ns_mean", totals.step_ns_mean);
    cJSON_AddNumberToObject(object, "tokens_per_s_per_gpu", totals.tokens_per_s_per_gpu);
    cJSON_AddNumberToObject(object, "usd_per_million_tokens", totals.usd_per_million_tokens);
    money_json(object, &scenario->price.currency);
    cJSON_AddNumberToObject(object, "rank_tokens_max_over_mean", totals.rank_tokens_max_over_mean);
    cJSON_AddNumberToObject(object, "balancedness", totals.balancedness);
    cJSON_AddNumberToObject(object, "balancedness_vllm", totals.balance.balancedness_vllm);
    cJSON_AddNumberToObject(object, "rank_imbalance", totals.balance.imbalance);
    cJSON_AddNumberToObject(object, "rank_variation", totals.balance.variation);
    cJSON_AddNumberToObject(object, "settled_balancedness", totals.balance.balancedness);
    cJSON_AddNumberToObject(object, "interval_balancedness", totals.interval_balancedness);
    cJSON_AddNumberToObject(object, "cross_node_share", totals.cross_node_share);
    cJSON_AddNumberToObject(object, "experts_lent", (double)metrics->experts_lent);
    cJSON_AddNumberToObject(object, "num_rebalances", metrics->num_rebalances);
    cJSON_AddNumberToObject(object, "rebalance_ns", (double)totals.rebalance_ns);
    cJSON_AddNumberToObject(object, "messages", (double)metrics->messages);
    cJSON_AddNumberToObject(object, "bytes_sent", (double)metrics->bytes_sent);
    cJSON_AddNumberToObject(object, "bytes_received", (double)metrics->bytes_received);
    cJSON_AddNumberToObject(object, "events", (double)metrics->events);
    cJSON_AddStringToObject(object, "gpu_model", scenario->gpu_model->name);
    if (scenario->gpu_model->table_share != NULL) {
        cJSON_AddNumberToObject(object, "table_share", totals.table_share);
    }
    struct gpu_evidence evidence = gpu_model_evidence(scenario->gpu_model, &scenario->cluster.gpu);
    if (evidence.kernels != NULL) {
        cJSON_AddStringToObject(object, "kernels", evidence.kernels);
    }
    errors_json(object, scenario);
    add_phases(object, metrics, totals.step_ns_mean);
    if (metrics->num_layers > 0) {
        cJSON_AddItemToObject(object, "routing", routing_json(metrics));
    }
    if (metrics->offload_layer != NULL) {
        cJSON_AddItemToObject(object, "offload", offload_json(scenario, metrics));
    }
    cJSON_AddItemToObject(object, "layers", layers_json(metrics));
    return object;
}
