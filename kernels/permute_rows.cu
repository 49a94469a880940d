/*
 * permute_rows.cu -- bring each token to the rows of its experts, rounded to what they multiply.
 *
 * v1  a thread takes 128 columns of a token, element by element. Bound by uncoalesced access: the
 *     threads of a warp write 256 bytes apart.
 * v2  a warp takes 512 columns of a token, 16 bytes a lane and load, and writes them to all the
 *     token's rows: x is read once, not top_k times. fp8: the largest magnitude of 128 columns is
 *     found by 16 lanes with four shuffles, and a token is quantised once for all its rows.
 *
 * Bound by HBM: hidden_dim * (2 + top_k * bytes) a token, bytes 2 for bf16, 1 + 4/128 for fp8.
 */
#include "moe_kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "launch.cuh"
#include "quantize.h"

static const unsigned ALL_LANES = 0xffffffffu;
static const int LANES = 32;
static const int WARPS = 8;
static const int VECTOR = 8; /* columns of a lane and piece: 16 bytes of bf16 */
static const int PIECES = 2; /* loads in flight a lane */
static const int PIECE_COLUMNS = VECTOR * LANES;
static const int WARP_COLUMNS = PIECE_COLUMNS * PIECES;
static const int SCALE_LANES = SCALE_BLOCK / VECTOR;

struct rows_arguments {
    struct combine_shape shape;
    struct matrix out;
    const uint16_t *x;
    const int32_t *row_of;
    const float *gate_weight;
};

static __device__ __forceinline__ float bf16_value(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

static __device__ __forceinline__ uint16_t bf16_bits(float value)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

static __device__ __forceinline__ uint8_t fp8_bits(float value)
{
    return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

static __device__ __forceinline__ float scale_of(float amax)
{
    return fmaxf(amax, FP8_AMAX_MIN) / FP8_MAX;
}

/* ---- v1 ---- */

static __device__ void v1_write(const struct rows_arguments &rows, int64_t token, int32_t row,
                                int32_t first, float weight)
{
    const int64_t hidden = rows.shape.hidden_dim;
    int32_t end = min(first + SCALE_BLOCK, rows.shape.hidden_dim);
    float amax = 0.0f;
    for (int32_t column = first; column < end; column++) {
        amax = fmaxf(amax, fabsf(bf16_value(rows.x[token * hidden + column]) * weight));
    }
    float scale = scale_of(amax);
    float inverse = 1.0f / scale;
    for (int32_t column = first; column < end; column++) {
        float value = bf16_value(rows.x[token * hidden + column]) * weight;
        if (rows.out.dtype == DTYPE_BF16) {
            ((uint16_t *)rows.out.data)[row * hidden + column] = bf16_bits(value);
        } else {
            ((uint8_t *)rows.out.data)[row * hidden + column] = fp8_bits(value * inverse);
        }
    }
    if (rows.out.dtype == DTYPE_FP8_E4M3) {
        rows.out.scale[first / SCALE_BLOCK * rows.out.scale_rows + row] = scale;
    }
}

static __global__ void rows_v1(struct rows_arguments rows)
{
    const int64_t token = blockIdx.x;
    for (int32_t first = (int32_t)threadIdx.x * SCALE_BLOCK; first < rows.shape.hidden_dim;
         first += (int32_t)blockDim.x * SCALE_BLOCK) {
        for (int32_t k = 0; k < rows.shape.top_k; k++) {
            int64_t choice = token * rows.shape.top_k + k;
            if (rows.row_of[choice] != ROW_DROPPED) {
                v1_write(rows, token, rows.row_of[choice], first,
                         rows.gate_weight == NULL ? 1.0f : rows.gate_weight[choice]);
            }
        }
    }
}

/* ---- v2 ---- */

static __device__ __forceinline__ void unpack(float (&value)[VECTOR], uint4 packed, float weight)
{
    const uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        value[2 * i] = bf16_value(word[i] & 0xffffu) * weight;
        value[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u) * weight;
    }
}

static __device__ __forceinline__ uint4 pack_bf16(const float (&value)[VECTOR])
{
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        word[i] = bf16_bits(value[2 * i]) | (uint32_t)bf16_bits(value[2 * i + 1]) << 16;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* All lanes; those beyond the row's end hold zeros. *scale is the same in the 16 lanes of a block.
 */
static __device__ __forceinline__ uint2 pack_fp8(const float (&value)[VECTOR], float *scale)
{
    float amax = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        amax = fmaxf(amax, fabsf(value[i]));
    }
    for (int distance = SCALE_LANES / 2; distance > 0; distance /= 2) {
        amax = fmaxf(amax, __shfl_xor_sync(ALL_LANES, amax, distance));
    }
    *scale = scale_of(amax);
    float inverse = 1.0f / *scale;
    uint32_t word[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        word[i / 4] |= (uint32_t)fp8_bits(value[i] * inverse) << 8 * (i % 4);
    }
    return make_uint2(word[0], word[1]);
}

/* One piece of one row: 8 columns a lane from `column`, which may lie beyond the end. */
template <enum dtype OUT>
static __device__ __forceinline__ void write_piece(const struct rows_arguments &rows, int32_t row,
                                                   int32_t column, uint4 bf16, uint2 fp8,
                                                   float scale)
{
    if (column >= rows.shape.hidden_dim) {
        return;
    }
    int64_t index = (int64_t)row * rows.shape.hidden_dim + column;
    if constexpr (OUT == DTYPE_BF16) {
        *(uint4 *)&((uint16_t *)rows.out.data)[index] = bf16;
    } else {
        *(uint2 *)&((uint8_t *)rows.out.data)[index] = fp8;
        if (column % SCALE_BLOCK == 0) {
            rows.out.scale[column / SCALE_BLOCK * rows.out.scale_rows + row] = scale;
        }
    }
}

template <enum dtype OUT, bool WEIGHTED>
static __global__ void __launch_bounds__(WARPS *LANES) rows_v2(struct rows_arguments rows)
{
    const int32_t lane = (int32_t)threadIdx.x % LANES;
    const int32_t parts = (rows.shape.hidden_dim + WARP_COLUMNS - 1) / WARP_COLUMNS;
    const int64_t item = (int64_t)blockIdx.x * WARPS + threadIdx.x / LANES;
    const int64_t token = item / parts;
    const int32_t first = (int32_t)(item % parts) * WARP_COLUMNS + lane * VECTOR;
    if (token >= rows.shape.num_tokens) {
        return; /* the whole warp */
    }
    int64_t choice = token * rows.shape.top_k + min(lane, rows.shape.top_k - 1);
    int32_t row_of_lane = rows.row_of[choice];
    float weight_of_lane = WEIGHTED ? rows.gate_weight[choice] : 1.0f;
    uint4 packed[PIECES];
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
        int32_t column = first + piece * PIECE_COLUMNS;
        packed[piece] = make_uint4(0, 0, 0, 0);
        if (column < rows.shape.hidden_dim) {
            packed[piece] = __ldg((const uint4 *)&rows.x[token * rows.shape.hidden_dim + column]);
        }
    }
    uint2 fp8[PIECES] = {};
    float scale[PIECES] = {};
    for (int32_t k = 0; k < rows.shape.top_k; k++) {
        int32_t row = __shfl_sync(ALL_LANES, row_of_lane, k);
        float weight = __shfl_sync(ALL_LANES, weight_of_lane, k);
        if (row == ROW_DROPPED && k > 0) {
            continue; /* the whole warp; the first choice quantises for all */
        }
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++) {
            uint4 bf16 = packed[piece];
            if (WEIGHTED || (OUT == DTYPE_FP8_E4M3 && k == 0)) {
                float value[VECTOR];
                unpack(value, packed[piece], weight);
                if constexpr (OUT == DTYPE_BF16) {
                    bf16 = pack_bf16(value);
                } else {
                    fp8[piece] = pack_fp8(value, &scale[piece]);
                }
            }
            if (row != ROW_DROPPED) {
                write_piece<OUT>(rows, row, first + piece * PIECE_COLUMNS, bf16, fp8[piece],
                                 scale[piece]);
            }
        }
    }
}

template <enum dtype OUT>
static enum status launch_v2(const struct rows_arguments &rows, void *stream)
{
    int64_t parts = (rows.shape.hidden_dim + WARP_COLUMNS - 1) / WARP_COLUMNS;
    unsigned blocks = (unsigned)((rows.shape.num_tokens * parts + WARPS - 1) / WARPS);
    return launch(rows.gate_weight != NULL ? rows_v2<OUT, true> : rows_v2<OUT, false>, blocks,
                  WARPS * LANES, 0, stream, rows);
}

extern "C" enum status dev_permute_rows_version(int32_t version, struct combine_shape shape,
                                                struct matrix out, struct matrix x,
                                                const int32_t *row_of, const float *gate_weight,
                                                void *stream)
{
    if (version < 1 || version > DEV_ROWS_VERSIONS || shape.num_tokens < 0 || shape.top_k < 1 ||
        shape.hidden_dim < 1 || x.dtype != DTYPE_BF16 || out.dtype == DTYPE_FP32 ||
        (out.dtype == DTYPE_FP8_E4M3 && out.scale == NULL)) {
        return STATUS_INVALID;
    }
    if (shape.num_tokens == 0) {
        return STATUS_OK;
    }
    struct rows_arguments rows = {shape, out, (const uint16_t *)x.data, row_of, gate_weight};
    if (version == 1 || shape.hidden_dim % VECTOR != 0 || shape.top_k > LANES) {
        return launch(rows_v1, (unsigned)shape.num_tokens, 64, 0, stream, rows);
    }
    return out.dtype == DTYPE_BF16 ? launch_v2<DTYPE_BF16>(rows, stream)
                                   : launch_v2<DTYPE_FP8_E4M3>(rows, stream);
}

extern "C" enum status dev_permute_rows(struct combine_shape shape, struct matrix out,
                                        struct matrix x, const int32_t *row_of,
                                        const float *gate_weight, void *stream)
{
    return dev_permute_rows_version(DEV_ROWS_VERSIONS, shape, out, x, row_of, gate_weight, stream);
}
