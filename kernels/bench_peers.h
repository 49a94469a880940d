/*
 * bench_peers.h -- grouped GEMMs as one makes them out of cuBLAS, to be held against ours.
 *
 *   cublaslt_loop   one cublasLtMatmul an expert, each planned for its number of rows; one graph.
 *                   fp8 with block scales, where cuBLAS is of CUDA 12.9 or newer
 *   cublas_grouped  cublasGemmGroupedBatchedEx, a group an expert; bf16 only
 *
 * Both know the loads on the host beforehand, which a real layer would have to wait for; that wait
 * is not counted. Neither has an activation in its epilogue: after gate and up comes dev_activate,
 * as a layer needs it, and in fp8 a kernel that rounds. cuBLASLt wants fp8 scales in an order of
 * its own; it gets as many, all alike: its sums are of no use, its times are.
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

/* fp32: none does. */
bool peer_takes(enum peer peer, enum dtype dtype);

struct peer_gemm;

/* out[rows][columns] = x[rows][depth] weights[num_experts][columns][depth]^T, rows of an expert
 * from row_begin (no gaps). Pointers are the device's; expert_tokens is the host's. */
struct peer_shape {
    int32_t num_experts;
    int32_t columns;
    int32_t depth;
    const int32_t *expert_tokens;
    enum dtype dtype; /* of x and weights; out is bf16 */
};

/* *made is NULL unless STATUS_OK. */
MUST_CHECK enum status peer_create(struct peer_gemm **made, enum peer peer, struct peer_shape shape,
                                   void *out, const void *x, const void *weights);
/* STATUS_CUDA also for NULL: a peer that could not be made fails when it is run, ours do not. */
MUST_CHECK enum status peer_run(struct peer_gemm *gemm, cudaStream_t stream);
void peer_free(struct peer_gemm *gemm); /* NULL: does nothing */

/* h out of gate and up, which a peer has put into memory. */
struct peer_activation {
    struct expert_shape shape;
    int64_t rows;
    struct matrix h;   /* [rows][ffn_dim] bf16 or fp8 */
    uint16_t *gate_up; /* [rows][gate_up_rows] bf16 */
    uint16_t *h_bf16;  /* fp8: h before it is rounded */
    int32_t *row_of;   /* fp8: [rows] its own */
};

/* The buffers are memory's. */
MUST_CHECK enum status peer_activation_create(struct peer_activation *made,
                                              struct dev_memory *memory, struct expert_shape shape,
                                              int64_t rows, struct matrix h);
MUST_CHECK enum status peer_activate(const struct peer_activation *activation, cudaStream_t stream);

#endif
