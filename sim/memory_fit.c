/* memory_fit.c -- one GPU more or less at a time. */
#include "memory_fit.h"

#include <assert.h>

static bool divides(const struct memory_question *question, int32_t num_gpus)
{
    const struct moe_model *model = question->model;
    bool cuts = !question->cuts_experts || model->expert_ffn_dim % num_gpus == 0;
    return cuts && (!question->tensor_parallel || num_gpus == 1 ||
                    (model->num_q_heads % num_gpus == 0 && model->dense_ffn_dim % num_gpus == 0));
}

struct memory_fit memory_fit(const struct memory_question *question, int32_t num_gpus)
{
    assert(num_gpus >= 1);
    int32_t groups = question->cuts_experts ? 1 : num_gpus;
    struct memory_fit fit = {
        .num_gpus = num_gpus,
        .divides = divides(question, num_gpus),
        .redundant_experts =
            memory_redundant_for(question->model, question->redundant_experts, groups),
    };
    struct memory_layout layout = {
        .model = question->model,
        .gpu = question->gpu,
        .ep = num_gpus,
        .expert_tp = num_gpus / groups,
        .tp = question->tensor_parallel ? num_gpus : 1,
        .redundant_experts = fit.redundant_experts,
        .dispatch_precision = PRECISION_BF16,
        .combine_precision = PRECISION_BF16,
        .memory_fraction = question->memory_fraction,
        .is_offloaded = question->is_offloaded,
        .buffer_slots = MEMORY_OFFLOAD_BUFFERS,
    };
    int32_t served = (question->model->num_experts + fit.redundant_experts) / num_gpus;
    layout.cached_slots = question->offload_slots < served ? question->offload_slots : served;
    fit.batch_max = memory_batch_max(&layout, question->context_tokens);
    int32_t batch = fit.batch_max > 0 ? fit.batch_max : 1;
    struct memory_layout full = memory_with_batch(&layout, batch);
    fit.sequences_max = fit.batch_max > 0 ? (int64_t)fit.batch_max * (num_gpus / layout.tp) : 0;
    fit.use = memory_use(&full, memory_kv_tokens(&layout, batch, question->context_tokens));
    fit.parts = memory_parts(&full);
    return fit;
}

int32_t memory_gpus_min(const struct memory_question *question, int32_t num_gpus_max,
                        bool powers_of_two)
{
    for (int32_t num_gpus = 1; num_gpus <= num_gpus_max;
         num_gpus = powers_of_two ? 2 * num_gpus : num_gpus + 1) {
        struct memory_fit fit = memory_fit(question, num_gpus);
        if (fit.divides && fit.batch_max > 0) {
            return num_gpus;
        }
    }
    return 0;
}
