/*
 * bench_host.h -- copies of device matrices for the references to read.
 */
#ifndef MOESIM_BENCH_HOST_H
#define MOESIM_BENCH_HOST_H

#include "forward.h"
#include "matrix.h"

#define HOST_BLOCKS_MAX 32

/* Zero-initialise; a failed allocation or copy sets failed, as dev_memory does. */
struct bench_host_memory {
    void *block[HOST_BLOCKS_MAX];
    int32_t num_blocks;
    bool failed;
};

void bench_host_memory_free(struct bench_host_memory *memory);

void *bench_download_bytes(struct bench_host_memory *memory, const void *device, int64_t bytes);

/* count elements and, where there are any, num_scales scales. */
struct matrix bench_download(struct bench_host_memory *memory, struct matrix device, int64_t count,
                             int64_t num_scales);

/* A host matrix like an activation matrix of the device, all of it NaN. */
struct matrix bench_poisoned(struct bench_host_memory *memory, struct matrix like, int64_t rows,
                             int32_t columns);

/* Weights and biases of all experts. */
void bench_download_experts(struct bench_host_memory *memory, const struct moe_layer *device,
                            struct matrix *gate_up, struct matrix *down, const float **gate_up_bias,
                            const float **down_bias);

/* Elements and scales of host into device. */
MUST_CHECK enum status bench_upload(struct matrix device, struct matrix host, int64_t count,
                                    int64_t num_scales);

#endif
