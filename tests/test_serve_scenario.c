/*
 * test_serve_scenario.c -- the serving keys of a scenario, and every reason to refuse them; what
 * arrivals are drawn and read; deployments as a whole.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/deployment.h"
#include "simulate.h"

#define CHAT SOURCE_DIRECTORY "/scenarios/serving/gpt_oss_20b_chat_8xh100.yaml"

static struct error error;
static struct scenario scenario;

static enum status load(const char *const *overrides, int32_t count)
{
    error = (struct error){0};
    scenario_free(&scenario);
    return scenario_load(&scenario, CHAT, overrides, count, &error);
}

static void expect(enum status status)
{
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
}

static void expect_refused(const char *override, const char *message)
{
    cr_expect_eq(load(&override, 1), STATUS_INVALID, "%s", override);
    cr_expect(strstr(error.text, message) != NULL, "'%s' lacks '%s'", error.text, message);
    cr_expect_eq(error.num_problems, 1, "%s", error.text);
    scenario_free(&scenario);
}

Test(serve_scenario, one_wrong_key_is_one_line_that_says_where)
{
    expect_refused("serving=1", "serving: expected keys and values");
    expect_refused("serving.batches=1", "unknown key");
    expect_refused("serving.router=random", "router");
    expect_refused("serving.arrivals.rate_per_s=0", "rate_per_s");
    expect_refused("serving.arrivals.rate_per_s=1e6", "more than memory holds");
    expect_refused("serving.arrivals={path: nowhere.csv}", "there is no nowhere.csv");
    expect_refused("serving.arrivals.path=nowhere.csv",
                   "there is no nowhere.csv"); /* no law then */
    expect_refused("serving.arrivals={rate_per_s: 1, duration_s: 1, prompt_tokens: 1}",
                   "serving.arrivals.decode_tokens: is missing");
    expect_refused("serving.arrivals.concurrency=8",
                   "serving.arrivals.requests: is missing: with concurrency"); /* no rate then */
    expect_refused("serving.arrivals={concurrency: 0, requests: 9, prompt_tokens: 1, "
                   "decode_tokens: 1}",
                   "serving.arrivals.concurrency: must be between 1 and 1048576");
    expect_refused("serving.arrivals={concurrency: 8, requests: 100000001, prompt_tokens: 1, "
                   "decode_tokens: 1}",
                   "serving.arrivals.requests: 1e+08 requests are more than memory holds");
    expect_refused("serving.arrivals.prompt_spread=1.1", "prompt_spread"); /* no cv then */
    expect_refused("serving.arrivals={rate_per_s: 1, duration_s: 9, prompt_tokens: 9, "
                   "decode_tokens: 9, decode_cv: 1, decode_spread: 1}",
                   "serving.arrivals.decode_spread: is of uniform lengths, decode_cv of log");
    expect_refused("serving.batch.tokens=100", "100 are less than 256 sequences with 1 tokens");
    expect_refused("serving.draft={tokens: 1}", "acceptance");
    expect_refused("serving.host.request_ms=-1", "serving.host.request_ms: must be between 0 and");
    expect_refused("serving.host.step_ms=1", "unknown key");
    expect_refused("serving.engine=vlm", "serving.engine: 'vlm' is neither a file nor one of the "
                                         "engines");
    expect_refused("serving.prefix_cache={kind: rate}", "hit_rate: is missing");
    expect_refused("serving.prefix_cache={hit_rate: 0.5}", "goes with kind: rate");
    expect_refused("serving.prefix_cache={kind: hashes}", "generated requests have no hashes");
    expect_refused("serving.prefix_cache={tokens: 10}", "goes with kind: hashes");
    expect_refused("serving.prefill={scenario: nowhere.yaml}", "there is no nowhere.yaml");
    expect_refused("dispatch.prefill_collective=deepep_norml", "did you mean 'deepep_normal'?");
}

static const char *prefill_collective(const char *override)
{
    const char *const overrides[] = {override, "seed=1"};
    expect(load(overrides, 2));
    const char *name = scenario.prefill_collective->name;
    scenario_free(&scenario);
    return name;
}

Test(serve_scenario, prompts_leave_kernels_of_decode_unless_told_otherwise)
{
    const char *const elsewhere[] = {"serving.prefill={scenario: " CHAT "}",
                                     "dispatch.prefill_collective=deepep_normal"};
    const char *const prefill[] = {"phase=prefill", "dispatch.prefill_collective=deepep_normal"};
    cr_expect_str_eq(prefill_collective("seed=2"), "deepep_normal");
    cr_expect_str_eq(prefill_collective("dispatch.collective=deepep_low_latency_rdma"),
                     "deepep_normal");
    cr_expect_str_eq(prefill_collective("dispatch.collective=allgather_reducescatter"),
                     "allgather_reducescatter");
    cr_expect_str_eq(prefill_collective("dispatch.prefill_collective=deepep_low_latency"),
                     "deepep_low_latency");
    cr_expect_eq(load(elsewhere, 2), STATUS_INVALID);
    cr_expect(strstr(error.text, "prompts read elsewhere") != NULL, "%s", error.text);
    cr_expect_eq(load(prefill, 2), STATUS_INVALID);
    cr_expect(strstr(error.text, "goes with phase: decode") != NULL, "%s", error.text);
    scenario_free(&scenario);
}

Test(serve_scenario, all_problems_are_told_at_once)
{
    const char *overrides[] = {"serving.prefill={scenario: nowhere.yaml}",
                               "serving.batch.tokens=100", "serving.prefix_cache={hit_rate: 0.5}",
                               "parallel.ep=3"};
    cr_assert_eq(load(overrides, 4), STATUS_INVALID);
    cr_assert_geq(error.num_problems, 4, "%s", error.text);
    cr_assert(strstr(error.text, "parallel.ep") != NULL);
    scenario_free(&scenario);
}

Test(serve_scenario, concurrency_excludes_all_that_says_when_requests_come)
{
    static const char *const rivals[] = {"rate_per_s", "duration_s", "cv", "day_swing", "speed"};
    const char *override = "serving.arrivals={concurrency: 8, rate_per_s: 1, duration_s: 1, cv: 1, "
                           "day_swing: 0.5, speed: 2, prompt_tokens: 1, decode_tokens: 1}";
    cr_assert_eq(load(&override, 1), STATUS_INVALID);
    cr_expect_eq(error.num_problems, 6, "%s", error.text); /* requests are missing besides */
    for (int32_t i = 0; i < 5; i++) {
        char message[128];
        (void)snprintf(message, sizeof message, "serving.arrivals.%s: with concurrency", rivals[i]);
        cr_expect(strstr(error.text, message) != NULL, "'%s' lacks '%s'", error.text, message);
    }
    scenario_free(&scenario);
}

/* A preset says what a scenario may say itself, not both. */
Test(serve_scenario, an_engine_names_the_time_of_its_host)
{
    const char *const named[] = {"serving.engine=vllm", "serving.host.request_ms=7"};
    expect(load(NULL, 0));
    cr_expect_eq(scenario.serving->host_request_ms, 0.0);
    expect(load(named, 1));
    cr_expect_gt(scenario.serving->host_request_ms, 7.0);
    cr_expect_gt(scenario.serving->host_error, 0.0);
    expect(load(named + 1, 1));
    cr_expect_eq(scenario.serving->host_request_ms, 7.0);
    cr_expect_eq(load(named, 2), STATUS_INVALID);
    cr_expect(strstr(error.text, "serving.host.request_ms: serving.engine: vllm says it too") !=
                  NULL,
              "%s", error.text);
    scenario_free(&scenario);
}

/* vLLM computes the shared expert beside the routed ones up to 256 tokens, unless it is said. */
Test(serve_scenario, an_engine_says_where_the_shared_expert_is_computed)
{
    const char *const named[] = {"serving.engine=vllm", "overlap.shared_tokens=0"};
    const char *const halved[] = {"serving.engine=vllm", "overlap.micro_batches=2",
                                  "trace.tokens_per_rank=4"};
    expect(load(NULL, 0));
    cr_expect_eq(scenario.shared_tokens, 0);
    expect(load(named, 1));
    cr_expect_eq(scenario.shared_tokens, 256);
    expect(load(named, 2));
    cr_expect_eq(scenario.shared_tokens, 0);
    expect(load(halved, 3));
    cr_expect_eq(scenario.shared_tokens, 0);
    scenario_free(&scenario);
    expect_refused("overlap={micro_batches: 2, shared_tokens: 64}",
                   "overlap.shared_tokens: is of steps whose GPU computes nothing else meanwhile");
    expect_refused("overlap.shared_tokens=-1", "overlap.shared_tokens: must be between 0 and");
}

/* A rate that is given later takes the place of a concurrency, and the other way round. */
Test(serve_scenario, the_later_of_rate_and_concurrency_holds)
{
    const char *overrides[] = {"serving.arrivals.concurrency=8", "serving.arrivals.requests=9",
                               "serving.arrivals.rate_per_s=1", "serving.arrivals.duration_s=9"};
    expect(load(overrides, 2));
    cr_expect_eq(scenario.serving->arrivals.concurrency, 8);
    cr_expect_eq(scenario.serving->arrivals.rate_per_s, 0.0);
    expect(load(overrides, 4));
    cr_expect_eq(scenario.serving->arrivals.concurrency, 0);
    scenario_free(&scenario);
}

static struct arrivals_law law(double cv, double day_swing, double duration_s)
{
    return (struct arrivals_law){.rate_per_s = 1.0,
                                 .cv = cv,
                                 .day_swing = day_swing,
                                 .duration_s = duration_s,
                                 .prompt_tokens = 100.0,
                                 .prompt_cv = 1.0,
                                 .decode_tokens = 7.0,
                                 .seed = 3};
}

/* Those of a law that ends by its time are the same, as far as they go. */
Test(serve_scenario, a_number_of_requests_is_drawn_with_the_same_lengths)
{
    struct arrivals by_time;
    struct arrivals by_number;
    struct arrivals_law asked = law(1.0, 0.0, 1000.0);
    expect(arrivals_generate(&by_time, &asked, &error));
    asked.num_requests = 500;
    expect(arrivals_generate(&by_number, &asked, &error));
    cr_assert_eq(by_number.count, 500);
    for (int64_t i = 0; i < 500; i++) {
        cr_assert_eq(by_number.arrival[i].arrival_s, 0.0);
        cr_assert_eq(by_number.arrival[i].prompt_tokens, by_time.arrival[i].prompt_tokens);
        cr_assert_eq(by_number.arrival[i].decode_tokens, by_time.arrival[i].decode_tokens);
    }
    arrivals_free(&by_time);
    arrivals_free(&by_number);
}

/* A benchmark's 8192 with a range ratio of 0.8 are whole numbers from 6554 to 8192, all as likely:
 * 7373 on average, give or take 473.1. */
Test(serve_scenario, a_spread_draws_uniform_lengths)
{
    struct arrivals arrivals;
    struct arrivals_law asked = law(1.0, 0.0, 0.0);
    double sums[2] = {0};
    int32_t most = 0;
    int32_t least = INT32_MAX;
    asked.num_requests = 200000;
    asked.prompt_tokens = 0.9 * 8192;
    asked.prompt_spread = 1.0 / 9.0;
    asked.decode_tokens = 1.0;
    asked.decode_spread = 1.0;
    expect(arrivals_generate(&arrivals, &asked, &error));
    for (int64_t i = 0; i < arrivals.count; i++) {
        int32_t tokens = arrivals.arrival[i].prompt_tokens;
        most = tokens > most ? tokens : most;
        least = tokens < least ? tokens : least;
        sums[0] += tokens;
        sums[1] += (tokens - 7373.0) * (tokens - 7373.0);
        cr_assert_geq(arrivals.arrival[i].decode_tokens, 1);
        cr_assert_leq(arrivals.arrival[i].decode_tokens, 2);
    }
    cr_expect_eq(least, 6554);
    cr_expect_eq(most, 8192);
    cr_expect_float_eq(sums[0] / 200000.0, 7373.0, 5.0); /* five standard errors */
    cr_expect_float_eq(sqrt(sums[1] / 200000.0), sqrt((1639.0 * 1639.0 - 1.0) / 12.0), 3.0);
    arrivals_free(&arrivals);
}

Test(serve_scenario, drawn_gaps_and_lengths_have_the_moments_asked_for)
{
    static const double cvs[] = {0.5, 1.0, 3.0};
    for (int32_t i = 0; i < 3; i++) {
        struct arrivals arrivals;
        const struct arrivals_law asked = law(cvs[i], 0.0, 200000.0);
        double sums[4] = {0};
        expect(arrivals_generate(&arrivals, &asked, &error));
        for (int64_t j = 1; j < arrivals.count; j++) {
            double gap_s = arrivals.arrival[j].arrival_s - arrivals.arrival[j - 1].arrival_s;
            double tokens = arrivals.arrival[j].prompt_tokens;
            cr_assert_geq(gap_s, 0.0);
            cr_assert_eq(arrivals.arrival[j].decode_tokens, 7);
            sums[0] += gap_s;
            sums[1] += gap_s * gap_s;
            sums[2] += tokens;
            sums[3] += tokens * tokens;
        }
        double count = (double)(arrivals.count - 1);
        double mean = sums[0] / count;
        double tokens = sums[2] / count;
        cr_expect_float_eq(mean, 1.0, 0.02);
        cr_expect_float_eq(sqrt(sums[1] / count - mean * mean) / mean / cvs[i], 1.0, 0.03);
        cr_expect_float_eq(tokens, 100.0, 1.0);
        cr_expect_float_eq(sqrt(sums[3] / count - tokens * tokens) / tokens, 1.0, 0.05);
        arrivals_free(&arrivals);
    }
}

/* A metronome in the time of a day with a swing of a half: a quarter of the day around midday has
 * 1/4 + 0.5 sin(pi / 4) / pi of all requests. */
Test(serve_scenario, a_day_has_its_top_at_midday)
{
    struct arrivals arrivals;
    const struct arrivals_law asked = law(0.0, 0.5, 86400.0);
    int64_t midday = 0;
    expect(arrivals_generate(&arrivals, &asked, &error));
    cr_assert_float_eq((double)arrivals.count, 86400.0, 2.0);
    for (int64_t i = 0; i < arrivals.count; i++) {
        midday += fabs(arrivals.arrival[i].arrival_s - 43200.0) < 10800.0;
    }
    double share = 0.25 + 0.5 * sin(0.78539816339744831) / 3.14159265358979324;
    cr_assert_float_eq((double)midday / 86400.0, share, 1e-4);
    arrivals_free(&arrivals);
}

static double no_time_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    (void)context;
    (void)load;
    (void)num_replicas;
    return 0.0;
}

/* Requests that come a second apart and are read at once find every prefix seen before. 54,098,293
 * tokens come from a set of all hashes seen (Python, a dozen lines); that is 37 % of the prompts.
 */
Test(serve_scenario, mooncakes_prefixes_are_found_as_often_as_a_set_of_hashes_says)
{
    struct arrivals arrivals;
    struct serve_result result;
    const struct serving_config config = {.block_tokens = 16, .prefix_cache = PREFIX_CACHE_HASHES};
    const char *path = SHARED_DATA "/arrivals/mooncake_conversation.jsonl";
    if (access(path, R_OK) != 0) {
        cr_skip_test("there is no %s", path);
    }
    expect(arrivals_read(&arrivals, path, ARRIVALS_UNKNOWN, &error));
    for (int64_t i = 0; i < arrivals.count; i++) {
        arrivals.arrival[i].arrival_s = (double)i;
    }
    struct serve_options options = {.config = &config};
    options.pool[SERVE_MAIN] = (struct serve_pool){.model = {.step_ns = no_time_ns},
                                                   .num_groups = 1,
                                                   .replicas_per_group = 1,
                                                   .batch = {.tokens = 1 << 20, .sequences = 8},
                                                   .kv_blocks = 1 << 20};
    expect(serve_run(&result, &arrivals, &options, &error));
    cr_assert_eq(result.totals.cached_tokens, 54098293);
    cr_assert_eq(result.totals.num_requests, 12031);
    serve_result_free(&result);
    arrivals_free(&arrivals);
}

static void serve(struct serve_result *result, int32_t num_threads, const char *const *overrides,
                  int32_t count)
{
    struct trace trace;
    struct deployment deployment;
    const struct deployment_progress progress = {.num_threads = num_threads};
    expect(load(overrides, count));
    expect(simulate_open_trace(&trace, &scenario, num_threads, &error));
    expect(deployment_open(&deployment, &scenario, &trace, &progress, &error));
    expect(serve_run(result, &deployment.arrivals, &deployment.options, &error));
    deployment_close(&deployment);
    trace_close(&trace);
    scenario_free(&scenario);
}

Test(serve_scenario, the_same_scenario_is_the_same_history_on_any_number_of_threads)
{
    const char *overrides[] = {"serving.arrivals.duration_s=20", "serving.batch.tokens=64",
                               "serving.batch.sequences=32", "trace.tokens=4096"};
    uint64_t digest[2];
    for (int32_t i = 0; i < 2; i++) {
        struct serve_result result;
        serve(&result, 1 + i, overrides, 4);
        digest[i] = result.totals.digest;
        serve_result_free(&result);
    }
    cr_assert_eq(digest[0], digest[1]);
}

Test(serve_scenario, a_closed_loop_is_of_as_many_as_were_asked_for)
{
    const char *overrides[] = {"serving.arrivals.concurrency=12", "serving.arrivals.requests=100",
                               "serving.batch.tokens=64", "serving.batch.sequences=32",
                               "trace.tokens=4096"};
    struct serve_result result;
    serve(&result, 1, overrides, 5);
    cr_expect_eq(result.totals.num_requests, 100);
    for (int32_t i = 0; i < 100; i++) {
        cr_expect_eq(result.request[i].arrival_ns == 0, i < 12);
    }
    double outstanding =
        result.totals.waiting_mean[SERVE_MAIN] + result.totals.running_mean[SERVE_MAIN];
    cr_expect_lt(outstanding, 12.0);
    cr_expect_gt(outstanding, 8.0);
    serve_result_free(&result);
}

Test(serve_scenario, kv_entries_fill_what_weights_and_buffers_leave)
{
    int64_t kv_tokens = 0;
    expect(load(NULL, 0));
    expect(deployment_kv_tokens(&kv_tokens, &scenario, &scenario.serving->batch, &error));
    struct scenario fullest = scenario;
    fullest.tokens_per_rank = scenario.serving->batch.sequences;
    int64_t kv_bytes = scenario_memory(&fullest, kv_tokens).kv_bytes;
    int64_t weights =
        scenario_memory(&scenario, 0).dense_bytes + scenario_memory(&scenario, 0).expert_bytes;
    int64_t limit = scenario_memory(&scenario, 0).limit_bytes;
    cr_assert_lt(weights + kv_bytes, limit);
    cr_assert_gt(weights + kv_bytes, limit - INT64_C(2000000000)); /* buffers of 2048 tokens */
    scenario.memory_fraction = 0.05;
    cr_assert_eq(deployment_kv_tokens(&kv_tokens, &scenario, &scenario.serving->batch, &error),
                 STATUS_INVALID);
    cr_assert(strstr(error.text, "no KV cache fits") != NULL, "%s", error.text);
    scenario_free(&scenario);
}
