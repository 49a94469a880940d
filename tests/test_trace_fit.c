/* test_trace_fit.c -- a fit finds what a trace was made by, and says when it cannot. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "small_law.h"
#include "trace_against.h"
#include "trace_fit.h"
#include "trace_internal.h"

static struct error error;
static struct generate_preset preset;
static struct generate_preset fitted;

static enum status fit(const struct trace *trace, int32_t num_threads)
{
    struct trace_fit_options options = {.seed = 1, .num_threads = num_threads};
    return trace_fit(&fitted, trace, &options, &error);
}

/* Two domains in stretches, with lengths of their own. */
static struct trace stirred_trace(int64_t num_tokens)
{
    small_law_init(&preset);
    small_law_stir(&preset, 29);
    struct coupled_law *law = preset.coupled;
    law->num_domains = 2;
    law->domain[0].requests = 40;
    law->domain[1] = law->domain[0];
    (void)strcpy(law->domain[1].tag, "long");
    law->domain[0].mean[0] = 1;
    law->domain[1].mean[0] = -1;
    for (int32_t i = 0; i < COUPLED_QUANTILES; i++) {
        law->domain[1].rows[i] = 200;
    }
    return small_law_trace(&preset, num_tokens, 31, 2);
}

/* The fit never sees the law, only 24,000 tokens of it. */
Test(trace_fit, generates_traces_that_measure_like_the_one_it_saw)
{
    struct trace_figure figure[TRACE_FIGURES];
    struct trace trace = stirred_trace(24000);

    cr_assert_eq(fit(&trace, 2), STATUS_OK, "%s", error.text);

    struct trace made = small_law_trace(&fitted, 24000, 77, 2);
    struct trace_against_options options = {.stats = {.seed = 1, .num_threads = 2},
                                            .num_draws = 10};
    cr_assert_eq(trace_against(figure, &made, &trace, &options, &error), STATUS_OK, "%s",
                 error.text);
    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        bool rare = figure[i].other < 0.02; /* drops that hang on a few of 23 steps */
        cr_expect(isnan(figure[i].other) || rare || figure[i].inside,
                  "%s: %g, fitted to %g, spread %g", figure[i].name, figure[i].value,
                  figure[i].other, figure[i].spread);
    }
    trace_close(&made);
    trace_close(&trace);
    generate_preset_free(&fitted);
    generate_preset_free(&preset);
}

Test(trace_fit, tells_domains_and_their_lengths_apart)
{
    struct trace trace = stirred_trace(24000);

    cr_assert_eq(fit(&trace, 1), STATUS_OK, "%s", error.text);

    const struct coupled_law *law = fitted.coupled;
    cr_assert_eq(law->num_domains, 4); /* 40 and 40 requests, then again */
    for (int32_t i = 0; i < 4; i++) {
        cr_expect_str_eq(law->domain[i].tag, i % 2 == 0 ? "only" : "long");
        cr_expect_float_eq(law->domain[i].rows[4], i % 2 == 0 ? 100 : 200, 1e-9);
        cr_expect_float_eq(law->domain[i].prompt_tokens[4], 7, 1e-9);
    }
    cr_expect_float_eq(law->domain[0].requests, 40, 1e-9);
    cr_expect_eq(fitted.num_layers, SMALL_LAYERS);
    cr_expect_str_eq(fitted.model, "tiny");
    trace_close(&trace);
    generate_preset_free(&fitted);
    generate_preset_free(&preset);
}

Test(trace_fit, is_the_same_for_any_number_of_threads)
{
    struct trace trace = stirred_trace(6000);
    static struct generate_preset one;

    cr_assert_eq(fit(&trace, 1), STATUS_OK, "%s", error.text);
    one = fitted;
    cr_assert_eq(fit(&trace, 3), STATUS_OK, "%s", error.text);

    int32_t cells =
        SMALL_LAYERS * coupled_first_row(one.coupled, COUPLED_ROW_KINDS) * SMALL_EXPERTS;
    cr_expect_arr_eq(one.coupled->table, fitted.coupled->table, (size_t)cells * sizeof(int16_t));
    cr_expect_arr_eq(one.coupled->drift_sigma, fitted.coupled->drift_sigma,
                     sizeof one.coupled->drift_sigma);
    trace_close(&trace);
    generate_preset_free(&one);
    generate_preset_free(&fitted);
    generate_preset_free(&preset);
}

/* Weights of top-2 are softmax(2 s) over scores of gap s. Their mean is known from many tokens of
 * the law itself, so the scale must come out again. */
Test(trace_fit, finds_the_scale_of_gate_weights)
{
    struct trace trace = stirred_trace(6000);
    int64_t num_ids = 6000 * SMALL_LAYERS * SMALL_TOP_K;
    int32_t *expert = malloc((size_t)num_ids * sizeof *expert);
    uint8_t *ids = malloc((size_t)num_ids);
    uint16_t *weights = malloc((size_t)num_ids * sizeof *weights);
    struct trace_request *request = calloc(1, sizeof *request);
    cr_assert(expert != NULL && ids != NULL && weights != NULL && request != NULL);
    for (int64_t i = 0; i < num_ids; i++) {
        ids[i] = (uint8_t)(i % SMALL_TOP_K);
        weights[i] = i % SMALL_TOP_K == 0 ? 0x3b33 : 0x34cd; /* 0.9 and 0.3: 0.75 of both */
    }
    request->num_rows = 6000;
    struct trace gates;
    struct trace_description description = {.model = "tiny",
                                            .num_experts = SMALL_EXPERTS,
                                            .top_k = SMALL_TOP_K,
                                            .num_layers = SMALL_LAYERS,
                                            .model_layer = trace.model_layer,
                                            .has_gate_weights = true,
                                            .origin = "mock"};
    cr_assert_eq(trace_from_memory(&gates, &description, ids, weights, request, 1, 6000, &error),
                 STATUS_OK);
    struct trace_fit_options options = {.seed = 1, .num_threads = 2, .gates = &gates};

    cr_assert_eq(trace_fit(&fitted, &trace, &options, &error), STATUS_OK, "%s", error.text);

    static struct generate_normal normal;
    static struct coupled_noise noise;
    struct coupled_walk walk;
    int32_t chosen[SMALL_LAYERS][SMALL_TOP_K];
    float weight[SMALL_LAYERS][SMALL_TOP_K];
    const struct coupled_token token = {
        .expert = chosen[0], .gate_weight = weight[0], .stride = SMALL_TOP_K};
    generate_normal_init(&normal);
    coupled_noise_init(&noise);
    cr_assert(coupled_walk_open(&walk, fitted.coupled, &noise, &normal));
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    double sum = 0;
    for (int32_t i = 0; i < 20000; i++) {
        if (i % 100 == 0) {
            coupled_walk_begin(&walk, i / 100 % fitted.coupled->num_domains, rng);
        }
        coupled_walk_token(&walk, &token, rng);
        sum += (double)weight[i % SMALL_LAYERS][0];
    }
    cr_expect_float_eq(sum / 20000, 0.75, 0.015, "%g", sum / 20000);
    gsl_rng_free(rng);
    coupled_walk_close(&walk);
    free(expert);
    trace_close(&gates);
    trace_close(&trace);
    generate_preset_free(&fitted);
    generate_preset_free(&preset);
}

Test(trace_fit, wants_requests_and_tokens)
{
    struct trace few = stirred_trace(4000);
    cr_expect_eq(fit(&few, 1), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "a fit needs 32 requests and 4096 tokens"), "%s",
                       error.text);
    few.num_requests = 0;
    error = (struct error){0};
    cr_expect_eq(fit(&few, 1), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "the trace has no requests.csv"), "%s", error.text);
    few.num_requests = 1;
    trace_close(&few);
    generate_preset_free(&fitted);
    generate_preset_free(&preset);
}
