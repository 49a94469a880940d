/*
 * combine.cu -- bring each token's expert outputs home and add them up, weighted by the gate.
 *
 * v1  one block a token, an element a thread, gather in the order of k. One thread owns each output
 *     and nothing is atomic, so results repeat bit for bit. Bound by latency: top_k loads of two
 *     bytes, one after the other.
 * v2  bf16: a warp takes 512 columns of a token, 16 bytes a lane and load, and has four rows' loads
 *     in flight before the first is used. The sum is the same sum in the same order.
 *
 * Built with --fmad=false, all equal ref_combine_shared().
 * Bound by HBM: num_tokens * hidden_dim * (top_k + 1, + 1 with a shared expert) * 2 bytes.
 */
#include "moe_kernels.h"

#include <cuda_bf16.h>

#include "launch.cuh"

static const unsigned ALL_LANES = 0xffffffffu;
static const int LANES = 32;
static const int WARPS = 8;
static const int VECTOR = 8; /* columns of a lane and piece: 16 bytes of bf16 */
static const int PIECES = 2;
static const int PIECE_COLUMNS = VECTOR * LANES;
static const int WARP_COLUMNS = PIECE_COLUMNS * PIECES;
static const int ROWS = 4; /* read before the first is added */

struct combine_arguments {
    struct combine_shape shape;
    struct matrix out;
    struct matrix expert_out;
    const int32_t *row_of;
    const float *gate_weight;
    struct matrix shared;
};

/* ---- v1 ---- */

static __device__ __forceinline__ float get(struct matrix in, int64_t index)
{
    return in.dtype == DTYPE_FP32
               ? ((const float *)in.data)[index]
               : __uint_as_float((uint32_t)((const uint16_t *)in.data)[index] << 16);
}

static __device__ __forceinline__ void set(struct matrix out, int64_t index, float value)
{
    if (out.dtype == DTYPE_FP32) {
        ((float *)out.data)[index] = value;
    } else {
        ((__nv_bfloat16 *)out.data)[index] = __float2bfloat16_rn(value);
    }
}

static __global__ void combine_v1(struct combine_arguments combine)
{
    const int64_t token = blockIdx.x;
    const struct combine_shape shape = combine.shape;
    for (int32_t h = (int32_t)threadIdx.x; h < shape.hidden_dim; h += (int32_t)blockDim.x) {
        float sum = 0.0f;
        for (int64_t k = token * shape.top_k; k < (token + 1) * shape.top_k; k++) {
            if (combine.row_of[k] != ROW_DROPPED) {
                float weight = combine.gate_weight == NULL ? 1.0f : combine.gate_weight[k];
                sum += weight *
                       get(combine.expert_out, (int64_t)combine.row_of[k] * shape.hidden_dim + h);
            }
        }
        int64_t index = token * shape.hidden_dim + h;
        set(combine.out, index,
            combine.shared.data == NULL ? sum : sum + get(combine.shared, index));
    }
}

/* ---- v2 ---- */

static __device__ __forceinline__ void add_scaled(float (&sum)[VECTOR], uint4 packed, float weight)
{
    const uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum[2 * i] += weight * __uint_as_float(word[i] << 16);
        sum[2 * i + 1] += weight * __uint_as_float(word[i] & 0xffff0000u);
    }
}

static __device__ __forceinline__ uint4 pack(const float (&value)[VECTOR])
{
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t low = __bfloat16_as_ushort(__float2bfloat16_rn(value[2 * i]));
        uint32_t high = __bfloat16_as_ushort(__float2bfloat16_rn(value[2 * i + 1]));
        word[i] = low | high << 16;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* Adds the rows of choices k to k + ROWS - 1. row and weight of choice i are in lane i. */
static __device__ __forceinline__ void add_rows(float (&sum)[PIECES][VECTOR],
                                                const struct combine_arguments &combine, int32_t k,
                                                int32_t row_of_lane, float weight_of_lane,
                                                int32_t first)
{
    const int32_t hidden = combine.shape.hidden_dim;
    const uint16_t *data = (const uint16_t *)combine.expert_out.data;
    uint4 packed[ROWS][PIECES];
    int32_t row[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        row[i] = __shfl_sync(ALL_LANES, row_of_lane, k + i);
        row[i] = k + i < combine.shape.top_k ? row[i] : ROW_DROPPED;
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++) {
            int32_t column = first + piece * PIECE_COLUMNS;
            packed[i][piece] = make_uint4(0, 0, 0, 0);
            if (row[i] != ROW_DROPPED && column < hidden) {
                packed[i][piece] = __ldg((const uint4 *)&data[(int64_t)row[i] * hidden + column]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float weight = __shfl_sync(ALL_LANES, weight_of_lane, k + i);
        if (row[i] != ROW_DROPPED) {
#pragma unroll
            for (int piece = 0; piece < PIECES; piece++) {
                add_scaled(sum[piece], packed[i][piece], weight);
            }
        }
    }
}

static __global__ void __launch_bounds__(WARPS *LANES) combine_v2(struct combine_arguments combine)
{
    const struct combine_shape shape = combine.shape;
    const int32_t lane = (int32_t)threadIdx.x % LANES;
    const int32_t parts = (shape.hidden_dim + WARP_COLUMNS - 1) / WARP_COLUMNS;
    const int64_t item = (int64_t)blockIdx.x * WARPS + threadIdx.x / LANES;
    const int64_t token = item / parts;
    const int32_t first = (int32_t)(item % parts) * WARP_COLUMNS + lane * VECTOR;
    if (token >= shape.num_tokens) {
        return; /* the whole warp */
    }
    int64_t choice = token * shape.top_k + min(lane, shape.top_k - 1);
    int32_t row = combine.row_of[choice];
    float weight = combine.gate_weight == NULL ? 1.0f : combine.gate_weight[choice];
    float sum[PIECES][VECTOR] = {};
    for (int32_t k = 0; k < shape.top_k; k += ROWS) {
        add_rows(sum, combine, k, row, weight, first);
    }
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
        int32_t column = first + piece * PIECE_COLUMNS;
        int64_t index = token * shape.hidden_dim + column;
        if (column < shape.hidden_dim) {
            if (combine.shared.data != NULL) {
                const uint16_t *shared = (const uint16_t *)combine.shared.data;
                add_scaled(sum[piece], __ldg((const uint4 *)&shared[index]), 1.0f);
            }
            *(uint4 *)&((uint16_t *)combine.out.data)[index] = pack(sum[piece]);
        }
    }
}

static bool vectors(const struct combine_arguments &combine)
{
    return combine.out.dtype == DTYPE_BF16 && combine.expert_out.dtype == DTYPE_BF16 &&
           (combine.shared.data == NULL || combine.shared.dtype == DTYPE_BF16) &&
           combine.shape.hidden_dim % VECTOR == 0 && combine.shape.top_k <= LANES - ROWS;
}

extern "C" enum status dev_combine_version(int32_t version, struct combine_shape shape,
                                           struct matrix out, struct matrix expert_out,
                                           const int32_t *row_of, const float *gate_weight,
                                           struct matrix shared, void *stream)
{
    if (version < 1 || version > DEV_COMBINE_VERSIONS || shape.num_tokens < 0 || shape.top_k < 1 ||
        shape.hidden_dim < 1 || out.dtype == DTYPE_FP8_E4M3 || expert_out.dtype == DTYPE_FP8_E4M3 ||
        (shared.data != NULL && shared.dtype == DTYPE_FP8_E4M3)) {
        return STATUS_INVALID;
    }
    if (shape.num_tokens == 0) {
        return STATUS_OK; /* a rank may receive nothing; a grid of no blocks is a CUDA error */
    }
    struct combine_arguments combine = {shape, out, expert_out, row_of, gate_weight, shared};
    if (version == 1 || !vectors(combine)) {
        const unsigned threads = 256; /* 8 warps: enough loads in flight, few registers */
        return launch(combine_v1, (unsigned)shape.num_tokens, threads, 0, stream, combine);
    }
    int64_t parts = (shape.hidden_dim + WARP_COLUMNS - 1) / WARP_COLUMNS;
    unsigned blocks = (unsigned)((shape.num_tokens * parts + WARPS - 1) / WARPS);
    return launch(combine_v2, blocks, WARPS * LANES, 0, stream, combine);
}

extern "C" enum status dev_combine(struct combine_shape shape, struct matrix out,
                                   struct matrix expert_out, const int32_t *row_of,
                                   const float *gate_weight, struct matrix shared, void *stream)
{
    return dev_combine_version(DEV_COMBINE_VERSIONS, shape, out, expert_out, row_of, gate_weight,
                               shared, stream);
}
