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

/* Three domains that take turns and differ far more than their requests do. */
static struct trace domains_trace(int64_t num_tokens)
{
    static const char *const tags[] = {"prose", "code", "manual"};
    const double means[3][SMALL_FACTORS] = {{2, 0}, {-1, 1.7}, {-1, -1.7}};
    small_law_init(&preset);
    small_law_stir(&preset, 29);
    struct coupled_law *law = preset.coupled;
    law->num_domains = 3;
    law->drift_sigma[0] = law->drift_sigma[1] = 0;
    for (int32_t i = 0; i < 3; i++) {
        law->domain[i] = law->domain[0];
        (void)strcpy(law->domain[i].tag, tags[i]);
        memcpy(law->domain[i].mean, means[i], sizeof means[i]);
        law->domain[i].sigma[0] = law->domain[i].sigma[1] = 0.1;
    }
    return small_law_trace(&preset, num_tokens, 31, 2);
}

/* The share of a tag's choices that each expert of a layer has. */
static void tag_shares(double share[SMALL_EXPERTS], const struct trace *trace, const char *tag,
                       int32_t layer)
{
    int64_t load[SMALL_EXPERTS] = {0};
    int64_t rows = 0;
    for (int64_t i = 0; i < trace->num_requests; i++) {
        const struct trace_request *request = &trace->requests[i];
        if (strcmp(request->tag, tag) == 0) {
            rows += request->num_rows;
            cr_assert_eq(
                trace_count(trace, load, layer, request->row_offset, request->num_rows, &error),
                STATUS_OK);
        }
    }
    for (int32_t expert = 0; expert < SMALL_EXPERTS; expert++) {
        share[expert] = (double)load[expert] / (double)(rows * SMALL_TOP_K);
    }
}

/* Of a domain's choices at most 1.25 % lie elsewhere than in the trace; without the correction by
 * domains it is up to 2.2 %. So many tokens are generated that chance has little part in it. */
Test(trace_fit, gives_each_domain_its_own_loads)
{
    struct trace trace = domains_trace(24000);

    cr_assert_eq(fit(&trace, 2), STATUS_OK, "%s", error.text);

    struct trace made = small_law_trace(&fitted, 480000, 77, 2);
    cr_assert_eq(fitted.coupled->num_domains, 3);
    cr_expect_eq(fitted.coupled->drift_sigma[1], 0.0, "requests too short to tell have none");
    for (int32_t domain = 0; domain < 3; domain++) {
        for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
            double wanted[SMALL_EXPERTS];
            double got[SMALL_EXPERTS];
            double elsewhere = 0;
            tag_shares(wanted, &trace, fitted.coupled->domain[domain].tag, layer);
            tag_shares(got, &made, fitted.coupled->domain[domain].tag, layer);
            for (int32_t expert = 0; expert < SMALL_EXPERTS; expert++) {
                elsewhere += fabs(got[expert] - wanted[expert]) / 2;
            }
            cr_expect_leq(elsewhere, 0.0125, "%s, layer %d: %g", fitted.coupled->domain[domain].tag,
                          layer, elsewhere);
        }
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
    const struct coupled_tokens token = {
        .expert = chosen[0], .gate_weight = weight[0], .stride = SMALL_TOP_K, .count = 1};
    generate_normal_init(&normal);
    coupled_noise_init(&noise);
    cr_assert(coupled_walk_open(&walk, fitted.coupled, &noise, &normal));
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    double sum = 0;
    for (int32_t i = 0; i < 20000; i++) {
        if (i % 100 == 0) {
            coupled_walk_begin(&walk, i / 100 % fitted.coupled->num_domains, rng);
        }
        coupled_walk_tokens(&walk, &token, rng);
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
