/*
 * model_config.c -- reads the config.json that Hugging Face models carry.
 *
 * Each family names the same things in its own words; a reader a family translates them. Keys as in
 * huggingface/transformers, src/transformers/models/FAMILY/configuration_FAMILY.py. A key the
 * family must have and does not is an error: silently taking a default would give another model.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data.h"
#include "json_config.h"
#include "model_internal.h"

static void read_gqa(struct json_config *config, struct moe_model *model)
{
    model->attention = ATTENTION_GQA;
    model->num_q_heads = json_config_whole(config, "num_attention_heads", 1, 4096);
    model->num_kv_heads =
        json_config_optional(config, "num_key_value_heads", 1, 4096, model->num_q_heads);
    if (json_config_find(config, "head_dim") != NULL) {
        model->head_dim = json_config_whole(config, "head_dim", 1, 4096);
        return;
    }
    model->head_dim = model->hidden_dim / model->num_q_heads;
    if (model->hidden_dim % model->num_q_heads != 0) {
        json_config_complain(config, "head_dim",
                             "is missing, and num_attention_heads does not divide "
                             "hidden_size");
    }
}

static void read_llama(struct json_config *config, struct moe_model *model)
{
    read_gqa(config, model);
    model->dense_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
}

static void read_mixtral(struct json_config *config, struct moe_model *model)
{
    read_gqa(config, model);
    model->sliding_window_tokens = json_config_optional(config, "sliding_window", 1, INT32_MAX, 0);
    model->num_experts = json_config_whole(config, "num_local_experts", 1, MODEL_EXPERTS_MAX);
    model->top_k = json_config_whole(config, "num_experts_per_tok", 1, MODEL_TOP_K_MAX);
    model->expert_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
}

static void read_olmoe(struct json_config *config, struct moe_model *model)
{
    read_gqa(config, model);
    model->num_experts = json_config_whole(config, "num_experts", 1, MODEL_EXPERTS_MAX);
    model->top_k = json_config_whole(config, "num_experts_per_tok", 1, MODEL_TOP_K_MAX);
    model->expert_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
}

/* Qwen counts from one: layer l is MoE when (l + 1) % decoder_sparse_step == 0. */
static void read_qwen3_moe(struct json_config *config, struct moe_model *model)
{
    read_gqa(config, model);
    model->num_experts = json_config_whole(config, "num_experts", 1, MODEL_EXPERTS_MAX);
    model->top_k = json_config_whole(config, "num_experts_per_tok", 1, MODEL_TOP_K_MAX);
    model->expert_ffn_dim = json_config_whole(config, "moe_intermediate_size", 1, MODEL_DIM_MAX);
    model->moe_layer_step =
        json_config_optional(config, "decoder_sparse_step", 1, MODEL_LAYERS_MAX, 1);
    model->first_dense_layers = model->moe_layer_step - 1;
    const cJSON *dense = json_config_find(config, "mlp_only_layers");
    int32_t first = 0; /* layers 0 .. first - 1 are listed, in order */
    for (const cJSON *item = dense != NULL ? dense->child : NULL; item != NULL; item = item->next) {
        if (!cJSON_IsNumber(item) || fabs(item->valuedouble - (double)first) > 0.0 ||
            model->moe_layer_step > 1) {
            json_config_complain(config, "mlp_only_layers",
                                 "only the first layers may be listed, with decoder_sparse_step 1");
            return;
        }
        first++;
    }
    model->first_dense_layers = first > 0 ? first : model->first_dense_layers;
    if (model->first_dense_layers > 0) {
        model->dense_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
    }
}

/* layer_types names each layer; what moesim can say is "every n-th one is full". */
static void read_layer_types(struct json_config *config, struct moe_model *model)
{
    const cJSON *types = json_config_find(config, "layer_types");
    if (!cJSON_IsArray(types)) {
        json_config_complain(config, "layer_types",
                             types == NULL ? "is missing" : "must be a list");
        return;
    }
    int32_t layer = 0;
    bool is_regular = cJSON_GetArraySize(types) == model->num_layers;
    for (const cJSON *item = types->child; item != NULL; item = item->next) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        bool is_full = strcmp(type, "full_attention") == 0;
        is_regular = is_regular && (is_full || strcmp(type, "sliding_attention") == 0);
        if (is_full && model->sliding_window_every == 0) {
            model->sliding_window_every = layer + 1;
        }
        int32_t every = model->sliding_window_every;
        is_regular = is_regular && is_full == (every > 0 && layer % every == every - 1);
        layer++;
    }
    if (!is_regular) {
        json_config_complain(
            config, "layer_types",
            "must name each layer full_attention or sliding_attention, every n-th full");
    }
}

static void read_gpt_oss(struct json_config *config, struct moe_model *model)
{
    read_gqa(config, model);
    model->num_experts = json_config_whole(config, "num_local_experts", 1, MODEL_EXPERTS_MAX);
    const char *top_k = json_config_first(config, "num_experts_per_tok", "experts_per_token");
    model->top_k = json_config_whole(config, top_k, 1, MODEL_TOP_K_MAX);
    model->expert_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
    model->sliding_window_tokens = json_config_optional(config, "sliding_window", 1, INT32_MAX, 0);
    if (model->sliding_window_tokens > 0) {
        read_layer_types(config, model);
    }
}

static void read_mla(struct json_config *config, struct moe_model *model)
{
    model->attention = ATTENTION_MLA;
    model->num_q_heads = json_config_whole(config, "num_attention_heads", 1, 4096);
    model->q_lora_rank = json_config_optional(config, "q_lora_rank", 0, MODEL_DIM_MAX, 0);
    model->kv_lora_rank = json_config_whole(config, "kv_lora_rank", 1, MODEL_DIM_MAX);
    model->qk_nope_dim = json_config_whole(config, "qk_nope_head_dim", 1, 4096);
    model->qk_rope_dim = json_config_whole(config, "qk_rope_head_dim", 1, 4096);
    model->v_head_dim = json_config_whole(config, "v_head_dim", 1, 4096);
}

/* Layer l is MoE when l >= first_k_dense_replace and l % moe_layer_freq == 0. */
static void read_deepseek(struct json_config *config, struct moe_model *model)
{
    read_mla(config, model);
    model->num_experts = json_config_whole(config, "n_routed_experts", 1, MODEL_EXPERTS_MAX);
    model->top_k = json_config_whole(config, "num_experts_per_tok", 1, MODEL_TOP_K_MAX);
    model->expert_ffn_dim = json_config_whole(config, "moe_intermediate_size", 1, MODEL_DIM_MAX);
    model->num_shared_experts = json_config_optional(config, "n_shared_experts", 0, 1024, 0);
    int64_t shared = (int64_t)model->num_shared_experts * model->expert_ffn_dim;
    if (shared > MODEL_DIM_MAX) {
        json_config_complain(config, "n_shared_experts", "is too large");
        shared = 0;
    }
    model->shared_ffn_dim = (int32_t)shared;
    int32_t first = json_config_whole(config, "first_k_dense_replace", 0, MODEL_LAYERS_MAX);
    int32_t step = json_config_optional(config, "moe_layer_freq", 1, MODEL_LAYERS_MAX, 1);
    model->moe_layer_step = step;
    model->first_dense_layers = (first + step - 1) / step * step;
    if (model->first_dense_layers > 0 || step > 1) {
        model->dense_ffn_dim = json_config_whole(config, "intermediate_size", 1, MODEL_DIM_MAX);
    }
    model->num_expert_groups = json_config_optional(config, "n_group", 1, MODEL_EXPERTS_MAX, 1);
    model->topk_groups = json_config_optional(config, "topk_group", 1, MODEL_EXPERTS_MAX, 1);
}

static const struct family {
    const char *model_type;
    void (*read)(struct json_config *config, struct moe_model *model);
    bool may_lack_dtype; /* published without torch_dtype; bf16 then */
} families[] = {
    {"deepseek_v2", read_deepseek, false}, {"deepseek_v3", read_deepseek, false},
    {"kimi_k2", read_deepseek, false},     {"mixtral", read_mixtral, false},
    {"qwen3_moe", read_qwen3_moe, false},  {"gpt_oss", read_gpt_oss, true},
    {"olmoe", read_olmoe, false},          {"llama", read_llama, false},
};

static const struct family *find_family(struct json_config *config)
{
    const cJSON *type = json_config_find(config, "model_type");
    if (!cJSON_IsString(type)) {
        json_config_complain(config, "model_type", type == NULL ? "is missing" : "must be a text");
        return NULL;
    }
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].model_type, type->valuestring) == 0) {
            return &families[i];
        }
        int length = snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                              families[i].model_type);
        used += length > 0 ? (size_t)length : 0;
        assert(used < sizeof known);
    }
    char shown[64];
    char text[sizeof known + 128];
    (void)snprintf(shown, sizeof shown, "%s", type->valuestring);
    for (char *byte = shown; *byte != '\0'; byte++) {
        *byte = (unsigned char)*byte < 0x20 ? '?' : *byte;
    }
    (void)snprintf(text, sizeof text, "'%s' is none of the architectures moesim reads: %s", shown,
                   known);
    json_config_complain(config, "model_type", text);
    return NULL;
}

static enum precision read_dtype(struct json_config *config, const struct family *family)
{
    const char *key = json_config_first(config, "torch_dtype", "dtype");
    const cJSON *item = json_config_find(config, key);
    if (item == NULL && family->may_lack_dtype) {
        return PRECISION_BF16;
    }
    const char *dtype = cJSON_IsString(item) ? item->valuestring : "";
    if (item == NULL) {
        json_config_complain(config, key, "is missing");
    } else if (strcmp(dtype, "float32") == 0) {
        return PRECISION_FP32;
    } else if (strcmp(dtype, "bfloat16") != 0 && strcmp(dtype, "float16") != 0) {
        json_config_complain(config, key, "must be bfloat16, float16 or float32");
    }
    return PRECISION_BF16; /* float16 weighs and runs the same */
}

/* Which weights a checkpoint's quantisation covers: mxfp4 covers the experts alone, the others all
 * linear layers. */
static void read_precision(struct json_config *config, const struct family *family,
                           struct moe_model *model)
{
    model->precision_dense = read_dtype(config, family);
    model->precision_expert = model->precision_dense;
    model->precision_kv = PRECISION_BF16;
    const cJSON *quantization = json_config_find(config, "quantization_config");
    if (quantization == NULL) {
        return;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(quantization, "quant_method");
    const char *method = cJSON_IsString(item) ? item->valuestring : "";
    if (strcmp(method, "fp8") == 0) {
        model->precision_dense = PRECISION_FP8;
        model->precision_expert = PRECISION_FP8;
    } else if (strcmp(method, "mxfp4") == 0) {
        model->precision_expert = PRECISION_MXFP4;
    } else {
        json_config_complain(config, "quant_method",
                             "must be fp8 or mxfp4; write a model YAML for others");
    }
}

static void read_config(struct json_config *config, struct moe_model *model)
{
    const struct family *family = find_family(config);
    if (family == NULL) {
        return;
    }
    model->hidden_dim = json_config_whole(config, "hidden_size", 1, MODEL_DIM_MAX);
    model->num_layers = json_config_whole(config, "num_hidden_layers", 1, MODEL_LAYERS_MAX);
    model->vocab_size = json_config_whole(config, "vocab_size", 1, MODEL_VOCAB_MAX);
    model->tie_embeddings = json_config_flag(config, "tie_word_embeddings", false);
    family->read(config, model);
    read_precision(config, family, model);
}

/* A checkpoint's config.json is named after its directory. */
static void name_model(struct moe_model *model, const char *path)
{
    data_stem(model->name, sizeof model->name, path);
    const char *slash = strrchr(path, '/');
    if (slash != NULL && slash > path && strcmp(slash, "/config.json") == 0) {
        const char *begin = slash;
        while (begin > path && begin[-1] != '/') {
            begin--;
        }
        (void)snprintf(model->name, sizeof model->name, "%.*s", (int)(slash - begin), begin);
    }
}

enum status model_config_load(struct moe_model *model, const char *path, struct error *error)
{
    struct json_config config;
    *model = (struct moe_model){.moe_layer_step = 1, .num_expert_groups = 1, .topk_groups = 1};
    enum status status = json_config_open(&config, path, error);
    if (status == STATUS_OK) {
        name_model(model, path);
        (void)snprintf(model->source, sizeof model->source, "%s/config.json", model->name);
        read_config(&config, model);
        status = config.has_problem ? STATUS_INVALID : model_check(model, path, NULL, error);
    }
    json_config_close(&config);
    return status;
}
