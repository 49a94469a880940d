/* test_generate.c -- generated traces look like what was measured, and repeat. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "generate.h"
#include "generate_internal.h"
#include "rng.h"
#include "text_file.h"
#include "trace.h"

#define PRESET      "deepseek-v3"
#define NUM_EXPERTS 256
#define TOP_K       8
#define NUM_LAYERS  58

static struct trace generated(int64_t num_tokens, uint64_t seed, int32_t num_threads)
{
    struct generate_options options = {
        .preset = PRESET, .num_tokens = num_tokens, .seed = seed, .num_threads = num_threads};
    struct trace trace;
    static struct error error;
    cr_assert_eq(generate_in_memory(&trace, &options, &error), STATUS_OK, "%s", error.text);
    return trace;
}

static uint64_t ids_digest(const struct trace *trace, int64_t num_tokens)
{
    uint64_t digest = DIGEST_START;
    int32_t expert[TOP_K];
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        for (int64_t row = 0; row < num_tokens; row++) {
            cr_assert_eq(trace_read(trace, expert, NULL, layer, &row, 1, NULL), STATUS_OK);
            for (int32_t k = 0; k < TOP_K; k++) {
                digest = digest_u64(digest, (uint64_t)expert[k]);
            }
        }
    }
    return digest;
}

static int descending(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? 1 : left > right ? -1 : 0;
}

/* Shares of a layer's load over some rows, the hottest expert first. */
static void shares_by_rank(double *share, const struct trace *trace, int32_t layer, int64_t first,
                           int64_t count)
{
    int64_t load_tokens[NUM_EXPERTS] = {0};
    cr_assert_eq(trace_count(trace, load_tokens, layer, first, count, NULL), STATUS_OK);
    for (int32_t expert = 0; expert < NUM_EXPERTS; expert++) {
        share[expert] = (double)load_tokens[expert] / (double)(count * TOP_K);
    }
    qsort(share, NUM_EXPERTS, sizeof share[0], descending);
}

ParameterizedTestParameters(generate, has_the_measured_skew_in_every_layer)
{
    static uint64_t seeds[] = {1, 20261122};
    return cr_make_param_array(uint64_t, seeds, 2);
}

/* Measured: the preset's figures. 98,304 tokens are about 300 requests; their preferences alone
 * (sigma 0.53, unequal lengths) give the hottest share a standard deviation near 4 %. */
ParameterizedTest(uint64_t *seed, generate, has_the_measured_skew_in_every_layer)
{
    static struct generate_preset preset;
    cr_assert_eq(generate_preset_load(&preset, PRESET, NULL), STATUS_OK);
    struct trace trace = generated(98304, *seed, 2);
    cr_assert_geq(trace.num_requests, 256);

    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        double share[NUM_EXPERTS];
        shares_by_rank(share, &trace, layer, 0, trace.num_tokens);
        double head = 0;
        for (int32_t rank = 0; rank < 32; rank++) {
            head += share[rank];
        }
        double hottest_ratio = share[0] * 100 / preset.layer[layer].hottest_percent;
        double head_ratio = head * 100 / preset.layer[layer].top32_percent;
        cr_expect_lt(fabs(hottest_ratio - 1), 0.15, "layer %d: hottest %g times measured", layer,
                     hottest_ratio);
        cr_expect_lt(fabs(head_ratio - 1), 0.05, "layer %d: top 32 %g times measured", layer,
                     head_ratio);
    }
    trace_close(&trace);
}

/* Measured: 7.7, the median over layers of one GPQA request's max/mean (formats.md). */
Test(generate, gives_one_request_more_skew_than_all_together)
{
    struct trace trace = generated(32768, 5, 2);
    static double ratio[NUM_LAYERS * 512];
    int32_t num_ratios = 0;
    for (int64_t i = 0; i < trace.num_requests; i++) {
        const struct trace_request *request = &trace.requests[i];
        for (int32_t layer = 0; layer < NUM_LAYERS && request->num_rows >= 200; layer++) {
            double share[NUM_EXPERTS];
            shares_by_rank(share, &trace, layer, request->row_offset, request->num_rows);
            ratio[num_ratios++] = share[0] * NUM_EXPERTS;
        }
    }
    qsort(ratio, (size_t)num_ratios, sizeof ratio[0], descending);

    double median = ratio[num_ratios / 2];

    cr_assert_float_eq(median, 7.7, 0.4, "median max/mean %g", median);
    trace_close(&trace);
}

static int32_t num_common(const struct trace *trace, int32_t layer, int64_t row, int64_t other)
{
    int64_t rows[2] = {row, other};
    int32_t expert[2 * TOP_K];
    int32_t common = 0;
    cr_assert_eq(trace_read(trace, expert, NULL, layer, rows, 2, NULL), STATUS_OK);
    for (int32_t i = 0; i < TOP_K; i++) {
        for (int32_t j = 0; j < TOP_K; j++) {
            common += expert[i] == expert[TOP_K + j] ? 1 : 0;
        }
    }
    return common;
}

/* With factors exp(sigma z) kept for the whole request, two of its tokens agree exp(sigma^2) = 1.32
 * times as often as tokens of two requests, less what drawing without repeats takes away. */
Test(generate, keeps_a_requests_preferences_to_its_end)
{
    struct trace trace = generated(16384, 3, 2);
    int64_t common[3] = {0}; /* lag 1, lag 64, the next request */
    for (int64_t i = 0; i + 1 < trace.num_requests; i++) {
        const struct trace_request *request = &trace.requests[i];
        for (int64_t step = 0; step < 8 && request->num_rows > 65 + 8; step++) {
            int64_t row = request->row_offset + step;
            for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
                common[0] += num_common(&trace, layer, row, row + 1);
                common[1] += num_common(&trace, layer, row, row + 64);
                common[2] += num_common(&trace, layer, row, request[1].row_offset);
            }
        }
    }

    cr_expect_gt((double)common[0], 1.15 * (double)common[2]);
    cr_expect_gt((double)common[1], 1.15 * (double)common[2]);
    cr_expect_float_eq((double)common[1] / (double)common[0], 1, 0.05);
    trace_close(&trace);
}

Test(generate, chooses_distinct_experts_of_at_most_four_groups)
{
    struct trace trace = generated(2000, 7, 1);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        for (int64_t row = 0; row < trace.num_tokens; row++) {
            int32_t expert[TOP_K];
            uint32_t groups = 0;
            cr_assert_eq(trace_read(&trace, expert, NULL, layer, &row, 1, NULL), STATUS_OK);
            for (int32_t k = 0; k < TOP_K; k++) {
                cr_assert(expert[k] >= 0 && expert[k] < NUM_EXPERTS);
                groups |= 1u << (expert[k] / 32);
                for (int32_t other = 0; other < k; other++) {
                    cr_assert_neq(expert[k], expert[other]);
                }
            }
            cr_assert_leq(__builtin_popcount(groups), 4);
        }
    }
    trace_close(&trace);
}

Test(generate, gives_the_same_bytes_on_any_number_of_threads)
{
    struct trace one = generated(3000, 11, 1);
    struct trace three = generated(3000, 11, 3);

    cr_expect_eq(ids_digest(&one, 3000), ids_digest(&three, 3000));
    trace_close(&one);
    trace_close(&three);
}

/* 17,000 tokens end in a second block, in the middle of a request. */
Test(generate, makes_a_shorter_trace_the_beginning_of_a_longer_one)
{
    struct trace shorter = generated(17000, 13, 2);
    struct trace longer = generated(18000, 13, 2);

    cr_expect_eq(ids_digest(&shorter, 17000), ids_digest(&longer, 17000));
    trace_close(&shorter);
    trace_close(&longer);
}

Test(generate, depends_on_the_seed)
{
    struct trace one = generated(100, 1, 1);
    struct trace two = generated(100, 2, 1);

    cr_expect_neq(ids_digest(&one, 100), ids_digest(&two, 100));
    trace_close(&one);
    trace_close(&two);
}

/* Golden: a change here moves the results of every study on a generated trace (CHANGELOG.md). */
Test(generate, repeats_its_pinned_digest)
{
    struct trace trace = generated(1000, 1, 1);

    uint64_t digest = ids_digest(&trace, 1000);

    cr_expect_eq(digest, UINT64_C(0x064fb99a578765ac), "0x%016llx", (unsigned long long)digest);
    trace_close(&trace);
}

/* Requests cover the rows without holes; 70,000 tokens fill one shard and start another. */
Test(generate, writes_the_trace_that_it_makes_in_memory)
{
    char path[] = "/tmp/test_generate_XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    struct generate_options options = {
        .preset = PRESET, .num_tokens = 70000, .seed = 17, .num_threads = 2};
    struct error error = {0};
    struct trace written;
    struct trace made = generated(70000, 17, 2);

    cr_assert_eq(generate_trace(path, true, &options, &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(trace_open(&written, path, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(written.num_shards, 2);
    cr_expect_str_eq(written.origin, "generated");
    cr_expect_str_eq(written.source, made.source);
    cr_expect_eq(written.num_requests, made.num_requests);
    int64_t row = 0;
    for (int64_t i = 0; i < made.num_requests; i++) {
        cr_expect_eq(made.requests[i].row_offset, row);
        cr_expect_eq(written.requests[i].row_offset, row);
        cr_expect_eq(written.requests[i].num_rows, made.requests[i].num_rows);
        cr_expect_eq(written.requests[i].prompt_tokens, made.requests[i].prompt_tokens);
        cr_expect_eq(written.requests[i].arrival_s, made.requests[i].arrival_s);
        row += made.requests[i].num_rows;
    }
    cr_expect_eq(row, 70000);
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        cr_expect_eq(written.model_layer[layer], layer + 3);
        for (int64_t token = 0; token < 70000; token += 499) {
            int32_t ids[2][TOP_K];
            cr_assert_eq(trace_read(&made, ids[0], NULL, layer, &token, 1, NULL), STATUS_OK);
            cr_assert_eq(trace_read(&written, ids[1], NULL, layer, &token, 1, NULL), STATUS_OK);
            cr_assert_arr_eq(ids[0], ids[1], sizeof ids[0]);
        }
    }
    trace_close(&made);
    trace_close(&written);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", path);
    cr_expect_eq(system(command), 0);
}

Test(generate, lists_the_presets_to_a_user_who_names_another)
{
    struct generate_options options = {.preset = "nonesuch", .num_tokens = 1, .num_threads = 1};
    struct trace trace;
    struct error error = {0};

    cr_expect_eq(generate_in_memory(&trace, &options, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, PRESET), "%s", error.text);
    trace_close(&trace);
}

Test(generate, refuses_no_tokens)
{
    struct generate_options options = {.preset = PRESET, .num_tokens = 0, .num_threads = 1};
    struct trace trace;
    struct error error = {0};

    cr_expect_eq(generate_in_memory(&trace, &options, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "num_tokens"), "%s", error.text);
    trace_close(&trace);
}

static const char broken_preset[] =
    "model: m\nsource: s\nlicence: l\nnum_experts: 100\ntop_k: 8\nnum_expert_groups: 8\n"
    "topk_groups: 9\nrequest_sigma: 0.5\nrows_median: 10\nrows_sigma: 1\nrows_max: 20\n"
    "prompt_tokens_median: 10\nprompt_tokens_sigma: 1\nprompt_tokens_max: 20\narrivals_per_s: 1\n"
    "layers:\n"
    "  - {layer: 3, hottest_percent: 2, top32_percent: 20}\n"   /* uniform gives more: 32 of 100 */
    "  - {layer: 3, hottest_percent: 12, top32_percent: 50}\n"; /* 12 %: 96 % of tokens */

Test(generate, reports_every_problem_of_a_preset)
{
    const char *path = text_file(".yaml", broken_preset);
    static struct generate_preset preset;
    struct error error = {0};

    cr_expect_eq(generate_preset_load(&preset, path, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "num_expert_groups"), "%s", error.text);
    cr_expect_not_null(strstr(error.text, ":17: top32_percent"), "%s", error.text);
    cr_expect_not_null(strstr(error.text, ":18: layer:"), "%s", error.text);
    cr_expect_not_null(strstr(error.text, ":18: hottest_percent"), "%s", error.text);
    unlink(path);
}

/* First draws follow the weights: counts are binomial, so 5 sigma is a bound by chance in 10^6. */
Test(generate_table, draws_by_weight)
{
    static struct generate_preset preset = {
        .num_experts = 40, .top_k = 1, .num_expert_groups = 1, .topk_groups = 1};
    static struct generate_table table;
    uint32_t weight[40];
    uint32_t factor[40];
    int32_t count[40] = {0};
    double total = 0;
    for (uint32_t expert = 0; expert < 40; expert++) {
        weight[expert] = 1000 * (expert + 1) * (expert + 1);
        factor[expert] = FACTOR_ONE;
        total += weight[expert];
    }
    gsl_rng *rng = rng_stream(1, "test", 0);
    generate_table_init(&table, &preset);
    generate_table_set(&table, weight, factor);

    for (int32_t i = 0; i < 200000; i++) {
        struct generate_choice choice = generate_token_begin(&table);
        count[generate_token_next(&table, &choice, rng)]++;
    }

    for (int32_t expert = 0; expert < 40; expert++) {
        double mean = 200000 * (weight[expert] / total);
        cr_expect_lt(fabs(count[expert] - mean), 5 * sqrt(mean) + 1, "expert %d", expert);
    }
    gsl_rng_free(rng);
}

/* One expert takes 2^30 of the weight and the others 1 each: rejection alone would never end. */
Test(generate_table, draws_experts_that_hardly_weigh)
{
    static struct generate_preset preset = {
        .num_experts = 64, .top_k = 8, .num_expert_groups = 8, .topk_groups = 2};
    static struct generate_table table;
    uint32_t weight[64];
    uint32_t factor[64];
    for (int32_t expert = 0; expert < 64; expert++) {
        weight[expert] = expert == 9 ? WEIGHT_ONE : 1;
        factor[expert] = FACTOR_ONE;
    }
    gsl_rng *rng = rng_stream(1, "test", 0);
    generate_table_init(&table, &preset);
    generate_table_set(&table, weight, factor);

    struct generate_choice choice = generate_token_begin(&table);
    uint64_t chosen = 0;
    for (int32_t k = 0; k < 8; k++) {
        chosen |= UINT64_C(1) << generate_token_next(&table, &choice, rng);
    }

    cr_expect_eq(__builtin_popcountll(chosen), 8);
    cr_expect_eq(choice.num_groups_seen, 2);
    gsl_rng_free(rng);
}
