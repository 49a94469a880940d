/*
 * test_engine_host.c -- what the host of an engine adds to the first token, worked out by hand; its
 * presets, and every reason to refuse one.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "engine_host.h"
#include "small_serving.h"
#include "text_file.h"

#define HOST_NS 5000000

static struct error error;

/* Alone a prompt of 1000 tokens takes 2 + 10 + 0.5005 ms and a second token 2.012 ms. With 5 ms of
 * host each first token comes 17.5005 ms after its request, and the second as soon as before. */
Test(engine_host, one_request_at_a_time_waits_for_the_host_and_then_is_read)
{
    struct arrival two[] = {{.prompt_tokens = 1000, .decode_tokens = 2},
                            {.prompt_tokens = 1000, .decode_tokens = 2}};
    struct arrivals arrivals = {.count = 2, .arrival = two};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.concurrency = 1;
    options.host_ns = HOST_NS;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    small_check_conservation(&result, &arrivals);
    cr_expect_eq(result.request[0].first_token_ns, 17500500);
    cr_expect_eq(result.request[0].end_ns, 19512500);
    cr_expect_eq(result.request[1].arrival_ns, 19512500);
    cr_expect_eq(result.request[1].first_token_ns, 19512500 + 17500500);
    cr_expect_float_eq(result.latency[SERVE_TTFT].mean_s, 0.0175005, 1e-12);
    cr_expect_float_eq(result.latency[SERVE_TPOT].mean_s, 0.0020120, 1e-12);
    cr_expect_float_eq(result.totals.busy[SERVE_MAIN], 1.0 - 5.0 / 19.5125, 1e-9);
    serve_result_free(&result);
}

/* Who comes while another is read is not read sooner for the host: it comes at 1 ms, is through
 * the host at 6 and would have waited for the step that ends at 17.5 anyway. */
Test(engine_host, waiting_for_the_host_overlaps_with_steps)
{
    struct arrival two[] = {{.prompt_tokens = 1000, .decode_tokens = 1},
                            {.arrival_s = 0.001, .prompt_tokens = 1000, .decode_tokens = 1}};
    struct arrivals arrivals = {.count = 2, .arrival = two};
    struct serve_result result;
    struct serve_options options = small_serving(small_linear_ns, 4);
    options.host_ns = HOST_NS;
    small_expect(serve_run(&result, &arrivals, &options, &small_serving_error));
    small_check_conservation(&result, &arrivals);
    cr_expect_eq(result.request[0].first_token_ns, 17500500);
    cr_expect_eq(result.request[1].first_token_ns, 17500500 + 12500500);
    serve_result_free(&result);
}

/* Requests that come by themselves are the same history 5 ms later, whatever they meet in it. */
static void check_shift(const struct serve_options *options, const struct arrivals *arrivals)
{
    struct serve_result now, later;
    struct serve_options with_host = *options;
    with_host.host_ns = HOST_NS;
    small_expect(serve_run(&now, arrivals, options, &small_serving_error));
    small_expect(serve_run(&later, arrivals, &with_host, &small_serving_error));
    small_check_conservation(&later, arrivals);
    for (int64_t i = 0; i < arrivals->count; i++) {
        cr_assert_eq(later.request[i].first_token_ns, now.request[i].first_token_ns + HOST_NS);
        cr_assert_eq(later.request[i].end_ns, now.request[i].end_ns + HOST_NS);
    }
    cr_expect_float_eq(later.latency[SERVE_TTFT].mean_s, now.latency[SERVE_TTFT].mean_s + 0.005,
                       1e-9);
    cr_expect_float_eq(later.latency[SERVE_TPOT].mean_s, now.latency[SERVE_TPOT].mean_s, 1e-12);
    serve_result_free(&now);
    serve_result_free(&later);
}

Test(engine_host, an_open_load_is_the_same_history_later)
{
    struct arrivals arrivals;
    const struct arrivals_law law = {.rate_per_s = 30.0,
                                     .cv = 1.0,
                                     .duration_s = 60.0,
                                     .prompt_tokens = 500.0,
                                     .prompt_cv = 1.0,
                                     .decode_tokens = 100.0,
                                     .decode_cv = 1.0,
                                     .seed = 1};
    struct serve_options options = small_serving(small_linear_ns, 100);
    small_expect(arrivals_generate(&arrivals, &law, &small_serving_error));
    check_shift(&options, &arrivals);
    options.pool[SERVE_PREFILL] = options.pool[SERVE_MAIN]; /* prompts are read apart */
    options.transfer_ns = 1e6;
    check_shift(&options, &arrivals);
    arrivals_free(&arrivals);
}

static void expect_refused(const char *text, const char *message)
{
    struct engine_host host;
    const char *path = text_file(".yaml", text);
    error = (struct error){0};
    cr_expect_eq(engine_host_load(&host, path, "", &error), STATUS_INVALID, "%s", text);
    cr_expect(strstr(error.text, message) != NULL, "'%s' lacks '%s'", error.text, message);
    (void)unlink(path);
}

Test(engine_host, a_wrong_preset_is_refused_with_its_key)
{
    expect_refused("request_ms: 1\n", "source");
    expect_refused("source: a\nrequest_ms: -1\nerror_median: 0\nerror_p90: 0\n",
                   "request_ms: must be between 0 and");
    expect_refused("source: a\nrequest_ms: 1\nerror_p90: 0\n", "error_median");
    expect_refused("source: a\nstep_ms: 1\n", "unknown key");
    expect_refused("source: a\nrequest_ms: 1\nerror_median: 0\nerror_p90: 0\nwithout: 3\n",
                   ":5: without: expected models and milliseconds");
}

Test(engine_host, a_model_is_left_out_of_its_own_prediction)
{
    static const char text[] = "source: a\nrequest_ms: 40\nerror_median: 0.1\nerror_p90: 0.2\n"
                               "without: {a: 30, b: wrong}\n";
    struct engine_host host;
    const char *path = text_file(".yaml", text);
    cr_assert_eq(engine_host_load(&host, path, "", &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(host.request_ms, 40.0);
    cr_assert_eq(engine_host_load(&host, path, "a", &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(host.request_ms, 30.0);
    cr_assert_eq(engine_host_load(&host, path, "c", &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(host.request_ms, 40.0);
    cr_expect_eq(engine_host_load(&host, path, "b", &error), STATUS_INVALID);
    cr_expect(strstr(error.text, ":5: without.b: ") != NULL, "%s", error.text);
    (void)unlink(path);
}

Test(engine_host, every_preset_loads_and_says_where_it_is_from)
{
    struct arena arena = {0};
    const char *const *names;
    int32_t count = data_list(&names, "engines", &arena);
    cr_assert_geq(count, 2);
    for (int32_t i = 0; i < count; i++) {
        struct engine_host host;
        cr_assert_eq(engine_host_load(&host, names[i], "", &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(host.name, names[i]);
        cr_expect_gt(host.request_ms, 0.0);
        cr_expect_gt(host.error_median, 0.0);
        cr_expect_geq(host.error_p90, host.error_median);
        cr_expect_gt(strlen(host.source), 40);
    }
    arena_free(&arena);
}
