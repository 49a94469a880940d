/*
 * permute.h -- bring the tokens of each expert together, and remember where they went.
 *
 * Rows are grouped by expert, in the order of ids; within an expert in the order of (token, k). A
 * group begins at a multiple of row_align, so that a tile of so many rows belongs to one expert;
 * the rows between are padding.
 *
 *     num_rows[e]   = choices (t, k) with expert[t][k] == e
 *     row_begin[e]  = sum over e' < e of num_rows[e'] rounded up to row_align
 *     row_of[t][k]  = the row of choice (t, k), as combine.h reads it
 *     token_of[row] = its token, ROW_PADDING where no token is
 *
 * Slots of an expert-parallel group take the place of experts without further ado.
 */
#ifndef MOESIM_PERMUTE_H
#define MOESIM_PERMUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "combine.h"
#include "matrix.h"
#include "status.h"

#define EXPERT_NONE (-1) /* this choice goes nowhere: its row_of is ROW_DROPPED */
#define ROW_PADDING (-1)

struct permute_shape {
    int32_t num_tokens;
    int32_t top_k;
    int32_t num_experts;
    int32_t row_align; /* a power of two; 1: rows without gaps */
};

/* The most rows that a permutation of this shape can have, padding included. */
static inline int64_t permute_rows_max(struct permute_shape shape)
{
    int64_t choices = (int64_t)shape.num_tokens * shape.top_k;
    int64_t groups = choices < shape.num_experts ? choices : shape.num_experts;
    return choices + groups * (shape.row_align - 1);
}

/* Whether ref_permute takes it: counts in range, row_align a power of two, rows that int32 counts.
 */
bool permute_shape_valid(struct permute_shape shape);

/* row_begin[num_experts + 1] of num_rows[num_experts], as above. */
void ref_row_begin(int32_t num_experts, int32_t row_align, int32_t *row_begin,
                   const int32_t *num_rows);

/*   num_rows   [num_experts] out
 *   row_begin  [num_experts + 1] out; the last one is all rows, padding included
 *   row_of     [num_tokens][top_k] out
 *   token_of   [permute_rows_max] out; beyond row_begin[num_experts] ROW_PADDING too
 *   expert     [num_tokens][top_k] in [0, num_experts) or EXPERT_NONE
 * Takes no memory. STATUS_INVALID: a shape that is not valid, an expert out of range (outputs are
 * then undefined). */
MUST_CHECK enum status ref_permute(struct permute_shape shape, int32_t *num_rows,
                                   int32_t *row_begin, int32_t *row_of, int32_t *token_of,
                                   const int32_t *expert);

/* Copies each token's x to its rows, rounded to out's dtype (fp8: with 1 x 128 scales).
 *   num_rows     rows of token_of; padding rows of out stay as they are
 *   out          [num_rows][hidden_dim]
 *   x            [num_tokens][hidden_dim] fp32 or bf16
 *   row_weight   [num_rows] what a row is multiplied by before rounding (Llama-4 weighs what goes
 *                into an expert); NULL: 1
 * STATUS_INVALID: a negative num_rows, hidden_dim < 1, x is fp8. */
MUST_CHECK enum status ref_permute_rows(int32_t num_rows, int32_t hidden_dim, struct matrix out,
                                        struct matrix x, const int32_t *token_of,
                                        const float *row_weight);

#endif
