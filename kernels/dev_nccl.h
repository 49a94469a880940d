/*
 * dev_nccl.h -- the little of NCCL that expert parallelism needs, loaded when it is asked for.
 *
 * NCCL is no part of the CUDA Toolkit, so nothing is linked and no header is needed: libnccl.so.2
 * is opened at run time, $MOESIM_NCCL or by the loader's usual search. The prototypes are those of
 * NCCL's API reference, the same since 2.7.
 */
#ifndef MOESIM_DEV_NCCL_H
#define MOESIM_DEV_NCCL_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "status.h"

/* What ranks must know of each other before they can connect; made by one, given to all. */
struct nccl_id {
    char bytes[128];
};

/* The library, for all threads. STATUS_INVALID: not there, or too old; error says where it was
 * looked for. */
struct nccl;
MUST_CHECK enum status nccl_open(struct nccl **made, struct error *error);
void nccl_close(struct nccl *nccl);            /* NULL: does nothing */
int32_t nccl_version(const struct nccl *nccl); /* 22703: 2.27.3 */

MUST_CHECK enum status nccl_make_id(const struct nccl *nccl, struct nccl_id *id,
                                    struct error *error);

/* This rank of a group; the device is the thread's current one. Returns when all ranks have come.
 */
struct nccl_rank {
    const struct nccl *nccl;
    void *communicator;
    int32_t rank;
    int32_t num_ranks;
};
MUST_CHECK enum status nccl_rank_open(struct nccl_rank *made, const struct nccl *nccl,
                                      struct nccl_id id, int32_t rank, int32_t num_ranks,
                                      struct error *error);
void nccl_rank_close(struct nccl_rank *rank); /* safe on zero and twice */

/* [num_ranks][count] of all ranks' count numbers. */
MUST_CHECK enum status nccl_all_gather(const struct nccl_rank *rank, const int32_t *mine,
                                       int32_t *all, int64_t count, cudaStream_t stream);

/* Between begin and end, sends and receives wait for each other, not for their order; end enqueues
 * them. Between two ranks the n-th send meets the n-th receive; both name as many bytes. */
MUST_CHECK enum status nccl_begin(const struct nccl_rank *rank);
MUST_CHECK enum status nccl_send(const struct nccl_rank *rank, const void *from, int64_t bytes,
                                 int32_t peer, cudaStream_t stream);
MUST_CHECK enum status nccl_receive(const struct nccl_rank *rank, void *to, int64_t bytes,
                                    int32_t peer, cudaStream_t stream);
MUST_CHECK enum status nccl_end(const struct nccl_rank *rank);

#endif
