/* test_engine_pairs.c -- what strategies are told of experts that tokens choose together. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "random_run.h"

/* A strategy that keeps the first window's counts and changes nothing. */
struct seen {
    int32_t num_calls;
    int32_t *pairs;
    int32_t *transitions;
};

/* The plug-in table has no place for a context: the test's own. */
static struct seen seen;

static enum status look(void *state, const struct balance_input *input, int32_t *expert_of_slot,
                        struct error *error)
{
    (void)state;
    (void)expert_of_slot;
    (void)error;
    size_t block = (size_t)input->num_experts * (size_t)input->num_experts;
    size_t layers = (size_t)input->num_layers;
    if (seen.num_calls++ == 0) {
        seen.pairs = malloc(layers * block * sizeof *seen.pairs);
        seen.transitions = malloc(layers * block * sizeof *seen.transitions);
        memcpy(seen.pairs, input->pair_tokens, layers * block * sizeof *seen.pairs);
        memcpy(seen.transitions, input->transition_tokens,
               (layers - 1) * block * sizeof *seen.transitions);
    }
    return STATUS_OK;
}

static const struct balance_strategy looking = {
    .name = "looking",
    .needs = BALANCE_NEEDS_WINDOW | BALANCE_NEEDS_PAIRS | BALANCE_NEEDS_TRANSITIONS,
    .plan = look,
};

/* Adds 1 for every pair of ids of a token; a recorded layer holds an expert once a token. */
static void count(int32_t *counts, const int32_t *from, const int32_t *to, int32_t top_k,
                  int32_t num_experts)
{
    for (int32_t i = 0; i < top_k; i++) {
        for (int32_t j = 0; j < top_k; j++) {
            bool is_pair = from[i] != EXPERT_NOT_ROUTED && to[j] != EXPERT_NOT_ROUTED &&
                           (from != to || i != j);
            if (is_pair) {
                counts[from[i] * num_experts + to[j]]++;
            }
        }
    }
}

/* Rows in file order: the first step is the first rows. */
static void expect_counts(const struct random_run *run)
{
    const struct scenario *scenario = &run->scenario;
    int32_t experts = scenario->model.num_experts;
    int32_t top_k = scenario->model.top_k;
    size_t block = (size_t)experts * (size_t)experts;
    int32_t tokens = scenario->tokens_per_rank * scenario->ep;
    int32_t *ids[2] = {malloc((size_t)top_k * sizeof(int32_t)),
                       malloc((size_t)top_k * sizeof(int32_t))};
    struct error error = {0};
    for (int32_t layer = 0; layer < run->trace.num_layers; layer++) {
        int32_t *pairs = calloc(block, sizeof *pairs);
        int32_t *transitions = calloc(block, sizeof *transitions);
        for (int64_t row = 0; row < tokens; row++) {
            cr_assert_eq(trace_read(&run->trace, ids[0], NULL, layer, &row, 1, &error), STATUS_OK);
            count(pairs, ids[0], ids[0], top_k, experts);
            if (layer + 1 < run->trace.num_layers) {
                cr_assert_eq(trace_read(&run->trace, ids[1], NULL, layer + 1, &row, 1, &error),
                             STATUS_OK);
                count(transitions, ids[0], ids[1], top_k, experts);
            }
        }
        cr_expect_arr_eq(&seen.pairs[(size_t)layer * block], pairs, block * sizeof *pairs);
        if (layer + 1 < run->trace.num_layers) {
            cr_expect_arr_eq(&seen.transitions[(size_t)layer * block], transitions,
                             block * sizeof *transitions);
        }
        free(pairs);
        free(transitions);
    }
    free(ids[0]);
    free(ids[1]);
}

Test(engine, tells_strategies_which_experts_tokens_choose_together)
{
    int32_t num_seen = 0;
    for (uint64_t round = 0; round < 60; round++) {
        struct random_run run;
        struct engine *engine = NULL;
        struct error error = {0};
        random_run_make(&run, round);
        run.scenario.strategy = &looking;
        run.scenario.router = route_find("trace");
        run.scenario.batching = BATCHING_CONSECUTIVE;
        run.scenario.rebalance_interval_steps = 1;
        run.scenario.window_steps = 0;
        seen = (struct seen){0};
        cr_assert_eq(engine_open(&engine, &run.scenario, &run.trace, &error), STATUS_OK, "%s",
                     error.text);
        cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
        if (seen.num_calls > 0) {
            expect_counts(&run);
            num_seen++;
            free(seen.pairs);
            free(seen.transitions);
        }
        engine_close(engine);
        random_run_free(&run);
    }
    cr_expect_gt(num_seen, 30);
}
