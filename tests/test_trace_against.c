/* test_trace_against.c -- figures of two traces side by side, and what they may differ by. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "small_law.h"
#include "trace_against.h"
#include "trace_internal.h"

static struct error error;

static const struct trace_figure *figure_named(const struct trace_figure *figure, const char *name)
{
    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        if (strcmp(figure[i].name, name) == 0) {
            return &figure[i];
        }
    }
    cr_assert(false, "no figure %s", name);
    return NULL;
}

static void compare(struct trace_figure figure[TRACE_FIGURES], const struct trace *trace,
                    const struct trace *other, int32_t num_draws, int32_t ep_ranks)
{
    struct trace_against_options options = {
        .stats = {.seed = 1, .num_threads = 2, .ep_ranks = ep_ranks}, .num_draws = num_draws};
    cr_assert_eq(trace_against(figure, trace, other, &options, &error), STATUS_OK, "%s",
                 error.text);
}

/* requests of one row each: the first `ones` choose expert 1 of two, the others expert 0. */
static struct trace one_row_requests(int32_t num_requests, int32_t ones)
{
    static const int32_t model_layer[] = {0};
    struct trace trace;
    uint8_t *expert = calloc((size_t)num_requests, 1);
    struct trace_request *requests = calloc((size_t)num_requests, sizeof *requests);
    cr_assert_not_null(expert);
    cr_assert_not_null(requests);
    for (int32_t i = 0; i < num_requests; i++) {
        expert[i] = i < ones;
        requests[i] = (struct trace_request){.row_offset = i, .num_rows = 1};
    }
    struct trace_description description = {.model = "tiny",
                                            .num_experts = 2,
                                            .top_k = 1,
                                            .num_layers = 1,
                                            .model_layer = model_layer,
                                            .origin = "mock"};
    cr_assert_eq(trace_from_memory(&trace, &description, expert, NULL, requests, num_requests,
                                   num_requests, &error),
                 STATUS_OK);
    return trace;
}

/* A draw of 100 requests has n ~ binomial(100, 1/4) rows of expert 1, and max/mean = 2 (1 - n /
 * 100) but for n > 50, which does not happen: its standard deviation is 2 sqrt(1/4 3/4 / 100) =
 * 0.0866. Of 400 draws it is known to 3.5 %. */
Test(trace_against, knows_the_spread_that_drawing_requests_gives)
{
    struct trace_figure figure[TRACE_FIGURES];
    struct trace trace = one_row_requests(100, 25);

    compare(figure, &trace, &trace, 200, 2);

    const struct trace_figure *own = figure_named(figure, "max/mean");
    cr_expect_float_eq(own->other, 1.5, 1e-12);
    cr_expect_float_eq(own->spread, 0.0866, 0.015, "%g", own->spread);
    cr_expect_float_eq(figure_named(figure, "ep2 max/mean")->other, 1.5, 1e-12);
    trace_close(&trace);
}

/* 1.5 against 1.3: 0.2 apart, more than 10 % of 1.3, and twice a spread of 2 sqrt(.35 .65 / 10000)
 * = 0.0095 is 0.019. Against 1.32 it is 0.18, again more than 10 %, but twice the spread of 50
 * requests, 2 sqrt(.34 .66 / 50) = 0.134, is 0.27. */
Test(trace_against, marks_what_is_further_apart_than_both_limits)
{
    struct trace_figure figure[TRACE_FIGURES];
    struct trace trace = one_row_requests(10000, 2500);
    struct trace far = one_row_requests(10000, 3500);
    struct trace near = one_row_requests(50, 17);

    compare(figure, &trace, &far, 50, 2);
    cr_expect_not(figure_named(figure, "max/mean")->inside);
    cr_expect_eq(figure_named(figure, "max/mean")->layers_inside, 0);
    compare(figure, &trace, &near, 50, 2);
    cr_expect(figure_named(figure, "max/mean")->inside);
    compare(figure, &trace, &near, 0, 2);
    cr_expect(isnan(figure_named(figure, "max/mean")->spread));
    cr_expect_not(figure_named(figure, "max/mean")->inside);
    trace_close(&trace);
    trace_close(&far);
    trace_close(&near);
}

Test(trace_against, finds_a_trace_like_itself)
{
    static struct generate_preset preset;
    struct trace_figure figure[TRACE_FIGURES];
    small_law_init(&preset);
    small_law_stir(&preset, 1);
    struct trace trace = small_law_trace(&preset, 4000, 1, 1);

    compare(figure, &trace, &trace, 3, 0);

    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        const struct trace_figure *own = &figure[i];
        bool same = own->value == own->other || (isnan(own->value) && isnan(own->other));
        cr_expect(same, "%s", own->name);
        cr_expect(isnan(own->value) || own->inside, "%s", own->name);
        cr_expect_eq(own->layers_inside, own->num_layers, "%s", own->name);
    }
    cr_expect_eq(figure_named(figure, "information on the next layer")->num_layers, 2);
    trace_close(&trace);
    generate_preset_free(&preset);
}

Test(trace_against, refuses_traces_of_other_shapes)
{
    static struct generate_preset preset;
    struct trace_figure figure[TRACE_FIGURES];
    struct trace_against_options options = {.stats = {.seed = 1}};
    small_law_init(&preset);
    struct trace trace = small_law_trace(&preset, 100, 1, 1);
    struct trace other = one_row_requests(10, 5);

    cr_expect_eq(trace_against(figure, &trace, &other, &options, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "only like can be compared"), "%s", error.text);
    trace_close(&trace);
    trace_close(&other);
    generate_preset_free(&preset);
}
