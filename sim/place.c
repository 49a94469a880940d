/* place.c -- asks a strategy once and measures its answer. */
#include "place.h"

#include <string.h>

static enum status check(const struct place_options *options, const struct load_file *load,
                         struct error *error)
{
    enum status status = STATUS_OK;
    if (options->num_slots < load->num_experts) {
        status = error_add(error, STATUS_INVALID, "--slots %d: fewer than the %d experts",
                           (int)options->num_slots, (int)load->num_experts);
    }
    if (options->num_slots % options->num_ranks != 0) {
        status = error_add(error, STATUS_INVALID, "--slots %d: not a multiple of --gpus %d",
                           (int)options->num_slots, (int)options->num_ranks);
    }
    if (options->num_ranks % options->num_nodes != 0) {
        status = error_add(error, STATUS_INVALID, "--gpus %d: not a multiple of --nodes %d",
                           (int)options->num_ranks, (int)options->num_nodes);
    }
    unsigned needs = options->strategy->needs;
    if (((needs & BALANCE_NEEDS_PAIRS) != 0 && options->pair_tokens == NULL) ||
        ((needs & BALANCE_NEEDS_TRANSITIONS) != 0 && options->transition_tokens == NULL)) {
        status = error_add(error, STATUS_INVALID,
                           "--strategy %s: needs to know which experts tokens choose together",
                           options->strategy->name);
    }
    if (load->num_experts % options->num_groups != 0) {
        status = error_add(error, STATUS_INVALID, "--groups %d: does not divide the %d experts",
                           (int)options->num_groups, (int)load->num_experts);
    }
    return status;
}

static bool is_left(const struct place_options *options, int32_t rank)
{
    return options->rank_is_lost == NULL || !options->rank_is_lost[rank];
}

static int32_t replicas_left(const struct placement *placement, const struct place_options *options,
                             int32_t expert)
{
    int32_t count = 0;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        count += is_left(options, placement->rank_of_slot[placement->slot_of[i]]);
    }
    return count;
}

/* Tokens of the busiest rank over the mean of those that are left; 1 without any. */
static double max_over_mean(const struct placement *placement, const struct place_options *options,
                            const double *share)
{
    double most = 0.0;
    double sum = 0.0;
    int32_t num_left = 0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        double tokens = 0.0;
        if (!is_left(options, rank)) {
            continue;
        }
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            tokens += share[placement->expert_of_slot[slot]];
        }
        num_left++;
        sum += tokens;
        most = tokens > most ? tokens : most;
    }
    return sum > 0.0 ? most * num_left / sum : 1.0;
}

static int32_t count_duplicates(const struct placement *placement,
                                const struct place_options *options)
{
    int32_t count = 0;
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        for (int32_t i = placement->slot_begin[expert] + 1; i < placement->slot_begin[expert + 1];
             i++) {
            int32_t rank = placement->rank_of_slot[placement->slot_of[i]];
            count += is_left(options, rank) &&
                     rank == placement->rank_of_slot[placement->slot_of[i - 1]];
        }
    }
    return count;
}

/* Replicas share evenly; what nobody is left to serve has no share. */
static double share_of(const struct placement *placement, const struct place_options *options,
                       int32_t expert, double tokens)
{
    int32_t replicas = replicas_left(placement, options, expert);
    return replicas > 0 ? tokens / replicas : 0.0;
}

static void measure(struct place_quality *quality, const struct placement *placement,
                    const struct place_options *options, const struct load_file *load,
                    double *share)
{
    *quality = (struct place_quality){0};
    for (int32_t layer = 0; layer < load->num_layers; layer++) {
        const struct placement *held = &placement[layer];
        for (int32_t expert = 0; expert < load->num_experts; expert++) {
            int64_t tokens = load->load_tokens[(int64_t)layer * load->num_experts + expert];
            share[expert] = share_of(held, options, expert, (double)tokens);
            quality->homeless += replicas_left(held, options, expert) == 0;
        }
        double ratio = max_over_mean(held, options, share);
        quality->balancedness += 1.0 / ratio / load->num_layers;
        quality->max_over_mean += ratio / load->num_layers;
        quality->max_over_mean_max =
            ratio > quality->max_over_mean_max ? ratio : quality->max_over_mean_max;
        quality->duplicates += count_duplicates(held, options);
        for (int32_t step = 0; step < load->num_steps; step++) {
            int64_t row = ((int64_t)step * load->num_layers + layer) * load->num_experts;
            for (int32_t expert = 0; expert < load->num_experts; expert++) {
                share[expert] =
                    share_of(held, options, expert, (double)load->step_tokens[row + expert]);
            }
            quality->balancedness_step +=
                1.0 / max_over_mean(held, options, share) / load->num_layers / load->num_steps;
        }
    }
}

/* Puts the answer in force, layer by layer, and counts what changes. */
static enum status apply(struct place_result *result, struct placement *placement,
                         const struct place_options *options, int32_t num_layers,
                         struct expert_move *move, struct error *error)
{
    for (int32_t layer = 0; layer < num_layers; layer++) {
        const int32_t *map = result->expert_of_slot + (int64_t)layer * options->num_slots;
        int32_t changed = 0;
        for (int32_t slot = 0; slot < options->num_slots; slot++) {
            changed += map[slot] != placement[layer].expert_of_slot[slot];
        }
        result->slots_changed += changed;
        result->layers_changed += changed > 0;
        result->moves += placement_moves(&placement[layer], move, layer, map,
                                         options->num_ranks / options->num_nodes);
        enum status status = placement_set(&placement[layer], map, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status start(struct placement *placement, int32_t *expert_of_slot,
                         const struct place_options *options, const struct load_file *load,
                         const int32_t *previous, struct arena *arena, struct error *error)
{
    enum status status = STATUS_OK;
    size_t slots = (size_t)options->num_slots;
    for (int32_t layer = 0; status == STATUS_OK && layer < load->num_layers; layer++) {
        status = placement_init(&placement[layer], arena, load->num_experts, options->num_slots,
                                options->num_ranks, error);
        if (status == STATUS_OK && previous != NULL) {
            status = placement_set(&placement[layer], previous + (size_t)layer * slots, error);
        }
        if (status == STATUS_OK) {
            memcpy(expert_of_slot + (size_t)layer * slots, placement[layer].expert_of_slot,
                   slots * sizeof *expert_of_slot);
        }
    }
    return status;
}

enum status place(struct place_result *result, const struct place_options *options,
                  const struct load_file *load, const int32_t *previous, struct arena *arena,
                  struct error *error)
{
    *result = (struct place_result){0};
    enum status status = check(options, load, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t layers = (size_t)load->num_layers;
    size_t slots = (size_t)options->num_slots;
    struct placement *placement = arena_alloc(arena, layers, sizeof *placement);
    struct expert_move *move = arena_alloc(arena, slots, sizeof *move);
    double *share = arena_alloc(arena, (size_t)load->num_experts, sizeof *share);
    void *state = arena_alloc(
        arena, balance_state_bytes(options->strategy, load->num_layers, load->num_experts), 1);
    result->expert_of_slot = arena_alloc(arena, layers * slots, sizeof(int32_t));
    if (placement == NULL || move == NULL || share == NULL || state == NULL ||
        result->expert_of_slot == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory for %zu layers of %zu slots", layers,
                         slots);
    }
    status = start(placement, result->expert_of_slot, options, load, previous, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    measure(&result->before, placement, options, load, share);
    struct balance_input input = {.num_layers = load->num_layers,
                                  .num_experts = load->num_experts,
                                  .num_slots = options->num_slots,
                                  .num_ranks = options->num_ranks,
                                  .num_nodes = options->num_nodes,
                                  .num_groups = options->num_groups,
                                  .load_tokens = load->load_tokens,
                                  .step_tokens = load->step_tokens,
                                  .num_steps = load->num_steps,
                                  .pair_tokens = options->pair_tokens,
                                  .transition_tokens = options->transition_tokens,
                                  .rank_is_lost = options->rank_is_lost,
                                  .placement = placement,
                                  .expert_bytes = options->expert_bytes,
                                  .scratch = arena};
    status = options->strategy->plan(state, &input, result->expert_of_slot, error);
    if (status == STATUS_OK) {
        status = apply(result, placement, options, load->num_layers, move, error);
    }
    if (status == STATUS_OK) {
        measure(&result->after, placement, options, load, share);
    }
    return status;
}
