/*
 * test_plan_arrivals.c -- files of requests, small enough to count by hand, as a plan's traffic.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan_internal.h"
#include "plan_words.h"
#include "small_plan.h"
#include "text_file.h"

#define HEAD "arrival_s,prompt_tokens,decode_tokens\n"

/* Means 250 and 20; squared off them 12,500 and 150. */
static const char four[] = HEAD "5,100,10\n15,200,10\n25,300,20\n35,400,40\n";

static enum status read_text(struct plan_arrivals *arrivals, const char *extension,
                             const char *text, struct error *error)
{
    const char *path = text_file(extension, text);
    *arrivals = (struct plan_arrivals){0};
    *error = (struct error){0};
    (void)snprintf(arrivals->path, sizeof arrivals->path, "%s", path);
    enum status status = plan_arrivals_read(arrivals, error);
    unlink(path);
    return status;
}

/* 30 s stand for a day, 1.25 s for an hour: requests in hours 0, 8, 16 and, the last, 23. */
Test(plan_arrivals, a_short_file_stands_for_a_day)
{
    struct plan_arrivals arrivals;
    struct error error;
    cr_assert_eq(read_text(&arrivals, ".csv", four, &error), STATUS_OK, "%s", error.text);
    const struct cost_traffic *traffic = &arrivals.traffic;

    cr_expect_float_eq(arrivals.span_s, 30.0, 1e-9);
    cr_expect_float_eq(arrivals.stretch_s, 1.25, 1e-9);
    cr_expect_float_eq(traffic->requests_per_day, 4.0 / 30.0 * 86400.0, 1e-6);
    cr_expect_float_eq(traffic->input_tokens, 250.0, 1e-9);
    cr_expect_float_eq(traffic->input_cv, sqrt(12500.0) / 250.0, 1e-9);
    cr_expect_float_eq(traffic->output_tokens, 20.0, 1e-9);
    cr_expect_float_eq(traffic->output_cv, sqrt(150.0) / 20.0, 1e-9);
    cr_expect_eq(traffic->cached_share, 0.0);
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        bool has_one = hour == 0 || hour == 8 || hour == 16 || hour == 23;
        cr_expect_float_eq(traffic->hour_weight[hour], has_one ? 1.0 / 1.25 : 0.0, 1e-9);
    }
    cr_expect_float_eq(cost_peak_over_mean(traffic), 6.0, 1e-9);
    cr_expect_float_eq(arrivals.busiest_over_mean, 6.0, 1e-9);
    cr_expect_not(plan_arrivals_have_times(&arrivals));
    plan_arrivals_free(&arrivals);
}

/* Tokens stand on average in prompts of E[L^2] / E[L] = 75,000 / 250 and answers of 550 / 20. */
Test(plan_arrivals, contexts_are_those_of_tokens)
{
    struct plan_arrivals arrivals;
    struct error error;
    cr_assert_eq(read_text(&arrivals, ".csv", four, &error), STATUS_OK, "%s", error.text);
    struct cost_traffic traffic = arrivals.traffic;

    cr_expect_eq(plan_prefill_context(&traffic), 300);
    traffic.cached_share = 0.5;
    cr_expect_eq(plan_prefill_context(&traffic), 450);
    cr_expect_eq(plan_decode_context(&traffic), 264, "250 + 27.5 / 2");
    cr_expect_eq(plan_arrivals_longest(&arrivals, &traffic), 440);
    traffic.input_tokens = 500.0;
    cr_expect_eq(plan_arrivals_longest(&arrivals, &traffic), 840, "twice as long prompts");
    plan_arrivals_free(&arrivals);
}

/* A request on the hour for a day, three at 15:00 of it, then three an hour until 36:00, where one
 * comes last. Hours 0 to 11 are there twice. */
static void write_days(char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, HEAD);
    for (int32_t hour = 0; hour <= 36; hour++) {
        int32_t times = hour == 36 ? 1 : hour >= 24 || hour == 15 ? 3 : 1;
        for (int32_t i = 0; i < times; i++) {
            used += (size_t)snprintf(text + used, bytes - used, "%d,10,1\n", (int)hour * 3600);
        }
    }
}

Test(plan_arrivals, days_lie_over_each_other)
{
    static char text[4096];
    struct plan_arrivals arrivals;
    struct error error;
    write_days(text, sizeof text);
    cr_assert_eq(read_text(&arrivals, ".csv", text, &error), STATUS_OK, "%s", error.text);
    const struct cost_traffic *traffic = &arrivals.traffic;

    cr_expect(plan_arrivals_have_days(&arrivals));
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        double requests = hour < 12 ? (1.0 + 3.0) / 2.0 : hour == 12 ? 2.0 : hour == 15 ? 3.0 : 1.0;
        cr_expect_float_eq(traffic->hour_weight[hour] * 3600.0, requests, 1e-9, "hour %d",
                           (int)hour);
    }
    cr_expect_float_eq(traffic->requests_per_day, 12 * 2 + 2 + 3 + 10, 1e-9);
    cr_expect_float_eq(cost_peak_over_mean(traffic), 3.0 / (39.0 / 24.0), 1e-9);
    cr_expect_float_eq(arrivals.busiest_over_mean, 3.0 / (63.0 / 36.0), 1e-9);
    cr_expect_eq(arrivals.busiest_begin, 15);
    plan_arrivals_free(&arrivals);
}

/* An exact day is whole hours; its last requests, at 24:00, are hour 0's and no stretch of it. */
Test(plan_arrivals, a_day_exactly_is_a_day)
{
    struct plan_arrivals arrivals;
    struct error error;
    cr_assert_eq(read_text(&arrivals, ".csv",
                           HEAD "0,1,1\n43200,1,1\n86400,1,1\n86400,1,1\n86400,1,1\n", &error),
                 STATUS_OK, "%s", error.text);
    cr_expect(plan_arrivals_have_days(&arrivals));
    cr_expect_float_eq(arrivals.traffic.requests_per_day, 5.0, 1e-9);
    cr_expect_float_eq(arrivals.traffic.hour_weight[0], 4.0 / 3600.0, 1e-12);
    cr_expect_float_eq(arrivals.traffic.hour_weight[12], 1.0 / 3600.0, 1e-12);
    cr_expect_float_eq(arrivals.busiest_over_mean, 1.0 / (5.0 / 24.0), 1e-9);
    cr_expect_eq(arrivals.busiest_begin, 0);
    plan_arrivals_free(&arrivals);
}

/* Blocks 1 and 2 of the second prompt were said before, and 1 of the third; the fourth repeats a
 * block of its own, which nobody has said; all but a token of the fifth. */
Test(plan_arrivals, what_was_said_before_is_cached)
{
    static const char text[] =
        "{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
        "{\"timestamp\": 1, \"input_length\": 1300, \"output_length\": 1, \"hash_ids\": [1, 2, "
        "3]}\n"
        "{\"timestamp\": 2, \"input_length\": 900, \"output_length\": 1, \"hash_ids\": [1, 4, 2]}\n"
        "{\"timestamp\": 3, \"input_length\": 1000, \"output_length\": 1, \"hash_ids\": [7, 7]}\n"
        "{\"timestamp\": 4, \"input_length\": 100, \"output_length\": 1, \"hash_ids\": [1]}\n";
    struct plan_arrivals arrivals;
    struct error error;
    cr_assert_eq(read_text(&arrivals, ".jsonl", text, &error), STATUS_OK, "%s", error.text);
    cr_expect_float_eq(arrivals.traffic.cached_share, (1024.0 + 512.0 + 99.0) / 4324.0, 1e-12);
    plan_arrivals_free(&arrivals);
}

/* 2,400 s in stretches of 100: twelve with a request a second, twelve with two, and one request
 * more at the end. */
static char *write_steps(void)
{
    size_t bytes = 1 << 17;
    char *text = malloc(bytes);
    cr_assert_not_null(text);
    size_t used = (size_t)snprintf(text, bytes, HEAD);
    for (int32_t i = 0; i <= 3600; i++) {
        double arrival_s = i < 1200 ? i : 1200.0 + 0.5 * (i - 1200);
        used += (size_t)snprintf(text + used, bytes - used, "%.1f,%d,%d\n", arrival_s, 1 + i % 7,
                                 1 + i % 5);
    }
    return text;
}

/* Ten a second: the last stretch, of 201, takes 20.1 s, and the first, of 100, then 10 s. */
Test(plan_arrivals, all_stretches_come_at_the_rate)
{
    struct plan_arrivals arrivals;
    struct arrivals drawn;
    struct error error;
    char *text = write_steps();
    cr_assert_eq(read_text(&arrivals, ".csv", text, &error), STATUS_OK, "%s", error.text);
    free(text);
    cr_assert(plan_arrivals_have_times(&arrivals));
    cr_assert_eq(arrivals.busiest_begin, 3400);
    cr_expect_float_eq(cost_peak_over_mean(&arrivals.traffic), 201.0 / (3601.0 / 24.0), 1e-9);
    struct cost_traffic traffic = arrivals.traffic;
    traffic.input_tokens *= 2.0;
    cr_assert_eq(plan_arrivals_draw(&drawn, &arrivals, &traffic, 10.0, 400.0, 1, &error), STATUS_OK,
                 "%s", error.text);

    cr_expect_eq(drawn.count, 3999, "evenly spread, the next would come at 400 s");
    cr_expect_float_eq(drawn.arrival[0].arrival_s, 0.0, 1e-9);
    cr_expect_float_eq(drawn.arrival[100].arrival_s, 0.5 * 20.1, 1e-9);
    cr_expect_float_eq(drawn.arrival[200].arrival_s, 20.1, 1e-9);
    cr_expect_float_eq(drawn.arrival[201].arrival_s, 20.1, 1e-9);
    cr_expect_float_eq(drawn.arrival[251].arrival_s, 25.1, 1e-9);
    cr_expect_float_eq(drawn.arrival[3601].arrival_s, 360.1, 1e-9, "the file again");
    for (int64_t i = 0; i < drawn.count; i++) {
        int32_t from = (int32_t)((3400 + i) % 3601);
        cr_assert_eq(drawn.arrival[i].prompt_tokens, 2 * (1 + from % 7));
        cr_assert_eq(drawn.arrival[i].decode_tokens, 1 + from % 5);
        cr_assert(i == 0 || drawn.arrival[i].arrival_s >= drawn.arrival[i - 1].arrival_s);
    }
    arrivals_free(&drawn);
    plan_arrivals_free(&arrivals);
}

/* Of exponential gaps 1 / e are longer than the mean. */
Test(plan_arrivals, few_requests_lend_their_lengths_alone)
{
    struct plan_arrivals arrivals;
    struct arrivals drawn;
    struct error error;
    cr_assert_eq(read_text(&arrivals, ".csv", four, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(plan_arrivals_draw(&drawn, &arrivals, &arrivals.traffic, 10.0, 1000.0, 1, &error),
                 STATUS_OK, "%s", error.text);

    int64_t longer = 0;
    cr_expect_float_eq((double)drawn.count / 10000.0, 1.0, 0.04);
    for (int64_t i = 1; i < drawn.count; i++) {
        longer += drawn.arrival[i].arrival_s - drawn.arrival[i - 1].arrival_s > 0.1;
        cr_assert_eq(drawn.arrival[i].prompt_tokens, 100 * (1 + i % 4));
    }
    cr_expect_float_eq((double)longer / (double)drawn.count, exp(-1.0), 0.02);
    arrivals_free(&drawn);
    plan_arrivals_free(&arrivals);
}

static void expect_refused(const char *text, const char *words)
{
    struct plan_arrivals arrivals;
    struct error error;
    cr_expect_eq(read_text(&arrivals, ".csv", text, &error), STATUS_INVALID, "%s", words);
    cr_expect_not_null(strstr(error.text, words), "'%s' is not in: %s", words, error.text);
    plan_arrivals_free(&arrivals);
}

Test(plan_arrivals, a_bad_file_is_refused_with_its_line)
{
    expect_refused(HEAD "0,1,1\nsoon,1,1\n", ".csv:3: expected seconds");
    expect_refused(HEAD, "holds no request");
    expect_refused("a,b\n1,2\n", "neither Azure's");
    expect_refused(HEAD "7,1,1\n7,1,1\n", "all requests come at the same time");
}

static const char *const small[] = {
    "slo={ttft: 1s, tpot: 20ms}",
    "search.pools=disaggregated",
    "search.prefill={ep: 1, tokens_per_rank: 2048}",
    "search.decode={ep: 1, sequences_per_rank: 64}",
};

static void load_small(struct plan *plan, const char *traffic)
{
    small_plan_load(plan, small, sizeof small / sizeof small[0], traffic);
}

static void expect_line(const struct plan *plan, int32_t index, const char *words)
{
    char line[512] = "";
    cr_assert(plan_say_arrivals(line, sizeof line, plan, index));
    cr_expect_not_null(strstr(line, words), "'%s' is not in: %s", words, line);
}

/* What the command line says stands; the rest is the file's, and the lines tell which is which. */
Test(plan_arrivals, what_is_said_beside_the_file_wins)
{
    struct plan plan;
    char traffic[256], line[512];
    const char *path = text_file(".csv", four);
    (void)snprintf(traffic, sizeof traffic,
                   "traffic={path: %s, requests_per_day: 1M, input_tokens: 500}", path);
    load_small(&plan, traffic);
    cr_expect_eq(plan.traffic.requests_per_day, 1e6);
    cr_expect_eq(plan.traffic.input_tokens, 500.0);
    cr_expect_eq(plan.traffic.output_tokens, 20.0);
    cr_expect_float_eq(cost_peak_over_mean(&plan.traffic), 6.0, 1e-9);
    expect_line(&plan, 0, "4 requests of 0.5 min in ");
    expect_line(&plan, 0,
                ": 11.5 k a day at their rate; input 250 tokens on average (standard "
                "deviation 0.45 of it), output 20 (0.61); 1 M requests a day are "
                "planned, as asked; 500 input tokens are planned, as asked");
    expect_line(&plan, 1, "each 24th of it, 1.25 s, for an hour; the busiest has 6.00 x the mean");
    cr_expect_not(plan_say_arrivals(line, sizeof line, &plan, 2), "no hashes");
    plan_free(&plan);

    (void)snprintf(traffic, sizeof traffic,
                   "traffic={path: %s, output_tokens_per_s: 1000, peak_over_mean: 1, "
                   "cached_share: 0.25}",
                   path);
    load_small(&plan, traffic);
    unlink(path);
    cr_expect_float_eq(plan.traffic.requests_per_day, 1000.0 * 86400.0 / 20.0, 1e-6);
    cr_expect_float_eq(cost_peak_over_mean(&plan.traffic), 1.0, 1e-9);
    cr_expect_eq(plan.traffic.cached_share, 0.25);
    expect_line(&plan, 1, "; 1.00 x is planned, as asked");
    plan_free(&plan);
}

/* Prompts as unlike as exponential ones wait twice as long as equal ones; nothing else changes. */
Test(plan_arrivals, unlike_prompts_wait_longer)
{
    static const double utilisation[COST_POOLS] = {0.9, 0.9};
    struct plan plan;
    load_small(&plan, "traffic={requests_per_day: 4G, input_tokens: 1000, output_tokens: 20}");
    struct plan_answer answer = small_plan_search(&plan, 1, NULL);
    cr_assert_gt(answer.num_deployments, 0);
    struct plan_deployment alike = answer.deployment[0];
    struct plan_deployment unlike = answer.deployment[0];
    double half_step_s = answer.point[alike.point[COST_PREFILL]].step_ns * 1e-9 / 2.0;
    cr_assert(plan_deploy_at(&alike, &plan, answer.point, utilisation));
    plan.traffic.input_cv = 1.0;
    cr_assert(plan_deploy_at(&unlike, &plan, answer.point, utilisation));

    double queue_s = alike.wait_s - half_step_s;
    cr_expect_gt(queue_s, 0.0);
    cr_expect_float_eq((unlike.wait_s - half_step_s) / queue_s, 2.0, 1e-9);
    cr_expect_float_eq(unlike.ttft_s - alike.ttft_s, queue_s, 1e-12);
    cr_expect_eq(unlike.cost.usd_total, alike.cost.usd_total);
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* Points depend on contexts alone, so other volumes and days need none anew. */
Test(plan_arrivals, a_point_depends_on_the_contexts_of_a_file)
{
    struct plan plan, shorter;
    struct plan_point *points = NULL;
    struct error error = {0};
    int32_t count = 0;
    char traffic[256];
    const char *path = text_file(".csv", four);
    (void)snprintf(traffic, sizeof traffic, "traffic={path: %s}", path);
    load_small(&plan, traffic);
    unlink(path);
    cr_assert_eq(plan_enumerate(&points, &count, &plan, &error), STATUS_OK, "%s", error.text);
    struct plan_world world = {.plan = &plan};
    uint64_t digest = plan_point_digest(&points[0], &world);

    shorter = plan;
    world.plan = &shorter;
    shorter.traffic.requests_per_day *= 3.0;
    shorter.traffic.hour_weight[3] += 1.0;
    cr_expect_eq(plan_point_digest(&points[0], &world), digest);
    shorter.traffic.input_cv = 0.0;
    cr_expect_neq(plan_point_digest(&points[0], &world), digest);
    free(points);
    plan_free(&plan);
}

/* A written plan that says lengths twice is refused by both names; the command line's file takes
 * the place of all of a plan's traffic. */
Test(plan_arrivals, a_plan_says_lengths_once)
{
    struct plan plan;
    struct error error = {0};
    char text[1024], override[256];
    char path[64];
    (void)snprintf(path, sizeof path, "%s", text_file(".csv", four));
    (void)snprintf(text, sizeof text,
                   "version: 1\nmodel: deepseek-v3\ngpus: [{gpu: h800-sxm}]\ntraffic:\n"
                   "  path: %s\n  input_tokens: 10\n  output_tokens: 20\n",
                   path);
    const char *yaml = text_file(".yaml", text);
    cr_expect_eq(plan_load(&plan, yaml, NULL, 0, &error), STATUS_INVALID);
    cr_expect_eq(error.num_problems, 2, "%s", error.text);
    cr_expect_not_null(strstr(error.text, ".yaml:6: traffic.input_tokens: traffic.path names"),
                       "%s", error.text);
    plan_free(&plan);

    (void)snprintf(text, sizeof text,
                   "version: 1\nmodel: deepseek-v3\ngpus: [{gpu: h800-sxm}]\ntraffic:\n"
                   "  requests_per_day: 5M\n  input_tokens: 10\n  output_tokens: 20\n"
                   "  cached_share: 0.5\n  peak_over_mean: 1.5\n");
    yaml = text_file(".yaml", text);
    (void)snprintf(override, sizeof override, "traffic.path=%s", path);
    const char *const overrides[] = {override, "traffic.output_tokens=30"};
    error = (struct error){0};
    cr_expect_eq(plan_load(&plan, yaml, overrides, 2, &error), STATUS_OK, "%s", error.text);
    cr_expect_float_eq(plan.traffic.requests_per_day, 11520.0, 1e-6);
    cr_expect_eq(plan.traffic.input_tokens, 250.0);
    cr_expect_eq(plan.traffic.output_tokens, 30.0);
    cr_expect_eq(plan.traffic.cached_share, 0.0);
    cr_expect_float_eq(cost_peak_over_mean(&plan.traffic), 6.0, 1e-9);
    plan_free(&plan);

    error = (struct error){0};
    unlink(path);
    cr_expect_eq(plan_load(&plan, yaml, overrides, 1, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "traffic.path: there is no such file of requests"), "%s",
                       error.text);
    plan_free(&plan);
    unlink(yaml);
}
