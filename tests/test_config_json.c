/*
 * test_config_json.c -- Hugging Face's config.json, one small input a family.
 *
 * The values are those the publishers print; the files are written here.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "text_file.h"

static struct error error;

static enum status load_text(struct moe_model *model, const char *text)
{
    const char *path = text_file(".json", text);
    enum status status = model_load(model, path, &error);
    cr_assert_eq(unlink(path), 0);
    return status;
}

/* Everything but names and published figures must equal the preset. */
static void expect_preset(const char *preset, const char *text)
{
    struct moe_model config;
    struct moe_model expected;
    cr_assert_eq(load_text(&config, text), STATUS_OK, "%s", error.text);
    cr_assert_eq(model_load(&expected, preset, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(config.hidden_dim, expected.hidden_dim);
    cr_expect_eq(config.num_layers, expected.num_layers);
    cr_expect_eq(config.vocab_size, expected.vocab_size);
    cr_expect_eq(config.tie_embeddings, expected.tie_embeddings);
    cr_expect_eq(config.attention, expected.attention);
    cr_expect_eq(config.num_q_heads, expected.num_q_heads);
    cr_expect_eq(config.num_kv_heads, expected.num_kv_heads);
    cr_expect_eq(config.head_dim, expected.head_dim);
    cr_expect_eq(config.q_lora_rank, expected.q_lora_rank);
    cr_expect_eq(config.kv_lora_rank, expected.kv_lora_rank);
    cr_expect_eq(config.qk_nope_dim, expected.qk_nope_dim);
    cr_expect_eq(config.qk_rope_dim, expected.qk_rope_dim);
    cr_expect_eq(config.v_head_dim, expected.v_head_dim);
    cr_expect_eq(config.sliding_window_tokens, expected.sliding_window_tokens);
    cr_expect_eq(config.sliding_window_every, expected.sliding_window_every);
    cr_expect_eq(config.first_dense_layers, expected.first_dense_layers);
    cr_expect_eq(config.moe_layer_step, expected.moe_layer_step);
    cr_expect_eq(config.dense_ffn_dim, expected.dense_ffn_dim);
    cr_expect_eq(config.num_experts, expected.num_experts);
    cr_expect_eq(config.top_k, expected.top_k);
    cr_expect_eq(config.expert_ffn_dim, expected.expert_ffn_dim);
    cr_expect_eq(config.num_shared_experts, expected.num_shared_experts);
    cr_expect_eq(config.shared_ffn_dim, expected.shared_ffn_dim);
    cr_expect_eq(config.num_expert_groups, expected.num_expert_groups);
    cr_expect_eq(config.topk_groups, expected.topk_groups);
    cr_expect_eq(config.precision_dense, expected.precision_dense);
    cr_expect_eq(config.precision_expert, expected.precision_expert);
    cr_expect_eq(config.precision_kv, expected.precision_kv);
}

Test(config_json, reads_deepseek_v3)
{
    expect_preset("deepseek-v3",
                  "{\"model_type\": \"deepseek_v3\", \"hidden_size\": 7168,\n"
                  "\"num_hidden_layers\": 61, \"vocab_size\": 129280,\n"
                  "\"num_attention_heads\": 128, \"num_key_value_heads\": 128,\n"
                  "\"q_lora_rank\": 1536, \"kv_lora_rank\": 512, \"qk_nope_head_dim\": 128,\n"
                  "\"qk_rope_head_dim\": 64, \"v_head_dim\": 128, \"intermediate_size\": 18432,\n"
                  "\"n_routed_experts\": 256, \"n_shared_experts\": 1,\n"
                  "\"num_experts_per_tok\": 8, \"moe_intermediate_size\": 2048,\n"
                  "\"first_k_dense_replace\": 3, \"moe_layer_freq\": 1, \"n_group\": 8,\n"
                  "\"topk_group\": 4, \"tie_word_embeddings\": false,\n"
                  "\"torch_dtype\": \"bfloat16\",\n"
                  "\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\",\n"
                  "\"weight_block_size\": [128, 128]}}\n");
}

Test(config_json, reads_mixtral_where_the_intermediate_size_is_an_expert_s)
{
    expect_preset("mixtral-8x7b", "{\"model_type\": \"mixtral\", \"hidden_size\": 4096,\n"
                                  "\"num_hidden_layers\": 32, \"vocab_size\": 32000,\n"
                                  "\"num_attention_heads\": 32, \"num_key_value_heads\": 8,\n"
                                  "\"intermediate_size\": 14336, \"num_local_experts\": 8,\n"
                                  "\"num_experts_per_tok\": 2, \"sliding_window\": null,\n"
                                  "\"torch_dtype\": \"bfloat16\"}\n");
}

Test(config_json, reads_qwen3_moe_and_ignores_the_unused_dense_size)
{
    struct moe_model preset;
    cr_assert_eq(model_load(&preset, "qwen3-30b-a3b", &error), STATUS_OK);

    expect_preset("qwen3-30b-a3b",
                  "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 2048,\n"
                  "\"num_hidden_layers\": 48, \"vocab_size\": 151936,\n"
                  "\"num_attention_heads\": 32, \"num_key_value_heads\": 4, \"head_dim\": 128,\n"
                  "\"intermediate_size\": 6144, \"moe_intermediate_size\": 768,\n"
                  "\"num_experts\": 128, \"num_experts_per_tok\": 8,\n"
                  "\"decoder_sparse_step\": 1, \"mlp_only_layers\": [],\n"
                  "\"torch_dtype\": \"bfloat16\"}\n");
}

#define GPT_OSS_HEAD                                                                               \
    "{\"model_type\": \"gpt_oss\", \"hidden_size\": 2880, \"num_hidden_layers\": 24,\n"            \
    "\"vocab_size\": 201088, \"num_attention_heads\": 64, \"num_key_value_heads\": 8,\n"           \
    "\"head_dim\": 64, \"intermediate_size\": 2880, \"num_local_experts\": 32,\n"                  \
    "\"sliding_window\": 128, \"tie_word_embeddings\": false,\n"                                   \
    "\"quantization_config\": {\"quant_method\": \"mxfp4\"},\n"

static void gpt_oss(char *text, size_t size, const char *rest, const char *second_layer)
{
    int used = snprintf(text, size, GPT_OSS_HEAD "%s, \"layer_types\": [", rest);
    for (int layer = 0; layer < 24; layer++) {
        used += snprintf(text + used, size - (size_t)used, "%s\"%s\"", layer > 0 ? "," : "",
                         layer % 2 == 0 ? "sliding_attention" : second_layer);
    }
    (void)snprintf(text + used, size - (size_t)used, "]}");
}

Test(config_json, reads_gpt_oss_under_either_name_of_top_k)
{
    char text[4096];
    gpt_oss(text, sizeof text, "\"num_experts_per_tok\": 4", "full_attention");
    expect_preset("gpt-oss-20b", text);
    gpt_oss(text, sizeof text, "\"experts_per_token\": 4", "full_attention");
    expect_preset("gpt-oss-20b", text);
}

Test(config_json, refuses_a_layer_pattern_it_cannot_express)
{
    struct moe_model model;
    char text[4096];
    gpt_oss(text, sizeof text, "\"experts_per_token\": 4", "linear_attention");

    cr_expect_eq(load_text(&model, text), STATUS_INVALID);

    cr_expect(strstr(error.text, "layer_types: must name each layer") != NULL, "%s", error.text);
}

Test(config_json, reads_olmoe_and_dense_llama)
{
    expect_preset("olmoe-1b-7b", "{\"model_type\": \"olmoe\", \"hidden_size\": 2048,\n"
                                 "\"num_hidden_layers\": 16, \"vocab_size\": 50304,\n"
                                 "\"num_attention_heads\": 16, \"num_key_value_heads\": 16,\n"
                                 "\"intermediate_size\": 1024, \"num_experts\": 64,\n"
                                 "\"num_experts_per_tok\": 8, \"dtype\": \"bfloat16\"}\n");
    expect_preset("llama-2-70b", "{\"model_type\": \"llama\", \"hidden_size\": 8192,\n"
                                 "\"num_hidden_layers\": 80, \"vocab_size\": 32000,\n"
                                 "\"num_attention_heads\": 64, \"num_key_value_heads\": 8,\n"
                                 "\"intermediate_size\": 28672, \"torch_dtype\": \"float16\"}\n");
}

/* Qwen: layer l is MoE when (l + 1) % 2 == 0, so 1, 3, 5 ... DeepSeek: l >= 3 and l % 2 == 0, so 4,
 * 6, ... */
Test(config_json, sparse_steps_follow_each_family_s_rule)
{
    struct moe_model qwen;
    struct moe_model deepseek;

    cr_assert_eq(load_text(&qwen, "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 64,\n"
                                  "\"num_hidden_layers\": 6, \"vocab_size\": 100,\n"
                                  "\"num_attention_heads\": 4, \"intermediate_size\": 128,\n"
                                  "\"moe_intermediate_size\": 32, \"num_experts\": 8,\n"
                                  "\"num_experts_per_tok\": 2, \"decoder_sparse_step\": 2,\n"
                                  "\"torch_dtype\": \"bfloat16\"}"),
                 STATUS_OK, "%s", error.text);
    cr_assert_eq(load_text(&deepseek, "{\"model_type\": \"deepseek_v2\", \"hidden_size\": 64,\n"
                                      "\"num_hidden_layers\": 8, \"vocab_size\": 100,\n"
                                      "\"num_attention_heads\": 4, \"q_lora_rank\": null,\n"
                                      "\"kv_lora_rank\": 16, \"qk_nope_head_dim\": 8,\n"
                                      "\"qk_rope_head_dim\": 4, \"v_head_dim\": 8,\n"
                                      "\"intermediate_size\": 128, \"moe_intermediate_size\": 32,\n"
                                      "\"n_routed_experts\": 8, \"num_experts_per_tok\": 2,\n"
                                      "\"first_k_dense_replace\": 3, \"moe_layer_freq\": 2,\n"
                                      "\"torch_dtype\": \"float32\"}"),
                 STATUS_OK, "%s", error.text);

    cr_expect_not(model_layer_is_moe(&qwen, 0));
    cr_expect(model_layer_is_moe(&qwen, 1));
    cr_expect_not(model_layer_is_moe(&qwen, 2));
    cr_expect_eq(qwen.head_dim, 16);
    cr_expect_not(model_layer_is_moe(&deepseek, 3));
    cr_expect(model_layer_is_moe(&deepseek, 4));
    cr_expect_not(model_layer_is_moe(&deepseek, 5));
    cr_expect_eq(model_num_moe_layers(&deepseek), 2);
    cr_expect_eq(deepseek.q_lora_rank, 0);
    cr_expect_eq(deepseek.precision_dense, PRECISION_FP32);
}

Test(config_json, names_every_missing_key_and_wrong_value_with_its_line)
{
    struct moe_model model;

    cr_expect_eq(load_text(&model, "{\"model_type\": \"mixtral\",\n\"hidden_size\": \"big\",\n"
                                   "\"num_attention_heads\": 2.5,\n\"num_hidden_layers\": 0}\n"),
                 STATUS_INVALID);

    static const char *const lines[] = {
        ":2: hidden_size: must be a whole number", ":3: num_attention_heads: must be a whole",
        ":4: num_hidden_layers: must be a whole",  ": vocab_size: is missing",
        ": num_local_experts: is missing",         ": num_experts_per_tok: is missing",
        ": intermediate_size: is missing",         ": torch_dtype: is missing",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        cr_expect(strstr(error.text, lines[i]) != NULL, "'%s' lacks '%s'", error.text, lines[i]);
    }
}

Test(config_json, refuses_what_it_does_not_know)
{
    struct moe_model model;

    cr_expect_eq(load_text(&model, "{\"model_type\": \"dbrx\"}"), STATUS_INVALID);
    cr_expect(strstr(error.text, "'dbrx' is none of the architectures") != NULL);
    cr_expect_eq(load_text(&model, "{\"hidden_size\": 3}"), STATUS_INVALID);
    cr_expect(strstr(error.text, "model_type: is missing") != NULL);
    cr_expect_eq(load_text(&model, "{\"a\": 1,\n \"b\": }"), STATUS_INVALID);
    cr_expect(strstr(error.text, ":2: is no valid JSON") != NULL, "%s", error.text);
    cr_expect_eq(load_text(&model, "[1]"), STATUS_INVALID);
    cr_expect_eq(load_text(&model, ""), STATUS_INVALID);
    cr_expect_eq(load_text(&model, "{\"model_type\": \"llama\", \"hidden_size\": 64,\n"
                                   "\"num_hidden_layers\": 2, \"vocab_size\": 10,\n"
                                   "\"num_attention_heads\": 4, \"intermediate_size\": 64,\n"
                                   "\"torch_dtype\": \"bfloat16\",\n"
                                   "\"quantization_config\": {\"quant_method\": \"gptq\"}}"),
                 STATUS_INVALID);
    cr_expect(strstr(error.text, "quant_method: must be fp8 or mxfp4") != NULL);
}
