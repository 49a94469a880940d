/* memory.c -- what a deployment needs on its fullest GPU; the formula is in memory.h. */
#include "memory.h"

#include <assert.h>
#include <math.h>

#define BF16_BYTES   2.0
#define LOGITS_BYTES 4.0
#define BYTES_MAX    1e18 /* absurd sizes stay comparable instead of overflowing */
#define BATCH_MAX    (1 << 20)

static int64_t whole_bytes(double bytes)
{
    assert(bytes >= 0.0);
    return llround(fmin(bytes, BYTES_MAX));
}

/* Bytes of one weight of embeddings and routers, which are not quantised. */
static double unquantised_bytes(const struct moe_model *model)
{
    return fmax(precision_weight_bytes(model->precision_dense), BF16_BYTES);
}

/* On this many ranks lie the shared experts of a layer together. */
static double shared_shards(const struct memory_layout *layout)
{
    return layout->expert_tp > 1 || layout->cuts_shared ? (double)layout->tp : 1.0;
}

/* Slots of a GPU and layer, in whole experts. */
static double experts_of(const struct memory_layout *layout)
{
    double slots = (double)layout->model->num_experts + (double)layout->redundant_experts;
    return ceil(slots / (double)(layout->ep / layout->expert_tp)) / (double)layout->expert_tp;
}

static int64_t dense_bytes(const struct memory_layout *layout)
{
    const struct moe_model *model = layout->model;
    struct model_params params = model_params(model);
    double weight = precision_weight_bytes(model->precision_dense);
    double unquantised = unquantised_bytes(model);
    double shards = (double)layout->tp;
    return whole_bytes((params.attention + params.dense_ffn) * weight / shards +
                       params.embedding * unquantised / shards +
                       params.shared_expert * weight / shared_shards(layout) +
                       params.router * unquantised);
}

/* Bytes of so many slots a layer, all layers together. */
static int64_t slot_bytes(const struct moe_model *model, double slots)
{
    return whole_bytes(slots * (double)model_num_moe_layers(model) *
                       (double)model_expert_bytes(model));
}

static int64_t expert_bytes(const struct memory_layout *layout)
{
    const struct moe_model *model = layout->model;
    if (layout->is_offloaded) {
        return slot_bytes(model, (double)layout->cached_slots) +
               layout->buffer_slots * model_expert_bytes(model);
    }
    return model->num_experts == 0 ? 0 : slot_bytes(model, experts_of(layout));
}

/* Sequences of one rank whose KV entries are kept at the same time. */
static double num_sequences(const struct memory_layout *layout)
{
    double tokens = (double)layout->tokens_per_rank;
    return layout->prefill ? ceil(tokens / fmax(1.0, (double)layout->context_tokens)) : tokens;
}

static int64_t kv_bytes(const struct memory_layout *layout, int64_t kv_tokens)
{
    const struct moe_model *model = layout->model;
    double kept_tokens = 0.0; /* summed over layers */
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        double window = (double)model_attended_tokens(model, layer, INT32_MAX);
        kept_tokens += fmin((double)kv_tokens, window * num_sequences(layout));
    }
    double sharing = (double)layout->tp; /* ranks whose sequences are kept together */
    double split = model->attention == ATTENTION_MLA
                       ? 1.0
                       : fmin(sharing, fmax(1.0, (double)model->num_kv_heads));
    return whole_bytes(kept_tokens * model_kv_bytes_per_token_layer(model) * sharing / split);
}

static double activation_bytes(const struct memory_layout *layout)
{
    const struct moe_model *model = layout->model;
    double widest = fmax((double)model->dense_ffn_dim, (double)model->shared_ffn_dim);
    return (double)layout->tokens_per_rank * (8.0 * (double)model->hidden_dim + 3.0 * widest) *
           BF16_BYTES;
}

static double logits_bytes(const struct memory_layout *layout)
{
    double sampled = layout->prefill ? num_sequences(layout) : (double)layout->tokens_per_rank;
    return sampled * (double)layout->model->vocab_size * LOGITS_BYTES;
}

static double copy_bytes(const struct memory_layout *layout)
{
    double copy = precision_activation_bytes(layout->dispatch_precision) +
                  precision_activation_bytes(layout->combine_precision);
    double copies = 2.0 * 2.0 * (double)layout->tokens_per_rank * (double)layout->model->top_k;
    return copies * (double)layout->model->hidden_dim * copy;
}

struct memory_use memory_use(const struct memory_layout *layout, int64_t kv_tokens)
{
    assert(layout->expert_tp >= 1);
    assert(layout->ep >= layout->expert_tp);
    assert(layout->tp >= 1);
    assert(kv_tokens >= 0);
    struct memory_use use = {
        .dense_bytes = dense_bytes(layout),
        .expert_bytes = expert_bytes(layout),
        .kv_bytes = kv_bytes(layout, kv_tokens),
        .buffer_bytes =
            whole_bytes(activation_bytes(layout) + logits_bytes(layout) + copy_bytes(layout)),
    };
    use.total_bytes = use.dense_bytes + use.expert_bytes + use.kv_bytes + use.buffer_bytes;
    use.limit_bytes = whole_bytes((double)layout->gpu->hbm_bytes * layout->memory_fraction);
    return use;
}

struct memory_parts memory_parts(const struct memory_layout *layout)
{
    const struct moe_model *model = layout->model;
    struct model_params params = model_params(model);
    double weight = precision_weight_bytes(model->precision_dense);
    double unquantised = unquantised_bytes(model);
    double shards = (double)layout->tp;
    int64_t slots = expert_bytes(layout);
    struct memory_parts parts = {
        .attention_bytes = whole_bytes(params.attention * weight / shards),
        .dense_ffn_bytes = whole_bytes(params.dense_ffn * weight / shards),
        .embedding_bytes = whole_bytes(params.embedding * unquantised / shards),
        .router_bytes = whole_bytes(params.router * unquantised),
        .shared_expert_bytes = whole_bytes(params.shared_expert * weight / shared_shards(layout)),
        .routed_expert_bytes = slot_bytes(model, (double)model->num_experts / (double)layout->ep),
        .activation_bytes = whole_bytes(activation_bytes(layout)),
        .logits_bytes = whole_bytes(logits_bytes(layout)),
        .copy_bytes = whole_bytes(copy_bytes(layout)),
    };
    if (layout->is_offloaded) {
        parts.routed_expert_bytes = slots;
    }
    parts.redundant_expert_bytes = slots - parts.routed_expert_bytes;
    return parts;
}

double memory_weight_bytes(const struct moe_model *model)
{
    struct model_params params = model_params(model);
    double weight = precision_weight_bytes(model->precision_dense);
    return (params.attention + params.dense_ffn + params.shared_expert) * weight +
           (params.embedding + params.router) * unquantised_bytes(model) +
           memory_expert_bytes(model);
}

double memory_expert_bytes(const struct moe_model *model)
{
    return (double)model->num_experts * (double)model_num_moe_layers(model) *
           (double)model_expert_bytes(model);
}

double memory_kv_bytes_per_token(const struct moe_model *model)
{
    return (double)model->num_layers * model_kv_bytes_per_token_layer(model);
}

struct memory_layout memory_with_batch(const struct memory_layout *layout, int32_t batch)
{
    struct memory_layout decode = *layout;
    decode.prefill = false;
    decode.tokens_per_rank = (batch + layout->tp - 1) / layout->tp;
    return decode;
}

int64_t memory_kv_tokens(const struct memory_layout *layout, int32_t batch, int32_t context_tokens)
{
    return ((int64_t)batch * context_tokens + layout->tp - 1) / layout->tp;
}

static bool batch_fits(const struct memory_layout *layout, int32_t batch, int32_t context_tokens)
{
    struct memory_layout decode = memory_with_batch(layout, batch);
    struct memory_use use = memory_use(&decode, memory_kv_tokens(layout, batch, context_tokens));
    return use.total_bytes <= use.limit_bytes;
}

int32_t memory_batch_max(const struct memory_layout *layout, int32_t context_tokens)
{
    int32_t fits = 0;
    int32_t too_many = BATCH_MAX;
    if (!batch_fits(layout, 0, context_tokens)) {
        return -1;
    }
    while (too_many - fits > 1) { /* at most 20 halvings: bytes grow with every sequence */
        int32_t batch = fits + (too_many - fits) / 2;
        if (batch_fits(layout, batch, context_tokens)) {
            fits = batch;
        } else {
            too_many = batch;
        }
    }
    return fits;
}

int32_t memory_redundant_for(const struct moe_model *model, int32_t redundant_experts,
                             int32_t num_gpus)
{
    int32_t over =
        model->num_experts == 0 ? 0 : (model->num_experts + redundant_experts) % num_gpus;
    return over == 0 ? redundant_experts : redundant_experts + num_gpus - over;
}
