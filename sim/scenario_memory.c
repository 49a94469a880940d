/* scenario_memory.c -- what a deployment needs on its fullest GPU; the formula is in scenario.h. */
#include <assert.h>
#include <math.h>

#include "scenario.h"

#define BF16_BYTES 2.0
#define BYTES_MAX  1e18 /* absurd sizes stay comparable instead of overflowing */

static int64_t whole_bytes(double bytes)
{
    assert(bytes >= 0.0);
    return llround(fmin(bytes, BYTES_MAX));
}

static int64_t dense_bytes(const struct scenario *scenario)
{
    const struct moe_model *model = &scenario->model;
    struct model_params params = model_params(model);
    double weight = precision_weight_bytes(model->precision_dense);
    double unquantised = fmax(weight, BF16_BYTES);
    double shards = (double)scenario->tp;
    return whole_bytes((params.attention + params.dense_ffn) * weight / shards +
                       params.embedding * unquantised / shards + params.shared_expert * weight +
                       params.router * unquantised);
}

static int64_t expert_bytes(const struct scenario *scenario)
{
    const struct moe_model *model = &scenario->model;
    double slots = (double)model->num_experts + (double)scenario->redundant_experts;
    if (model->num_experts == 0) {
        return 0;
    }
    return whole_bytes(ceil(slots / (double)scenario->ep) * (double)model_num_moe_layers(model) *
                       (double)model_expert_bytes(model));
}

/* Sequences of one rank whose KV entries are kept at the same time. */
static double num_sequences(const struct scenario *scenario)
{
    double tokens = (double)scenario->tokens_per_rank;
    if (scenario->phase == PHASE_DECODE) {
        return tokens;
    }
    return ceil(tokens / fmax(1.0, (double)scenario->context_tokens));
}

static int64_t kv_bytes(const struct scenario *scenario, int64_t kv_tokens_per_rank)
{
    const struct moe_model *model = &scenario->model;
    double kept_tokens = 0.0; /* summed over layers */
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        double window = (double)model_attended_tokens(model, layer, INT32_MAX);
        kept_tokens += fmin((double)kv_tokens_per_rank, window * num_sequences(scenario));
    }
    double sharing = (double)scenario->tp; /* ranks whose sequences are kept together */
    double split = model->attention == ATTENTION_MLA
                       ? 1.0
                       : fmin(sharing, fmax(1.0, (double)model->num_kv_heads));
    return whole_bytes(kept_tokens * model_kv_bytes_per_token_layer(model) * sharing / split);
}

static int64_t buffer_bytes(const struct scenario *scenario)
{
    const struct moe_model *model = &scenario->model;
    double tokens = (double)scenario->tokens_per_rank;
    double hidden = (double)model->hidden_dim;
    double widest = fmax((double)model->dense_ffn_dim, (double)model->shared_ffn_dim);
    double activations = tokens * (8.0 * hidden + 3.0 * widest) * BF16_BYTES;
    double logits = scenario->phase == PHASE_DECODE ? tokens : num_sequences(scenario);
    double copy = precision_activation_bytes(scenario->dispatch_precision) +
                  precision_activation_bytes(scenario->combine_precision);
    double copies = 2.0 * 2.0 * tokens * (double)model->top_k; /* both ways, double-buffered */
    return whole_bytes(activations + logits * (double)model->vocab_size * 4.0 +
                       copies * hidden * copy);
}

struct memory_use scenario_memory(const struct scenario *scenario, int64_t kv_tokens_per_rank)
{
    assert(scenario->ep >= 1);
    assert(scenario->tp >= 1);
    assert(kv_tokens_per_rank >= 0);
    struct memory_use use = {
        .dense_bytes = dense_bytes(scenario),
        .expert_bytes = expert_bytes(scenario),
        .kv_bytes = kv_bytes(scenario, kv_tokens_per_rank),
        .buffer_bytes = buffer_bytes(scenario),
    };
    use.total_bytes = use.dense_bytes + use.expert_bytes + use.kv_bytes + use.buffer_bytes;
    use.limit_bytes =
        whole_bytes((double)scenario->cluster.gpu.hbm_bytes * scenario->memory_fraction);
    return use;
}

/* What most helps against the largest part. */
static const char *advice(const struct memory_use *use)
{
    if (use->expert_bytes >= use->dense_bytes && use->expert_bytes >= use->kv_bytes) {
        return "raise parallel.ep, lower placement.redundant_experts or use a smaller "
               "precision.expert";
    }
    if (use->kv_bytes >= use->dense_bytes) {
        return "lower trace.tokens_per_rank or context_tokens, or use precision.kv: fp8";
    }
    return "use parallel.attention: tp, a smaller precision.dense or a GPU with more memory";
}

enum status scenario_check_memory(const struct scenario *scenario, int64_t kv_tokens_per_rank,
                                  struct error *error)
{
    struct memory_use use = scenario_memory(scenario, kv_tokens_per_rank);
    if (use.total_bytes <= use.limit_bytes) {
        return STATUS_OK;
    }
    return error_add(error, STATUS_INVALID,
                     "does not fit: the fullest GPU needs %.1f GB (dense %.1f, experts %.1f, KV "
                     "%.1f, buffers %.1f) but %.2g of %.3g GB is %.1f GB: %.1f GB too much; %s",
                     (double)use.total_bytes / 1e9, (double)use.dense_bytes / 1e9,
                     (double)use.expert_bytes / 1e9, (double)use.kv_bytes / 1e9,
                     (double)use.buffer_bytes / 1e9, scenario->memory_fraction,
                     (double)scenario->cluster.gpu.hbm_bytes / 1e9, (double)use.limit_bytes / 1e9,
                     (double)(use.total_bytes - use.limit_bytes) / 1e9, advice(&use));
}
