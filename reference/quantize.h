/*
 * quantize.h -- bf16 and fp8 exactly as the hardware and PyTorch round.
 *
 *     scale = max(amax, 1e-4) / 448        amax: the largest |value| of the block
 *     element = fp8(value * (1 / scale))   each operation rounded to float32 once
 *
 * as per_token_cast_to_fp8 and per_block_cast_to_fp8 of DeepGEMM (without UE8M0 scales, which
 * Hopper does not need). Held against torch.bfloat16 and torch.float8_e4m3fn in tests/.
 */
#ifndef MOESIM_QUANTIZE_H
#define MOESIM_QUANTIZE_H

#include "arena.h"
#include "matrix.h"
#include "status.h"

#define FP8_MAX      448.0f
#define FP8_AMAX_MIN 1e-4f

/* Round to nearest even; every NaN becomes 0x7fff, as CUDA writes it. */
uint16_t bf16_from_float(float value);
float bf16_to_float(uint16_t value);

/* Round to nearest even; what is beyond 448 becomes 448, infinity too, as CUDA's __NV_SATFINITE and
 * torch.float8_e4m3fn have it (PyTorch 2.15; earlier ones made it NaN). */
uint8_t fp8_from_float(float value);
float fp8_to_float(uint8_t value);

/* One element as a float, scales left aside. */
float matrix_get(struct matrix matrix, int64_t index);

/* Writes value at index, rounded to the dtype; no scale is applied. */
void matrix_set(struct matrix matrix, int64_t index, float value);

/* Elements index to index + count - 1 as doubles, scales left aside. */
void matrix_read(struct matrix matrix, int64_t index, int32_t count, double *value);

/* Rounds value[count] into columns first .. first + count - 1 of row `row` of out [rows][columns];
 * fp8: with the block's scale. first is a multiple of SCALE_BLOCK, count at most that and less only
 * at the row's end. */
void matrix_set_block(struct matrix out, int64_t row, int32_t columns, int32_t first, int32_t count,
                      const float *value);

/* Columns of the block that begins at column first. */
static inline int32_t block_columns(int32_t columns, int32_t first)
{
    return columns - first < SCALE_BLOCK ? columns - first : SCALE_BLOCK;
}

/* Rounds row [columns] into row `row` of out [rows][columns]; fp8: with 1 x 128 scales. */
void matrix_set_row(struct matrix out, int64_t row, int32_t columns, const float *value);

/* Row `row` of in [rows][columns] as floats, scales applied. */
void matrix_get_row(struct matrix in, int64_t row, int32_t columns, float *value);

/* Row in_row of in [..][columns], fp32 or bf16, times weight, into row out_row of out, rounded to
 * its dtype; fp8: with 1 x 128 scales. */
void matrix_copy_row(struct matrix out, int64_t out_row, struct matrix in, int64_t in_row,
                     int32_t columns, float weight);

/* The same row as it is, elements and scales: both of one dtype. */
void matrix_move_row(struct matrix out, int64_t out_row, struct matrix in, int64_t in_row,
                     int32_t columns);

/* Memory for activations [rows][columns]; data NULL: the host has none left. */
struct matrix matrix_take(struct arena *arena, enum dtype dtype, int64_t rows, int32_t columns);

/* in [rows][columns] fp32 or bf16 -> out, any dtype; fp8: with 1 x 128 scales. STATUS_INVALID: a
 * negative size, fp8 in, scale_rows < rows. */
MUST_CHECK enum status ref_quantize_activations(int64_t rows, int32_t columns, struct matrix out,
                                                struct matrix in);

/* in [num_experts][rows][columns] fp32 -> out, any dtype; fp8: with 128 x 128 scales, row_block[r]
 * naming the block of scales that row r belongs to (grouped_gemm.h: gate and up rows differ), in
 * [0, num_blocks); NULL: r / 128. scale[num_experts][num_blocks][ceil(columns / 128)]. */
MUST_CHECK enum status ref_quantize_weights(int32_t num_experts, int32_t rows, int32_t columns,
                                            struct matrix out, const float *in,
                                            const int32_t *row_block, int32_t num_blocks);

#endif
