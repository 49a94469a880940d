/*
 * dev_ep_internal.h -- what a group of virtual ranks holds: dev_ep.c makes it, dev_ep_run.c runs
 * it.
 */
#ifndef MOESIM_DEV_EP_INTERNAL_H
#define MOESIM_DEV_EP_INTERNAL_H

#include "dev_ep.h"
#include "dev_ep_kernels.h"
#include "dev_memory.h"
#include "dev_shared.h"
#include "lt_gemm.h"

/* One virtual rank. */
struct member {
    int32_t first_token;
    int32_t num_tokens;
    int32_t rows_max;             /* that it may receive */
    struct moe_layer layer;       /* its slots as experts */
    struct permute_shape permute; /* its tokens over the group's slots */
    struct lt_gemm router;
    struct dev_shared shared;
    struct ep_rank receives;
    struct ep_source sends;
    struct matrix h;
    float *logits;
    int32_t *slot;
    int32_t *row_of;
    int32_t *token_of;
    void *permute_work;
};

struct dev_ep {
    struct dev_weights weights;
    struct dev_layer_options options;
    int32_t num_ranks;
    int32_t num_slots;
    struct member *member; /* [num_ranks] */
    struct dev_memory memory;
    struct lt lt;
    int32_t *expert; /* [num_tokens][top_k] */
    float *gate_weight;
    struct ep_slots slots;
    int32_t *rank_of_slot;
    struct ep_rank *rank;     /* [num_ranks] device copies */
    struct ep_source *source; /* [num_ranks] */
    void *workspace;
    int64_t workspace_bytes;
};

#endif
