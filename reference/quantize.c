/* quantize.c -- rounding by integer arithmetic on the bits, as the hardware does it. */
#include "quantize.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t bf16_from_float(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0x7fff;
    }
    /* Half a unit less one, plus the last bit kept: ties go to even. */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

float bf16_to_float(uint16_t value)
{
    return float_of((uint32_t)value << 16);
}

uint8_t fp8_from_float(float value)
{
    uint32_t bits = bits_of(value);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude < 0x3c800000u) { /* below 2^-6: subnormal, in units of 2^-9 */
        /* 2^14 has units of 2^-9, so the addition rounds, to even as every addition does. */
        float rounded = float_of(magnitude) + 16384.0f;
        return (uint8_t)(sign | (bits_of(rounded) - bits_of(16384.0f)));
    }
    /* Three bits of mantissa stay; the exponent's bias goes from 127 to 7. */
    uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1);
    uint32_t fp8 = (rounded >> 20) - ((127u - 7u) << 3);
    fp8 = fp8 > 0x7e ? 0x7e : fp8;
    return (uint8_t)(sign | (magnitude > 0x7f800000u ? 0x7f : fp8));
}

float fp8_to_float(uint8_t value)
{
    uint32_t magnitude = value & 0x7fu;
    uint32_t sign = (uint32_t)(value & 0x80) << 24;
    if (magnitude == 0x7f) {
        return float_of(sign | 0x7fc00000u);
    }
    float absolute = magnitude < 8 ? (float)magnitude * 0x1p-9f /* subnormal */
                                   : float_of((magnitude + ((127u - 7u) << 3)) << 20);
    return float_of(sign | bits_of(absolute));
}

float matrix_get(struct matrix matrix, int64_t index)
{
    switch (matrix.dtype) {
    case DTYPE_FP32:
        return ((const float *)matrix.data)[index];
    case DTYPE_BF16:
        return bf16_to_float(((const uint16_t *)matrix.data)[index]);
    case DTYPE_FP8_E4M3:
        return fp8_to_float(((const uint8_t *)matrix.data)[index]);
    }
    return 0.0f;
}

void matrix_set(struct matrix matrix, int64_t index, float value)
{
    switch (matrix.dtype) {
    case DTYPE_FP32:
        ((float *)matrix.data)[index] = value;
        break;
    case DTYPE_BF16:
        ((uint16_t *)matrix.data)[index] = bf16_from_float(value);
        break;
    case DTYPE_FP8_E4M3:
        ((uint8_t *)matrix.data)[index] = fp8_from_float(value);
        break;
    }
}

void matrix_read(struct matrix matrix, int64_t index, int32_t count, double *value)
{
    switch (matrix.dtype) {
    case DTYPE_FP32:
        for (int32_t i = 0; i < count; i++) {
            value[i] = (double)((const float *)matrix.data)[index + i];
        }
        break;
    case DTYPE_BF16:
        for (int32_t i = 0; i < count; i++) {
            value[i] = (double)bf16_to_float(((const uint16_t *)matrix.data)[index + i]);
        }
        break;
    case DTYPE_FP8_E4M3:
        for (int32_t i = 0; i < count; i++) {
            value[i] = (double)fp8_to_float(((const uint8_t *)matrix.data)[index + i]);
        }
        break;
    }
}

static float scale_of(float amax)
{
    return (amax > FP8_AMAX_MIN ? amax : FP8_AMAX_MIN) / FP8_MAX;
}

void matrix_set_block(struct matrix out, int64_t row, int32_t columns, int32_t first, int32_t count,
                      const float *value)
{
    int64_t begin = row * columns + first;
    float inverse = 1.0f;
    if (out.dtype == DTYPE_FP8_E4M3) {
        float amax = 0.0f;
        for (int32_t i = 0; i < count; i++) {
            amax = fmaxf(amax, fabsf(value[i]));
        }
        float scale = scale_of(amax);
        inverse = 1.0f / scale;
        out.scale[first / SCALE_BLOCK * out.scale_rows + row] = scale;
    }
    for (int32_t i = 0; i < count; i++) {
        matrix_set(out, begin + i, value[i] * inverse);
    }
}

void matrix_set_row(struct matrix out, int64_t row, int32_t columns, const float *value)
{
    for (int32_t first = 0; first < columns; first += SCALE_BLOCK) {
        matrix_set_block(out, row, columns, first, block_columns(columns, first), &value[first]);
    }
}

void matrix_get_row(struct matrix in, int64_t row, int32_t columns, float *value)
{
    for (int32_t column = 0; column < columns; column++) {
        value[column] = matrix_get(in, row * columns + column);
        if (in.dtype == DTYPE_FP8_E4M3) {
            value[column] *= in.scale[column / SCALE_BLOCK * in.scale_rows + row];
        }
    }
}

void matrix_copy_row(struct matrix out, int64_t out_row, struct matrix in, int64_t in_row,
                     int32_t columns, float weight)
{
    assert(in.dtype != DTYPE_FP8_E4M3);
    for (int32_t first = 0; first < columns; first += SCALE_BLOCK) {
        float value[SCALE_BLOCK];
        int32_t count = block_columns(columns, first);
        for (int32_t i = 0; i < count; i++) {
            value[i] = matrix_get(in, in_row * columns + first + i) * weight;
        }
        matrix_set_block(out, out_row, columns, first, count, value);
    }
}

void matrix_move_row(struct matrix out, int64_t out_row, struct matrix in, int64_t in_row,
                     int32_t columns)
{
    assert(out.dtype == in.dtype);
    size_t row_bytes = (size_t)columns * (size_t)dtype_bytes(in.dtype);
    memcpy((char *)out.data + (size_t)out_row * row_bytes,
           (const char *)in.data + (size_t)in_row * row_bytes, row_bytes);
    if (in.dtype == DTYPE_FP8_E4M3) {
        for (int32_t block = 0; block < scale_blocks(columns); block++) {
            out.scale[block * out.scale_rows + out_row] = in.scale[block * in.scale_rows + in_row];
        }
    }
}

struct matrix matrix_take(struct arena *arena, enum dtype dtype, int64_t rows, int32_t columns)
{
    struct matrix matrix = {.dtype = dtype, .scale_rows = rows};
    size_t row_bytes = (size_t)columns * (size_t)dtype_bytes(dtype);
    matrix.data = arena_take(arena, (size_t)rows, row_bytes);
    if (dtype == DTYPE_FP8_E4M3) {
        size_t row_scales = (size_t)scale_blocks(columns) * sizeof *matrix.scale;
        matrix.scale = arena_take(arena, (size_t)rows, row_scales);
        matrix.data = matrix.scale == NULL ? NULL : matrix.data;
    }
    return matrix;
}

enum status ref_quantize_activations(int64_t rows, int32_t columns, struct matrix out,
                                     struct matrix in)
{
    if (rows < 0 || columns < 1 || in.dtype == DTYPE_FP8_E4M3 ||
        (out.dtype == DTYPE_FP8_E4M3 && (out.scale == NULL || out.scale_rows < rows))) {
        return STATUS_INVALID;
    }
    for (int64_t row = 0; row < rows; row++) {
        matrix_copy_row(out, row, in, row, columns, 1.0f);
    }
    return STATUS_OK;
}

static int32_t block_of(const int32_t *row_block, int32_t row)
{
    return row_block == NULL ? row / SCALE_BLOCK : row_block[row];
}

/* One expert: the blocks' largest magnitudes into scale, then scales out of those. */
static void weight_scales(int32_t rows, int32_t columns, float *scale, const float *in,
                          const int32_t *row_block, int32_t num_blocks)
{
    int32_t row_scales = scale_blocks(columns);
    memset(scale, 0, (size_t)num_blocks * (size_t)row_scales * sizeof *scale);
    for (int32_t row = 0; row < rows; row++) {
        float *amax = &scale[(int64_t)block_of(row_block, row) * row_scales];
        for (int32_t column = 0; column < columns; column++) {
            float magnitude = fabsf(in[(int64_t)row * columns + column]);
            amax[column / SCALE_BLOCK] = fmaxf(amax[column / SCALE_BLOCK], magnitude);
        }
    }
    for (int32_t i = 0; i < num_blocks * row_scales; i++) {
        scale[i] = scale_of(scale[i]);
    }
}

enum status ref_quantize_weights(int32_t num_experts, int32_t rows, int32_t columns,
                                 struct matrix out, const float *in, const int32_t *row_block,
                                 int32_t num_blocks)
{
    bool scaled = out.dtype == DTYPE_FP8_E4M3;
    if (num_experts < 0 || rows < 1 || columns < 1 || (scaled && out.scale == NULL) ||
        num_blocks < (row_block == NULL ? scale_blocks(rows) : 1)) {
        return STATUS_INVALID;
    }
    for (int32_t row = 0; row_block != NULL && row < rows; row++) {
        if (row_block[row] < 0 || row_block[row] >= num_blocks) {
            return STATUS_INVALID;
        }
    }
    int64_t expert_scales = (int64_t)num_blocks * scale_blocks(columns);
    for (int64_t expert = 0; expert < num_experts; expert++) {
        int64_t begin = expert * rows * columns;
        const float *scale = scaled ? &out.scale[expert * expert_scales] : NULL;
        if (scaled) {
            weight_scales(rows, columns, &out.scale[expert * expert_scales], &in[begin], row_block,
                          num_blocks);
        }
        for (int32_t row = 0; row < rows; row++) {
            int64_t first_scale = (int64_t)block_of(row_block, row) * scale_blocks(columns);
            for (int32_t column = 0; column < columns; column++) {
                int64_t index = begin + (int64_t)row * columns + column;
                float inverse = scaled ? 1.0f / scale[first_scale + column / SCALE_BLOCK] : 1.0f;
                matrix_set(out, index, in[index] * inverse);
            }
        }
    }
    return STATUS_OK;
}
