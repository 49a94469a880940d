/*
 * matrix.h -- numbers as the hardware stores them: fp32, bf16, or fp8 with scales.
 *
 * fp8 is E4M3 (finite: no infinities, NaN is 0x7f) with the block scales of DeepSeek-V3 (arXiv
 * 2412.19437, section 3.3) and DeepGEMM: a value is element * scale, the scale one float32 for
 *
 *   activations [rows][columns]     1 x 128 elements of a row;
 *                                   scale[ceil(columns / 128)][scale_rows]: the scales of one
 *                                   column block lie side by side, so that those of a tile's rows
 *                                   are one copy
 *   weights [experts][rows][cols]   128 x 128; scale[experts][ceil(rows / 128)][ceil(cols / 128)];
 *                                   for gate and up see grouped_gemm.h
 */
#ifndef MOESIM_MATRIX_H
#define MOESIM_MATRIX_H

#include <stdint.h>

#define SCALE_BLOCK 128 /* columns of an activation, rows and columns of a weight, a scale */

enum dtype {
    DTYPE_FP32,
    DTYPE_BF16,
    DTYPE_FP8_E4M3,
};

/* Row-major elements. scale: NULL unless fp8. The memory belongs to whoever made it; for a dev_*
 * function both pointers are device memory. */
struct matrix {
    enum dtype dtype;
    void *data;         /* float, uint16_t or uint8_t */
    float *scale;       /* as above */
    int64_t scale_rows; /* activations: rows between two column blocks of scale, >= rows */
};

static inline int32_t dtype_bytes(enum dtype dtype)
{
    return dtype == DTYPE_FP32 ? 4 : dtype == DTYPE_BF16 ? 2 : 1;
}

static inline int32_t scale_blocks(int32_t count)
{
    return (count + SCALE_BLOCK - 1) / SCALE_BLOCK;
}

#endif
