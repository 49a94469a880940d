/* test_moesim.c -- the library as programs outside see it: moesim.h and nothing else. */
#include "moesim.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DECODE SOURCE_DIRECTORY "/scenarios/studies/deepseek_v3_decode_32xh800.yaml"
#define DENSE  SOURCE_DIRECTORY "/scenarios/studies/llama_2_70b_decode_8xh100.yaml"

/* Three steps of 32 ranks with 64 tokens each. */
static const char *const three_steps[] = {"trace.tokens=6144"};

static struct moesim_simulation *simulation;

static void make(void)
{
    simulation = moesim_new();
    cr_assert(simulation != NULL);
}

static void clean_up(void)
{
    moesim_free(simulation);
}

TestSuite(moesim, .init = make, .fini = clean_up);

static struct moesim_totals run_three_steps(int32_t num_threads)
{
    struct moesim_run_options options = {.num_threads = num_threads};
    struct moesim_totals totals;
    cr_assert_eq(moesim_load(simulation, DECODE, three_steps, 1), MOESIM_OK, "%s",
                 moesim_error(simulation));
    cr_assert_eq(moesim_run(simulation, &options), MOESIM_OK, "%s", moesim_error(simulation));
    cr_assert_eq(moesim_get_totals(simulation, &totals), MOESIM_OK);
    return totals;
}

Test(moesim, header_and_library_are_of_one_version)
{
    cr_expect_eq(moesim_api_version(), MOESIM_API_VERSION);
    cr_expect_neq(moesim_version()[0], '\0');
    cr_expect_neq(moesim_commit()[0], '\0');
}

/* DeepSeek-V3: 58 MoE layers, 256 experts, top-8; 3 steps x 32 ranks x 64 tokens. */
Test(moesim, totals_are_those_of_the_scenario)
{
    struct moesim_totals totals = run_three_steps(2);

    cr_expect_eq(totals.num_steps, 3);
    cr_expect_eq(totals.tokens, 6144);
    cr_expect_eq(totals.assignments, 6144 * 8 * 58);
    cr_expect_eq(totals.dropped_assignments, 0);
    cr_expect_eq(totals.num_ranks, 32);
    cr_expect_eq(totals.num_layers, 58);
    cr_expect_eq(totals.num_experts, 256);
    cr_expect_gt(totals.step_ns_mean, 0.0);
    cr_expect_gt(totals.usd_per_million_tokens, 0.0);
    cr_expect_geq(totals.rank_tokens_max_over_mean, 1.0);
}

Test(moesim, ranks_and_experts_of_every_layer_add_up)
{
    struct moesim_totals totals = run_three_steps(2);

    for (int32_t index = 0; index < totals.num_layers; index++) {
        struct moesim_layer layer;
        int64_t computed = 0;
        int64_t wished = 0;
        cr_assert_eq(moesim_get_layer(simulation, index, &layer), MOESIM_OK);
        for (int32_t rank = 0; rank < totals.num_ranks; rank++) {
            computed += layer.rank_tokens[rank];
        }
        for (int32_t expert = 0; expert < totals.num_experts; expert++) {
            wished += layer.expert_tokens[expert];
        }
        cr_expect_eq(layer.model_layer, index + 3); /* the first three are dense */
        cr_expect_eq(computed, 6144 * 8);
        cr_expect_eq(wished, 6144 * 8);
    }
}

Test(moesim, digest_depends_on_neither_threads_nor_what_ran_before)
{
    uint64_t digest = run_three_steps(1).digest;
    struct moesim_totals again;

    cr_expect_eq(run_three_steps(3).digest, digest);
    cr_assert_eq(moesim_run(simulation, NULL), MOESIM_OK);
    cr_assert_eq(moesim_get_totals(simulation, &again), MOESIM_OK);
    cr_expect_eq(again.digest, digest);
}

Test(moesim, dense_model_has_no_layers)
{
    struct moesim_totals totals;
    struct moesim_layer layer;

    cr_assert_eq(moesim_load(simulation, DENSE, NULL, 0), MOESIM_OK);
    cr_assert_eq(moesim_run(simulation, NULL), MOESIM_OK, "%s", moesim_error(simulation));
    cr_assert_eq(moesim_get_totals(simulation, &totals), MOESIM_OK);

    cr_expect_eq(totals.num_layers, 0);
    cr_expect_eq(moesim_get_layer(simulation, 0, &layer), MOESIM_INVALID);
    cr_expect(strstr(moesim_error(simulation), "0 MoE layers") != NULL);
}

Test(moesim, load_reports_all_problems_and_the_next_call_forgets_them)
{
    static const char *const wrong[] = {"model=no-such-model", "price=no-such-price"};

    cr_expect_eq(moesim_load(simulation, DECODE, wrong, 2), MOESIM_INVALID);
    cr_expect(strstr(moesim_error(simulation), "no-such-model") != NULL);
    cr_expect(strstr(moesim_error(simulation), "no-such-price") != NULL);
    cr_expect(moesim_scenario_text(simulation) == NULL);

    cr_expect_eq(moesim_load(simulation, DECODE, three_steps, 1), MOESIM_OK);
    cr_expect_str_empty(moesim_error(simulation));
    cr_expect(strstr(moesim_scenario_text(simulation), "6144") != NULL);
}

Test(moesim, missing_file_has_words)
{
    cr_expect_eq(moesim_load(simulation, "/no/such/scenario.yaml", NULL, 0), MOESIM_IO);
    cr_expect(strstr(moesim_error(simulation), "/no/such/scenario.yaml") != NULL);
}

Test(moesim, calls_out_of_order_are_refused)
{
    struct moesim_totals totals;
    struct moesim_layer layer;

    cr_expect_eq(moesim_run(simulation, NULL), MOESIM_INVALID);
    cr_expect(strstr(moesim_error(simulation), "moesim_load") != NULL);
    cr_assert_eq(moesim_load(simulation, DECODE, three_steps, 1), MOESIM_OK);
    cr_expect_eq(moesim_get_totals(simulation, &totals), MOESIM_INVALID);
    cr_expect_eq(moesim_get_layer(simulation, 0, &layer), MOESIM_INVALID);
    cr_expect(moesim_json(simulation) == NULL);
    cr_expect_eq(moesim_store(simulation, "/tmp/never-made.db", NULL), MOESIM_INVALID);
    cr_expect(strstr(moesim_error(simulation), "moesim_run") != NULL);
    cr_expect_neq(access("/tmp/never-made.db", F_OK), 0);
}

struct watch {
    int64_t last_step;
    int64_t stop_at;
};

static bool watch_step(void *context, int64_t step, int64_t num_steps)
{
    struct watch *watch = context;
    cr_assert_eq(step, watch->last_step + 1);
    cr_assert_eq(num_steps, 3);
    watch->last_step = step;
    return step != watch->stop_at;
}

Test(moesim, progress_counts_every_step)
{
    struct watch watch = {0};
    struct moesim_run_options options = {.step_done = watch_step, .context = &watch};
    cr_assert_eq(moesim_load(simulation, DECODE, three_steps, 1), MOESIM_OK);

    cr_expect_eq(moesim_run(simulation, &options), MOESIM_OK);

    cr_expect_eq(watch.last_step, 3);
}

Test(moesim, stopped_run_has_no_results)
{
    struct watch watch = {.stop_at = 2};
    struct moesim_run_options options = {.step_done = watch_step, .context = &watch};
    struct moesim_totals totals;
    cr_assert_eq(moesim_load(simulation, DECODE, three_steps, 1), MOESIM_OK);

    cr_expect_eq(moesim_run(simulation, &options), MOESIM_INVALID);

    cr_expect(strstr(moesim_error(simulation), "interrupted") != NULL);
    cr_expect_eq(watch.last_step, 2);
    cr_expect_eq(moesim_get_totals(simulation, &totals), MOESIM_INVALID);
}

Test(moesim, json_has_the_digest_and_is_made_once)
{
    char expected[64];
    struct moesim_totals totals = run_three_steps(2);
    (void)snprintf(expected, sizeof expected, "\"digest\":\t\"%016" PRIx64 "\"", totals.digest);

    const char *json = moesim_json(simulation);

    cr_assert(json != NULL);
    cr_expect(strstr(json, expected) != NULL, "%.200s", json);
    cr_expect_eq(moesim_json(simulation), json);
}

Test(moesim, results_file_takes_runs_by_label)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/moesim-library-%d.db", (int)getpid());
    (void)run_three_steps(2);

    cr_expect_eq(moesim_store(simulation, path, "first"), MOESIM_OK, "%s",
                 moesim_error(simulation));
    cr_expect_eq(moesim_store(simulation, path, NULL), MOESIM_OK, "%s", moesim_error(simulation));
    cr_expect_eq(moesim_store(simulation, "/dev/null/x.db", NULL), MOESIM_IO);
    cr_expect(strstr(moesim_error(simulation), "/dev/null: is not a directory") != NULL, "%s",
              moesim_error(simulation));

    cr_expect_eq(unlink(path), 0);
}

/* In the C locale again afterwards, or the caller's "1,5" would become "1.5" behind its back. */
Test(moesim, callers_locale_is_kept_and_has_no_influence)
{
    uint64_t digest = run_three_steps(2).digest;
    locale_t german = newlocale(LC_ALL_MASK, "de_DE.UTF-8", (locale_t)0);
    locale_t callers = german != (locale_t)0 ? german : newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
    cr_assert_neq(callers, (locale_t)0);
    locale_t before = uselocale(callers);

    cr_expect_eq(run_three_steps(2).digest, digest);

    cr_expect_eq(uselocale(before), callers);
    freelocale(callers);
}

Test(moesim, nothing_can_be_freed_and_asked)
{
    moesim_free(NULL);
    cr_expect_str_eq(moesim_error(NULL), "out of memory\n");
}
