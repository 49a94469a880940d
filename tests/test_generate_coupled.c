/* test_generate_coupled.c -- each part of a coupled law does what its row says, and no more. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "npy.h"
#include "rng.h"
#include "small_law.h"

static struct generate_preset preset;

static void ids_read(const struct trace *trace, int32_t layer, int64_t row,
                     int32_t expert[SMALL_TOP_K])
{
    cr_assert_eq(trace_read(trace, expert, NULL, layer, &row, 1, NULL), STATUS_OK);
}

static uint64_t ids_digest(const struct trace *trace, int64_t num_tokens)
{
    uint64_t digest = DIGEST_START;
    int32_t expert[SMALL_TOP_K];
    for (int32_t layer = 0; layer < trace->num_layers; layer++) {
        for (int64_t row = 0; row < num_tokens; row++) {
            ids_read(trace, layer, row, expert);
            digest = digest_u64(digest, (uint64_t)expert[0] << 32 | (uint64_t)expert[1]);
        }
    }
    return digest;
}

/* With base alone the first choice has odds exp(base); counts are binomial, so 5 sigma are a bound
 * by chance in 10^6. A second choice follows the same odds without the first. */
Test(generate_coupled, draws_by_the_odds_of_its_base)
{
    const double base[SMALL_EXPERTS] = {0, 1, -1, 0.5, 2, -2, 0, 0.25};
    double odds = 0;
    int32_t first[SMALL_EXPERTS] = {0};
    int32_t second[SMALL_EXPERTS] = {0};
    small_law_init(&preset);
    for (int32_t e = 0; e < SMALL_EXPERTS; e++) {
        for (int32_t k = 0; k < SMALL_TOP_K; k++) {
            small_law_row(&preset, 1, COUPLED_BASE, k)[e] = (int16_t)(base[e] * COUPLED_UNIT);
        }
        odds += exp(base[e]);
    }
    struct trace trace = small_law_trace(&preset, 100000, 1, 2);
    for (int64_t row = 0; row < trace.num_tokens; row++) {
        int32_t expert[SMALL_TOP_K];
        ids_read(&trace, 1, row, expert);
        first[expert[0]]++;
        second[expert[1]]++;
    }
    for (int32_t e = 0; e < SMALL_EXPERTS; e++) {
        double chance = exp(base[e]) / odds;
        double next = 0;
        for (int32_t other = 0; other < SMALL_EXPERTS; other++) {
            double before = exp(base[other]);
            next += other == e ? 0 : before / odds * exp(base[e]) / (odds - before);
        }
        cr_expect_lt(fabs(first[e] - 1e5 * chance), 5 * sqrt(1e5 * chance) + 100, "expert %d", e);
        cr_expect_lt(fabs(second[e] - 1e5 * next), 5 * sqrt(1e5 * next) + 100, "expert %d", e);
    }
    trace_close(&trace);
    generate_preset_free(&preset);
}

/* Each row below is so strong that it decides. */
Test(generate_coupled, lets_each_row_decide_what_it_is_for)
{
    small_law_init(&preset);
    small_law_row(&preset, 0, COUPLED_OPENING, 0)[5] = SMALL_SURE;  /* token 0: 5 first */
    small_law_row(&preset, 0, COUPLED_TOGETHER, 5)[2] = SMALL_SURE; /* after 5 comes 2 */
    small_law_row(&preset, 0, COUPLED_REPEAT, 0)[2] = SMALL_SURE;   /* once 2, always 2 */
    small_law_row(&preset, 0, COUPLED_TOGETHER, 2)[4] = SMALL_SURE; /* after 2 comes 4 */
    small_law_row(&preset, 0, COUPLED_REPEAT, 0)[4] = SMALL_SURE;   /* so 4 comes again too ... */
    small_law_row(&preset, 0, COUPLED_REPEAT, 1)[2] = SMALL_SURE; /* ... but the best stays best */
    small_law_row(&preset, 1, COUPLED_FIRST, 5)[7] = SMALL_SURE;  /* 5 best below: 7 first */
    small_law_row(&preset, 1, COUPLED_FIRST, 2)[6] = SMALL_SURE;  /* 2 best below: 6 first */
    small_law_row(&preset, 2, COUPLED_BELOW, 7)[0] = SMALL_SURE;  /* 7 or 6 below: 0 */
    small_law_row(&preset, 2, COUPLED_BELOW, 6)[0] = SMALL_SURE;
    small_law_row(&preset, 2, COUPLED_REQUEST, 1)[3] = SMALL_SURE; /* the domain's mean: 3 */
    preset.coupled->domain[0].mean[1] = 4;                         /* above two rows */
    struct trace trace = small_law_trace(&preset, 50, 3, 1);
    for (int64_t row = 0; row < trace.num_tokens; row++) {
        int32_t expert[SMALL_TOP_K];
        ids_read(&trace, 0, row, expert);
        cr_expect_eq(expert[0], row == 0 ? 5 : 2, "row %d", (int)row);
        cr_expect_eq(expert[1], row == 0 ? 2 : 4, "row %d", (int)row);
        ids_read(&trace, 1, row, expert);
        cr_expect_eq(expert[0], row == 0 ? 7 : 6, "row %d", (int)row);
        ids_read(&trace, 2, row, expert);
        cr_expect_eq(expert[0], 3);
        cr_expect_eq(expert[1], 0);
    }
    trace_close(&trace);
    generate_preset_free(&preset);
}

/* One factor of sigma 1 and a drift of sigma 1 that forgets in 4 tokens decide between two experts
 * by their sign: two rows far apart agree with chance 1/2 + asin(r) / pi (Sheppard 1899), r = 1/2
 * the constant's share of the variance; rows one apart nearly always. */
Test(generate_coupled, keeps_a_requests_factors_and_lets_them_drift)
{
    int64_t agree[2] = {0};
    int64_t pairs[2] = {0};
    small_law_init(&preset);
    preset.coupled->domain[0].sigma[0] = 1;
    preset.coupled->drift_sigma[0] = 1;
    preset.coupled->drift_tokens[0] = 12;
    small_law_row(&preset, 0, COUPLED_BASE, 0)[0] = SMALL_SURE;
    small_law_row(&preset, 0, COUPLED_BASE, 0)[1] = SMALL_SURE;
    small_law_row(&preset, 0, COUPLED_REQUEST, 0)[0] = SMALL_SURE * 3;
    struct trace trace = small_law_trace(&preset, 200000, 5, 2);
    for (int64_t row = 0; row + 96 < trace.num_tokens; row += 4) {
        const int64_t lag[2] = {1, 95};
        for (int32_t i = 0; i < 2 && (row + lag[i]) / 100 == row / 100; i++) {
            int32_t here[SMALL_TOP_K];
            int32_t there[SMALL_TOP_K];
            ids_read(&trace, 0, row, here);
            ids_read(&trace, 0, row + lag[i], there);
            agree[i] += here[0] == there[0];
            pairs[i]++;
        }
    }
    cr_expect_gt((double)agree[0] / (double)pairs[0], 0.97);
    cr_expect_float_eq((double)agree[1] / (double)pairs[1], 0.5 + 1.0 / 6, 0.04, "%g",
                       (double)agree[1] / (double)pairs[1]);
    trace_close(&trace);
    generate_preset_free(&preset);
}

Test(generate_coupled, chooses_distinct_experts_in_range)
{
    small_law_init(&preset);
    small_law_stir(&preset, 7);
    struct trace trace = small_law_trace(&preset, 5000, 7, 2);
    for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
        for (int64_t row = 0; row < trace.num_tokens; row++) {
            int32_t expert[SMALL_TOP_K];
            ids_read(&trace, layer, row, expert);
            cr_assert(expert[0] >= 0 && expert[0] < SMALL_EXPERTS);
            cr_assert(expert[1] >= 0 && expert[1] < SMALL_EXPERTS);
            cr_assert_neq(expert[0], expert[1]);
        }
    }
    trace_close(&trace);
    generate_preset_free(&preset);
}

/* 17,000 tokens end in a second block, in the middle of a request. */
Test(generate_coupled, depends_on_the_seed_but_not_on_threads_or_length)
{
    small_law_init(&preset);
    small_law_stir(&preset, 11);
    struct trace one = small_law_trace(&preset, 17050, 11, 1);
    struct trace three = small_law_trace(&preset, 18000, 11, 3);
    struct trace other = small_law_trace(&preset, 17050, 12, 1);

    cr_expect_eq(ids_digest(&one, 17050), ids_digest(&three, 17050));
    cr_expect_neq(ids_digest(&one, 17050), ids_digest(&other, 17050));
    trace_close(&one);
    trace_close(&three);
    trace_close(&other);
    generate_preset_free(&preset);
}

/* Golden: a change here moves the results of every study on such a trace (CHANGELOG.md). */
Test(generate_coupled, repeats_its_pinned_digest)
{
    small_law_init(&preset);
    small_law_stir(&preset, 13);
    struct trace trace = small_law_trace(&preset, 1000, 1, 1);

    uint64_t digest = ids_digest(&trace, 1000);

    cr_expect_eq(digest, UINT64_C(0x07bd89a54b93eb65), "0x%016llx", (unsigned long long)digest);
    trace_close(&trace);
    generate_preset_free(&preset);
}

/* Domains of 2 and 0.5 requests: two of the first, one of the second every other cycle. */
Test(generate_coupled, gives_each_domain_its_requests_in_turn)
{
    static const char *const tags[] = {"only", "only", "only", "only", "rare", "only", "only"};
    small_law_init(&preset);
    struct coupled_law *law = preset.coupled;
    law->num_domains = 2;
    law->domain[0].requests = 2;
    law->domain[1] = law->domain[0];
    (void)strcpy(law->domain[1].tag, "rare");
    law->domain[1].requests = 0.5;
    law->domain[1].rows[COUPLED_QUANTILES - 1] = 100;
    struct trace trace = small_law_trace(&preset, 700, 1, 1);

    cr_assert_eq(trace.num_requests, 7);
    for (int32_t i = 0; i < 7; i++) {
        cr_expect_str_eq(trace.requests[i].tag, tags[i], "request %d", i);
        cr_expect_eq(trace.requests[i].prompt_tokens, 7);
    }
    trace_close(&trace);
    generate_preset_free(&preset);
}

/* In every place of arrays with and without a rest behind the last whole vector. */
Test(generate_coupled, finds_the_largest_score_wherever_it_is)
{
    for (int32_t count = 1; count <= 20; count++) {
        for (int32_t best = 0; best < count; best++) {
            float score[20];
            for (int32_t i = 0; i < count; i++) {
                score[i] = i == best ? -1.0f : -2.0f - (float)i;
            }
            cr_expect_eq(coupled_best_score(score, count), -1.0f, "%d of %d", best, count);
        }
    }
}

struct drawn {
    int32_t expert[SMALL_LAYERS][SMALL_TOP_K];
    float gate_weight[SMALL_LAYERS][SMALL_TOP_K];
    float score[SMALL_LAYERS][SMALL_EXPERTS];
};

static void scores_check(const struct drawn *drawn)
{
    for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
        const float *score = drawn->score[layer];
        const int32_t *expert = drawn->expert[layer];
        cr_assert_gt(score[expert[0]], score[expert[1]]);
        for (int32_t e = 0; e < SMALL_EXPERTS; e++) {
            cr_assert(e == expert[0] || e == expert[1] || score[e] < score[expert[1]]);
            cr_assert_eq(npy_half_to_float(npy_float_to_half(score[e])), score[e]);
        }
        cr_assert_geq(drawn->gate_weight[layer][0], drawn->gate_weight[layer][1]);
        cr_assert_geq(drawn->gate_weight[layer][1], 0);
        cr_assert_float_eq(drawn->gate_weight[layer][0] + drawn->gate_weight[layer][1], 1, 1e-6);
    }
}

/* The law's couplings would often make the second score larger than the first, and do where nothing
 * is written down. The twin writes no scores and walks many tokens at once. */
Test(generate_coupled, writes_scores_whose_largest_are_the_chosen_in_order)
{
    static struct generate_normal normal;
    static struct coupled_noise noise;
    struct coupled_walk walk[2];
    struct drawn drawn;
    int32_t expert[SMALL_LAYERS][COUPLED_BLOCK][SMALL_TOP_K];
    const struct coupled_tokens written = {.expert = drawn.expert[0],
                                           .gate_weight = drawn.gate_weight[0],
                                           .score = drawn.score[0],
                                           .stride = SMALL_TOP_K,
                                           .score_stride = SMALL_EXPERTS,
                                           .count = 1};
    struct coupled_tokens silent = {.expert = expert[0][0], .stride = COUPLED_BLOCK * SMALL_TOP_K};
    small_law_init(&preset);
    small_law_stir(&preset, 17);
    generate_normal_init(&normal);
    coupled_noise_init(&noise);
    gsl_rng *rng[2];
    for (int32_t i = 0; i < 2; i++) {
        rng[i] = rng_stream(1, "test", 1);
        cr_assert(coupled_walk_open(&walk[i], preset.coupled, &noise, &normal));
        coupled_walk_begin(&walk[i], 0, rng[i]);
    }

    for (int32_t times = 0; times < 100; times++) {
        silent.count = 1 + 7 * times % COUPLED_BLOCK; /* of all sizes, most no multiple of 4 */
        coupled_walk_tokens(&walk[1], &silent, rng[1]);
        for (int32_t i = 0; i < silent.count; i++) {
            coupled_walk_tokens(&walk[0], &written, rng[0]);
            scores_check(&drawn);
            for (int32_t layer = 0; layer < SMALL_LAYERS; layer++) {
                cr_assert_arr_eq(drawn.expert[layer], expert[layer][i], sizeof expert[layer][i]);
            }
        }
    }

    for (int32_t i = 0; i < 2; i++) {
        coupled_walk_close(&walk[i]);
        gsl_rng_free(rng[i]);
    }
    generate_preset_free(&preset);
}

static void folder_make(char folder[64])
{
    (void)strcpy(folder, "/tmp/test_generate_XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void folder_remove(const char *folder)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    cr_expect_eq(system(command), 0);
}

Test(generate_coupled, reads_back_the_preset_that_it_writes)
{
    static struct generate_preset back;
    struct error error = {0};
    char folder[64];
    char path[128];
    folder_make(folder);
    (void)snprintf(path, sizeof path, "%s/small.yaml", folder);
    small_law_init(&preset);
    small_law_stir(&preset, 19);
    (void)strcpy(preset.coupled->domain[0].tag, "a \"quoted\" \\ tag: x");

    cr_assert_eq(coupled_write(&preset, path, "One.\nTwo.", &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(generate_preset_load(&back, path, &error), STATUS_OK, "%s", error.text);

    cr_expect_str_eq(back.name, "small");
    cr_expect_str_eq(back.model, preset.model);
    cr_expect_str_eq(back.coupled->domain[0].tag, preset.coupled->domain[0].tag);
    struct trace made = small_law_trace(&preset, 3000, 1, 1);
    struct trace read = small_law_trace(&back, 3000, 1, 1);
    cr_expect_eq(ids_digest(&made, 3000), ids_digest(&read, 3000));
    trace_close(&made);
    trace_close(&read);
    generate_preset_free(&preset);
    generate_preset_free(&back);
    folder_remove(folder);
}

Test(generate_coupled, writes_traces_with_gate_weights_and_scores)
{
    struct error error = {0};
    struct trace trace;
    char folder[64];
    char path[128];
    char directory[128];
    folder_make(folder);
    (void)snprintf(path, sizeof path, "%s/small.yaml", folder);
    (void)snprintf(directory, sizeof directory, "%s/trace", folder);
    small_law_init(&preset);
    small_law_stir(&preset, 23);
    struct trace plain = small_law_trace(&preset, 5000, 4, 1);
    cr_assert_eq(coupled_write(&preset, path, "", &error), STATUS_OK, "%s", error.text);
    struct generate_options options = {.preset = path,
                                       .num_tokens = 5000,
                                       .seed = 4,
                                       .num_threads = 2,
                                       .with_gate_weights = true,
                                       .with_scores = true};

    cr_assert_eq(generate_trace(directory, false, &options, &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(trace_open(&trace, directory, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
    cr_expect(trace.has_gate_weights);
    cr_expect_eq(ids_digest(&trace, 5000), ids_digest(&plain, 5000));
    trace_close(&trace);
    trace_close(&plain);
    generate_preset_free(&preset);
    folder_remove(folder);
}

static const char broken[] =
    "model: m\nsource: s\nlicence: l\nnum_experts: 8\ntop_k: 2\nnum_factors: 2\n"
    "couplings: none.npy\nquick_drift_tokens: 6\nquick_drift_sigma: 0.1\nslow_drift_tokens: 90\n"
    "slow_drift_sigma: 0.1\ngate_scale: 1\narrivals_per_s: 1\nlayers: [0, 2, 1]\ndomains:\n"
    "  - requests: 1\n    rows: [9, 8, 8, 8, 8, 8, 8, 8, 8]\n"
    "    prompt_tokens: [0, 1]\n    mean: [0, x]\n    sigma: [0, -1]\n";

Test(generate_coupled, reports_every_problem_of_a_preset)
{
    static const char *const problems[] = {
        ":14: layers: expected ascending", ":17: rows: quantiles must not descend",
        ":18: prompt_tokens: expected 9 numbers, not 2", ":19: mean: expected numbers",
        ":20: sigma: expected numbers from 0"};
    struct error error = {0};
    char folder[64];
    char path[128];
    folder_make(folder);
    (void)snprintf(path, sizeof path, "%s/broken.yaml", folder);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(broken, 1, sizeof broken - 1, file), sizeof broken - 1);
    cr_assert_eq(fclose(file), 0);

    cr_expect_eq(generate_preset_load(&preset, path, &error), STATUS_INVALID);

    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        cr_expect_not_null(strstr(error.text, problems[i]), "%s in %s", problems[i], error.text);
    }
    generate_preset_free(&preset);
    folder_remove(folder);
}
