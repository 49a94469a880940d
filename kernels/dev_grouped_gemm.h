/*
 * dev_grouped_gemm.h -- the two grouped GEMMs of an expert layer on the GPU.
 *
 * Twins of the functions in reference/grouped_gemm.h, which fixes layouts and the meaning of every
 * argument. All pointers are device memory. row_begin and num_rows are read by the kernels, never
 * by the host: nothing here waits for the GPU, and every call can be captured into a CUDA graph.
 *
 * Rows. A group may begin at any row and groups may touch: the last tile of a group is stored under
 * a mask, so the rows of the next group, and padding rows, stay as they are. Nothing is asked of
 * the permutation's row_align.
 *
 * Shapes. plain takes everything. mma takes every shape of bf16 and fp8 and pads with zeros in
 * shared memory. The others load by the copy engine, which pads: they take a hidden_dim and ffn_dim
 * that are multiples of 8 (bf16) or 16 (fp8), no fp8 with GELU, data and scales aligned to 16
 * bytes, activations' scale_rows a multiple of 4, h of x's dtype and bf16 y. automatic refuses
 * nothing that plain takes.
 *
 * Numbers. Products are exact; sums are float32, in an order that depends on shape, loads, version
 * and num_sms alone: two runs give the same bits.
 */
#ifndef MOESIM_DEV_GROUPED_GEMM_H
#define MOESIM_DEV_GROUPED_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "grouped_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

enum grouped_gemm_version {
    GROUPED_GEMM_AUTOMATIC,  /* by dtype, shape and expected rows an expert */
    GROUPED_GEMM_PLAIN,      /* v1: one thread an output */
    GROUPED_GEMM_MMA,        /* v2: tiles in shared memory, warp-level mma */
    GROUPED_GEMM_WGMMA,      /* v3: copy engine and wgmma, one tile a block, nothing overlapped */
    GROUPED_GEMM_PERSISTENT, /* v4: a producer and two consumer warpgroups, persistent */
    GROUPED_GEMM_CLUSTER,    /* v5: the same in pairs of blocks that share what they load */
    GROUPED_GEMM_STREAM, /* for few rows an expert: weights on M, tokens on N, work split evenly */
    NUM_GROUPED_GEMM_VERSIONS,
};

/* How to run, apart from what to compute. Zero-initialised fields mean what stands first. */
struct grouped_gemm_run {
    enum grouped_gemm_version version;
    int32_t num_sms; /* 0: all; else blocks that may run at a time (the rest is left to others) */
    int64_t rows;    /* rows of x, h and y that exist, padding included; no group reaches further */
    int64_t expected_rows; /* 0: rows; rows in all groups together that automatic shall expect */
    uint32_t without;      /* versions that automatic passes over: bit 1 << version */
    void *workspace;       /* of dev_grouped_gemm_workspace_init; one call at a time uses it */
    int64_t workspace_bytes;
};

/* "automatic", "plain", ...; NULL beyond the last. */
const char *grouped_gemm_version_name(enum grouped_gemm_version version);

/* Whether a version computes both GEMMs of this shape and dtype, h being of that dtype and y bf16
 * (fp32 for fp32). */
bool grouped_gemm_takes(enum grouped_gemm_version version, struct expert_shape shape,
                        enum dtype dtype);

/* What automatic stands for: of those that take the shape and are not in `without`, the fastest for
 * so many rows. plain is never passed over. */
enum grouped_gemm_version grouped_gemm_choose(struct expert_shape shape, enum dtype dtype,
                                              int64_t expected_rows, uint32_t without);

/* Bytes that every shape and version makes do with on the current device; 0: no device. */
int64_t dev_grouped_gemm_workspace_bytes(void);

/* Makes fresh memory a workspace (on the stream). Kernels leave it fit for the next call. */
MUST_CHECK enum status dev_grouped_gemm_workspace_init(void *workspace, int64_t bytes,
                                                       void *stream);

/* As ref_grouped_gate_up. h has x's dtype, or any (plain, mma).
 * STATUS_INVALID: what ref_grouped_gate_up refuses, a version that does not take the shape, no
 * workspace or too small a one; STATUS_CUDA: the driver or a launch failed. */
MUST_CHECK enum status dev_grouped_gate_up(struct expert_shape shape, struct matrix h,
                                           struct matrix x, const int32_t *row_begin,
                                           const int32_t *num_rows, struct matrix gate_up,
                                           const float *bias, const struct grouped_gemm_run *run,
                                           void *stream);

/* As ref_grouped_down: y is bf16, or fp32 (plain, mma). Otherwise as above. */
MUST_CHECK enum status dev_grouped_down(struct expert_shape shape, struct matrix y, struct matrix h,
                                        const int32_t *row_begin, const int32_t *num_rows,
                                        struct matrix down, const float *bias,
                                        const struct grouped_gemm_run *run, void *stream);

#ifdef __cplusplus
}
#endif

#endif
