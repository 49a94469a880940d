/*
 * combine.cu -- bring each token's expert outputs home and add them up, weighted by the gate.
 *
 * v1  one block a token, gather in the order of k. One thread owns each output and nothing is
 *     atomic, so results repeat bit for bit and, built with --fmad=false, equal ref_combine().
 * Bound by HBM: num_tokens * hidden_dim * (top_k + 1) * 4 bytes.
 */
#include "moe_kernels.h"

static __global__ void combine_v1(struct combine_shape shape, float *out, const float *expert_out,
                                  const int32_t *row_of, const float *gate_weight)
{
    const int64_t token = blockIdx.x;
    for (int32_t h = (int32_t)threadIdx.x; h < shape.hidden_dim; h += (int32_t)blockDim.x) {
        float sum = 0.0f;
        for (int64_t k = token * shape.top_k; k < (token + 1) * shape.top_k; k++) {
            if (row_of[k] != ROW_DROPPED) {
                sum += gate_weight[k] * expert_out[(int64_t)row_of[k] * shape.hidden_dim + h];
            }
        }
        out[token * shape.hidden_dim + h] = sum;
    }
}

extern "C" enum status dev_combine(struct combine_shape shape, float *out, const float *expert_out,
                                   const int32_t *row_of, const float *gate_weight, void *stream)
{
    if (shape.num_tokens < 0 || shape.top_k < 1 || shape.hidden_dim < 1) {
        return STATUS_INVALID;
    }
    if (shape.num_tokens == 0) {
        return STATUS_OK; /* a rank may receive nothing; a grid of no blocks is a CUDA error */
    }
    const unsigned threads = 256; /* 8 warps: enough loads in flight, few registers */
    combine_v1<<<(unsigned)shape.num_tokens, threads, 0, (cudaStream_t)stream>>>(
        shape, out, expert_out, row_of, gate_weight);
    return cudaGetLastError() == cudaSuccess ? STATUS_OK : STATUS_CUDA;
}
