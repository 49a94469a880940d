/*
 * placement.h -- which EP rank holds which copy of which expert, for one MoE layer.
 *
 * The gate picks logical experts; tokens travel to physical ones. A slot holds one copy of one
 * expert's weights on one GPU; an expert owns one slot or more (its replicas). The words are
 * EPLB's (deepseek-ai/EPLB, eplb.py @ d52c72d).
 */
#ifndef MOESIM_PLACEMENT_H
#define MOESIM_PLACEMENT_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

/* Anyone may read the arrays; only the functions below write them. */
struct placement {
    int32_t num_experts;     /* logical experts in the layer */
    int32_t num_slots;       /* physical experts: >= num_experts */
    int32_t num_ranks;       /* EP world size */
    int32_t *rank_begin;     /* [num_ranks + 1] first slot of each rank; ranks may differ in size */
    int32_t *rank_of_slot;   /* [num_slots] */
    int32_t *expert_of_slot; /* [num_slots] */
    int32_t *slot_of;        /* [num_slots] slots grouped by expert, ascending within a group */
    int32_t *slot_begin;     /* [num_experts + 1] where each expert's group starts in slot_of */
    int32_t *work;           /* [num_experts + num_ranks] private: placement_moves counts here */
};

/* Slots are dealt evenly; slot s starts out with expert s % num_experts. Memory is the arena's.
 * STATUS_INVALID unless num_slots >= num_experts >= 1 and num_ranks divides num_slots. */
MUST_CHECK enum status placement_init(struct placement *placement, struct arena *arena,
                                      int32_t num_experts, int32_t num_slots, int32_t num_ranks,
                                      struct error *error);

/* Takes a copy of expert_of_slot[num_slots]. STATUS_INVALID, and no change, if it names an expert
 * out of range or leaves one without a slot. */
MUST_CHECK enum status placement_set(struct placement *placement, const int32_t *expert_of_slot,
                                     struct error *error);

/* One copy of one expert's weights that has to travel. */
struct expert_move {
    int32_t layer;
    int32_t expert;
    int32_t from_rank; /* a holder of the expert before the change */
    int32_t to_rank;
};

/* Lists the (rank, expert) pairs of expert_of_slot that were not resident before: what a change of
 * placement has to send. A slot that is merely renamed within its rank costs nothing.
 *   move   [num_slots] out, by (to_rank, expert)
 * The sender is a holder on to_rank's node where there is one, else any holder; among several the
 * one that has been asked least so far in this call, then the lowest rank. So no rank sends a hot
 * expert to everyone while its other holders idle.
 * Returns the number of moves. gpus_per_node tells who is near. */
int32_t placement_moves(const struct placement *placement, struct expert_move *move, int32_t layer,
                        const int32_t *expert_of_slot, int32_t gpus_per_node);

/* Makes a placement of its own: from's, and behind the slots of each rank one for every move to it.
 * Slot s of from becomes s + rank_begin[rank] - from->rank_begin[rank]. It is only to be read.
 *   move  [num_moves]  ascending by to_rank
 * STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status placement_extend(struct placement *placement, const struct placement *from,
                                        const struct expert_move *move, int32_t num_moves,
                                        struct arena *arena);

static inline int32_t placement_num_replicas(const struct placement *placement, int32_t expert)
{
    return placement->slot_begin[expert + 1] - placement->slot_begin[expert];
}

#endif
