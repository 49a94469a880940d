/*
 * test_published_balance.c -- imbalance as TensorRT-LLM published it for DeepSeek-R1: (max - mean)
 * / mean tokens of a rank, each iteration and layer by itself, averaged. 1.564 on EP32 without
 * redundancy, 0.115 on EP36 with 288 slots. The tokens of an iteration are not published; assumed
 * are 8,192, TensorRT-LLM's default. The routing is generated with the measured skew of each layer.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "place.h"
#include "scenario.h"
#include "simulate.h"

#define STEPS       8
#define STEP_TOKENS 8192
#define STUDY       SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml"

static struct arena arena;

static void count(struct load_file *load)
{
    static struct scenario scenario;
    struct trace trace = {0};
    struct error error = {0};
    static const char *const tokens[] = {"trace.tokens=65536"};
    cr_assert_eq(scenario_load(&scenario, STUDY, tokens, 1, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace.num_tokens, STEPS * STEP_TOKENS);
    size_t loads = (size_t)trace.num_layers * (size_t)trace.num_experts;
    *load = (struct load_file){.num_steps = STEPS,
                               .num_layers = trace.num_layers,
                               .num_experts = trace.num_experts,
                               .load_tokens = arena_alloc(&arena, loads, sizeof(int64_t)),
                               .step_tokens = arena_alloc(&arena, STEPS * loads, sizeof(int32_t))};
    for (int32_t step = 0; step < STEPS; step++) {
        for (int32_t layer = 0; layer < trace.num_layers; layer++) {
            int64_t expert_tokens[256] = {0};
            cr_assert_eq(trace_count(&trace, expert_tokens, layer, (int64_t)step * STEP_TOKENS,
                                     STEP_TOKENS, &error),
                         STATUS_OK);
            size_t row = (size_t)layer * (size_t)trace.num_experts;
            for (int32_t expert = 0; expert < trace.num_experts; expert++) {
                load->load_tokens[row + (size_t)expert] += expert_tokens[expert];
                load->step_tokens[(size_t)step * loads + row + (size_t)expert] =
                    (int32_t)expert_tokens[expert];
            }
        }
    }
    trace_close(&trace);
    scenario_free(&scenario);
}

/* Replicas share evenly. */
static double imbalance(const struct load_file *load, const int32_t *expert_of_slot,
                        int32_t num_slots, int32_t num_ranks)
{
    double sum = 0.0;
    for (int32_t row = 0; row < load->num_steps * load->num_layers; row++) {
        const int32_t *tokens = &load->step_tokens[(size_t)row * (size_t)load->num_experts];
        const int32_t *slots = &expert_of_slot[row % load->num_layers * num_slots];
        double replicas[256] = {0};
        double rank_tokens[64] = {0};
        double max = 0.0;
        for (int32_t slot = 0; slot < num_slots; slot++) {
            replicas[slots[slot]]++;
        }
        for (int32_t slot = 0; slot < num_slots; slot++) {
            double *rank = &rank_tokens[slot / (num_slots / num_ranks)];
            *rank += tokens[slots[slot]] / replicas[slots[slot]];
            max = *rank > max ? *rank : max;
        }
        double mean = STEP_TOKENS * 8.0 / num_ranks;
        sum += (max - mean) / mean;
    }
    return sum / (load->num_steps * load->num_layers);
}

Test(published_balance, ranks_of_r1_without_and_with_redundant_experts)
{
    struct load_file load;
    struct place_result linear;
    struct place_result balanced;
    struct error error = {0};
    count(&load);
    struct place_options options = {.strategy = balance_find("static"),
                                    .num_slots = 256,
                                    .num_ranks = 32,
                                    .num_nodes = 4,
                                    .num_groups = 1};
    cr_assert_eq(place(&linear, &options, &load, NULL, &arena, &error), STATUS_OK, "%s",
                 error.text);
    options.strategy = balance_find("eplb");
    options.num_slots = 288;
    options.num_ranks = 36;
    options.num_nodes = 9;
    cr_assert_eq(place(&balanced, &options, &load, NULL, &arena, &error), STATUS_OK, "%s",
                 error.text);

    double before = imbalance(&load, linear.expert_of_slot, 256, 32);
    double after = imbalance(&load, balanced.expert_of_slot, 288, 36);

    cr_log_info("imbalance %.3f (published 1.564), %.4f (published 0.115)\n", before, after);
    cr_expect_float_eq(before, 1.564, 0.15 * 1.564);
    cr_expect_float_eq(after, 0.115, 0.15 * 0.115);
    arena_free(&arena);
}
