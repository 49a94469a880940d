/* relocate_open.c -- memory of relocate.h, and what a plan costs. */
#include "balance/relocate.h"

enum status relocate_open(struct relocate *relocate, const struct balance_input *input)
{
    struct arena *arena = input->scratch;
    size_t experts = (size_t)input->num_experts;
    size_t slots = (size_t)input->num_slots;
    size_t ranks = (size_t)input->num_ranks;
    size_t of_rank = slots / ranks;
    double *tokens =
        arena_take(arena, 4 * experts + slots + 2 * ranks + 2 * of_rank, sizeof *tokens);
    int32_t *ids = arena_take(arena, 6 * experts + 3 * slots + 2 * ranks + of_rank, sizeof *ids);
    uint8_t *flags = arena_take(arena, ranks * experts + of_rank * (size_t)input->num_nodes, 1);
    if (tokens == NULL || ids == NULL || flags == NULL) {
        return STATUS_NO_MEMORY;
    }
    *relocate = (struct relocate){.input = input, .slots_per_rank = (int32_t)of_rank};
    relocate->tokens = tokens;
    relocate->own = relocate->tokens + experts;
    relocate->more = relocate->own + experts;
    relocate->fewer = relocate->more + experts;
    relocate->slot_tokens = relocate->fewer + experts;
    relocate->load = relocate->slot_tokens + slots;
    relocate->power = relocate->load + ranks;
    relocate->relief = relocate->power + ranks;
    relocate->others = relocate->relief + of_rank;
    relocate->replicas = ids;
    relocate->first_of = relocate->replicas + experts;
    relocate->winner = relocate->first_of + experts;
    relocate->fresh = relocate->winner + 4 * experts;
    relocate->next_of = relocate->fresh + slots;
    relocate->rank_of_slot = relocate->next_of + slots;
    relocate->order = relocate->rank_of_slot + slots;
    relocate->node_of_rank = relocate->order + ranks;
    relocate->by_relief = relocate->node_of_rank + ranks;
    relocate->holds = flags;
    relocate->near = flags + ranks * experts;
    int32_t ranks_per_node = (input->num_ranks + input->num_nodes - 1) / input->num_nodes;
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        relocate->rank_of_slot[slot] = slot / relocate->slots_per_rank;
    }
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        relocate->node_of_rank[rank] = rank / ranks_per_node;
    }
    return STATUS_OK;
}

double relocate_price(const struct relocate *relocate)
{
    double tokens = 0.0;
    for (int32_t slot = 0; slot < relocate->input->num_slots; slot++) {
        int32_t rank = relocate->rank_of_slot[slot];
        uint8_t flags = *relocate_flags(relocate, rank, relocate->fresh[slot]);
        tokens += (flags & RELOCATE_IN_FORCE) != 0 ? 0.0 : relocate->far_price;
    }
    return tokens;
}
