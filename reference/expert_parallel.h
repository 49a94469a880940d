/*
 * expert_parallel.h -- the MoE layer over ranks that each hold some experts and some tokens.
 *
 * A slot is one copy of an expert's weights on one rank; rank r holds the slots slot_begin[r] to
 * slot_begin[r + 1] - 1. A step, as DeepEP's low-latency mode does it:
 *
 *   1. each rank routes its tokens and picks a slot for each choice     ref_ep_choose_slots
 *   2. it sorts its rows by slot, and so by destination                 ref_permute, by slot
 *   3. dispatch: rows travel, one for each choice; a rank receives them by source, then slot
 *   4. the receiver sorts them by slot                                  ref_ep_receive
 *   5. its experts run; rows go back in the order in which they came    combine
 *   6. the source adds them up by k, weighted                           ref_combine_shared
 *
 * Each row is computed as on one rank and added in the same order, so the result is the same bit
 * for bit, whatever the number of ranks and copies.
 */
#ifndef MOESIM_EXPERT_PARALLEL_H
#define MOESIM_EXPERT_PARALLEL_H

#include <stdint.h>

#include "forward.h"

struct ep_placement {
    int32_t num_ranks;
    int32_t num_slots;
    const int32_t *slot_begin;     /* [num_ranks + 1] ascending from 0 to num_slots */
    const int32_t *expert_of_slot; /* [num_slots]; every expert has a slot somewhere */
};

/* Deals the tokens of an expert over its slots in turn: choice (t, k) goes to slot number
 * (first_token + t) modulo copies, copies in the order of slot ids.
 *   slot    [num_tokens][top_k] out; EXPERT_NONE where expert is
 *   expert  [num_tokens][top_k]
 *   work    [2 * num_experts + num_slots + 1]
 * STATUS_INVALID: an expert or slot out of range, an expert without a slot. */
MUST_CHECK enum status ref_ep_choose_slots(const struct ep_placement *placement,
                                           int32_t num_experts, int32_t num_tokens, int32_t top_k,
                                           int64_t first_token, int32_t *slot,
                                           const int32_t *expert, int32_t *work);

/* Where received rows go, so that a slot's lie together: by slot, then source rank, then the order
 * of sending.
 *   num_rows    [num_slots] out; num_slots: of this rank
 *   row_begin   [num_slots + 1] out; groups aligned as in permute.h
 *   row_of      [received rows] out: the row of the experts' input for the i-th received
 *   sent        [num_ranks][num_slots] rows that each source sends to each slot
 * STATUS_INVALID as ref_permute. */
MUST_CHECK enum status ref_ep_receive(int32_t num_ranks, int32_t num_slots, int32_t row_align,
                                      int32_t *num_rows, int32_t *row_begin, int32_t *row_of,
                                      const int32_t *sent);

/* The whole step with virtual ranks, each with buffers of its own between which rows are copied.
 *   token_begin  [num_ranks + 1] tokens of rank r: token_begin[r] to token_begin[r + 1] - 1
 * Others, and the result, as ref_forward. */
MUST_CHECK enum status ref_ep_forward(const struct moe_layer *layer,
                                      const struct ep_placement *placement,
                                      const int32_t *token_begin, struct matrix out,
                                      int32_t *expert, float *gate_weight, struct matrix x,
                                      struct arena *scratch);

#endif
