/* advise_numbers.c -- the numbers that advice rests on: of layers, of places, of replicas. */
#include "cli/advise.h"
#include "memory.h"

struct advise_layer advise_layer_of(const struct run_metrics *metrics, int32_t layer)
{
    const struct layer_metrics *of_layer = &metrics->layer[layer];
    const int64_t *rank = &metrics->rank_tokens[(int64_t)layer * metrics->num_ranks];
    const int64_t *expert = &metrics->expert_tokens[(int64_t)layer * metrics->num_experts];
    int64_t rank_max = 0;
    int64_t rank_sum = 0;
    int64_t expert_sum = 0;
    int32_t busiest = 0;
    for (int32_t i = 0; i < metrics->num_ranks; i++) {
        rank_max = rank[i] > rank_max ? rank[i] : rank_max;
        rank_sum += rank[i];
    }
    for (int32_t i = 0; i < metrics->num_experts; i++) {
        busiest = expert[i] > expert[busiest] ? i : busiest;
        expert_sum += expert[i];
    }
    return (struct advise_layer){
        .model_layer = of_layer->model_layer,
        .step_over_mean = of_layer->rank_tokens_max_over_mean_sum / (double)metrics->num_steps,
        .run_over_mean =
            rank_sum > 0 ? (double)rank_max * metrics->num_ranks / (double)rank_sum : 1.0,
        .expert = busiest,
        .expert_over_mean =
            expert_sum > 0 ? (double)expert[busiest] * metrics->num_experts / (double)expert_sum
                           : 1.0,
    };
}

const struct study_run *advise_place(const struct study *study, int32_t group, int32_t place)
{
    const struct study_run *found = NULL;
    for (int32_t i = 0; i < study->num_runs; i++) {
        bool is_it = study->run[i].group_index == group && study->run[i].place == place;
        found = is_it ? &study->run[i] : found;
    }
    return found;
}

const struct study_run *advise_reference(const struct study *study, int32_t group)
{
    return &study->run[study->group[group].reference];
}

struct advise_replicas advise_replicas_of(const struct study *study, int32_t group)
{
    const struct study_run *plain = advise_reference(study, 0);
    const struct study_run *reference = advise_reference(study, group);
    const struct study_run *best = &study->run[study->group[group].winner];
    double ratio = reference->totals->step_ns_mean / plain->totals->step_ns_mean;
    int64_t bytes = scenario_memory(best->scenario, 0).expert_bytes -
                    scenario_memory(plain->scenario, 0).expert_bytes;
    return (struct advise_replicas){
        .best = best,
        .gain = 1.0 - (1.0 - best->gain) * ratio,
        .bytes = bytes,
        .kv_tokens = (double)bytes / memory_kv_bytes_per_token(&best->scenario->model),
    };
}
