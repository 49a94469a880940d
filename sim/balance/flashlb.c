/*
 * flashlb -- replicas and places for mean, scatter and covariance of the last 64 samples.
 *
 * Source: vllm-project/vllm-ascend, eplb/core/policy/policy_flashlb.py @ 182b75e. A window longer
 * than 64 steps is summed into 64 samples, each expert's tokens plus 1. The experts, heaviest
 * mu + z sigma first (z = 0.6745: the upper quartile), form four groups. Group by group a search
 * looks for its part of the spare slots, at most 8 away from what greedy replication gives: inside
 * and behind the group each spare slot goes to the largest (mu + z sigma) / r, all replicas are
 * dealt, heaviest mu / r first, to the rank with the least mean + z x deviation that lacks the
 * expert (covariances within a rank count), and the mean over samples of max / mean is the score.
 * Last, the Hungarian method renames ranks so that most experts stay. A layer is left alone while
 * its score holds: above .85 (of fewer than 32 ranks .9) and .9 (.95) of what the last plan
 * promised.
 *
 * Differs: sums in fp64 and in order (there fp32 scores and fast-math); ties go to the lower expert
 * (numpy promises nothing); where a rank that lacks the expert cannot be found, the source writes
 * beyond its table, here that split counts as infinitely bad and a layer without any is left alone;
 * the placement in force is judged on the samples, there on single steps.
 */
#include "balance/flashlb.h"

#include <math.h>
#include <string.h>

#include "balance/assignment.h"

/* Renames fresh's ranks so that as many experts as can be stay on theirs. */
static enum status align(struct flash *flash, const int32_t *in_force)
{
    int32_t num_ranks = flash->input->num_ranks;
    int32_t size = flash->slots_per_rank;
    for (int32_t old = 0; old < num_ranks; old++) {
        for (int32_t rank = 0; rank < num_ranks; rank++) {
            int32_t stay = 0;
            for (int32_t i = 0; i < size; i++) {
                stay += deal_holds(in_force + old * size, size, flash->work.fresh[rank * size + i]);
            }
            flash->match[old * num_ranks + rank] = size - stay;
        }
    }
    enum status status =
        assignment_solve(flash->renamed, flash->match, num_ranks, flash->input->scratch);
    for (int32_t old = 0; status == STATUS_OK && old < num_ranks; old++) {
        memcpy(flash->aligned + old * size, flash->work.fresh + flash->renamed[old] * size,
               (size_t)size * sizeof *flash->aligned);
    }
    if (status == STATUS_OK) {
        deal_keep_places(&flash->work, flash->aligned, in_force, flash->input->num_slots, size);
    }
    return status;
}

/* Whether the placement in force is as good as promised; promised 0: nothing was. */
static bool still_holds(struct flash *flash, const int32_t *in_force, double promised)
{
    int32_t *replicas = flash->work.replicas;
    bool small = flash->input->num_ranks < 32;
    memset(replicas, 0, (size_t)flash->input->num_experts * sizeof *replicas);
    for (int32_t slot = 0; slot < flash->input->num_slots; slot++) {
        replicas[in_force[slot]]++;
    }
    double ratio = 1.0 / flash_score(flash, in_force, replicas);
    return promised > 0.0 && ratio >= promised * (small ? 0.95 : 0.9) &&
           ratio >= (small ? 0.9 : 0.85);
}

static enum status open_flash(struct flash *flash, const struct balance_input *input,
                              struct error *error)
{
    enum status status = deal_open(&flash->work, "flashlb", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena *arena = input->scratch;
    size_t experts = (size_t)input->num_experts;
    size_t ranks = (size_t)input->num_ranks;
    size_t slots = (size_t)input->num_slots;
    flash->input = input;
    flash->slots_per_rank = input->num_slots / input->num_ranks;
    flash->num_samples =
        input->num_steps < FLASH_SAMPLES_MAX ? input->num_steps : FLASH_SAMPLES_MAX;
    size_t samples = (size_t)flash->num_samples;
    double *numbers = arena_take(arena, experts * (samples + experts + 3), sizeof *flash->sample);
    float *risks = arena_take(arena, 2 * ranks, sizeof *flash->rank_mean);
    int32_t *ids = arena_take(arena, 2 * experts + 3 * slots + ranks + ranks * ranks, sizeof *ids);
    if (numbers == NULL || risks == NULL || ids == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "flashlb: no memory for %d experts",
                         input->num_experts);
    }
    flash->sample = numbers;
    flash->covariance = numbers + experts * samples;
    flash->mean = flash->covariance + experts * experts;
    flash->variance = flash->mean + experts;
    flash->weight = flash->variance + experts;
    flash->rank_mean = risks;
    flash->rank_variance = risks + ranks;
    flash->order = ids;
    flash->decided = ids + experts;
    flash->given[0] = ids + 2 * experts;
    flash->given[1] = flash->given[0] + slots;
    flash->aligned = flash->given[1] + slots;
    flash->renamed = flash->aligned + slots;
    flash->match = flash->renamed + ranks;
    return STATUS_OK;
}

/* state: [num_layers][num_experts], of which each layer's first is the ratio of mean to max that
 * the last plan promised. */
static enum status plan_flash(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    struct flash flash = {0};
    double *promised = state;
    enum status status = open_flash(&flash, input, error);
    size_t slots = (size_t)input->num_slots;
    int32_t *answer = arena_take(input->scratch, (size_t)input->num_layers * slots, sizeof *answer);
    if (status == STATUS_OK && answer == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "flashlb: no memory for %zu slots", slots);
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        double *of_layer = promised + (int64_t)layer * input->num_experts;
        memcpy(answer + (size_t)layer * slots, in_force, slots * sizeof *answer);
        flash_measure(&flash, layer);
        if (still_holds(&flash, in_force, *of_layer)) {
            continue;
        }
        double before = flash_score(&flash, in_force, flash.work.replicas);
        double after = flash_search(&flash);
        if (after == HUGE_VAL) {
            continue;
        }
        *of_layer = after < before ? 1.0 / after : *of_layer;
        status = align(&flash, in_force);
        memcpy(answer + (size_t)layer * slots, flash.aligned, slots * sizeof *answer);
    }
    if (status == STATUS_OK) {
        memcpy(expert_of_slot, answer, (size_t)input->num_layers * slots * sizeof *answer);
    }
    return status;
}

const struct balance_strategy balance_flashlb = {
    .name = "flashlb",
    .summary = "searches replicas and places for mean, scatter and covariance of samples",
    .source = "vllm-project/vllm-ascend, eplb/core/policy/policy_flashlb.py @ 182b75e",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_STEPS,
    .state_bytes_per_expert = sizeof(double),
    .spreads_replicas = true,
    .plan = plan_flash,
};
