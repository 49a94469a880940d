/*
 * test_trace_stats.c -- figures of a router against numbers worked out by hand.
 */
#include "trace_stats.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "skew.h"
#include "trace_internal.h"

static struct error error;

static void expect_near(double value, double expected)
{
    cr_expect(fabs(value - expected) < 1e-12, "%.17g instead of %.17g", value, expected);
}

/* A trace over ids[num_layers][num_tokens][top_k] and at most two requests. */
static struct trace make_trace(const uint8_t *ids, int32_t num_layers, int64_t num_tokens,
                               int32_t num_experts, int32_t top_k, int64_t second_request)
{
    static const int32_t model_layer[] = {3, 4, 5, 6, 7, 8, 9, 10};
    struct trace trace;
    size_t bytes = (size_t)(num_layers * num_tokens * top_k);
    uint8_t *expert = malloc(bytes);
    struct trace_request *requests = calloc(2, sizeof *requests);
    cr_assert_not_null(expert);
    cr_assert_not_null(requests);
    memcpy(expert, ids, bytes);
    requests[0].num_rows = second_request > 0 ? second_request : num_tokens;
    requests[1].row_offset = second_request;
    requests[1].num_rows = num_tokens - second_request;
    struct trace_description description = {
        .model = "tiny",
        .num_experts = num_experts,
        .top_k = top_k,
        .num_layers = num_layers,
        .model_layer = model_layer,
        .origin = "mock",
        .source = "by hand",
        .licence = "CC0",
    };
    cr_assert_eq(trace_from_memory(&trace, &description, expert, NULL, requests,
                                   second_request > 0 ? 2 : 1, num_tokens, &error),
                 STATUS_OK, "%s", error.text);
    return trace;
}

static struct trace_stats measure(const struct trace *trace, int32_t ep_ranks, int32_t num_threads)
{
    struct trace_stats stats;
    struct trace_stats_options options = {
        .ep_ranks = ep_ranks, .num_threads = num_threads, .seed = 1};
    cr_assert_eq(trace_stats_read(&stats, trace, &options, &error), STATUS_OK, "%s", error.text);
    return stats;
}

/* Sorted 0, 2, 2, 4: gini = (-3 * 0 - 1 * 2 + 1 * 2 + 3 * 4) / (4 * 8); deviations 2, -2, 0, 0. */
Test(skew, of_four_experts_is_what_the_formulas_say)
{
    const int64_t load[] = {4, 0, 2, 2};
    int64_t scratch[4];

    struct load_skew skew = load_skew(load, 4, scratch);

    expect_near(skew.max_over_mean, 2.0);
    expect_near(skew.cv, sqrt(2.0) / 2.0);
    expect_near(skew.gini, 0.375);
    cr_expect_eq(skew.dead_experts, 1);
    expect_near(load_contiguous_max_over_mean(load, 4, 2), 1.0); /* 4 + 0 and 2 + 2 */
    expect_near(load_contiguous_max_over_mean(load, 4, 4), 2.0);
    cr_expect(isnan(load_contiguous_max_over_mean(load, 4, 3)));
}

Test(skew, has_its_bounds_where_one_expert_takes_all_and_where_all_take_the_same)
{
    const int64_t one[] = {0, 0, 12, 0};
    const int64_t even[] = {5, 5, 5, 5};
    int64_t scratch[4];

    struct load_skew worst = load_skew(one, 4, scratch);
    struct load_skew best = load_skew(even, 4, scratch);

    expect_near(worst.max_over_mean, 4.0);
    expect_near(worst.cv, sqrt(3.0)); /* n - 1 under the root */
    expect_near(worst.gini, 0.75);    /* 1 - 1 / n */
    expect_near(best.max_over_mean, 1.0);
    expect_near(best.cv, 0.0);
    expect_near(best.gini, 0.0);
}

Test(skew, of_no_token_is_unknown)
{
    const int64_t load[] = {0, 0};
    int64_t scratch[2];

    struct load_skew skew = load_skew(load, 2, scratch);

    cr_expect(isnan(skew.max_over_mean) && isnan(skew.cv) && isnan(skew.gini));
    cr_expect(isnan(load_contiguous_max_over_mean(load, 2, 2)));
    cr_expect_eq(skew.dead_experts, 2);
}

/* Rows 0 to 2 are one request, 3 and 4 another. */
static const uint8_t five_rows[5][2] = {{0, 1}, {0, 2}, {1, 0}, {3, 2}, {3, 2}};

Test(trace_stats, of_five_rows_count_loads_and_locality_within_requests)
{
    struct trace trace = make_trace(five_rows[0], 1, 5, 4, 2, 3);

    struct trace_stats stats = measure(&trace, 2, 1);

    const struct trace_stats_layer *layer = &stats.layer[0];
    const int64_t expected[] = {3, 2, 3, 2};
    cr_expect_arr_eq(layer->expert_tokens, expected, sizeof expected);
    cr_expect_eq(layer->model_layer, 3);
    cr_expect_eq(layer->assignments, 10);
    expect_near(layer->skew.max_over_mean, 1.2);
    expect_near(layer->ep_max_over_mean, 1.0);   /* 3 + 2 and 3 + 2 */
    expect_near(layer->top1_repeat, 2.0 / 3.0);  /* 0 0, not 0 1, 3 3; 1 3 are two requests */
    expect_near(layer->overlap[0], 4.0 / 6.0);   /* 1 + 1 + 2 experts of 3 pairs of 2 */
    expect_near(layer->overlap[1], 1.0);         /* rows 0 and 2 choose the same two */
    cr_expect(isnan(layer->overlap[2]));         /* no request has 5 rows */
    expect_near(layer->overlap_by_chance, 0.52); /* (9 + 4 + 9 + 4) / 25 / 2 */
    expect_near(stats.uniform_overlap, 0.5);
    cr_expect(isnan(layer->batch_max_over_mean[0]) && isnan(layer->batch_active[0]));
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* Halves: rows 0 and 1 put 2 1 1 0 of 4, the others 1 1 2 2 of 6; half the absolute differences
 * 1/3 1/12 1/12 1/3 is 5/12. Lifts n(i,j) 5 / (n(i) n(j)): 01 and 23 10/6, 02 5/9, the rest 0; the
 * median of six is the mean of 0 and 5/9. */
Test(trace_stats, of_five_rows_measure_drift_and_lift)
{
    struct trace trace = make_trace(five_rows[0], 1, 5, 4, 2, 3);

    struct trace_stats stats = measure(&trace, 0, 1);

    const struct trace_stats_layer *layer = &stats.layer[0];
    expect_near(layer->drift, 5.0 / 12.0);
    expect_near(layer->lift_p5, 0.0);
    expect_near(layer->lift_median, 5.0 / 18.0);
    expect_near(layer->lift_p95, 10.0 / 6.0);
    cr_expect_eq(stats.ep_ranks, 0); /* 8 does not divide 4 */
    cr_expect(isnan(layer->ep_max_over_mean));
    trace_stats_free(&stats);
    trace_close(&trace);
}

Test(trace_stats, leave_out_rows_that_were_not_routed)
{
    const uint8_t rows[4][2] = {{0, 1}, {255, 255}, {0, 255}, {0, 1}};
    struct trace trace = make_trace(rows[0], 1, 4, 4, 2, 0);

    struct trace_stats stats = measure(&trace, 0, 1);

    const struct trace_stats_layer *layer = &stats.layer[0];
    cr_expect_eq(layer->assignments, 5);
    expect_near(layer->top1_repeat, 1.0); /* rows 2 and 3 only */
    expect_near(layer->overlap[0], 0.5);  /* expert 0 of top-2 */
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* Row t chooses expert t % 64 alone: a lag of 64 or 256 finds it always, a shorter one never. The
 * request is longer than what is read at a time. */
Test(trace_stats, see_lags_across_the_chunks_that_a_trace_is_read_in)
{
    enum { TOKENS = 10000 };
    static uint8_t rows[TOKENS];
    for (int32_t i = 0; i < TOKENS; i++) {
        rows[i] = (uint8_t)(i % 64);
    }
    struct trace trace = make_trace(rows, 1, TOKENS, 64, 1, 100);

    struct trace_stats stats = measure(&trace, 0, 1);

    for (int32_t lag = 0; lag < TRACE_LAGS; lag++) {
        expect_near(stats.layer[0].overlap[lag], trace_lag_rows[lag] % 64 == 0 ? 1.0 : 0.0);
    }
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* All tokens choose experts 0 and 1 of 4: whatever the batch, max / mean is 2 and half are idle. */
Test(trace_stats, see_the_whole_skew_in_batches_of_one_choice)
{
    uint8_t rows[40][2];
    for (int32_t i = 0; i < 40; i++) {
        rows[i][0] = 0;
        rows[i][1] = 1;
    }
    struct trace trace = make_trace(rows[0], 1, 40, 4, 2, 0);

    struct trace_stats stats = measure(&trace, 0, 1);

    expect_near(stats.layer[0].batch_max_over_mean[0], 2.0);
    expect_near(stats.layer[0].batch_active[1], 0.5);
    cr_expect(isnan(stats.layer[0].batch_max_over_mean[2])); /* 128 > 40 */
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* 3.35 and 1.25 are the figures of field/formats.md for top-4 of 32 experts in 8 and 512 tokens. */
Test(trace_stats, know_what_a_uniform_router_would_do)
{
    uint8_t rows[1][4] = {{0, 1, 2, 3}};
    struct trace trace = make_trace(rows[0], 1, 1, 32, 4, 0);

    struct trace_stats stats = measure(&trace, 0, 1);

    cr_expect(fabs(stats.uniform_max_over_mean[0] - 3.35) < 0.1);
    cr_expect(fabs(stats.uniform_max_over_mean[3] - 1.25) < 0.02);
    trace_stats_free(&stats);
    trace_close(&trace);
}

Test(trace_stats, are_the_same_for_any_number_of_threads)
{
    enum { LAYERS = 8, TOKENS = 3000, TOP_K = 2 };
    static uint8_t rows[LAYERS * TOKENS * TOP_K];
    uint32_t state = 1;
    for (int32_t i = 0; i < LAYERS * TOKENS; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        rows[2 * i] = (uint8_t)(state >> 28);
        rows[2 * i + 1] = (uint8_t)((rows[2 * i] + 1 + (state >> 20) % 15) % 16);
    }
    struct trace trace = make_trace(rows, LAYERS, TOKENS, 16, TOP_K, 1234);

    struct trace_stats one = measure(&trace, 4, 1);
    for (int32_t num_threads = 2; num_threads < 10; num_threads += 3) {
        struct trace_stats many = measure(&trace, 4, num_threads);
        for (int32_t layer = 0; layer < LAYERS; layer++) {
            const struct trace_stats_layer *a = &one.layer[layer];
            const struct trace_stats_layer *b = &many.layer[layer];
            cr_expect_arr_eq(a->expert_tokens, b->expert_tokens, 16 * sizeof(int64_t));
            cr_expect_arr_eq(a->overlap, b->overlap, sizeof a->overlap);
            cr_expect_arr_eq(a->batch_max_over_mean, b->batch_max_over_mean,
                             sizeof a->batch_max_over_mean);
            cr_expect_eq(a->skew.cv, b->skew.cv);
            cr_expect_eq(a->top1_repeat, b->top1_repeat);
            cr_expect_eq(a->drift, b->drift);
            cr_expect_eq(a->lift_median, b->lift_median);
        }
        trace_stats_free(&many);
    }
    trace_stats_free(&one);
    trace_close(&trace);
}

Test(trace_stats, name_the_first_bad_id_for_any_number_of_threads)
{
    uint8_t rows[4][3] = {{0, 1, 2}, {0, 9, 2}, {0, 1, 9}, {9, 1, 2}};
    struct trace trace = make_trace(rows[0], 4, 3, 4, 1, 0);

    for (int32_t num_threads = 1; num_threads <= 4; num_threads++) {
        struct trace_stats stats;
        struct trace_stats_options options = {.num_threads = num_threads};
        error = (struct error){0};
        cr_expect_eq(trace_stats_read(&stats, &trace, &options, &error), STATUS_INVALID);
        cr_expect_eq(error.num_problems, 1);
        cr_expect_not_null(strstr(error.text, "layer 1, token 1: expert 9"), "%s", error.text);
        trace_stats_free(&stats);
    }
    trace_close(&trace);
}

Test(trace_stats, refuse_ranks_that_do_not_divide_the_experts)
{
    struct trace trace = make_trace(five_rows[0], 1, 5, 4, 2, 0);
    struct trace_stats stats;
    struct trace_stats_options options = {.ep_ranks = 3};

    cr_expect_eq(trace_stats_read(&stats, &trace, &options, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "3 EP ranks do not share 4 experts evenly"));
    trace_stats_free(&stats);
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* Best experts of two layers over four rows: (0,2) (0,2) (1,3) (1,3) determine each other; against
 * (0,0) (0,1) (1,0) (1,1) they tell nothing. */
Test(trace_stats, measure_what_a_layer_tells_of_the_next)
{
    const uint8_t ids[3][4] = {{0, 0, 1, 1}, {2, 2, 3, 3}, {0, 1, 0, 1}};
    struct trace trace = make_trace(ids[0], 3, 4, 4, 1, 0);

    struct trace_stats stats = measure(&trace, 0, 1);

    expect_near(stats.layer[0].next_information, 1.0);
    expect_near(stats.layer[1].next_information, 0.0);
    cr_expect(isnan(stats.layer[2].next_information)); /* there is no next layer */
    trace_stats_free(&stats);
    trace_close(&trace);
}

/* 2,048 rows of top-1 of 4 experts: 0 alone in the first step, 1 alone in the second. An expert may
 * take 256 x factor of 1,024. Mixed, each takes about half: 1,024 - 2 x 256 x factor are left. */
Test(trace_stats, drop_what_exceeds_the_capacity_of_a_step)
{
    static uint8_t ids[2048];
    memset(ids + 1024, 1, 1024);
    struct trace trace = make_trace(ids, 1, 2048, 4, 1, 0);

    struct trace_stats stats = measure(&trace, 0, 1);

    for (int32_t factor = 0; factor < TRACE_DROP_FACTORS; factor++) {
        double mixed = 1.0 - fmin(1.0, trace_drop_factor[factor] / 2.0);
        expect_near(stats.layer[0].drop_consecutive[factor], 1.0 - trace_drop_factor[factor] / 4.0);
        cr_expect_float_eq(stats.layer[0].drop_mixed[factor], mixed, 0.02, "factor %g: %g",
                           trace_drop_factor[factor], stats.layer[0].drop_mixed[factor]);
    }
    trace_stats_free(&stats);
    trace_close(&trace);
}
