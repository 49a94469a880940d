/* test_model.c -- architectures: known parameter counts, layer patterns, presets. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "model.h"
#include "text_file.h"

static struct error error;

static struct moe_model loaded(const char *name)
{
    struct moe_model model;
    cr_assert_eq(model_load(&model, name, &error), STATUS_OK, "%s", error.text);
    return model;
}

static void expect_near(double value, double expected, double tolerance, const char *what)
{
    cr_expect(fabs(value / expected - 1.0) <= tolerance, "%s: %.4g, expected %.4g", what, value,
              expected);
}

Test(model, every_preset_has_the_total_its_publisher_prints)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = data_list(&names, "models", &arena);
    cr_assert_geq(count, 35);
    for (int32_t i = 0; i < count; i++) {
        struct moe_model model = loaded(names[i]);

        struct model_params params = model_params(&model);

        cr_expect_gt(model.total_params_published, 0.0, "%s", names[i]);
        expect_near(params.total, model.total_params_published, 0.03, names[i]);
    }
    arena_free(&arena);
}

/* Publishers differ in what "active" counts; each is checked by its own rule. Claims name none. */
Test(model, active_parameters_match_the_publisher_s_rule)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = data_list(&names, "models", &arena);
    int32_t num_checked = 0;
    for (int32_t i = 0; i < count; i++) {
        struct moe_model model = loaded(names[i]);
        if (model.active_params_published > 0.0) {
            expect_near(model_active_params_counted(&model), model.active_params_published, 0.03,
                        names[i]);
            num_checked++;
        }
    }
    cr_expect_geq(num_checked, 30);
    arena_free(&arena);
}

/* A model of embeddings alone: 10 words of 4 numbers, twice or shared. */
Test(model, excluded_embeddings_are_taken_off_once)
{
    struct moe_model model = {.hidden_dim = 4, .vocab_size = 10, .moe_layer_step = 1};

    cr_expect_eq(model_active_params_counted(&model), 80.0);
    model.active_params_exclude = ACTIVE_EXCLUDE_INPUT_EMBEDDING;
    cr_expect_eq(model_active_params_counted(&model), 40.0);
    model.tie_embeddings = true;
    cr_expect_eq(model_active_params_counted(&model), 40.0);
    model.active_params_exclude = ACTIVE_EXCLUDE_EMBEDDINGS;
    cr_expect_eq(model_active_params_counted(&model), 0.0);
}

/* models.csv, computed there independently, in billions. */
Test(model, totals_equal_those_computed_independently)
{
    static const struct {
        const char *name;
        double total;
        double active;
    } expected[] = {
        {"deepseek-v2-lite", 15.71, 2.66},
        {"deepseek-v2", 235.74, 21.38},
        {"kimi-k2", 1026.41, 32.86},
        {"glm-5", 743.18, 41.05},
        {"qwen3-235b-a22b", 235.09, 22.19},
        {"qwen3-coder-480b-a35b", 480.15, 35.47},
        {"mixtral-8x22b", 140.62, 39.15},
        {"gpt-oss-120b", 116.79, 5.71},
        {"llama-4-scout", 107.77, 17.17},
        {"llama-4-maverick", 400.71, 17.18},
        {"minimax-m2", 228.69, 11.03},
        {"glm-4.5", 352.8, 33.63},
        {"glm-4.5-air", 106.85, 13.42},
        {"grok-1", 315.68, 83.76},
        {"dbrx", 131.6, 36.47},
        {"phi-3.5-moe", 41.87, 6.64},
        {"qwen1.5-moe-a2.7b", 14.32, 2.69},
        {"deepseek-moe-16b", 16.38, 2.83},
        {"mistral-large-3", 673.42, 39.95},
        {"llama-2-7b", 6.74, 6.74},
        {"mistral-7b", 7.24, 7.24},
        {"llama-3.1-8b", 8.03, 8.03},
        {"llama-3.1-70b", 70.55, 70.55},
        {"llama-3.1-405b", 405.85, 405.85},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct moe_model model = loaded(expected[i].name);
        struct model_params params = model_params(&model);
        expect_near(params.total, expected[i].total * 1e9, 2e-3, expected[i].name);
        expect_near(params.active, expected[i].active * 1e9, 3e-3, expected[i].name);
    }
}

/* models.csv, mdl-0003, mdl-0015: 671.03 and 20.91 billion, counted independently. */
Test(model, parts_sum_to_the_independently_computed_total)
{
    struct moe_model deepseek = loaded("deepseek-v3");
    struct moe_model gpt_oss = loaded("gpt-oss-20b");

    expect_near(model_params(&deepseek).total, 671.03e9, 1e-4, "deepseek-v3 total");
    expect_near(model_params(&deepseek).active, 37.55e9, 1e-3, "deepseek-v3 active");
    expect_near(model_params(&gpt_oss).total, 20.91e9, 1e-3, "gpt-oss-20b total");
    expect_near(model_params(&gpt_oss).active, 4.19e9, 1e-3, "gpt-oss-20b active");
}

/* MLA by hand, DeepSeek-V3: q 1536 (7168 + 128 192), kv down 7168 576, up 512 128 256, output
 * 128 128 7168. */
Test(model, latent_attention_is_counted_matrix_by_matrix)
{
    struct moe_model model = loaded("deepseek-v3");

    double expected = 1536.0 * (7168.0 + 128.0 * 192.0) + 7168.0 * 576.0 + 512.0 * 128.0 * 256.0 +
                      128.0 * 128.0 * 7168.0;

    cr_expect_eq(model_attention_params(&model), expected);
    cr_expect_eq(model_kv_bytes_per_token_layer(&model), 576.0 * 2.0);
}

/* Three 7168 x 2048 matrices, a byte each and 4 bytes of scale a 128 x 128 block. */
Test(model, an_expert_weighs_its_three_matrices_and_their_scales)
{
    struct moe_model deepseek = loaded("deepseek-v3");
    struct moe_model gpt_oss = loaded("gpt-oss-20b");

    cr_expect_eq(model_expert_bytes(&deepseek), 3 * 7168 * 2048 + 3 * 56 * 16 * 4);
    cr_expect_eq(model_expert_bytes(&gpt_oss), 3 * 2880 * 2880 * 17 / 32);
}

Test(model, dense_layers_come_first_and_steps_skip_layers)
{
    struct moe_model model = {.num_layers = 10, .num_experts = 4, .first_dense_layers = 3};

    model.moe_layer_step = 1;
    cr_expect_eq(model_num_moe_layers(&model), 7);
    cr_expect_not(model_layer_is_moe(&model, 2));
    cr_expect(model_layer_is_moe(&model, 3));
    model.moe_layer_step = 2; /* 3, 5, 7, 9 */
    cr_expect_eq(model_num_moe_layers(&model), 4);
    cr_expect_not(model_layer_is_moe(&model, 4));
    model.num_experts = 0;
    cr_expect_eq(model_num_moe_layers(&model), 0);
}

Test(model, a_sliding_window_bounds_what_a_query_looks_back_on)
{
    struct moe_model model = loaded("gpt-oss-20b");

    cr_expect_eq(model_attended_tokens(&model, 0, 4096), 128);
    cr_expect_eq(model_attended_tokens(&model, 1, 4096), 4096);
    cr_expect_eq(model_attended_tokens(&model, 0, 100), 100);
    model.sliding_window_every = 0;
    cr_expect_eq(model_attended_tokens(&model, 1, 4096), 128);
    model.sliding_window_tokens = 0;
    cr_expect_eq(model_attended_tokens(&model, 0, 4096), 4096);
}

Test(model, is_found_by_alias_in_any_letter_case)
{
    struct moe_model model = loaded("deepseek-ai/deepseek-r1");

    cr_expect_str_eq(model.name, "deepseek-v3");
}

Test(model, an_unknown_name_suggests_the_nearest_and_where_all_are)
{
    struct moe_model model;

    cr_expect_eq(model_load(&model, "gpt-oss-21b", &error), STATUS_INVALID);

    cr_expect(strstr(error.text, "did you mean 'gpt-oss-20b'?") != NULL, "%s", error.text);
    cr_expect_not_null(strstr(error.text, "moesim list models"), "%s", error.text);
}

Test(model, precision_choices_stand_in_the_order_of_the_enum)
{
    for (int precision = 0; precision < PRECISION_COUNT; precision++) {
        cr_expect_str_eq(precision_choices[precision], precision_name((enum precision)precision));
    }
    cr_expect_null(precision_choices[PRECISION_COUNT]);
}

Test(model, a_yaml_file_reports_all_fields_that_do_not_fit_together)
{
    const char *path =
        text_file(".yaml", "source: test\nhidden_dim: 64\nnum_layers: 2\nvocab_size: 10\n"
                           "attention: {kind: gqa, num_q_heads: 6, num_kv_heads: 4}\n"
                           "ffn:\n  num_experts: 4\n  top_k: 8\n  num_expert_groups: 3\n"
                           "precision: {dense: bf16, kv: bf16}\n");
    struct moe_model model;

    cr_expect_eq(model_load(&model, path, &error), STATUS_INVALID);

    cr_expect_eq(error.num_problems, 5, "%s", error.text);
    cr_expect(strstr(error.text, "head_dim: is missing") != NULL);
    cr_expect(strstr(error.text, ":5: num_kv_heads: must divide num_q_heads") != NULL);
    cr_expect(strstr(error.text, ":8: top_k: must not exceed num_experts") != NULL);
    cr_expect(strstr(error.text, "expert_ffn_dim: is missing") != NULL);
    cr_expect(strstr(error.text, ":9: num_expert_groups: must divide") != NULL);
    cr_expect_eq(unlink(path), 0);
}

Test(data, the_directory_can_be_moved_by_the_environment)
{
    struct arena arena = {0};
    const char *const *names;
    char path[4096];
    cr_assert_eq(setenv("MOESIM_DATA", "/tmp/no-such-directory", 1), 0);

    cr_expect_str_eq(data_directory(), "/tmp/no-such-directory");
    cr_expect_eq(data_list(&names, "models", &arena), -1);
    cr_expect_eq(data_find(path, sizeof path, "models", "mixtral", &error), STATUS_IO);
    cr_expect(strstr(error.text, "MOESIM_DATA") != NULL);
    arena_free(&arena);
}

Test(data, a_stem_is_the_last_part_without_its_suffix)
{
    char stem[8];

    data_stem(stem, sizeof stem, "/a.b/c.yaml");
    cr_expect_str_eq(stem, "c");
    data_stem(stem, sizeof stem, "x-2.5");
    cr_expect_str_eq(stem, "x-2.5");
    data_stem(stem, sizeof stem, "dir/.yaml");
    cr_expect_str_eq(stem, ".yaml");
    data_stem(stem, sizeof stem, "much-too-long.json");
    cr_expect_str_eq(stem, "much-to");
}
