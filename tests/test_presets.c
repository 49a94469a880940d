/* test_presets.c -- laws that every model, GPU and price preset keeps. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "data.h"
#include "random_run.h"
#include "text_file.h"
#include "trace_internal.h"
#include "yaml_file.h"

#define NUM_RANKS       4
#define TOKENS_PER_RANK 2
#define NUM_STEPS       2

static struct error error;

/* Presets of a kind; their number must be at least as large as expected. */
static int32_t presets(const char *const **names, const char *kind, int32_t expected,
                       struct arena *arena)
{
    int32_t count = data_list(names, kind, arena);
    cr_assert_geq(count, expected, "%s", kind);
    return count;
}

/* Experts of a token lie num_experts / top_k apart and move on from token to token. */
static void even_trace(struct trace *trace, const struct moe_model *model)
{
    const int64_t num_tokens = (int64_t)NUM_RANKS * TOKENS_PER_RANK * NUM_STEPS;
    int32_t num_layers = model_num_moe_layers(model);
    int32_t *model_layer = calloc((size_t)num_layers, sizeof *model_layer);
    uint16_t *expert = calloc((size_t)(num_layers * num_tokens * model->top_k), sizeof *expert);
    bool is_wide = trace_id_bytes(model->num_experts, false) == 2;
    uint8_t *narrow = (uint8_t *)expert;
    int64_t index = 0;
    for (int32_t layer = 0, recorded = 0; layer < model->num_layers; layer++) {
        if (!model_layer_is_moe(model, layer)) {
            continue;
        }
        model_layer[recorded++] = layer;
        for (int64_t token = 0; token < num_tokens; token++) {
            for (int32_t k = 0; k < model->top_k; k++, index++) {
                int64_t wish = token + layer + k * (model->num_experts / model->top_k);
                if (is_wide) {
                    expert[index] = (uint16_t)(wish % model->num_experts);
                } else {
                    narrow[index] = (uint8_t)(wish % model->num_experts);
                }
            }
        }
    }
    struct trace_description description = {.model = model->name,
                                            .num_experts = model->num_experts,
                                            .top_k = model->top_k,
                                            .num_layers = num_layers,
                                            .model_layer = model_layer,
                                            .origin = "mock",
                                            .source = "tests",
                                            .licence = "none"};
    cr_assert_eq(trace_from_memory(trace, &description, expert, NULL, NULL, 0, num_tokens, &error),
                 STATUS_OK, "%s", error.text);
    free(model_layer);
}

/* Two nodes of two GPUs with room for any model. */
static struct scenario roomy(const struct moe_model *model)
{
    struct scenario scenario = {
        .model = *model,
        .cluster = {.gpu = simple_gpu(), .num_nodes = NUM_RANKS / 2, .gpus_per_node = 2},
        .ep = NUM_RANKS,
        .expert_tp = 1,
        .tp = 1,
        .context_tokens = 1000,
        .tokens_per_rank = TOKENS_PER_RANK,
        .num_steps = NUM_STEPS,
        .batching = BATCHING_CONSECUTIVE,
        .router = route_find("trace"),
        .drop = drop_find("position"),
        .strategy = balance_find("static"),
        .replica = dispatch_find("locality"),
        .collective = collective_find("deepep_low_latency"),
        .dispatch_precision = PRECISION_BF16,
        .combine_precision = PRECISION_BF16,
        .micro_batches = 1,
        .chunks = 1,
        .net = net_find("alpha_beta"),
        .gpu_model = gpu_find("roofline"),
        .memory_fraction = 0.9,
        .price = {.usd_per_gpu_hour = 3.6},
    };
    scenario.cluster.gpu.hbm_bytes = INT64_C(10000000000000);
    return scenario;
}

static void expect_runs(const struct moe_model *model)
{
    struct scenario scenario = roomy(model);
    bool is_moe = model->num_experts > 0;
    struct trace trace = {0};
    if (is_moe) {
        even_trace(&trace, model);
    }
    struct engine *engine = NULL;

    cr_assert_eq(engine_open(&engine, &scenario, is_moe ? &trace : NULL, &error), STATUS_OK,
                 "%s: %s", model->name, error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s: %s", model->name, error.text);

    const struct run_metrics *metrics = engine_metrics(engine);
    struct run_totals totals = run_totals(metrics, &scenario);
    int64_t tokens = (int64_t)NUM_RANKS * TOKENS_PER_RANK * NUM_STEPS;
    int64_t moe_layers = model_num_moe_layers(model);
    cr_expect_eq(metrics->num_steps, NUM_STEPS, "%s", model->name);
    cr_expect_eq(totals.tokens, tokens, "%s", model->name);
    cr_expect_eq(totals.assignments, tokens * moe_layers * model->top_k, "%s", model->name);
    cr_expect_eq(metrics->bytes_sent > 0, is_moe, "%s", model->name);
    cr_expect_gt(totals.step_ns_mean, 0.0, "%s", model->name);
    engine_close(engine);
    trace_close(&trace);
}

Test(presets, every_model_simulates)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = presets(&names, "models", 35, &arena);
    for (int32_t i = 0; i < count; i++) {
        struct moe_model model;
        cr_assert_eq(model_load(&model, names[i], &error), STATUS_OK, "%s", error.text);
        expect_runs(&model);
    }
    arena_free(&arena);
}

/* A step of DeepSeek-V2-Lite must take time on every GPU, down to chips that hold no model. */
Test(presets, every_gpu_computes_and_sends)
{
    struct arena arena = {0};
    const char *const *names;
    struct moe_model model;
    cr_assert_eq(model_load(&model, "deepseek-v2-lite", &error), STATUS_OK, "%s", error.text);
    int32_t count = presets(&names, "gpus", 14, &arena);
    for (int32_t i = 0; i < count; i++) {
        struct gpu_spec gpu;
        cr_assert_eq(gpu_load(&gpu, names[i], &error), STATUS_OK, "%s", error.text);
        struct gpu_work work = {.phase = GPU_DENSE_FFN, .model = &model, .tokens = 64, .shards = 1};

        double duration_ns = gpu_find("roofline")->duration_ns(&gpu, &work);

        cr_expect_gt(duration_ns, 0.0, "%s", names[i]);
        cr_expect_lt(duration_ns, 1e9, "%s", names[i]);
        cr_expect_geq(gpu.flops_per_s[PRECISION_BF16], gpu.flops_per_s[PRECISION_FP32]);
        cr_expect_leq(gpu.port[TIER_SCALE_OUT].bytes_per_s, gpu.port[TIER_SCALE_UP].bytes_per_s);
    }
    arena_free(&arena);
}

Test(presets, every_price_is_dated_sourced_and_of_a_known_gpu)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = presets(&names, "prices", 30, &arena);
    for (int32_t i = 0; i < count; i++) {
        struct price price;
        struct gpu_spec gpu;
        cr_assert_eq(price_load(&price, names[i], &error), STATUS_OK, "%s", error.text);
        cr_assert_eq(gpu_load(&gpu, price.gpu, &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(gpu.name, price.gpu);
        cr_expect_gt(strlen(price.source), 10, "%s", names[i]);
        cr_expect_gt(strlen(price.date), 0, "%s", names[i]);
    }
    arena_free(&arena);
}

/* Names and aliases of one kind, in any letter case, lead to one preset each. */
Test(presets, no_two_share_a_name_or_an_alias)
{
    static const char *const kinds[] = {"models", "gpus", "prices"};
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        struct arena arena = {0};
        const char *const *names;
        const char *known[1024];
        int32_t num_known = 0;
        int32_t count = presets(&names, kinds[kind], 1, &arena);
        for (int32_t i = 0; i < count; i++) {
            char path[4096];
            struct yaml_node *root = NULL;
            (void)snprintf(path, sizeof path, "%s/scenarios/%s/%s.yaml", data_directory(),
                           kinds[kind], names[i]);
            cr_assert_eq(yaml_load(&root, path, &arena, &error), STATUS_OK, "%s", error.text);
            const struct yaml_node *aliases = yaml_get(root, "aliases");
            known[num_known++] = names[i];
            const struct yaml_node *alias = aliases != NULL ? aliases->child : NULL;
            for (; alias != NULL; alias = alias->next) {
                known[num_known++] = alias->text;
            }
            cr_assert_lt(num_known, 1000);
        }
        for (int32_t i = 0; i < num_known; i++) {
            for (int32_t other = 0; other < i; other++) {
                cr_expect_neq(strcasecmp(known[i], known[other]), 0, "%s: %s", kinds[kind],
                              known[i]);
            }
        }
        arena_free(&arena);
    }
}

Test(presets, a_file_of_one_s_own_serves_as_price_and_gpu)
{
    const char *path =
        text_file(".yaml", "gpu: h100-sxm\nusd_per_gpu_hour: 1.11\ndate: \"2026-11\"\n"
                           "source: my contract\n");
    char gpu_path[4096];
    (void)snprintf(gpu_path, sizeof gpu_path, "%s/scenarios/gpus/h20.yaml", SOURCE_DIRECTORY);
    struct price price;
    struct gpu_spec gpu;

    cr_expect_eq(price_load(&price, path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(gpu_load(&gpu, gpu_path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(price.usd_per_gpu_hour, 1.11);
    cr_expect_str_eq(price.gpu, "h100-sxm");
    cr_expect_str_eq(gpu.name, "h20");
    cr_expect_eq(unlink(path), 0);
}

/* What nvidia-smi and rocm-smi print. */
Test(presets, gpus_are_found_by_the_names_their_tools_print)
{
    static const char *const printed[][2] = {
        {"NVIDIA H20", "h20"},           {"NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"},
        {"NVIDIA GB200", "gb200-nvl72"}, {"NVIDIA B300 SXM6 AC", "b300-sxm"},
        {"NVIDIA GB300", "gb300-nvl72"}, {"AMD Instinct MI300X", "mi300x"},
    };
    for (size_t i = 0; i < sizeof printed / sizeof printed[0]; i++) {
        struct gpu_spec gpu;
        cr_expect_eq(gpu_load(&gpu, printed[i][0], &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(gpu.name, printed[i][1]);
    }
}

/* Skips where the program is not built. */
static FILE *list(const char *arguments)
{
    char command[4096];
    if (access(MOESIM_PROGRAM, X_OK) != 0) {
        cr_skip("no " MOESIM_PROGRAM);
    }
    (void)snprintf(command, sizeof command, MOESIM_PROGRAM " list %s", arguments);
    FILE *output = popen(command, "r");
    cr_assert_not_null(output);
    return output;
}

Test(presets, are_listed_within_100_columns)
{
    static const char *const arguments[] = {"models", "gpus", "prices", ""};
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++) {
        char line[4096];
        FILE *output = list(arguments[i]);
        int32_t num_lines = 0;
        for (; fgets(line, sizeof line, output) != NULL; num_lines++) {
            size_t length = strcspn(line, "\n");
            cr_expect_leq(length, 100, "%s", line);
            cr_expect_neq(line[length > 0 ? length - 1 : 0], ' ', "%s", line);
        }
        cr_expect_gt(num_lines, 10);
        cr_expect_eq(pclose(output), 0);
    }
}

Test(presets, json_holds_computed_beside_published_numbers)
{
    static char text[1 << 20];
    FILE *output = list("models --json");
    size_t length = fread(text, 1, sizeof text - 1, output);
    cr_expect_eq(pclose(output), 0);
    cr_assert_lt(length, sizeof text - 1);
    cJSON *rows = cJSON_Parse(text);

    const cJSON *row = NULL;
    int32_t num_checked = 0;
    cJSON_ArrayForEach(row, rows)
    {
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(row, "name")), "gpt-oss-20b") == 0) {
            /* test_model.c has the counts: 20.91 and 4.19 billion, 3.6 of them published. */
            cr_expect_float_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "total_params")),
                               20.91e9, 1e7);
            cr_expect_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "active_params_published")),
                         3.6e9);
            cr_expect_str_eq(
                cJSON_GetStringValue(cJSON_GetObjectItem(row, "active_params_exclude")),
                "input_embedding");
            num_checked++;
        }
    }
    cr_expect_eq(num_checked, 1);
    cJSON_Delete(rows);
}
