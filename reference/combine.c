/* combine.c -- the sums in the order of k, so that the GPU twin can equal them bit for bit. */
#include "combine.h"

#include <stddef.h>

#include "quantize.h"

static void combine_token(struct combine_shape shape, float *out, const float *expert_out,
                          const int32_t *row_of, const float *gate_weight)
{
    for (int32_t h = 0; h < shape.hidden_dim; h++) {
        float sum = 0.0f;
        for (int32_t k = 0; k < shape.top_k; k++) {
            if (row_of[k] != ROW_DROPPED) {
                sum += gate_weight[k] * expert_out[(int64_t)row_of[k] * shape.hidden_dim + h];
            }
        }
        out[h] = sum;
    }
}

enum status ref_combine(struct combine_shape shape, float *out, const float *expert_out,
                        const int32_t *row_of, const float *gate_weight)
{
    if (shape.num_tokens < 0 || shape.top_k < 1 || shape.hidden_dim < 1) {
        return STATUS_INVALID;
    }
    for (int64_t token = 0; token < shape.num_tokens; token++) {
        combine_token(shape, &out[token * shape.hidden_dim], expert_out,
                      &row_of[token * shape.top_k], &gate_weight[token * shape.top_k]);
    }
    return STATUS_OK;
}

enum status ref_combine_shared(struct combine_shape shape, struct matrix out,
                               struct matrix expert_out, const int32_t *row_of,
                               const float *gate_weight, struct matrix shared)
{
    if (shape.num_tokens < 0 || shape.top_k < 1 || shape.hidden_dim < 1 ||
        out.dtype == DTYPE_FP8_E4M3 || expert_out.dtype == DTYPE_FP8_E4M3 ||
        (shared.data != NULL && shared.dtype == DTYPE_FP8_E4M3)) {
        return STATUS_INVALID;
    }
    for (int64_t i = 0; i < (int64_t)shape.num_tokens * shape.hidden_dim; i++) {
        int64_t token = i / shape.hidden_dim;
        int64_t column = i % shape.hidden_dim;
        float sum = 0.0f;
        for (int64_t k = token * shape.top_k; k < (token + 1) * shape.top_k; k++) {
            if (row_of[k] != ROW_DROPPED) {
                float weight = gate_weight == NULL ? 1.0f : gate_weight[k];
                sum +=
                    weight * matrix_get(expert_out, (int64_t)row_of[k] * shape.hidden_dim + column);
            }
        }
        matrix_set(out, i, shared.data == NULL ? sum : sum + matrix_get(shared, i));
    }
    return STATUS_OK;
}
