/*
 * dev_ep_nccl.h -- one rank of an expert-parallel group, a GPU of its own, rows sent by NCCL.
 *
 * The same steps and kernels as dev_ep.h, and the same rows in the same places, so results are
 * equal bit for bit; what lies between is sent:
 *
 *   receive   counts of all ranks by ncclAllGather; the host reads them
 *   dispatch  one grouped ncclSend and ncclRecv a peer (two in fp8: elements, scales), then a
 *             kernel that sorts what came, by source, into the slots
 *   return    the same way back
 *
 * ncclSend takes its counts from the host, so the step waits for the GPU once, in receive, and
 * cannot be captured into a graph. DeepEP's low-latency mode, which needs no counts, is what ep.cu
 * does where destinations are mapped.
 */
#ifndef MOESIM_DEV_EP_NCCL_H
#define MOESIM_DEV_EP_NCCL_H

#include "dev_ep.h"
#include "dev_nccl.h"

struct dev_ep_nccl;

/* On the thread's current device. connection must outlive it; weights are the whole layer's, on
 * this device. Arguments and STATUS as dev_ep_create, whose placement all ranks share. */
MUST_CHECK enum status
dev_ep_nccl_create(struct dev_ep_nccl **made, const struct nccl_rank *connection,
                   const struct dev_weights *weights, const struct ep_placement *placement,
                   const int32_t *token_begin, const struct dev_layer_options *options,
                   struct error *error);
void dev_ep_nccl_free(struct dev_ep_nccl *rank); /* NULL: does nothing */

/* The step; all ranks have to call it. Arguments as dev_ep_run, but of this rank's tokens alone.
 *   mark  [DEV_EP_PHASE_COUNT + 1] events, before all and after each phase; or NULL */
MUST_CHECK enum status dev_ep_nccl_run(struct dev_ep_nccl *rank, void *out, const void *x,
                                       const int32_t *expert, const float *gate_weight,
                                       const cudaEvent_t *mark, cudaStream_t stream);

#endif
