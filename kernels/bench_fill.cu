/*
 * bench_fill.cu -- random data made where it is needed: weights of a real layer take minutes to
 * make on a host and seconds to send. And the L2 filled with what nobody needs.
 *
 * Element i is a hash of (seed, i): the same for any grid and any GPU.
 */
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "launch.cuh"

extern "C" {
#include "bench_gpu.h"
}

static const unsigned THREADS = 256;
static const int64_t BLOCKS_MAX = 132 * 16; /* some waves on any GPU; each thread strides */

struct fill_arguments {
    void *data;
    int64_t count;
    float low;
    float width;
    uint64_t seed;
};

static __device__ __forceinline__ float uniform(const struct fill_arguments &fill, int64_t index)
{
    uint64_t mixed = fill.seed + (uint64_t)index * 0x9e3779b97f4a7c15u; /* splitmix64 */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return fill.low + fill.width * ((float)(mixed >> 40) * 0x1p-24f);
}

static __device__ __forceinline__ void store(float *data, int64_t index, float value)
{
    data[index] = value;
}

static __device__ __forceinline__ void store(__nv_bfloat16 *data, int64_t index, float value)
{
    data[index] = __float2bfloat16_rn(value);
}

static __device__ __forceinline__ void store(__nv_fp8_e4m3 *data, int64_t index, float value)
{
    data[index] = __nv_fp8_e4m3(value);
}

template <class T> static __global__ void fill_uniform(struct fill_arguments fill)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; index < fill.count;
         index += stride) {
        store((T *)fill.data, index, uniform(fill, index));
    }
}

static enum status fill_dtype(struct fill_arguments fill, enum dtype dtype, cudaStream_t stream)
{
    if (fill.count == 0) {
        return STATUS_OK;
    }
    int64_t blocks = (fill.count + THREADS - 1) / THREADS;
    unsigned grid = (unsigned)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX);
    switch (dtype) {
    case DTYPE_FP32:
        return launch(fill_uniform<float>, grid, THREADS, 0, stream, fill);
    case DTYPE_BF16:
        return launch(fill_uniform<__nv_bfloat16>, grid, THREADS, 0, stream, fill);
    case DTYPE_FP8_E4M3:
        return launch(fill_uniform<__nv_fp8_e4m3>, grid, THREADS, 0, stream, fill);
    }
    return STATUS_INVALID;
}

extern "C" enum status gpu_fill(void *data, enum dtype dtype, int64_t count, float amplitude,
                                uint64_t seed, cudaStream_t stream)
{
    return fill_dtype({data, count, -amplitude, 2.0f * amplitude, bench_random_seed(seed, 0)},
                      dtype, stream);
}

extern "C" enum status gpu_fill_range(float *data, int64_t count, float low, float high,
                                      uint64_t seed, cudaStream_t stream)
{
    return fill_dtype({data, count, low, high - low, bench_random_seed(seed, 0)}, DTYPE_FP32,
                      stream);
}

/* fp8 elements use the whole range, as quantised blocks do; the scale brings them down. */
extern "C" enum status gpu_fill_matrix(struct matrix matrix, int64_t count, int64_t num_scales,
                                       float amplitude, uint64_t seed, cudaStream_t stream)
{
    const float FULL = 448.0f;
    bool fp8 = matrix.dtype == DTYPE_FP8_E4M3;
    enum status status =
        gpu_fill(matrix.data, matrix.dtype, count, fp8 ? FULL : amplitude, seed, stream);
    if (status == STATUS_OK && fp8) {
        status = gpu_fill_range(matrix.scale, num_scales, 0.5f * amplitude / FULL,
                                1.5f * amplitude / FULL, seed + 1, stream);
    }
    return status;
}

/* Four loads under way in each thread. The sum is written where it is a number that the bytes of
 * gpu_open cannot make, so that the loads are not left out. */
static __global__ void read_all(const uint4 *data, int64_t count, uint32_t *never)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    uint32_t sum = 0;
#pragma unroll 4
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        uint4 four = data[i];
        sum |= four.x ^ four.y ^ four.z ^ four.w;
    }
    if (sum != 0) {
        *never = sum;
    }
}

extern "C" enum status gpu_flush(struct gpu *gpu)
{
    int64_t count = gpu->flush_bytes / (int64_t)sizeof(uint4);
    int64_t blocks = (count + THREADS - 1) / THREADS;
    return launch(read_all, (unsigned)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX), THREADS, 0,
                  gpu->stream, (const uint4 *)gpu->flush, count, (uint32_t *)gpu->flush);
}
