/* relocate_open.c -- memory of relocate.h, and what a plan costs. */
#include "balance/relocate.h"

enum status relocate_open(struct relocate *relocate, const struct balance_input *input)
{
    struct arena *arena = input->scratch;
    size_t experts = (size_t)input->num_experts;
    size_t slots = (size_t)input->num_slots;
    size_t ranks = (size_t)input->num_ranks;
    double *weights = arena_take(arena, 5 * experts + 2 * ranks, sizeof *weights);
    int32_t *ids = arena_take(arena, 2 * experts + 2 * slots + ranks, sizeof *ids);
    uint8_t *map = arena_take(arena, ranks, experts);
    if (weights == NULL || ids == NULL || map == NULL) {
        return STATUS_NO_MEMORY;
    }
    *relocate = (struct relocate){
        .input = input,
        .slots_per_rank = input->num_slots / input->num_ranks,
        .ranks_per_node = (input->num_ranks + input->num_nodes - 1) / input->num_nodes,
        .tokens = weights,
        .risk = weights + experts,
        .own = weights + 2 * experts,
        .more = weights + 3 * experts,
        .fewer = weights + 4 * experts,
        .load = weights + 5 * experts,
        .power = weights + 5 * experts + ranks,
        .holds = map,
        .replicas = ids,
        .first_of = ids + experts,
        .fresh = ids + 2 * experts,
        .next_of = ids + 2 * experts + slots,
        .order = ids + 2 * experts + 2 * slots,
    };
    return STATUS_OK;
}

double relocate_price(const struct relocate *relocate)
{
    const struct balance_input *input = relocate->input;
    double tokens = 0.0;
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int64_t rank = slot / relocate->slots_per_rank;
        int64_t at = rank * input->num_experts + relocate->fresh[slot];
        bool held = (relocate->holds[at] & RELOCATE_IN_FORCE) != 0;
        tokens += held ? 0.0 : relocate->far_price;
    }
    return tokens;
}
