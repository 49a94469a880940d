/*
 * dev_ep.h -- the MoE layer over virtual ranks of an expert-parallel group, all on one GPU.
 *
 * The twin of ref_ep_forward: each rank has tokens, slots and buffers of its own; rows are really
 * copied to their destination and back. What the copies cost here is HBM, not NVLink: times of
 * dispatch and return say nothing about a network. The experts' times do: they are those of the
 * same kernels on the same loads. Ranks run one after the other.
 */
#ifndef MOESIM_DEV_EP_H
#define MOESIM_DEV_EP_H

#include "dev_layer.h"
#include "expert_parallel.h"

enum dev_ep_phase {
    DEV_EP_ROUTE,    /* router, gate, slots, permute, rows */
    DEV_EP_RECEIVE,  /* counts and places */
    DEV_EP_DISPATCH, /* rows to their destinations */
    DEV_EP_GATE_UP,
    DEV_EP_DOWN,
    DEV_EP_RETURN,  /* rows back to their sources */
    DEV_EP_COMBINE, /* with the shared expert, which each rank has */
    DEV_EP_PHASE_COUNT,
};

const char *dev_ep_phase_name(enum dev_ep_phase phase);

struct dev_ep;

/* placement and token_begin [num_ranks + 1] are host memory and are copied; weights are the whole
 * layer's and must outlive it: ranks whose slots are their experts in order use them in place,
 * others get copies. STATUS as dev_layer_create; STATUS_INVALID also for a placement that
 * ref_ep_forward refuses. */
MUST_CHECK enum status dev_ep_create(struct dev_ep **made, const struct dev_weights *weights,
                                     const struct ep_placement *placement,
                                     const int32_t *token_begin,
                                     const struct dev_layer_options *options, struct error *error);
void dev_ep_free(struct dev_ep *ep); /* NULL: does nothing */

/* Enqueues the step. Arguments as dev_layer_run; tokens are the whole group's, rank after rank.
 *   mark  [DEV_EP_PHASE_COUNT * num_ranks + 1] events, before all and after each rank's part of
 * each phase, phase by phase; or NULL */
MUST_CHECK enum status dev_ep_run(struct dev_ep *ep, void *out, const void *x,
                                  const int32_t *expert, const float *gate_weight,
                                  const cudaEvent_t *mark, cudaStream_t stream);

/* Device memory: what the gates chose, [num_tokens][top_k], rank after rank. */
const int32_t *dev_ep_expert(const struct dev_ep *ep);
const float *dev_ep_gate_weight(const struct dev_ep *ep);

/* Rows of each of a rank's slots after a run: num_rows [num_slots of the rank] out, host. */
MUST_CHECK enum status dev_ep_loads(const struct dev_ep *ep, int32_t rank, int32_t *num_rows);

#endif
