/*
 * model.c -- parameter counts and cache sizes from an architecture, and model presets.
 */
#include "model.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "data.h"
#include "model_internal.h"

#define FILE_PATH_BYTES 4096

bool model_layer_is_moe(const struct moe_model *model, int32_t layer)
{
    assert(layer >= 0 && layer < model->num_layers);
    return model->num_experts > 0 && layer >= model->first_dense_layers &&
           (layer - model->first_dense_layers) % model->moe_layer_step == 0;
}

int32_t model_num_moe_layers(const struct moe_model *model)
{
    int32_t count = 0;
    for (int32_t layer = 0; layer < model->num_layers; layer++) {
        count += model_layer_is_moe(model, layer) ? 1 : 0;
    }
    return count;
}

double model_expert_params(const struct moe_model *model)
{
    return 3.0 * (double)model->hidden_dim * (double)model->expert_ffn_dim;
}

int64_t model_expert_bytes(const struct moe_model *model)
{
    return llround(model_expert_params(model) * precision_weight_bytes(model->precision_expert));
}

double model_attention_params(const struct moe_model *model)
{
    double hidden = (double)model->hidden_dim;
    double heads = (double)model->num_q_heads;
    if (model->attention == ATTENTION_GQA) {
        double q_width = heads * (double)model->head_dim;
        double kv_width = (double)model->num_kv_heads * (double)model->head_dim;
        return hidden * (2.0 * q_width + 2.0 * kv_width); /* q and output; k and v */
    }
    double qk_dim = (double)model->qk_nope_dim + (double)model->qk_rope_dim;
    double rank = (double)model->q_lora_rank;
    double query = rank > 0.0 ? rank * (hidden + heads * qk_dim) : hidden * heads * qk_dim;
    double latent = (double)model->kv_lora_rank;
    double down = hidden * (latent + (double)model->qk_rope_dim);
    double up = latent * heads * ((double)model->qk_nope_dim + (double)model->v_head_dim);
    double output = heads * (double)model->v_head_dim * hidden;
    return query + down + up + output;
}

struct model_params model_params(const struct moe_model *model)
{
    double hidden = (double)model->hidden_dim;
    double layers = (double)model->num_layers;
    double moe_layers = (double)model_num_moe_layers(model);
    double experts = (double)model->num_experts;
    struct model_params params = {0};
    params.embedding = (model->tie_embeddings ? 1.0 : 2.0) * (double)model->vocab_size * hidden;
    params.attention = layers * model_attention_params(model);
    params.dense_ffn = (layers - moe_layers) * 3.0 * hidden * (double)model->dense_ffn_dim;
    params.router = moe_layers * hidden * experts;
    params.shared_expert = moe_layers * 3.0 * hidden * (double)model->shared_ffn_dim;
    params.routed_expert = moe_layers * experts * model_expert_params(model);
    double always = params.embedding + params.attention + params.dense_ffn + params.router +
                    params.shared_expert;
    params.total = always + params.routed_expert;
    params.active = always + moe_layers * (double)model->top_k * model_expert_params(model);
    return params;
}

double model_active_params_counted(const struct moe_model *model)
{
    double matrix = (double)model->vocab_size * (double)model->hidden_dim;
    struct model_params params = model_params(model);
    switch (model->active_params_exclude) {
    case ACTIVE_EXCLUDE_NONE:
        return params.active;
    case ACTIVE_EXCLUDE_INPUT_EMBEDDING:
        return params.active - params.embedding + matrix; /* the head stays, shared or not */
    case ACTIVE_EXCLUDE_EMBEDDINGS:
        return params.active - params.embedding;
    }
    assert(false);
    return 0.0;
}

double model_kv_bytes_per_token_layer(const struct moe_model *model)
{
    double elements = model->attention == ATTENTION_MLA
                          ? (double)model->kv_lora_rank + (double)model->qk_rope_dim
                          : 2.0 * (double)model->num_kv_heads * (double)model->head_dim;
    return elements * precision_activation_bytes(model->precision_kv);
}

int64_t model_attended_tokens(const struct moe_model *model, int32_t layer, int64_t context_tokens)
{
    assert(layer >= 0 && layer < model->num_layers);
    int32_t every = model->sliding_window_every;
    bool is_full = model->sliding_window_tokens == 0 || (every > 0 && layer % every == every - 1);
    if (is_full || context_tokens < model->sliding_window_tokens) {
        return context_tokens;
    }
    return model->sliding_window_tokens;
}

/* The line of a key of the file or of one of its sections; 0: unknown. */
static int32_t line_of(const struct yaml_node *root, const char *key)
{
    const struct yaml_node *node = yaml_get(root, key);
    const struct yaml_node *section = root != NULL ? root->child : NULL;
    for (; node == NULL && section != NULL; section = section->next) {
        node = yaml_get(section, key);
    }
    return node != NULL ? node->line : 0;
}

/* One rule between fields: text says what is wrong when is_kept is false. */
struct rule {
    bool is_kept;
    const char *key;
    const char *text;
};

static enum status check_rules(const struct rule *rules, size_t count, const char *path,
                               const struct yaml_node *root, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count; i++) {
        if (rules[i].is_kept) {
            continue;
        }
        int32_t line = line_of(root, rules[i].key);
        if (line > 0) {
            status = error_add(error, STATUS_INVALID, "%s:%d: %s: %s", path, line, rules[i].key,
                               rules[i].text);
        } else {
            status =
                error_add(error, STATUS_INVALID, "%s: %s: %s", path, rules[i].key, rules[i].text);
        }
    }
    return status;
}

enum status model_check(const struct moe_model *model, const char *path,
                        const struct yaml_node *root, struct error *error)
{
    bool is_moe = model->num_experts > 0;
    bool is_gqa = model->attention == ATTENTION_GQA;
    bool has_kv_heads = model->num_kv_heads >= 1;
    bool has_groups = model->num_expert_groups >= 1;
    bool has_dense = !is_moe || model->first_dense_layers > 0 || model->moe_layer_step > 1;
    const struct rule rules[] = {
        {!is_gqa || model->head_dim >= 1, "head_dim", "is missing: GQA attention needs it"},
        {!is_gqa || has_kv_heads, "num_kv_heads", "is missing: GQA attention needs it"},
        {!is_gqa || !has_kv_heads || model->num_q_heads % model->num_kv_heads == 0, "num_kv_heads",
         "must divide num_q_heads"},
        {is_gqa || model->kv_lora_rank >= 1, "kv_lora_rank", "is missing: MLA needs it"},
        {is_gqa || model->qk_nope_dim >= 1, "qk_nope_dim", "is missing: MLA needs it"},
        {is_gqa || model->qk_rope_dim >= 1, "qk_rope_dim", "is missing: MLA needs it"},
        {is_gqa || model->v_head_dim >= 1, "v_head_dim", "is missing: MLA needs it"},
        {!is_moe || model->top_k >= 1, "top_k", "is missing: a model with experts needs it"},
        {!is_moe || model->top_k <= model->num_experts, "top_k", "must not exceed num_experts"},
        {!is_moe || model->expert_ffn_dim >= 1, "expert_ffn_dim",
         "is missing: a model with experts needs it"},
        {is_moe || model->top_k == 0, "top_k", "must be absent: the model has no experts"},
        {has_groups && model->num_experts % model->num_expert_groups == 0, "num_expert_groups",
         "must divide num_experts"},
        {model->topk_groups >= 1 && model->topk_groups <= model->num_expert_groups, "topk_groups",
         "must lie between 1 and num_expert_groups"},
        {!is_moe || !has_groups || model->num_expert_groups <= 1 ||
             model->top_k > model->num_experts ||
             (int64_t)model->top_k * model->num_expert_groups <=
                 (int64_t)model->topk_groups * model->num_experts,
         "top_k", "must not exceed the experts of topk_groups groups"},
        {(model->num_shared_experts > 0) == (model->shared_ffn_dim > 0), "shared_ffn_dim",
         "must be given exactly when there are shared experts"},
        {!has_dense || model->dense_ffn_dim >= 1, "dense_ffn_dim",
         "is missing: the model has dense layers"},
        {!is_moe || model->first_dense_layers < model->num_layers, "first_dense_layers",
         "leaves no layer to the experts"},
        {model->sliding_window_every <= 0 || model->sliding_window_tokens > 0,
         "sliding_window_every", "means nothing without sliding_window_tokens"},
    };
    return check_rules(rules, sizeof rules / sizeof rules[0], path, root, error);
}

const char *const precision_choices[] = {"fp32", "bf16", "fp8", "int8", "mxfp4", "nvfp4", NULL};

static const char *const attention_kinds[] = {"gqa", "mla", NULL};

static const char *const active_excludes[] = {"none", "input_embedding", "embeddings", NULL};

const char *model_active_exclude_name(enum active_exclude exclude)
{
    assert(exclude <= ACTIVE_EXCLUDE_EMBEDDINGS);
    return active_excludes[exclude];
}

/* A preset's file: the model, and what data_find reads on its own. */
struct model_file {
    struct moe_model model; /* first: the tables count from its start */
    struct yaml_node *aliases;
};

static const struct yaml_field attention_fields[] = {
    {"kind", YAML_CHOICE, offsetof(struct moe_model, attention), .required = true,
     .choices = attention_kinds},
    {"num_q_heads", YAML_INT32, offsetof(struct moe_model, num_q_heads), .required = true, .min = 1,
     .max = 4096},
    {"num_kv_heads", YAML_INT32, offsetof(struct moe_model, num_kv_heads), .min = 1, .max = 4096},
    {"head_dim", YAML_INT32, offsetof(struct moe_model, head_dim), .min = 1, .max = 4096},
    {"q_lora_rank", YAML_INT32, offsetof(struct moe_model, q_lora_rank), .max = MODEL_DIM_MAX},
    {"kv_lora_rank", YAML_INT32, offsetof(struct moe_model, kv_lora_rank), .min = 1,
     .max = MODEL_DIM_MAX},
    {"qk_nope_dim", YAML_INT32, offsetof(struct moe_model, qk_nope_dim), .min = 1, .max = 4096},
    {"qk_rope_dim", YAML_INT32, offsetof(struct moe_model, qk_rope_dim), .min = 1, .max = 4096},
    {"v_head_dim", YAML_INT32, offsetof(struct moe_model, v_head_dim), .min = 1, .max = 4096},
    {"sliding_window_tokens", YAML_INT32, offsetof(struct moe_model, sliding_window_tokens),
     .max = INT32_MAX},
    {"sliding_window_every", YAML_INT32, offsetof(struct moe_model, sliding_window_every),
     .max = MODEL_LAYERS_MAX},
    {.key = NULL},
};

static const struct yaml_field ffn_fields[] = {
    {"first_dense_layers", YAML_INT32, offsetof(struct moe_model, first_dense_layers),
     .max = MODEL_LAYERS_MAX},
    {"moe_layer_step", YAML_INT32, offsetof(struct moe_model, moe_layer_step), .min = 1,
     .max = MODEL_LAYERS_MAX},
    {"dense_ffn_dim", YAML_INT32, offsetof(struct moe_model, dense_ffn_dim), .max = MODEL_DIM_MAX},
    {"num_experts", YAML_INT32, offsetof(struct moe_model, num_experts), .max = MODEL_EXPERTS_MAX},
    {"top_k", YAML_INT32, offsetof(struct moe_model, top_k), .max = MODEL_TOP_K_MAX},
    {"expert_ffn_dim", YAML_INT32, offsetof(struct moe_model, expert_ffn_dim),
     .max = MODEL_DIM_MAX},
    {"num_shared_experts", YAML_INT32, offsetof(struct moe_model, num_shared_experts),
     .max = MODEL_EXPERTS_MAX},
    {"shared_ffn_dim", YAML_INT32, offsetof(struct moe_model, shared_ffn_dim),
     .max = MODEL_DIM_MAX},
    {"num_expert_groups", YAML_INT32, offsetof(struct moe_model, num_expert_groups), .min = 1,
     .max = MODEL_EXPERTS_MAX},
    {"topk_groups", YAML_INT32, offsetof(struct moe_model, topk_groups), .min = 1,
     .max = MODEL_EXPERTS_MAX},
    {.key = NULL},
};

static const struct yaml_field precision_fields[] = {
    {"dense", YAML_CHOICE, offsetof(struct moe_model, precision_dense), .required = true,
     .choices = precision_choices},
    {"expert", YAML_CHOICE, offsetof(struct moe_model, precision_expert),
     .choices = precision_choices},
    {"kv", YAML_CHOICE, offsetof(struct moe_model, precision_kv), .required = true,
     .choices = precision_choices},
    {.key = NULL},
};

static const struct yaml_field model_fields[] = {
    {"aliases", YAML_NODE, offsetof(struct model_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct moe_model, source), .size = SOURCE_BYTES,
     .required = true},
    {"hidden_dim", YAML_INT32, offsetof(struct moe_model, hidden_dim), .required = true, .min = 1,
     .max = MODEL_DIM_MAX},
    {"num_layers", YAML_INT32, offsetof(struct moe_model, num_layers), .required = true, .min = 1,
     .max = MODEL_LAYERS_MAX},
    {"vocab_size", YAML_INT32, offsetof(struct moe_model, vocab_size), .required = true, .min = 1,
     .max = MODEL_VOCAB_MAX},
    {"tie_embeddings", YAML_BOOL, offsetof(struct moe_model, tie_embeddings), .size = 0},
    {"attention", YAML_TABLE, .required = true, .table = attention_fields},
    {"ffn", YAML_TABLE, .required = true, .table = ffn_fields},
    {"precision", YAML_TABLE, .required = true, .table = precision_fields},
    {"total_params_published", YAML_DOUBLE, offsetof(struct moe_model, total_params_published),
     .max = 1e18},
    {"active_params_published", YAML_DOUBLE, offsetof(struct moe_model, active_params_published),
     .max = 1e18},
    {"active_params_exclude", YAML_CHOICE, offsetof(struct moe_model, active_params_exclude),
     .choices = active_excludes},
    {.key = NULL},
};

static enum status load_yaml(struct moe_model *model, const char *path, struct error *error)
{
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    struct model_file file = {.model = {.moe_layer_step = 1,
                                        .num_expert_groups = 1,
                                        .topk_groups = 1,
                                        .precision_expert = PRECISION_COUNT}};
    enum status status = yaml_load(&root, path, &arena, error);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, root, model_fields, error);
    }
    if (status == STATUS_OK) {
        if (file.model.precision_expert == PRECISION_COUNT) {
            file.model.precision_expert = file.model.precision_dense;
        }
        status = model_check(&file.model, path, root, error);
    }
    *model = file.model;
    arena_free(&arena);
    return status;
}

enum status model_load(struct moe_model *model, const char *name_or_path, struct error *error)
{
    char path[FILE_PATH_BYTES];
    *model = (struct moe_model){0};
    enum status status = data_find(path, sizeof path, "models", name_or_path, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t length = strlen(path);
    if (length > 5 && strcmp(path + length - 5, ".json") == 0) {
        return model_config_load(model, path, error);
    }
    status = load_yaml(model, path, error);
    data_stem(model->name, sizeof model->name, path);
    return status;
}
