/* permute.c -- count, sum up, place: a counting sort, stable in (token, k). */
#include "permute.h"

#include <string.h>

#include "quantize.h"

static enum status count_rows(struct permute_shape shape, int32_t *num_rows, const int32_t *expert)
{
    int64_t choices = (int64_t)shape.num_tokens * shape.top_k;
    memset(num_rows, 0, (size_t)shape.num_experts * sizeof *num_rows);
    for (int64_t i = 0; i < choices; i++) {
        if (expert[i] < EXPERT_NONE || expert[i] >= shape.num_experts) {
            return STATUS_INVALID;
        }
        if (expert[i] != EXPERT_NONE) {
            num_rows[expert[i]]++;
        }
    }
    return STATUS_OK;
}

bool permute_shape_valid(struct permute_shape shape)
{
    return shape.num_tokens >= 0 && shape.top_k >= 1 && shape.num_experts >= 1 &&
           shape.row_align >= 1 && (shape.row_align & (shape.row_align - 1)) == 0 &&
           permute_rows_max(shape) <= INT32_MAX;
}

void ref_row_begin(int32_t num_experts, int32_t row_align, int32_t *row_begin,
                   const int32_t *num_rows)
{
    row_begin[0] = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int32_t aligned = (num_rows[expert] + row_align - 1) & -row_align;
        row_begin[expert + 1] = row_begin[expert] + aligned;
    }
}

enum status ref_permute(struct permute_shape shape, int32_t *num_rows, int32_t *row_begin,
                        int32_t *row_of, int32_t *token_of, const int32_t *expert)
{
    if (!permute_shape_valid(shape) || count_rows(shape, num_rows, expert) != STATUS_OK) {
        return STATUS_INVALID;
    }
    ref_row_begin(shape.num_experts, shape.row_align, row_begin, num_rows);
    int64_t rows_max = permute_rows_max(shape);
    for (int64_t row = 0; row < rows_max; row++) {
        token_of[row] = ROW_PADDING;
    }
    /* While rows are placed, num_rows counts those that are; in the end it is what it was. */
    memset(num_rows, 0, (size_t)shape.num_experts * sizeof *num_rows);
    for (int32_t token = 0; token < shape.num_tokens; token++) {
        for (int64_t i = (int64_t)token * shape.top_k; i < (int64_t)(token + 1) * shape.top_k;
             i++) {
            row_of[i] = ROW_DROPPED;
            if (expert[i] != EXPERT_NONE) {
                row_of[i] = row_begin[expert[i]] + num_rows[expert[i]]++;
                token_of[row_of[i]] = token;
            }
        }
    }
    return STATUS_OK;
}

enum status ref_permute_rows(int32_t num_rows, int32_t hidden_dim, struct matrix out,
                             struct matrix x, const int32_t *token_of, const float *row_weight)
{
    if (num_rows < 0 || hidden_dim < 1 || x.dtype == DTYPE_FP8_E4M3 ||
        (out.dtype == DTYPE_FP8_E4M3 && (out.scale == NULL || out.scale_rows < num_rows))) {
        return STATUS_INVALID;
    }
    for (int32_t row = 0; row < num_rows; row++) {
        if (token_of[row] != ROW_PADDING) {
            float weight = row_weight == NULL ? 1.0f : row_weight[row];
            matrix_copy_row(out, row, x, token_of[row], hidden_dim, weight);
        }
    }
    return STATUS_OK;
}
