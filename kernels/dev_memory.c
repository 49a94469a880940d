/* dev_memory.c -- a list of what was allocated. */
#include "dev_memory.h"

#include <cuda_runtime_api.h>

void *dev_alloc(struct dev_memory *memory, int64_t bytes)
{
    void *block = NULL;
    if (memory->failed || memory->num_blocks == DEV_BLOCKS_MAX ||
        cudaMalloc(&block, (size_t)(bytes > 0 ? bytes : 1)) != cudaSuccess) {
        (void)cudaGetLastError(); /* said by failed; must not be found by the next launch */
        memory->failed = true;
        return NULL;
    }
    memory->block[memory->num_blocks++] = block;
    memory->bytes += bytes;
    return block;
}

void *dev_alloc_copy(struct dev_memory *memory, const void *host, int64_t bytes)
{
    void *block = dev_alloc(memory, bytes);
    if (block != NULL &&
        cudaMemcpy(block, host, (size_t)bytes, cudaMemcpyHostToDevice) != cudaSuccess) {
        memory->failed = true;
    }
    return block;
}

void dev_memory_free(struct dev_memory *memory)
{
    for (int32_t index = 0; index < memory->num_blocks; index++) {
        cudaFree(memory->block[index]);
    }
    *memory = (struct dev_memory){0};
}

struct matrix dev_alloc_activations(struct dev_memory *memory, enum dtype dtype, int64_t rows,
                                    int32_t columns)
{
    struct matrix matrix = {.dtype = dtype};
    matrix.data = dev_alloc(memory, rows * columns * dtype_bytes(dtype));
    if (dtype == DTYPE_FP8_E4M3) {
        matrix.scale_rows = (rows + 3) / 4 * 4; /* each column block's scales begin at 16 bytes */
        matrix.scale = dev_alloc(memory, matrix.scale_rows * scale_blocks(columns) * 4);
    }
    return matrix;
}

struct matrix dev_alloc_weights(struct dev_memory *memory, enum dtype dtype, int32_t num_experts,
                                int64_t rows, int32_t columns, int32_t num_blocks)
{
    struct matrix matrix = {.dtype = dtype};
    matrix.data = dev_alloc(memory, num_experts * rows * columns * dtype_bytes(dtype));
    if (dtype == DTYPE_FP8_E4M3) {
        matrix.scale =
            dev_alloc(memory, (int64_t)num_experts * num_blocks * scale_blocks(columns) * 4);
    }
    return matrix;
}
