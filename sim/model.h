/*
 * model.h -- the architecture of a Mixture-of-Experts (or dense) language model.
 *
 * Field names follow Hugging Face's config.json where it has one, with units and counts spelled as
 * everywhere in moesim. A model comes from scenarios/models/NAME.yaml or from a config.json.
 */
#ifndef MOESIM_MODEL_H
#define MOESIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "precision.h"
#include "status.h"

#define NAME_BYTES   64
#define SOURCE_BYTES 256

enum attention_kind {
    ATTENTION_GQA, /* multi-head when num_kv_heads == num_q_heads */
    ATTENTION_MLA, /* multi-head latent attention, DeepSeek-V2 (arXiv 2405.04434) */
};

/* What publishers leave out when they count the parameters a token uses. */
enum active_exclude {
    ACTIVE_EXCLUDE_NONE,
    ACTIVE_EXCLUDE_INPUT_EMBEDDING,
    ACTIVE_EXCLUDE_EMBEDDINGS, /* the output head too */
};

struct moe_model {
    char name[NAME_BYTES];
    char source[SOURCE_BYTES]; /* where the numbers come from */
    int32_t hidden_dim;
    int32_t num_layers;
    int32_t vocab_size;
    bool tie_embeddings; /* the output head shares the input embedding */

    enum attention_kind attention;
    int32_t num_q_heads;
    int32_t num_kv_heads;          /* GQA only */
    int32_t head_dim;              /* GQA only */
    int32_t q_lora_rank;           /* MLA; 0: queries are projected directly */
    int32_t kv_lora_rank;          /* MLA: width of the cached latent */
    int32_t qk_nope_dim;           /* MLA, a head */
    int32_t qk_rope_dim;           /* MLA, a head; shared by all heads in the cache */
    int32_t v_head_dim;            /* MLA, a head */
    int32_t sliding_window_tokens; /* 0: full attention everywhere */
    int32_t sliding_window_every; /* layers n - 1, 2 n - 1, ... keep full attention; 0: none does */

    int32_t first_dense_layers; /* layers before the first MoE layer */
    int32_t moe_layer_step;     /* 1: every layer after those is MoE; 2: every second; ... */
    int32_t dense_ffn_dim;      /* intermediate size of a dense layer (gated: three matrices) */
    int32_t num_experts;        /* routed experts a layer; 0: a dense model */
    int32_t top_k;
    int32_t expert_ffn_dim; /* intermediate size of one routed expert */
    int32_t num_shared_experts;
    int32_t shared_ffn_dim;    /* intermediate size of all shared experts together */
    int32_t num_expert_groups; /* n_group of group-limited routing; 1: none */
    int32_t topk_groups;       /* groups a token may pick from */

    enum precision precision_dense;  /* attention, dense and shared FFN, embeddings */
    enum precision precision_expert; /* routed experts */
    enum precision precision_kv;

    double total_params_published; /* as the publisher prints it; 0: unknown */
    double active_params_published;
    enum active_exclude active_params_exclude; /* how the publisher counts */
};

/* Parameters by part, summed over layers. Biases and norms are left out (under 0.1 %). */
struct model_params {
    double embedding; /* input embedding and output head */
    double attention;
    double dense_ffn;
    double router;
    double shared_expert;
    double routed_expert;
    double total;
    double active; /* used by one token: top_k routed experts a layer, both embeddings */
};

/* Names of enum precision by value, NULL-ended: for YAML_CHOICE. */
extern const char *const precision_choices[];

bool model_layer_is_moe(const struct moe_model *model, int32_t layer);
int32_t model_num_moe_layers(const struct moe_model *model);

struct model_params model_params(const struct moe_model *model);

/* Active parameters counted as the publisher counts them; to be held against
 * active_params_published. */
double model_active_params_counted(const struct moe_model *model);

/* The name of how a publisher counts: "none", "input_embedding", "embeddings" are left out. */
const char *model_active_exclude_name(enum active_exclude exclude);

/* Parameters of one routed expert: gate, up and down matrices. */
double model_expert_params(const struct moe_model *model);

/* Weight bytes of one routed expert in precision_expert. */
int64_t model_expert_bytes(const struct moe_model *model);

/* Parameters of one layer's attention. */
double model_attention_params(const struct moe_model *model);

/* KV cache bytes one token leaves in one layer. */
double model_kv_bytes_per_token_layer(const struct moe_model *model);

/* Tokens a query at a sequence position of context_tokens looks back on in this layer. */
int64_t model_attended_tokens(const struct moe_model *model, int32_t layer, int64_t context_tokens);

/* Loads a preset by name or alias, the path of a model YAML, or the path of a Hugging Face
 * config.json. STATUS_INVALID with all problems, each with file and line; an unknown name lists the
 * nearest presets. */
MUST_CHECK enum status model_load(struct moe_model *model, const char *name_or_path,
                                  struct error *error);

#endif
