/*
 * work.c -- flops and bytes of each phase, from the architecture alone.
 *
 * A GEMM of t tokens with P parameters is 2 t P flops and reads P weights. Activations count what
 * unfused kernels read and write in bf16; the factors are stated beside each phase.
 */
#include "gpu/gpu.h"

#include <assert.h>

#define ACTIVATION_BYTES 2.0 /* bf16 between kernels */

static struct gpu_cost gemm_cost(double params, double tokens, enum precision precision)
{
    return (struct gpu_cost){.flops = 2.0 * params * tokens,
                             .weight_bytes =
                                 tokens > 0.0 ? params * precision_weight_bytes(precision) : 0.0,
                             .precision = precision};
}

/* Scores and weighted sums of attention, an attended position, all heads. MLA decodes in the
 * absorbed form: queries meet the cached latent itself (DeepSeek-V2, arXiv 2405.04434, 2.1). */
static double attention_flops_per_position(const struct moe_model *model, bool prefill)
{
    double heads = (double)model->num_q_heads;
    if (model->attention == ATTENTION_GQA) {
        return 4.0 * heads * (double)model->head_dim;
    }
    double rope = (double)model->qk_rope_dim;
    if (prefill) {
        return 2.0 * heads * ((double)model->qk_nope_dim + rope + (double)model->v_head_dim);
    }
    return 2.0 * heads * (2.0 * (double)model->kv_lora_rank + rope);
}

/* How many ways the KV cache is split: whole KV heads; MLA's latent is on every shard. */
static double kv_shards(const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    if (model->attention == ATTENTION_MLA) {
        return 1.0;
    }
    return (double)(work->shards < model->num_kv_heads ? work->shards : model->num_kv_heads);
}

static struct gpu_cost attention_cost(const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    double tokens = (double)work->tokens;
    double shards = (double)work->shards;
    struct gpu_cost cost =
        gemm_cost(model_attention_params(model) / shards, tokens, model->precision_dense);
    cost.attention_flops =
        attention_flops_per_position(model, work->prefill) * (double)work->attended_tokens / shards;
    double kv_bytes = model_kv_bytes_per_token_layer(model) *
                      ((double)work->context_tokens + tokens) / kv_shards(work);
    /* Two norms, the residual twice, queries and the attention output: 8 passes over hidden_dim. */
    cost.activation_bytes = kv_bytes + 8.0 * tokens * (double)model->hidden_dim * ACTIVATION_BYTES;
    cost.num_kernels = model->attention == ATTENTION_MLA ? 6 : 4;
    return cost;
}

/* A gated feed-forward block: hidden in and out, the intermediate written twice and read once. */
static struct gpu_cost ffn_cost(const struct gpu_work *work, int32_t ffn_dim, double shards)
{
    const struct moe_model *model = work->model;
    double tokens = (double)work->tokens;
    double width = (double)ffn_dim / shards;
    struct gpu_cost cost =
        gemm_cost(3.0 * (double)model->hidden_dim * width, tokens, model->precision_dense);
    cost.activation_bytes =
        tokens * (2.0 * (double)model->hidden_dim + 5.0 * width) * ACTIVATION_BYTES;
    cost.num_kernels = 3;
    return cost;
}

static struct gpu_cost gate_cost(const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    double tokens = (double)work->tokens;
    struct gpu_cost cost =
        gemm_cost((double)model->hidden_dim * (double)model->num_experts, tokens, PRECISION_BF16);
    cost.activation_bytes = tokens * ((double)model->hidden_dim * ACTIVATION_BYTES +
                                      3.0 * 4.0 * (double)model->num_experts);
    cost.num_kernels = 2;
    return cost;
}

/* Permute and un-permute read and write hidden_dim once each way; weights of experts without tokens
 * are not touched. */
static struct gpu_cost expert_cost(const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    double shards = (double)work->shards;
    int64_t tokens = 0;
    int32_t active = 0;
    for (int32_t slot = 0; slot < work->num_slots; slot++) {
        tokens += work->slot_tokens[slot];
        active += work->slot_tokens[slot] > 0;
    }
    if (tokens == 0) {
        return (struct gpu_cost){.precision = model->precision_expert};
    }
    struct gpu_cost cost =
        gemm_cost(model_expert_params(model) / shards, (double)tokens, model->precision_expert);
    cost.weight_bytes *= (double)active;
    cost.activation_bytes =
        (double)tokens *
        (6.0 * (double)model->hidden_dim + 5.0 * (double)model->expert_ffn_dim / shards) *
        ACTIVATION_BYTES;
    cost.num_kernels = 5;
    return cost;
}

static struct gpu_cost head_cost(const struct gpu_work *work)
{
    const struct moe_model *model = work->model;
    double tokens = (double)work->tokens;
    struct gpu_cost cost =
        gemm_cost((double)model->hidden_dim * (double)model->vocab_size / (double)work->shards,
                  tokens, PRECISION_BF16);
    cost.activation_bytes = tokens * (2.0 * (double)model->hidden_dim * ACTIVATION_BYTES +
                                      4.0 * (double)model->vocab_size / (double)work->shards);
    cost.num_kernels = 2;
    return cost;
}

struct gpu_cost gpu_work_cost(const struct gpu_work *work)
{
    assert(work->phase < GPU_PHASE_COUNT);
    switch (work->phase) {
    case GPU_ATTENTION:
        return attention_cost(work);
    case GPU_DENSE_FFN:
        return ffn_cost(work, work->model->dense_ffn_dim, (double)work->shards);
    case GPU_GATE:
        return gate_cost(work);
    case GPU_SHARED:
        return ffn_cost(work, work->model->shared_ffn_dim, (double)work->shards);
    case GPU_EXPERT:
        return expert_cost(work);
    case GPU_HEAD:
        return head_cost(work);
    case GPU_PHASE_COUNT:
        break;
    }
    return (struct gpu_cost){0};
}

double gpu_hbm_taken(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    double taken = work->hbm_bytes_per_s_taken / (gpu->hbm_bytes_per_s * gpu->hbm_fraction);
    return taken < 0.5 ? taken : 0.5;
}

double gpu_gemm_sms(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    int32_t gone = work->sms_taken > work->sms_kept ? work->sms_taken : work->sms_kept;
    return (double)(gpu->num_sms - gone);
}
