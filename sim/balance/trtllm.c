/*
 * trtllm -- older steps count less; replicas to the hottest, replicas to the lightest rank.
 *
 * Source: NVIDIA/TensorRT-LLM, cpp/tensorrt_llm/runtime/moeLoadBalancer/moeLoadBalancer.cpp
 * (doReplication, doPlacement). A step's load enters as load = load * decay + count, zeroed after
 * an update, so a window is all there is to remember. Spare slots go to the expert with the most
 * load a replica, of equals the highest id; replicas by (load descending, id ascending) go to the
 * rank with the least load, of equals the lowest. Differs: all layers change at once (there
 * layer_updates_per_iter of them an iteration), loads are fp64 before they are rounded to fp32
 * once, and DECAY is ours, since the caller sets it there.
 */
#include "balance/deal.h"

#define DECAY 0.99

static double decayed_load(struct deal_work *work, const struct balance_input *input, int32_t layer)
{
    double sum = 0.0;
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        double load = 0.0;
        for (int32_t step = 0; step < input->num_steps; step++) {
            int64_t row = (int64_t)step * input->num_layers + layer;
            load = load * DECAY + input->step_tokens[row * input->num_experts + expert];
        }
        work->tokens[expert] = (double)(float)load;
        sum += work->tokens[expert];
    }
    return sum;
}

static void replicate(struct deal_work *work, const struct balance_input *input, double sum)
{
    if (sum > 0.0) {
        deal_replicate(work->replicas, work->tokens, input->num_experts, input->num_slots,
                       INT32_MAX, true);
        return;
    }
    for (int32_t expert = 0; expert < input->num_experts; expert++) { /* nothing known: evenly */
        work->replicas[expert] = input->num_slots / input->num_experts +
                                 (expert < input->num_slots % input->num_experts);
    }
}

static enum status plan_trtllm(void *state, const struct balance_input *input,
                               int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* zeroed after an update, as there */
    struct deal_work work;
    enum status status = deal_open(&work, "trtllm", input, error);
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        double sum = decayed_load(&work, input, layer);
        replicate(&work, input, sum);
        deal_sort(work.item, deal_list(&work, input->num_experts));
        deal_clear(&work, input->num_ranks);
        deal_to_lightest(&work, input->num_slots, input->num_ranks,
                         input->num_slots / input->num_ranks, false);
        deal_copy(expert_of_slot, &work, input, layer);
    }
    return status;
}

const struct balance_strategy balance_trtllm = {
    .name = "trtllm",
    .summary = "decaying loads; hottest replicated, heaviest replica to the lightest rank",
    .source = "NVIDIA/TensorRT-LLM, runtime/moeLoadBalancer/moeLoadBalancer.cpp",
    .needs = BALANCE_NEEDS_STEPS,
    .settles = true,
    .plan = plan_trtllm,
};
