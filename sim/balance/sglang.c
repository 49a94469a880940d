/*
 * sglang -- EPLB, left out while the GPUs are used evenly enough.
 *
 * Source: sgl-project/sglang, python/sglang/srt/eplb/eplb_manager.py @ b47eaa9. The utilisation of
 * a step is the mean over layers of mean / max tokens a GPU; its mean over the window decides.
 * Differs: the threshold (--eplb-min-rebalancing-utilization-threshold) is 0.9 here; there its
 * default 1.0 never skips, which is the strategy eplb. Every layer changes at once, there
 * --eplb-rebalance-layers-per-chunk may part them.
 */
#include "balance/balance.h"
#include "balance/deal.h"
#include "balance/eplb.h"

#define UTILISATION_ENOUGH 0.9
#define UTILISATION_GUARD  1e-5 /* theirs: an idle layer counts as even */

static double step_utilisation(struct deal_work *work, const struct balance_input *input,
                               int32_t step)
{
    double sum = 0.0;
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        const int32_t *step_tokens =
            input->step_tokens + ((int64_t)step * input->num_layers + layer) * input->num_experts;
        double total_tokens = 0.0;
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            work->tokens[expert] = step_tokens[expert];
            total_tokens += step_tokens[expert];
        }
        double max_tokens = deal_busiest(work, input, input->placement[layer].expert_of_slot);
        sum += (total_tokens / input->num_ranks + UTILISATION_GUARD) /
               (max_tokens + UTILISATION_GUARD);
    }
    return sum / input->num_layers;
}

static enum status plan_sglang(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct eplb_shape shape = {.num_experts = input->num_experts,
                               .num_slots = input->num_slots,
                               .num_groups = input->num_groups,
                               .num_nodes = input->num_nodes,
                               .num_ranks = input->num_ranks};
    struct deal_work work;
    enum status status = eplb_check(&shape, error);
    if (status == STATUS_OK) {
        status = deal_open(&work, "sglang", input, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    double sum = 0.0;
    for (int32_t step = 0; step < input->num_steps; step++) {
        sum += step_utilisation(&work, input, step);
    }
    if (input->num_steps > 0 && sum / input->num_steps > UTILISATION_ENOUGH) {
        return STATUS_OK;
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        status = eplb_layer(expert_of_slot + (int64_t)layer * input->num_slots,
                            input->load_tokens + (int64_t)layer * input->num_experts, &shape,
                            input->scratch);
    }
    return status;
}

const struct balance_strategy balance_sglang = {
    .name = "sglang",
    .summary = "EPLB, skipped while mean utilisation is above 0.9",
    .source = "sgl-project/sglang, srt/eplb/eplb_manager.py @ b47eaa9",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .keeps_balanced = true,
    .settles = true,
    .plan = plan_sglang,
};
