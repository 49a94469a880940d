/*
 * dev_ep_internal.h -- what a group of virtual ranks holds: dev_ep.c makes it, dev_ep_run.c runs
 * it; dev_ep_nccl.c makes and runs one rank, which has a GPU to itself.
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
    int32_t first_token; /* of the group's */
    int32_t first_row;   /* of its tokens in x, out, expert and gate_weight */
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
    int32_t *expert; /* [num_tokens][top_k] of all members */
    float *gate_weight;
    struct ep_slots slots;
    int32_t *rank_of_slot;
    struct ep_rank *rank;     /* [num_ranks] device copies */
    struct ep_source *source; /* [num_ranks] */
    void *workspace;
    int64_t workspace_bytes;
};

/* What a run works on. */
struct ep_run {
    char *out; /* bf16 */
    const char *x;
    const int32_t *expert;
    const float *gate_weight;
};

/* Whether the group can be run at all. */
bool dev_ep_valid(const struct dev_weights *weights, const struct ep_placement *placement,
                  const int32_t *token_begin);

/* What members share: ep->weights, options, num_ranks, num_slots and member stand already.
 * num_tokens: of all members that are here. */
MUST_CHECK enum status dev_ep_create_shared(struct dev_ep *ep, const struct ep_placement *placement,
                                            int64_t num_tokens);
/* Member r, with first_row left to the caller. */
MUST_CHECK enum status dev_ep_create_member(struct dev_ep *ep, const struct ep_placement *placement,
                                            const int32_t *token_begin, int32_t r);
void dev_ep_release(struct dev_ep *ep); /* all but ep itself */

/* One member's part of a phase. */
MUST_CHECK enum status dev_ep_route(struct dev_ep *ep, struct member *member,
                                    const struct ep_run *run, cudaStream_t stream);
MUST_CHECK enum status dev_ep_experts(struct dev_ep *ep, struct member *member, bool up,
                                      cudaStream_t stream);
MUST_CHECK enum status dev_ep_combine(struct dev_ep *ep, struct member *member,
                                      const struct ep_run *run, cudaStream_t stream);

#endif
