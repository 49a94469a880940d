/* test_scenario_names.c -- scenarios and models that are named, not pathed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "scenario.h"

static struct error error;
static struct scenario scenario;

Test(scenario_names, a_study_is_found_by_its_name)
{
    cr_assert_eq(scenario_load(&scenario, "deepseek_v3_decode_32xh800", NULL, 0, &error), STATUS_OK,
                 "%s", error.text);
    cr_expect_str_eq(scenario.name, "deepseek_v3_decode_32xh800");
    scenario_free(&scenario);
    cr_expect_eq(scenario_load(&scenario, "deepseek_v3_decode", NULL, 0, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "deepseek_v3_decode_32xh800") != NULL, "%s", error.text);
    scenario_free(&scenario);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file, "%s", path);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static const char mixtral[] =
    "{\"model_type\": \"mixtral\", \"torch_dtype\": \"bfloat16\", \"hidden_size\": 4096, "
    "\"intermediate_size\": 14336, \"num_attention_heads\": 32, \"num_experts_per_tok\": 2, "
    "\"num_hidden_layers\": 32, \"num_key_value_heads\": 8, \"num_local_experts\": 8, "
    "\"tie_word_embeddings\": false, \"vocab_size\": 31999}";

/* Wherever moesim is started. */
Test(scenario_names, what_lies_beside_a_scenario_is_found_there)
{
    char directory[] = "/tmp/moesim-beside-XXXXXX";
    char path[4][64];
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(path[0], sizeof path[0], "%s/downloaded", directory);
    (void)snprintf(path[1], sizeof path[1], "%s/downloaded/config.json", directory);
    (void)snprintf(path[2], sizeof path[2], "%s/engine.yaml", directory);
    (void)snprintf(path[3], sizeof path[3], "%s/scenario.yaml", directory);
    cr_assert_eq(mkdir(path[0], 0700), 0);
    write_file(path[1], mixtral);
    write_file(path[2], "{source: mine, request_ms: 7, error_median: 0, error_p90: 0}\n");
    write_file(path[3], "version: 1\nquestion: Where?\nmodel: downloaded\n"
                        "cluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}\nphase: decode\n"
                        "context_tokens: 100\nprice: 2\ncompute: {model: roofline}\n"
                        "trace: {preset: mixtral-8x7b, tokens: 1000, tokens_per_rank: 1}\n"
                        "serving:\n  arrivals: {rate_per_s: 1, duration_s: 1, prompt_tokens: 9, "
                        "decode_tokens: 9}\n  engine: engine.yaml\n");

    enum status status = scenario_load(&scenario, path[3], NULL, 0, &error);

    for (int32_t i = 3; i >= 0; i--) {
        cr_assert_eq(remove(path[i]), 0);
    }
    cr_assert_eq(remove(directory), 0);
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.model.vocab_size, 31999);
    cr_expect_eq(scenario.serving->host_request_ms, 7.0);
    scenario_free(&scenario);
}

Test(scenario_names, a_model_is_found_by_the_directory_it_was_downloaded_to)
{
    char directory[] = "/tmp/moesim-model-XXXXXX";
    char path[64];
    char model[64];
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/config.json", directory);
    (void)snprintf(model, sizeof model, "model=%s", directory);
    write_file(path, mixtral);
    const char *const overrides[] = {model, "trace.preset=mixtral-8x7b", "trace.tokens=1000",
                                     "placement.redundant_experts=24"};

    enum status status =
        scenario_load(&scenario, "deepseek_v3_decode_32xh800", overrides, 4, &error);

    cr_assert_eq(remove(path), 0);
    cr_assert_eq(remove(directory), 0);
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.model.vocab_size, 31999);
    scenario_free(&scenario);
}

Test(scenario_names, files_of_other_commands_are_sent_there)
{
    static const char *const cases[][2] = {
        {"scenarios/studies/strategies.yaml", "moesim study"},
        {"scenarios/studies/cost_across_gpus.yaml", "moesim study"},
        {"scenarios/plans/deepseek_r1_h800.yaml", "moesim plan"},
        {"scenarios/sweeps/router_lab_capacity.yaml", "moesim sweep"},
        {"scenarios/claims/edge_devices.yaml", "moesim claims"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[4096];
        error = (struct error){0};
        snprintf(path, sizeof path, "%s/%s", SOURCE_DIRECTORY, cases[i][0]);
        cr_expect_eq(scenario_load(&scenario, path, NULL, 0, &error), STATUS_INVALID);
        cr_expect_eq(error.num_problems, 1, "%s", error.text);
        cr_expect_not_null(strstr(error.text, cases[i][1]), "%s", error.text);
        scenario_free(&scenario);
    }
}
