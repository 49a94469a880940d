/* bench_cuda_host.c -- see bench_host.h. */
#include "bench_host.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "dev_memory.h"

static void *host_alloc(struct bench_host_memory *memory, int64_t bytes)
{
    void *block = memory->failed || memory->num_blocks == HOST_BLOCKS_MAX
                      ? NULL
                      : malloc((size_t)(bytes > 0 ? bytes : 1));
    if (block == NULL) {
        memory->failed = true;
        return NULL;
    }
    memory->block[memory->num_blocks++] = block;
    return block;
}

void bench_host_memory_free(struct bench_host_memory *memory)
{
    for (int32_t i = 0; i < memory->num_blocks; i++) {
        free(memory->block[i]);
    }
    *memory = (struct bench_host_memory){0};
}

void *bench_download_bytes(struct bench_host_memory *memory, const void *device, int64_t bytes)
{
    void *block = device == NULL ? NULL : host_alloc(memory, bytes);
    if (block != NULL &&
        cudaMemcpy(block, device, (size_t)bytes, cudaMemcpyDeviceToHost) != cudaSuccess) {
        memory->failed = true;
    }
    return block;
}

struct matrix bench_download(struct bench_host_memory *memory, struct matrix device, int64_t count,
                             int64_t num_scales)
{
    struct matrix host = device;
    host.data = bench_download_bytes(memory, device.data, count * dtype_bytes(device.dtype));
    host.scale = bench_download_bytes(memory, device.scale, num_scales * 4);
    return host;
}

struct matrix bench_poisoned(struct bench_host_memory *memory, struct matrix like, int64_t rows,
                             int32_t columns)
{
    struct matrix host = like;
    int64_t bytes = rows * columns * dtype_bytes(like.dtype);
    int64_t scale_bytes = like.scale_rows * scale_blocks(columns) * 4;
    host.data = host_alloc(memory, bytes);
    host.scale = like.scale != NULL ? host_alloc(memory, scale_bytes) : NULL;
    if (!memory->failed) {
        memset(host.data, 0xff, (size_t)bytes);
    }
    if (!memory->failed && host.scale != NULL) {
        memset(host.scale, 0xff, (size_t)scale_bytes);
    }
    return host;
}

void bench_download_experts(struct bench_host_memory *memory, const struct moe_layer *device,
                            struct matrix *gate_up, struct matrix *down, const float **gate_up_bias,
                            const float **down_bias)
{
    struct expert_shape shape = device->expert;
    int64_t experts = shape.num_experts;
    int64_t up_rows = gate_up_rows(shape);
    *gate_up = bench_download(memory, device->gate_up, experts * up_rows * shape.hidden_dim,
                              experts * gate_up_blocks(shape) * scale_blocks(shape.hidden_dim));
    *down = bench_download(memory, device->down, experts * shape.hidden_dim * shape.ffn_dim,
                           experts * scale_blocks(shape.hidden_dim) * scale_blocks(shape.ffn_dim));
    *gate_up_bias = bench_download_bytes(memory, device->gate_up_bias, experts * up_rows * 4);
    *down_bias = bench_download_bytes(memory, device->down_bias, experts * shape.hidden_dim * 4);
}

enum status bench_upload(struct matrix device, struct matrix host, int64_t count,
                         int64_t num_scales)
{
    bool ok = dev_upload(device.data, host.data, count * dtype_bytes(host.dtype));
    if (ok && device.scale != NULL) {
        ok = dev_upload(device.scale, host.scale, num_scales * 4);
    }
    return ok ? STATUS_OK : STATUS_CUDA;
}
