/* scenario_memory.c -- what a scenario needs on its fullest GPU (memory.h), and what would help. */
#include "scenario.h"

struct memory_use scenario_memory(const struct scenario *scenario, int64_t kv_tokens_per_rank)
{
    struct memory_layout layout = {
        .model = &scenario->model,
        .gpu = &scenario->cluster.gpu,
        .ep = scenario->ep,
        .expert_tp = scenario->expert_tp,
        .tp = scenario->tp,
        .cuts_shared = scenario_gate_peers(scenario) > 1,
        .redundant_experts = scenario->redundant_experts,
        .prefill = scenario->phase == PHASE_PREFILL,
        .tokens_per_rank = scenario->tokens_per_rank,
        .context_tokens = scenario->context_tokens,
        .dispatch_precision = scenario->dispatch_precision,
        .combine_precision = scenario->combine_precision,
        .memory_fraction = scenario->memory_fraction,
        .is_offloaded = scenario->offload.home != OFFLOAD_NOTHING,
        .cached_slots = scenario->offload.num_slots,
        .buffer_slots = MEMORY_OFFLOAD_BUFFERS + scenario->offload.prefetch,
    };
    return memory_use(&layout, kv_tokens_per_rank);
}

/* What most helps against the largest part. */
static const char *advice(const struct scenario *scenario, const struct memory_use *use)
{
    bool is_offloaded = scenario->offload.home != OFFLOAD_NOTHING;
    if (is_offloaded && use->expert_bytes >= use->kv_bytes) {
        return "lower offload.slots or use a smaller precision.expert";
    }
    if (use->expert_bytes >= use->dense_bytes && use->expert_bytes >= use->kv_bytes) {
        return "raise parallel.ep, lower placement.redundant_experts, use a smaller "
               "precision.expert "
               "or keep experts in host memory (offload)";
    }
    if (use->kv_bytes >= use->dense_bytes) {
        return "lower trace.tokens_per_rank or context_tokens, or use precision.kv: fp8";
    }
    return "use parallel.attention: tp, a smaller precision.dense or a GPU with more memory";
}

enum status scenario_check_memory(const struct scenario *scenario, int64_t kv_tokens_per_rank,
                                  struct error *error)
{
    struct memory_use use = scenario_memory(scenario, kv_tokens_per_rank);
    if (use.total_bytes <= use.limit_bytes) {
        return STATUS_OK;
    }
    return error_add(error, STATUS_INVALID,
                     "does not fit: the fullest GPU needs %.1f GB (dense %.1f, experts %.1f, KV "
                     "%.1f, buffers %.1f) but %.2g of %.3g GB is %.1f GB: %.1f GB too much; %s",
                     (double)use.total_bytes / 1e9, (double)use.dense_bytes / 1e9,
                     (double)use.expert_bytes / 1e9, (double)use.kv_bytes / 1e9,
                     (double)use.buffer_bytes / 1e9, scenario->memory_fraction,
                     (double)scenario->cluster.gpu.hbm_bytes / 1e9, (double)use.limit_bytes / 1e9,
                     (double)(use.total_bytes - use.limit_bytes) / 1e9, advice(scenario, &use));
}
