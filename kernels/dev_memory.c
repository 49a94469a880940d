/* dev_memory.c -- a list of what was allocated. */
#include "dev_memory.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>

static bool has_room(struct dev_memory *memory)
{
    if (memory->num_blocks < memory->capacity) {
        return true;
    }
    int32_t capacity = 2 * memory->capacity + 32;
    void **block = realloc(memory->block, (size_t)capacity * sizeof *block);
    if (block == NULL) {
        return false;
    }
    memory->block = block;
    memory->capacity = capacity;
    return true;
}

void *dev_alloc(struct dev_memory *memory, int64_t bytes)
{
    void *block = NULL;
    if (memory->failed || !has_room(memory) ||
        cudaMalloc(&block, (size_t)(bytes > 0 ? bytes : 1)) != cudaSuccess) {
        (void)cudaGetLastError(); /* said by failed; must not be found by the next launch */
        memory->failed = true;
        return NULL;
    }
    memory->block[memory->num_blocks++] = block;
    memory->bytes += bytes;
    return block;
}

bool dev_upload(void *device, const void *host, int64_t bytes)
{
    return cudaMemcpy(device, host, (size_t)bytes, cudaMemcpyHostToDevice) == cudaSuccess &&
           cudaStreamSynchronize(NULL) == cudaSuccess;
}

void *dev_alloc_copy(struct dev_memory *memory, const void *host, int64_t bytes)
{
    void *block = dev_alloc(memory, bytes);
    if (block != NULL && !dev_upload(block, host, bytes)) {
        memory->failed = true;
    }
    return block;
}

void dev_memory_free(struct dev_memory *memory)
{
    for (int32_t index = 0; index < memory->num_blocks; index++) {
        cudaFree(memory->block[index]);
    }
    free(memory->block);
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
