/* combine.c -- the sums in the order of k, so that the GPU twin can equal them bit for bit. */
#include "combine.h"

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
