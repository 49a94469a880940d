/* test_model.c -- architectures: known parameter counts, layer patterns, presets. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "model.h"

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
    cr_assert_geq(count, 5);
    for (int32_t i = 0; i < count; i++) {
        struct moe_model model = loaded(names[i]);

        struct model_params params = model_params(&model);

        cr_expect_gt(model.total_params_published, 0.0, "%s", names[i]);
        expect_near(params.total, model.total_params_published, 0.03, names[i]);
    }
    arena_free(&arena);
}

/* Publishers differ in what "active" counts; each is checked by its own rule. */
Test(model, active_parameters_match_the_publisher_s_rule)
{
    static const char *const with_both_embeddings[] = {
        "deepseek-v3", "mixtral-8x7b", "qwen3-30b-a3b", "llama-2-70b", "olmoe-1b-7b"};
    for (size_t i = 0; i < sizeof with_both_embeddings / sizeof with_both_embeddings[0]; i++) {
        struct moe_model model = loaded(with_both_embeddings[i]);
        expect_near(model_params(&model).active, model.active_params_published, 0.03, model.name);
    }
    struct moe_model model = loaded("gpt-oss-20b"); /* the input embedding is not counted */
    double input_embedding = (double)model.vocab_size * (double)model.hidden_dim;
    expect_near(model_params(&model).active - input_embedding, model.active_params_published, 0.03,
                "gpt-oss-20b");
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

Test(model, an_unknown_name_suggests_the_nearest_and_lists_all)
{
    struct moe_model model;

    cr_expect_eq(model_load(&model, "gpt-oss-21b", &error), STATUS_INVALID);

    cr_expect(strstr(error.text, "did you mean 'gpt-oss-20b'?") != NULL, "%s", error.text);
    cr_expect(strstr(error.text, "mixtral-8x7b") != NULL);
}

Test(model, precision_choices_stand_in_the_order_of_the_enum)
{
    for (int precision = 0; precision < PRECISION_COUNT; precision++) {
        cr_expect_str_eq(precision_choices[precision], precision_name((enum precision)precision));
    }
    cr_expect_null(precision_choices[PRECISION_COUNT]);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

Test(model, a_yaml_file_reports_all_fields_that_do_not_fit_together)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/moesim-model-%d.yaml", (int)getpid());
    write_file(path, "source: test\nhidden_dim: 64\nnum_layers: 2\nvocab_size: 10\n"
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
