/*
 * dev_memory.h -- device memory that is given back all at once.
 */
#ifndef MOESIM_DEV_MEMORY_H
#define MOESIM_DEV_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "matrix.h"
#include "status.h"

/* Zero-initialise; release with dev_memory_free. Once an allocation fails all later ones do, and
 * failed is set, so that whoever takes twenty arrays asks once. */
struct dev_memory {
    void **block; /* [capacity] */
    int32_t num_blocks;
    int32_t capacity;
    int64_t bytes;
    bool failed;
};

void *dev_alloc(struct dev_memory *memory, int64_t bytes);

/* Host memory to the device, and there when it returns: cudaMemcpy alone may return while pageable
 * memory is still on its way from the driver's own buffer, and streams that do not block (all of
 * ours) would not wait for it. false: a call failed. */
MUST_CHECK bool dev_upload(void *device, const void *host, int64_t bytes);
void *dev_alloc_copy(struct dev_memory *memory, const void *host, int64_t bytes);
void dev_memory_free(struct dev_memory *memory);

/* [rows][columns] activations; scale for fp8. */
struct matrix dev_alloc_activations(struct dev_memory *memory, enum dtype dtype, int64_t rows,
                                    int32_t columns);
/* [num_experts][rows][columns] weights with num_blocks blocks of scales an expert. */
struct matrix dev_alloc_weights(struct dev_memory *memory, enum dtype dtype, int32_t num_experts,
                                int64_t rows, int32_t columns, int32_t num_blocks);

#endif
