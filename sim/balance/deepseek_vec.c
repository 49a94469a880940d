/*
 * deepseek_vec -- replicate for every step of the window, deal slots back and forth.
 *
 * Source: sgl-project/sglang, srt/eplb/eplb_algorithms/deepseek_vec.py @ b47eaa9, the decode (flat)
 * path. Each spare slot goes where it most lowers the sum over steps of the hottest replica's
 * tokens; then slots, heaviest in the window first, are dealt to the GPUs in rows that alternate in
 * direction. As there, id * 1e-4 makes the hottest replica of a step unique: the highest id.
 * Differs: fp64 for fp32; of experts that relieve alike the lowest, and equal slots in the order of
 * replication (torch promises neither); the prefill path, which first deals groups to nodes, is
 * left out. Only steps that the new replica touches are looked at again.
 */
#include "balance/deal.h"

#define TIE_STEP 1e-4

/* The two hottest replicas of a step. */
struct step_top {
    int32_t hottest;
    int32_t second;
    double hottest_tokens;
    double second_tokens;
};

static struct step_top find_top(const int32_t *tokens, const int32_t *replicas, int32_t num_experts)
{
    struct step_top top = {-1, -1, -1.0, -1.0};
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double share = (tokens[expert] + expert * TIE_STEP) / replicas[expert];
        if (share > top.hottest_tokens) {
            top.second = top.hottest;
            top.second_tokens = top.hottest_tokens;
            top.hottest = expert;
            top.hottest_tokens = share;
        } else if (share > top.second_tokens) {
            top.second = expert;
            top.second_tokens = share;
        }
    }
    return top;
}

static const int32_t *tokens_of_step(const struct balance_input *input, int32_t layer, int32_t step)
{
    return input->step_tokens +
           ((int64_t)step * input->num_layers + layer) * (int64_t)input->num_experts;
}

/* The expert whose next replica takes most off the steps' maxima. relief [num_experts] scratch. */
static int32_t most_relieving(const struct deal_work *work, const struct balance_input *input,
                              int32_t layer, const struct step_top *top, double *relief)
{
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        relief[expert] = 0.0;
    }
    for (int32_t step = 0; step < input->num_steps; step++) {
        int32_t expert = top[step].hottest;
        double left =
            (double)tokens_of_step(input, layer, step)[expert] / (work->replicas[expert] + 1);
        left = left > top[step].second_tokens ? left : top[step].second_tokens;
        relief[expert] += top[step].hottest_tokens - left;
    }
    int32_t best = 0;
    for (int32_t expert = 1; expert < input->num_experts; expert++) {
        best = relief[expert] > relief[best] ? expert : best;
    }
    return best;
}

static void balance_layer(struct deal_work *work, const struct balance_input *input, int32_t layer,
                          struct step_top *top, double *relief)
{
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        work->replicas[expert] = 1;
        work->item[expert].expert = expert;
    }
    for (int32_t step = 0; step < input->num_steps; step++) {
        top[step] =
            find_top(tokens_of_step(input, layer, step), work->replicas, input->num_experts);
    }
    for (int32_t slot = input->num_experts; slot < input->num_slots; slot++) {
        int32_t expert = most_relieving(work, input, layer, top, relief);
        work->item[slot].expert = expert;
        work->replicas[expert]++;
        for (int32_t step = 0; step < input->num_steps; step++) {
            if (top[step].hottest == expert || top[step].second == expert) {
                top[step] = find_top(tokens_of_step(input, layer, step), work->replicas,
                                     input->num_experts);
            }
        }
    }
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int32_t expert = work->item[slot].expert;
        work->item[slot].id = slot;
        work->item[slot].tokens = work->tokens[expert] / work->replicas[expert];
    }
}

static void deal_rows(const struct deal_work *work, const struct balance_input *input, int32_t *map)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int32_t row = slot % slots_per_rank;
        int32_t rank = slot / slots_per_rank;
        int32_t column = row % 2 == 0 ? rank : input->num_ranks - 1 - rank;
        map[slot] = work->item[row * input->num_ranks + column].expert;
    }
}

static enum status plan_vec(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                            struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct deal_work work;
    enum status status = deal_open(&work, "deepseek_vec", input, error);
    struct step_top *top =
        arena_alloc(input->scratch, (size_t)input->num_steps, sizeof(struct step_top));
    double *relief = arena_alloc(input->scratch, (size_t)input->num_experts, sizeof *relief);
    if (status == STATUS_OK && (top == NULL || relief == NULL)) {
        status = error_add(error, STATUS_NO_MEMORY, "deepseek_vec: no memory for %d steps",
                           input->num_steps);
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        deal_load(&work, input, layer);
        balance_layer(&work, input, layer, top, relief);
        if (input->num_slots > input->num_ranks) { /* else there is nothing to deal */
            deal_sort(work.item, input->num_slots);
        }
        deal_rows(&work, input, expert_of_slot + (int64_t)layer * input->num_slots);
    }
    return status;
}

const struct balance_strategy balance_deepseek_vec = {
    .name = "deepseek_vec",
    .summary = "replicas that lower the sum of every step's hottest, dealt back and forth",
    .source = "sgl-project/sglang, srt/eplb/eplb_algorithms/deepseek_vec.py @ b47eaa9",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .settles = true,
    .plan = plan_vec,
};
