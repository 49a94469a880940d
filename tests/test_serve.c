/*
 * test_serve.c -- the serving loop against queueing theory, and what it does with caches, drafts
 * and pools.
 *
 * Steps have lengths of the test's own here, so that what has to come out is known: M/M/1 (Poisson
 * arrivals, exponential service, one server), M/D/c (constant service, c servers) by Crommelin's
 * formula, and Little's law.
 */
#include <criterion/criterion.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdlib.h>

#include "rng.h"
#include "small_serving.h"

/* A microsecond for every token that is read. */
static double by_tokens_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    double sum = 0.0;
    (void)context;
    for (int32_t i = 0; i < num_replicas; i++) {
        sum += 1e3 * load[i].prefill_tokens;
    }
    return sum;
}

/* A millisecond, whatever the batch. */
static double constant_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    (void)context;
    (void)load;
    (void)num_replicas;
    return 1e6;
}

static double mean_in_system(const struct serve_result *result)
{
    return result->totals.waiting_mean[SERVE_MAIN] + result->totals.running_mean[SERVE_MAIN];
}

static double mean_arrival_rate(const struct serve_result *result)
{
    return (double)result->totals.num_requests / result->totals.duration_s;
}

/* A prompt of n tokens takes n us, alone: an exponential service of 0.1 s at 5 requests a second
 * keeps the server busy half of the time, so W = 1 / (mu - lambda) = 0.2 s and L = 1. */
Test(serve, one_server_with_exponential_service_is_m_m_1)
{
    struct arrivals arrivals;
    struct serve_result result;
    const struct arrivals_law law = {.rate_per_s = 5.0,
                                     .cv = 1.0,
                                     .duration_s = 200000.0,
                                     .prompt_tokens = 1.0,
                                     .decode_tokens = 1.0,
                                     .seed = 1};
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    gsl_rng *rng = rng_stream(1, "service", 0);
    for (int64_t i = 0; i < arrivals.count; i++) {
        arrivals.arrival[i].prompt_tokens = 1 + (int32_t)gsl_ran_exponential(rng, 1e5);
    }
    gsl_rng_free(rng);
    const struct serve_options options = small_serving(by_tokens_ns, 1);
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_assert_float_eq(result.latency[SERVE_E2E].mean_s / 0.2, 1.0, 0.01);
    cr_assert_float_eq(mean_in_system(&result), 1.0, 0.01);
    cr_assert_float_eq(result.totals.busy[SERVE_MAIN] / 0.5, 1.0, 0.01);
    /* The time in an M/M/1 is exponential: 99 of 100 stay for less than ln(100) means. */
    cr_assert_float_eq(result.latency[SERVE_E2E].quantile_s[3] / (0.2 * log(100.0)), 1.0, 0.02);
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

/* Mean wait in M/D/c over the service time (Crommelin 1932):
 *   sum over i of P(N(i c rho) >= i c) - P(N(i c rho) >= i c + 1) / rho,  N Poisson. */
static double crommelin(int32_t servers, double rho)
{
    double sum = 0.0;
    for (int32_t i = 1; i < 2000; i++) {
        double mean = i * servers * rho;
        unsigned at = (unsigned)(i * servers);
        sum += gsl_cdf_poisson_Q(at - 1, mean) - gsl_cdf_poisson_Q(at, mean) / rho;
    }
    return sum;
}

/* Answers of 2000 tokens at 1 ms each, as many at a time as there are servers. Arrivals wait for
 * the end of a step besides: half a millisecond, of waits of hundreds. */
static void check_m_d_c(int32_t servers, double rho)
{
    struct arrivals arrivals;
    struct serve_result result;
    const struct arrivals_law law = {.rate_per_s = servers * rho / 2.0,
                                     .cv = 1.0,
                                     .duration_s = 400000.0 / (servers * rho),
                                     .prompt_tokens = 1.0,
                                     .decode_tokens = 2000.0,
                                     .seed = 4};
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    const struct serve_options options = small_serving(constant_ns, servers);
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    double wait_s = result.latency[SERVE_E2E].mean_s - 2.0 - 0.0005 * (1.0 - rho);
    cr_assert_float_eq(wait_s / (2.0 * crommelin(servers, rho)), 1.0, 0.01,
                       "%d servers: wait %g s, not %g s", servers, wait_s,
                       2.0 * crommelin(servers, rho));
    cr_assert_float_eq(mean_in_system(&result) /
                           (mean_arrival_rate(&result) * result.latency[SERVE_E2E].mean_s),
                       1.0, 1e-6); /* Little */
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

Test(serve, crommelin_with_one_server_is_pollaczek_and_khinchine)
{
    cr_assert_float_eq(crommelin(1, 0.7), 0.7 / (2.0 * 0.3), 1e-9);
}

Test(serve, constant_service_is_m_d_c)
{
    check_m_d_c(1, 0.7);
    check_m_d_c(4, 0.8);
    check_m_d_c(16, 0.9);
}

/* Steps of 2 ms and 10 us a token: 100 sequences in 3 ms and their contexts are the most. */
Test(serve, offered_more_than_a_step_can_do_it_saturates_there)
{
    struct arrivals arrivals;
    struct serve_result result;
    const struct arrivals_law law = {.rate_per_s = 1000.0,
                                     .cv = 1.0,
                                     .duration_s = 60.0,
                                     .prompt_tokens = 10.0,
                                     .decode_tokens = 200.0,
                                     .seed = 1};
    struct serve_options options = small_serving(small_linear_ns, 100);
    options.pool[SERVE_MAIN].batch.tokens = 110;
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    /* In a steady state 100 of 101 step tokens a request and slot decode, one step reads. */
    struct step_load full = {.sequences = 100, .decode_tokens = 100, .context_tokens = 100 * 110};
    double step_s = small_linear_ns(NULL, &full, 1) * 1e-9;
    cr_assert_float_eq(result.totals.new_tokens_per_s / (100.0 / step_s), 1.0, 0.03);
    cr_assert_gt(result.totals.busy[SERVE_MAIN], 0.999);
    cr_assert_float_eq(result.latency[SERVE_TPOT].quantile_s[0] / step_s, 1.0, 0.03);
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

/* 50 requests of 1000 tokens want 1001 entries each at the end; 10 of them fit at a time. */
Test(serve, a_full_cache_preempts_and_everybody_still_gets_an_answer)
{
    struct arrivals arrivals;
    struct serve_result result;
    const struct arrivals_law law = {.rate_per_s = 1000.0,
                                     .duration_s = 0.05,
                                     .prompt_tokens = 100.0,
                                     .decode_tokens = 900.0,
                                     .seed = 1};
    struct serve_options options = small_serving(small_linear_ns, 100);
    options.pool[SERVE_MAIN].batch.tokens = 200;
    options.pool[SERVE_MAIN].kv_blocks = 10000 / 16;
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    small_check_conservation(&result, &arrivals);
    cr_assert_gt(result.totals.preemptions, 0);
    cr_assert_gt(result.totals.kv_fraction_max[SERVE_MAIN], 0.99);
    cr_assert_eq(result.totals.num_refused, 0);
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

Test(serve, a_request_that_can_never_fit_is_refused)
{
    struct arrival one = {.prompt_tokens = 1000, .decode_tokens = 1000};
    struct arrivals arrivals = {.count = 1, .arrival = &one};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.pool[SERVE_MAIN].kv_blocks = 1999 / 16;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_assert_eq(result.totals.num_refused, 1);
    cr_assert_eq(result.totals.new_tokens, 0);
    cr_assert_eq(result.totals.met_fraction, 0.0);
    serve_result_free(&result);
}

/* Steps take 1 ms. The first of five is read alone and the others in the next step, so from then on
 * one is answered a step before the others. Each that comes in its place waits for the step that
 * has just begun, is read in the next and goes on for 9 more: 11 ms, and four turns of them. */
Test(serve, a_closed_loop_of_equal_requests_goes_round_by_steps)
{
    struct arrival equal[20];
    struct arrivals arrivals = {.count = 20, .arrival = equal};
    struct serve_result result;
    struct serve_options options = small_serving(constant_ns, 5);
    options.concurrency = 5;
    for (int32_t i = 0; i < 20; i++) {
        equal[i] = (struct arrival){.arrival_s = 7.0 * i, .prompt_tokens = 3, .decode_tokens = 10};
    }
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    small_check_conservation(&result, &arrivals);
    for (int32_t i = 0; i < 20; i++) {
        const struct serve_request *request = &result.request[i];
        int64_t turn_ns = i / 5 * INT64_C(11000000);
        bool is_early = i % 5 == 0;
        cr_expect_eq(request->arrival_ns, turn_ns - (is_early && i > 0 ? 1000000 : 0));
        cr_expect_eq(request->first_token_ns, turn_ns + (is_early ? 1000000 : 2000000));
        cr_expect_eq(request->end_ns, turn_ns + (is_early ? 10000000 : 11000000));
    }
    cr_expect_float_eq(result.totals.duration_s, 0.044, 1e-12);
    cr_expect_float_eq(result.totals.new_tokens_per_s, 200.0 / 0.044, 1e-6);
    /* N = X R, but for the last 1 ms with four. */
    double rate_per_s = mean_arrival_rate(&result);
    cr_expect_float_eq(rate_per_s * result.latency[SERVE_E2E].mean_s, 219.0 / 44.0, 1e-9);
    serve_result_free(&result);
}

/* Nobody waits: a prompt of 1000 tokens and a second token take 12.5005 ms and 2.012 ms; one of 100
 * and its only token 3.00505 ms. The second could never fit, so the third comes with it. */
Test(serve, one_request_at_a_time_takes_the_sum_of_its_parts)
{
    struct arrival four[] = {{.prompt_tokens = 1000, .decode_tokens = 2},
                             {.prompt_tokens = 5000, .decode_tokens = 2},
                             {.prompt_tokens = 100, .decode_tokens = 1},
                             {.prompt_tokens = 1000, .decode_tokens = 2}};
    struct arrivals arrivals = {.count = 4, .arrival = four};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.concurrency = 1;
    options.pool[SERVE_MAIN].kv_blocks = 4000 / 16;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_expect_eq(result.totals.num_refused, 1);
    cr_expect_eq(result.request[0].first_token_ns, 12500500);
    cr_expect_eq(result.request[0].end_ns, 14512500);
    cr_expect_eq(result.request[1].arrival_ns, 14512500);
    cr_expect_eq(result.request[2].arrival_ns, 14512500);
    cr_expect_eq(result.request[2].end_ns, 17517550);
    cr_expect_eq(result.request[3].end_ns, 17517550 + 14512500);
    serve_result_free(&result);
}

/* As many as ever: each lets the next one in without a call inside a call. */
Test(serve, a_million_refused_requests_are_over_at_once)
{
    static struct arrival huge[1000000];
    struct arrivals arrivals = {.count = 1000000, .arrival = huge};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.concurrency = 2;
    options.pool[SERVE_MAIN].kv_blocks = 1;
    for (int32_t i = 0; i < 1000000; i++) {
        huge[i] = (struct arrival){.prompt_tokens = 100, .decode_tokens = 1};
    }
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_expect_eq(result.totals.num_refused, 1000000);
    cr_expect_eq(result.request[999999].arrival_ns, 0);
    serve_result_free(&result);
}

/* 1 + 0.8 + 0.8^2 tokens a step. */
Test(serve, drafts_shorten_answers_by_their_acceptance)
{
    struct arrivals arrivals;
    struct serve_result result;
    struct serving_config config = small_serving_config;
    struct arrivals_law law = {.rate_per_s = 100.0,
                               .duration_s = 10.0,
                               .prompt_tokens = 1.0,
                               .decode_tokens = 2001.0,
                               .seed = 1};
    config.draft_tokens = 2;
    config.acceptance = 0.8;
    struct serve_options options = small_serving(constant_ns, 2000);
    options.config = &config;
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_assert_float_eq(result.latency[SERVE_TPOT].mean_s * (1.0 + 0.8 + 0.64) / 1e-3, 1.0, 0.01);
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

/* One prompt of 1000 tokens: 2 ms + 10 ms + 0.5 ms in the first pool, 10 us + 1 ms on the way. */
Test(serve, keys_and_values_travel_from_prefill_to_decode)
{
    struct arrival one = {.prompt_tokens = 1000, .decode_tokens = 2};
    struct arrivals arrivals = {.count = 1, .arrival = &one};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.pool[SERVE_PREFILL] = options.pool[SERVE_MAIN];
    options.transfer_ns = 1e4;
    options.transfer_ns_per_token = 1e3;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    const struct serve_request *request = &result.request[0];
    int64_t read_ns = 2000000 + 1000 * 10000 + 1000 * 1001 / 2;
    cr_assert_eq(request->first_token_ns, read_ns);
    cr_assert_eq(request->end_ns, read_ns + 10000 + 1000000 + 2000000 + 10000 + 2000);
    serve_result_free(&result);
}

/* Replicas A and B read 4 prompts each, the first in 1 ms and the others in another; X and Y
 * answer. Entries travel for 10 ms: from A to X, X, Y, X and from B to Y, Y, X, Y. No port ever
 * stands idle, so all are through at 41 ms. */
Test(serve, a_port_keeps_nothing_for_what_waits_at_another)
{
    struct arrival prompts[8];
    for (int32_t i = 0; i < 8; i++) {
        prompts[i] = (struct arrival){.prompt_tokens = 10, .decode_tokens = 2};
    }
    struct arrivals arrivals = {.count = 8, .arrival = prompts};
    struct serve_result result;
    struct serve_options options = small_serving(constant_ns, 4);
    options.pool[SERVE_MAIN].num_groups = 2;
    options.pool[SERVE_PREFILL] = options.pool[SERVE_MAIN];
    options.transfer_ns = 1e7;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    cr_assert_eq(result.request[0].end_ns, 12000000);
    cr_assert_eq(result.request[7].end_ns, 42000000);
    cr_assert_float_eq(result.totals.duration_s, 0.042, 1e-12);
    serve_result_free(&result);
}

/* Prompts 1 2 3, 1 2 4, 5 and 1 2 3 again, blocks of 512 tokens, one after the other. */
Test(serve, hashed_prefixes_are_found_until_they_are_thrown_out)
{
    int64_t hashes[] = {1, 2, 3, 1, 2, 4, 5, 1, 2, 3};
    struct arrival arrival[] = {
        {.arrival_s = 0, .prompt_tokens = 1536, .decode_tokens = 1, .num_hashes = 3},
        {.arrival_s = 1,
         .prompt_tokens = 1536,
         .decode_tokens = 1,
         .num_hashes = 3,
         .hash_begin = 3},
        {.arrival_s = 2,
         .prompt_tokens = 512,
         .decode_tokens = 1,
         .num_hashes = 1,
         .hash_begin = 6},
        {.arrival_s = 3,
         .prompt_tokens = 1536,
         .decode_tokens = 1,
         .num_hashes = 3,
         .hash_begin = 7}};
    struct arrivals arrivals = {.count = 4, .arrival = arrival, .hash = hashes, .num_hashes = 10};
    /* Unlimited: the last is there but for the token that has to be computed. With four blocks,
     * 1 2 3 4 fill the cache and 5 takes the place of 3, used longest ago. */
    static const struct {
        int64_t cache_tokens;
        int32_t last_cached;
    } cases[] = {{0, 1535}, {4 * 512, 1024}};
    for (int32_t i = 0; i < 2; i++) {
        struct serving_config config = small_serving_config;
        struct serve_result result;
        config.prefix_cache = PREFIX_CACHE_HASHES;
        config.cache_tokens = cases[i].cache_tokens;
        struct serve_options options = small_serving(small_linear_ns, 4);
        options.config = &config;
        small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
        cr_assert_eq(result.request[0].cached_tokens, 0);
        cr_assert_eq(result.request[1].cached_tokens, 1024);
        cr_assert_eq(result.request[2].cached_tokens, 0);
        cr_assert_eq(result.request[3].cached_tokens, cases[i].last_cached);
        serve_result_free(&result);
    }
}
