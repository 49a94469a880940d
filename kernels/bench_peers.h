/*
 * bench_peers.h -- grouped GEMMs as one makes them out of cuBLAS, to be held against ours.
 *
 *   cublaslt_loop   one cublasLtMatmul an expert, each planned for its number of rows; one graph
 *   cublas_grouped  cublasGemmGroupedBatchedEx, a group an expert
 *
 * bf16. Both know the loads on the host beforehand, which a real layer would have to wait for; that
 * wait is not counted. Neither has an activation in its epilogue: after gate and up comes
 * dev_activate, as a layer needs it.
 */
#ifndef MOESIM_BENCH_PEERS_H
#define MOESIM_BENCH_PEERS_H

#include "bench_case.h"

enum peer {
    PEER_CUBLASLT_LOOP,
    PEER_CUBLAS_GROUPED,
    PEER_COUNT,
};

extern const char *const peer_names[];

struct peer_gemm;

/* out[rows][columns] = x[rows][depth] weights[num_experts][columns][depth]^T, rows of an expert
 * from row_begin (no gaps). Pointers are the device's; expert_tokens is the host's. */
struct peer_shape {
    int32_t num_experts;
    int32_t columns;
    int32_t depth;
    const int32_t *expert_tokens;
};

MUST_CHECK enum status peer_create(struct peer_gemm **made, enum peer peer, struct peer_shape shape,
                                   void *out, const void *x, const void *weights);
MUST_CHECK enum status peer_run(struct peer_gemm *gemm, cudaStream_t stream);
void peer_free(struct peer_gemm *gemm); /* NULL: does nothing */

#endif
