/* placement.c -- the two views of a placement (by slot and by expert) and what a change sends. */
#include "placement.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* Groups the slots of a map by expert: a counting sort, so slots ascend within a group. */
static void index_slots(struct placement *placement, const int32_t *expert_of_slot)
{
    int32_t *begin = placement->slot_begin;
    memset(begin, 0, ((size_t)placement->num_experts + 1) * sizeof *begin);
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        begin[expert_of_slot[slot] + 1]++;
    }
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        begin[expert + 1] += begin[expert];
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        placement->slot_of[begin[expert_of_slot[slot]]++] = slot;
    }
    /* Each start has advanced to the next group's: shift them back. */
    for (int32_t expert = placement->num_experts; expert > 0; expert--) {
        begin[expert] = begin[expert - 1];
    }
    begin[0] = 0;
}

enum status placement_init(struct placement *placement, struct arena *arena, int32_t num_experts,
                           int32_t num_slots, int32_t num_ranks, struct error *error)
{
    if (num_experts < 1 || num_ranks < 1 || num_slots < num_experts) {
        return error_add(error, STATUS_INVALID,
                         "placement: %d experts need as many slots or more, have %d on %d ranks",
                         num_experts, num_slots, num_ranks);
    }
    if (num_slots % num_ranks != 0) {
        return error_add(error, STATUS_INVALID,
                         "placement: %d slots cannot be dealt evenly to %d ranks", num_slots,
                         num_ranks);
    }
    size_t slots = (size_t)num_slots;
    *placement = (struct placement){
        .num_experts = num_experts,
        .num_slots = num_slots,
        .num_ranks = num_ranks,
        .rank_begin = arena_alloc(arena, (size_t)num_ranks + 1, sizeof(int32_t)),
        .rank_of_slot = arena_alloc(arena, slots, sizeof(int32_t)),
        .expert_of_slot = arena_alloc(arena, slots, sizeof(int32_t)),
        .slot_of = arena_alloc(arena, slots, sizeof(int32_t)),
        .slot_begin = arena_alloc(arena, (size_t)num_experts + 1, sizeof(int32_t)),
        .work = arena_alloc(arena, (size_t)num_experts + (size_t)num_ranks, sizeof(int32_t)),
    };
    if (placement->rank_begin == NULL || placement->rank_of_slot == NULL ||
        placement->expert_of_slot == NULL || placement->slot_of == NULL ||
        placement->slot_begin == NULL || placement->work == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "placement: no memory for %d slots", num_slots);
    }
    int32_t slots_per_rank = num_slots / num_ranks;
    for (int32_t rank = 0; rank <= num_ranks; rank++) {
        placement->rank_begin[rank] = rank * slots_per_rank;
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        placement->rank_of_slot[slot] = slot / slots_per_rank;
        placement->expert_of_slot[slot] = slot % num_experts;
    }
    index_slots(placement, placement->expert_of_slot);
    return STATUS_OK;
}

enum status placement_set(struct placement *placement, const int32_t *expert_of_slot,
                          struct error *error)
{
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        if (expert_of_slot[slot] < 0 || expert_of_slot[slot] >= placement->num_experts) {
            return error_add(error, STATUS_INVALID,
                             "placement: slot %d names expert %d, experts are 0 to %d", slot,
                             expert_of_slot[slot], placement->num_experts - 1);
        }
    }
    index_slots(placement, expert_of_slot);
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        if (placement_num_replicas(placement, expert) == 0) {
            index_slots(placement, placement->expert_of_slot); /* as before */
            return error_add(error, STATUS_INVALID, "placement: expert %d has no slot", expert);
        }
    }
    memmove(placement->expert_of_slot, expert_of_slot,
            (size_t)placement->num_slots * sizeof *expert_of_slot);
    return STATUS_OK;
}

enum status placement_extend(struct placement *placement, const struct placement *from,
                             const struct expert_move *move, int32_t num_moves, struct arena *arena)
{
    size_t slots = (size_t)from->num_slots + (size_t)num_moves;
    *placement = (struct placement){
        .num_experts = from->num_experts,
        .num_slots = (int32_t)slots,
        .num_ranks = from->num_ranks,
        .rank_begin = arena_take(arena, (size_t)from->num_ranks + 1, sizeof(int32_t)),
        .rank_of_slot = arena_take(arena, slots, sizeof(int32_t)),
        .expert_of_slot = arena_take(arena, slots, sizeof(int32_t)),
        .slot_of = arena_take(arena, slots, sizeof(int32_t)),
        .slot_begin = arena_take(arena, (size_t)from->num_experts + 1, sizeof(int32_t)),
    };
    if (placement->rank_begin == NULL || placement->rank_of_slot == NULL ||
        placement->expert_of_slot == NULL || placement->slot_of == NULL ||
        placement->slot_begin == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t slot = 0;
    int32_t next = 0; /* into move */
    for (int32_t rank = 0; rank < from->num_ranks; rank++) {
        placement->rank_begin[rank] = slot;
        for (int32_t old = from->rank_begin[rank]; old < from->rank_begin[rank + 1]; old++) {
            placement->rank_of_slot[slot] = rank;
            placement->expert_of_slot[slot++] = from->expert_of_slot[old];
        }
        for (; next < num_moves && move[next].to_rank == rank; next++) {
            placement->rank_of_slot[slot] = rank;
            placement->expert_of_slot[slot++] = move[next].expert;
        }
    }
    assert(next == num_moves && slot == placement->num_slots);
    placement->rank_begin[from->num_ranks] = slot;
    index_slots(placement, placement->expert_of_slot);
    return STATUS_OK;
}

/* Lists what one rank lacks; resident[expert] == rank + 1 marks what it has or is already listed.
 * Moves come out by expert: an insertion sort, since a rank has few slots. */
static int32_t list_missing(const struct placement *placement, struct expert_move *move,
                            int32_t layer, const int32_t *expert_of_slot, int32_t rank,
                            int32_t *resident)
{
    int32_t count = 0;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        resident[placement->expert_of_slot[slot]] = rank + 1;
    }
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        int32_t expert = expert_of_slot[slot];
        assert(expert >= 0 && expert < placement->num_experts);
        if (resident[expert] == rank + 1) {
            continue;
        }
        resident[expert] = rank + 1;
        int32_t hole = count++;
        for (; hole > 0 && move[hole - 1].expert > expert; hole--) {
            move[hole] = move[hole - 1];
        }
        move[hole] = (struct expert_move){layer, expert, rank, rank};
    }
    return count;
}

/* The rank that sends an expert to to_rank, by the rule in the header. */
static int32_t choose_sender(const struct placement *placement, int32_t expert, int32_t to_rank,
                             int32_t gpus_per_node, const int32_t *asked)
{
    int32_t sender = -1;
    bool sender_is_near = false;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t rank = placement->rank_of_slot[placement->slot_of[i]];
        bool near = rank / gpus_per_node == to_rank / gpus_per_node;
        if (sender < 0 || (near && !sender_is_near) ||
            (near == sender_is_near && asked[rank] < asked[sender])) {
            sender = rank;
            sender_is_near = near;
        }
    }
    assert(sender >= 0 && sender != to_rank);
    return sender;
}

int32_t placement_moves(const struct placement *placement, struct expert_move *move, int32_t layer,
                        const int32_t *expert_of_slot, int32_t gpus_per_node)
{
    assert(gpus_per_node >= 1);
    int32_t *resident = placement->work; /* [num_experts] */
    int32_t *asked = placement->work + placement->num_experts;
    memset(placement->work, 0,
           ((size_t)placement->num_experts + (size_t)placement->num_ranks) * sizeof *resident);
    int32_t count = 0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        int32_t first = count;
        count += list_missing(placement, move + first, layer, expert_of_slot, rank, resident);
        for (int32_t i = first; i < count; i++) {
            move[i].from_rank =
                choose_sender(placement, move[i].expert, rank, gpus_per_node, asked);
            asked[move[i].from_rank]++;
        }
    }
    assert(count <= placement->num_slots);
    return count;
}
