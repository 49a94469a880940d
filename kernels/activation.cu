/*
 * activation.cu -- h = activation(gate, up) where a dense GEMM has made gate and up: the shared
 * expert. (The grouped GEMMs do it in their epilogue.)
 *
 * v1  a thread a column. Bound by HBM: 6 bytes a column with gate and up in bf16, 10 in fp32;
 * neighbouring threads read neighbouring columns of a granule, so the caches see whole sectors.
 */
#include "moe_kernels.h"

#include <cuda_bf16.h>

#include "grouped_gemm.h"
#include "launch.cuh"

static __device__ __forceinline__ float value_of(struct matrix in, int64_t index)
{
    return in.dtype == DTYPE_FP32
               ? ((const float *)in.data)[index]
               : __uint_as_float((uint32_t)((const uint16_t *)in.data)[index] << 16);
}

static __device__ float activate(enum activation activation, float gate, float up)
{
    switch (activation) {
    case ACTIVATION_SWIGLU:
        return gate / (1.0f + expf(-gate)) * up;
    case ACTIVATION_SWIGLU_CLAMPED:
        gate = fminf(gate, SWIGLU_LIMIT);
        up = fminf(fmaxf(up, -SWIGLU_LIMIT), SWIGLU_LIMIT);
        return (up + 1.0f) * gate / (1.0f + expf(-SWIGLU_ALPHA * gate));
    case ACTIVATION_GELU:
        return 0.5f * gate * (1.0f + erff(gate * 0.70710678f));
    }
    return 0.0f;
}

static __global__ void activate_v1(struct expert_shape shape, int64_t count, uint16_t *h,
                                   struct matrix gate_up)
{
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) {
        return;
    }
    const int64_t row = index / shape.ffn_dim;
    const int32_t column = (int32_t)(index % shape.ffn_dim);
    const bool gelu = shape.activation == ACTIVATION_GELU;
    const int32_t first = column - column % GATE_UP_GRANULE;
    const int32_t width = min(GATE_UP_GRANULE, shape.ffn_dim - first); /* as gate_up_row() */
    const int64_t at = row * shape.ffn_dim * (gelu ? 1 : 2) +
                       (gelu ? column : 2 * first + column % GATE_UP_GRANULE);
    float value = activate(shape.activation, value_of(gate_up, at),
                           gelu ? 0.0f : value_of(gate_up, at + width));
    h[index] = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

extern "C" enum status dev_activate(struct expert_shape shape, int64_t num_rows, uint16_t *h,
                                    struct matrix gate_up, void *stream)
{
    int64_t count = num_rows * shape.ffn_dim;
    if (num_rows < 0 || shape.ffn_dim < 1 || gate_up.dtype == DTYPE_FP8_E4M3) {
        return STATUS_INVALID;
    }
    if (count == 0) {
        return STATUS_OK;
    }
    const unsigned threads = 256;
    return launch(activate_v1, (unsigned)((count + threads - 1) / threads), threads, 0, stream,
                  shape, count, h, gate_up);
}
