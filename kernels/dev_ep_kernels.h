/*
 * dev_ep_kernels.h -- the kernels of ep.cu and what they share with dev_ep.c.
 */
#ifndef MOESIM_DEV_EP_KERNELS_H
#define MOESIM_DEV_EP_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "moe_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The copies of each expert; device memory. */
struct ep_slots {
    int32_t *copy_begin; /* [num_experts + 1] */
    int32_t *copy_slot;  /* [num_slots] slots of expert e: copy_begin[e] on, ascending */
};

/* What a rank receives; device memory. */
struct ep_rank {
    int32_t first_slot; /* of the group's */
    int32_t num_slots;
    int32_t *num_rows;  /* [num_slots] */
    int32_t *row_begin; /* [num_slots + 1] */
    int32_t *place;     /* [num_ranks][num_slots] the first row of a source's in a slot */
    struct matrix x;    /* [rows][hidden_dim] what the experts read */
    struct matrix y;    /* [rows][hidden_dim] bf16: what they answer */
};

/* What a rank sends, by slot of the whole group; device memory. */
struct ep_source {
    int32_t *num_rows;      /* [num_slots of the group] */
    int32_t *row_begin;     /* [num_slots + 1] */
    struct matrix sent;     /* [rows][hidden_dim] */
    struct matrix returned; /* [rows][hidden_dim] bf16 */
};

/* All rows of one source. */
struct ep_move {
    struct ep_source source;
    int32_t source_rank;
    int32_t num_slots; /* of the group */
    int32_t hidden_dim;
    const int32_t *rank_of_slot; /* [num_slots] device memory */
    const struct ep_rank *rank;  /* [num_ranks] device memory */
};

/* As ref_ep_choose_slots. */
MUST_CHECK enum status dev_ep_choose_slots(struct ep_slots slots, int32_t num_tokens, int32_t top_k,
                                           int64_t first_token, int32_t *slot,
                                           const int32_t *expert, cudaStream_t stream);

/* Counts and places of one rank from what all sources send; source [num_ranks] in device memory. As
 * ref_ep_receive, with place in the place of row_of. */
MUST_CHECK enum status dev_ep_receive(struct ep_rank rank, const struct ep_source *source,
                                      int32_t num_ranks, int32_t row_align, cudaStream_t stream);

/* Rows to their places, and back from there. rows_max: the most that the source may send. */
MUST_CHECK enum status dev_ep_dispatch(struct ep_move move, int64_t rows_max, cudaStream_t stream);
MUST_CHECK enum status dev_ep_return(struct ep_move move, int64_t rows_max, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
