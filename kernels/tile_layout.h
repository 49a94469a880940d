/*
 * tile_layout.h -- where the elements of a tile lie in shared memory and in registers.
 *
 * Shared memory. A stage holds 128 bytes of K of every row: rows lie one after another, and the
 * copy engine exchanges the eight 16-byte chunks of a row, chunk c of row r going to c ^ (r % 8)
 * (its 128-byte swizzle), so that a column of chunks touches every bank once. Eight rows, 1024
 * bytes, are an atom; wgmma reads operands of such atoms by a descriptor. Bases are multiples of
 * 1024.
 *
 * Registers. d of wgmma (PTX ISA, "wgmma.mma_async", matrix D): thread t of 128, warp w = t / 32,
 * lane l = t % 32, holds in d[4 j + 2 h + b] row 16 w + 8 h + l / 4, column 8 j + 2 (l % 4) + b.
 */
#ifndef MOESIM_TILE_LAYOUT_H
#define MOESIM_TILE_LAYOUT_H

#include "tile_schedule.h"

#define ROW_BYTES  128  /* of K a stage: 64 bf16 or 128 fp8 */
#define ATOM_BYTES 1024 /* eight rows */
#define WGMMA_ROWS 64   /* of d */

/* Byte of a swizzled tile where byte `byte` of row `row` lies. */
TILE_FUNCTION uint32_t swizzled(uint32_t row, uint32_t byte)
{
    return row * ROW_BYTES + (byte ^ (row % 8 * 16));
}

/* Descriptor of an operand whose first row begins at a shared memory address: rows as above, K
 * along the row (PTX ISA, "Matrix Descriptor Format"): address, leading offset (of no use under a
 * swizzle) and stride from atom to atom in units of 16 bytes, swizzle mode 1: 128 bytes. */
TILE_FUNCTION uint64_t operand_descriptor(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 |
           (uint64_t)(ATOM_BYTES >> 4) << 32 | (uint64_t)1 << 62;
}

/* The same, `rows` rows (a multiple of 8) and `step` multiplies of 32 bytes of K further on. */
TILE_FUNCTION uint64_t operand_at(uint64_t descriptor, uint32_t rows, uint32_t step)
{
    return descriptor + ((rows * ROW_BYTES + step * 32) >> 4);
}

TILE_FUNCTION int32_t fragment_row(int32_t thread, int32_t index)
{
    return thread / 32 * 16 + index / 2 % 2 * 8 + thread % 32 / 4;
}

TILE_FUNCTION int32_t fragment_column(int32_t thread, int32_t index)
{
    return index / 4 * 8 + thread % 4 * 2 + index % 2;
}

/* --- large tiles: shared memory of a block --- */

#define LARGE_STAGES  4
#define TOKENS_BYTES  (TILE_TOKENS * ROW_BYTES)
#define WEIGHTS_BYTES (TILE_WEIGHTS * ROW_BYTES)
#define STAGE_BYTES   (TOKENS_BYTES + WEIGHTS_BYTES)
/* Scales of a stage's rows: the copy begins at a multiple of four, so up to three come before. */
#define SCALES_BYTES ((TILE_TOKENS + 4) * 4)
/* Bytes of that copy: up to the end of the column block's scales, whose number is a multiple of
 * four. */
TILE_FUNCTION uint32_t scales_bytes(int64_t scale_rows, int32_t first_row)
{
    int64_t left = scale_rows - (first_row & ~3);
    return (uint32_t)(left < TILE_TOKENS + 4 ? left : TILE_TOKENS + 4) * 4;
}

/* Two column blocks of 64 bf16 (or one of 128 fp8) by 64 rows, a consumer. */
#define STAGING_BYTES (2 * WGMMA_ROWS * ROW_BYTES)

/* Byte of a consumer's staging where lane `lane` puts its row of four 8 x 8 matrices (stmatrix.x4):
 * rows 0-7 and 8-15 of the warp's 16, of column tiles 2 q and 2 q + 1 (8 columns of bf16 each). */
TILE_FUNCTION uint32_t staging_matrix(int32_t warp, int32_t lane, int32_t q)
{
    int32_t tile = 2 * q + lane / 16;
    return (uint32_t)(tile / 8) * (WGMMA_ROWS * ROW_BYTES) +
           swizzled((uint32_t)(warp * 16 + lane % 16), (uint32_t)(tile % 8 * 16));
}

/* Byte of the staging where 16-byte chunk `chunk` of row `row` lies. */
TILE_FUNCTION uint32_t staging_chunk(int32_t row, int32_t chunk)
{
    return (uint32_t)(chunk / 8) * (WGMMA_ROWS * ROW_BYTES) +
           swizzled((uint32_t)row, (uint32_t)(chunk % 8 * 16));
}

#endif
