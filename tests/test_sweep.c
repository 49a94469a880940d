/* test_sweep.c -- study files, what names a point, and files of ranks that become one. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_run.h"
#include "sweep_internal.h"
#include "sweep_study.h"

static char directory[] = "/tmp/moesim-sweep-XXXXXX";
static char path[64];
static struct error error;
static struct sweep_study study;

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/study.yaml", directory);
}

static void tear_down(void)
{
    char command[128];
    sweep_study_free(&study);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(system(command) == 0);
}

TestSuite(sweep, .init = set_up, .fini = tear_down);

static enum status load(const char *text)
{
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    error = (struct error){0};
    return sweep_study_load(&study, path, &error);
}

#define SCENARIO                                                                                   \
    "version: 1\nscenario: scenarios/studies/router_lab_training_8xh100.yaml\n" /* in the data */

static const char *label_of(int64_t point)
{
    static char label[SWEEP_LABEL];
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    (void)sweep_study_point(&study, point, setting, label);
    return label;
}

Test(sweep, points_are_all_combinations_and_the_last_key_runs_fastest)
{
    cr_assert(load(SCENARIO "vary:\n  a: [1, 2]\n  b: [x, y, z]\n") == STATUS_OK, "%s", error.text);

    cr_assert(study.num_points == 6);
    cr_expect_str_eq(label_of(0), "a=1 b=x");
    cr_expect_str_eq(label_of(1), "a=1 b=y");
    cr_expect_str_eq(label_of(5), "a=2 b=z");
}

Test(sweep, keys_of_an_item_change_together)
{
    cr_assert(load(SCENARIO "set: {s: 0}\npoints:\n  - {a: 1, b: 10}\n  - {a: 2, b: 20}\n"
                            "vary: {c: [7, 8]}\n") == STATUS_OK,
              "%s", error.text);
    const struct sweep_setting *setting[SWEEP_KEYS_MAX];
    char label[SWEEP_LABEL];

    int32_t count = sweep_study_point(&study, 3, setting, label);

    cr_assert(study.num_points == 4);
    cr_expect_str_eq(label, "a=2 b=20 c=8");
    cr_assert(count == 4); /* those of every point come first and are in no label */
    cr_expect_str_eq(setting[0]->assignment, "s=0");
}

Test(sweep, excluded_points_are_left_out)
{
    cr_assert(load(SCENARIO "vary: {a: [1, 2, 3], b: [x, y]}\n"
                            "exclude:\n  - {a: [1, 3], b: x}\n  - {a: 2}\n") == STATUS_OK,
              "%s", error.text);

    cr_assert(study.num_points == 2);
    cr_expect_str_eq(label_of(0), "a=1 b=y");
    cr_expect_str_eq(label_of(1), "a=3 b=y");
}

Test(sweep, quoted_values_stay_text)
{
    cr_assert(load(SCENARIO "vary: {a: [\"1\", 'it''s']}\n") == STATUS_OK, "%s", error.text);

    cr_expect_str_eq(study.axis[0].setting[0].assignment, "a='1'");
    cr_expect_str_eq(study.axis[0].setting[1].assignment, "a='it''s'");
}

Test(sweep, every_mistake_is_told_with_its_line)
{
    static const struct {
        const char *text;
        const char *told; /* behind the path */
    } cases[] = {
        {SCENARIO, ": says neither what to vary nor which points to run"},
        {"version: 1\nscenario: nowhere.yaml\nvary: {a: [1]}\n",
         ":2: scenario: there is no such file"},
        {"version: 2\nscenario: x\nvary: {a: [1]}\n", ":1: version"},
        {SCENARIO "vaty: {a: [1]}\n", ":3: vaty: unknown key; did you mean 'vary'?"},
        {SCENARIO "vary: [1, 2]\n", ":3: vary: expected keys, each with a list of values"},
        {SCENARIO "vary:\n  a: 1\n", ":4: a: expected a list of values"},
        {SCENARIO "vary:\n  a: []\n", ":4: a: expected a list of values"},
        {SCENARIO "vary:\n  a: [1,\n      1]\n", ":5: a: a value that is in the list already"},
        {SCENARIO "vary:\n  a: [{b: 1}]\n", ":4: a: expected one value or a list of them"},
        {SCENARIO "points: {a: 1}\n", ":3: points: expected a list"},
        {SCENARIO "points:\n  - 1\n", ":4: points: expected keys and values"},
        {SCENARIO "set: 1\nvary: {a: [1]}\n", ":3: set: expected keys and values"},
        {SCENARIO "points:\n  - {a: 1}\nvary: {a: [1]}\n", ":4: a: is varied in line 5 too"},
        {SCENARIO "vary: {a: [1]}\nexclude: 1\n", ":4: exclude: expected a list"},
        {SCENARIO "vary: {a: [1]}\nexclude:\n  - {a: 2}\n", ":5: exclude: matches no point"},
        {SCENARIO "vary: {a: [1]}\nexclude:\n  - {a: 1}\n", ": exclude leaves no point"},
        {SCENARIO "vary: {a=b: [1]}\n", ":3: a=b: expected a key of the scenario"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char told[256];
        snprintf(told, sizeof told, "%s%s", path, cases[i].told);

        cr_expect(load(cases[i].text) == STATUS_INVALID, "case %zu was accepted", i);
        cr_expect(strstr(error.text, told) != NULL, "case %zu: expected '%s', got '%s'", i, told,
                  error.text);
        sweep_study_free(&study);
    }
}

Test(sweep, more_points_than_fit_are_refused)
{
    char text[8192] = SCENARIO "vary:\n";
    for (int key = 0; key < 8; key++) { /* 10^8 combinations */
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "  k%d: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n", key);
    }

    cr_assert(load(text) == STATUS_INVALID);
    cr_expect(strstr(error.text, "more than 10000000 points") != NULL, "%s", error.text);
}

static enum status run_all(const char *results, struct sweep_outcome *outcome)
{
    const struct team alone = {.size = 1, .size_here = 1};
    const struct sweep_options options = {.results = results, .unit = "points", .num_threads = 2};
    struct sweep_source source = sweep_study_source(&study);
    error = (struct error){0};
    return sweep_run(&source, &options, &alone, NULL, outcome, &error);
}

Test(sweep, problems_of_all_points_are_told_once_and_nothing_is_simulated)
{
    char results[80];
    struct sweep_outcome outcome;
    snprintf(results, sizeof results, "%s/results.db", directory);
    cr_assert(load(SCENARIO "vary:\n"
                            "  placement.strategy: [static, epbl]\n"
                            "  trace.steps: [1, -3]\n"
                            "  seed: [1, 2]\n") == STATUS_OK,
              "%s", error.text);

    cr_assert(run_all(results, &outcome) == STATUS_INVALID);

    char told[256];
    snprintf(told, sizeof told, "%s:4: placement.strategy: 'epbl' is none of", path);
    cr_expect(strstr(error.text, told) != NULL, "%s", error.text);
    cr_expect(strstr(error.text, "did you mean 'eplb'") != NULL, "%s", error.text);
    snprintf(told, sizeof told, "%s:5: trace.steps: ", path);
    cr_expect(strstr(error.text, told) != NULL, "%s", error.text);
    cr_expect(strstr(error.text, "6 of 8 points have problems") != NULL, "%s", error.text);
    cr_expect(error.num_problems == 3, "%s", error.text);
    cr_expect(access(results, F_OK) != 0); /* nothing is left of a study that cannot run */
}

Test(sweep, a_point_that_fails_stops_no_other)
{
    char results[80];
    struct sweep_outcome outcome;
    snprintf(results, sizeof results, "%s/results.db", directory);
    /* 4 TB of KV cache a GPU do not fit */
    cr_assert(load(SCENARIO "set: {trace.steps: 1}\n"
                            "vary: {context_tokens: [128, 1000000, 256]}\n") == STATUS_OK,
              "%s", error.text);

    cr_assert(run_all(results, &outcome) == STATUS_OK, "%s", error.text);

    cr_expect(outcome.num_simulated == 2);
    cr_expect(outcome.num_failed == 1);
    cr_expect(strstr(outcome.failures.text, "context_tokens=1000000: ") != NULL, "%s",
              outcome.failures.text);
    snprintf(results, sizeof results, "%s/results.db.failed.csv", directory);
    cr_expect(access(results, F_OK) == 0);
}

Test(sweep, equal_points_are_simulated_once)
{
    char results[80];
    struct sweep_outcome outcome;
    snprintf(results, sizeof results, "%s/results.db", directory);
    cr_assert(load(SCENARIO "set: {trace.steps: 1}\npoints:\n  - {seed: 1}\n  - {seed: 2}\n"
                            "  - {seed: 1}\n") == STATUS_OK,
              "%s", error.text);

    cr_assert(run_all(results, &outcome) == STATUS_OK, "%s", error.text);
    cr_expect(outcome.num_simulated == 2);
    cr_expect(outcome.num_same == 1);

    cr_assert(run_all(results, &outcome) == STATUS_OK, "%s", error.text);
    cr_expect(outcome.num_simulated == 0);
    cr_expect(outcome.num_done == 2);
}

Test(sweep, a_file_that_a_point_names_is_part_of_its_name)
{
    static const char *const prices[] = {"2.5", "3.5"};
    char results[80], price[80];
    struct sweep_outcome outcome;
    snprintf(results, sizeof results, "%s/results.db", directory);
    snprintf(price, sizeof price, "%s/price.yaml", directory);
    for (int i = 0; i < 2; i++) {
        char text[512];
        FILE *file = fopen(price, "w");
        fprintf(file, "gpu: h100-sxm\nusd_per_gpu_hour: %s\nsource: a test\ndate: 2026-11\n",
                prices[i]);
        fclose(file);
        snprintf(text, sizeof text,
                 SCENARIO "set: {trace.steps: 1, price: %s}\nvary: {seed: [1]}\n", price);
        cr_assert(load(text) == STATUS_OK, "%s", error.text);

        cr_assert(run_all(results, &outcome) == STATUS_OK, "%s", error.text);

        cr_expect(outcome.num_simulated == 1, "price %s was not taken up", prices[i]);
        sweep_study_free(&study);
    }
}

Test(sweep, two_sweeps_do_not_write_one_file)
{
    char results[80];
    int first, second, third;
    snprintf(results, sizeof results, "%s/results.db", directory);

    cr_assert(sweep_lock(&first, results, &error) == STATUS_OK, "%s", error.text);
    cr_assert(sweep_lock(&second, results, &error) == STATUS_IO);
    cr_expect(strstr(error.text, "another sweep is writing these results") != NULL, "%s",
              error.text);
    sweep_unlock(first, results);
    cr_assert(sweep_lock(&third, results, &error) == STATUS_OK);
    sweep_unlock(third, results);
}

static bool keep_text(void *context, const struct store_row *row)
{
    snprintf(context, 256, "%s", row->value[0] == NULL ? "NULL" : row->value[0]);
    return false;
}

static const char *ask(const char *results, const char *sql)
{
    static char value[256];
    struct store *store = NULL;
    cr_assert(store_open(&store, results, false, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_query(store, sql, "", keep_text, value, &error) == STATUS_OK, "%s", error.text);
    store_close(store);
    return value;
}

Test(sweep, files_of_ranks_are_merged_and_removed)
{
    char results[80], part[96], run_id[RUN_ID_BYTES];
    struct arena arena = {0};
    struct fake_run run;
    fake_run_make(&run, &(struct fake_size){2, 8, 4, 2, 0.5}, &arena);
    snprintf(results, sizeof results, "%s/results.db", directory);
    static const char *const labels[][2] = {
        {"", "b"}, {".rank-1", "c"}, {".rank-2", "a"}, {".rank-2", "b"}};
    uint64_t wanted[3] = {0}; /* a, b, c */
    for (size_t i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s%s", results, labels[i][0]);
        cr_assert(fake_run_store(run_id, part, &run, labels[i][1], &error) == STATUS_OK, "%s",
                  error.text);
        wanted[labels[i][1][0] - 'a'] = strtoull(run_id, NULL, 16);
    }
    struct store *store = NULL;
    cr_assert(store_open(&store, results, true, &error) == STATUS_OK, "%s", error.text);

    cr_assert(sweep_merge(store, results, &error) == STATUS_OK, "%s", error.text);
    cr_assert(store_order(store, wanted, 3, &error) == STATUS_OK, "%s", error.text);
    store_close(store);

    cr_expect_str_eq(ask(results, "SELECT group_concat(label, '') FROM run"), "abc");
    cr_expect_str_eq(ask(results, "SELECT count(DISTINCT run_id) FROM expert_load"), "3");
    cr_expect_str_eq(ask(results, "SELECT count(*) FROM layer"), "6"); /* 3 runs of 2 layers */
    cr_expect(access(part, F_OK) != 0);
    arena_free(&arena);
}

/* The second word is what the file lists after runs a, b and c were put in the order of the first.
 */
Test(sweep, runs_that_are_in_order_stay_where_they_are)
{
    static const char *const cases[][3] = {
        /* order, listed, rowids moved? */
        {"abc", "abc", "no"}, {"ac", "abc", "no"},  {"abca", "abc", "no"}, {"ab?c", "abc", "no"},
        {"cb", "acb", "yes"}, {"acb", "acb", "no"}, {"bac", "bac", "yes"}, {"?", "bac", "no"},
    };
    static const char where[] = "SELECT group_concat(rowid, ' ') FROM run";
    char results[80], run_id[RUN_ID_BYTES], before[256];
    struct arena arena = {0};
    struct fake_run run;
    uint64_t id['z'] = {['?'] = 12345};
    fake_run_make(&run, &(struct fake_size){2, 8, 4, 2, 0.5}, &arena);
    snprintf(results, sizeof results, "%s/ordered.db", directory);
    for (const char *label = "abc"; *label != '\0'; label++) {
        const char text[] = {*label, '\0'};
        cr_assert(fake_run_store(run_id, results, &run, text, &error) == STATUS_OK, "%s",
                  error.text);
        id[(unsigned char)*label] = strtoull(run_id, NULL, 16);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t wanted[4];
        int64_t count = (int64_t)strlen(cases[i][0]);
        for (int64_t k = 0; k < count; k++) {
            wanted[k] = id[(unsigned char)cases[i][0][k]];
        }
        snprintf(before, sizeof before, "%s", ask(results, where));
        struct store *store = NULL;
        cr_assert(store_open(&store, results, true, &error) == STATUS_OK, "%s", error.text);
        cr_assert(store_order(store, wanted, count, &error) == STATUS_OK, "%s", error.text);
        store_close(store);
        cr_expect_str_eq(ask(results, "SELECT group_concat(label, '') FROM run"), cases[i][1]);
        cr_expect_eq(strcmp(ask(results, where), before) != 0, cases[i][2][0] == 'y');
    }
    arena_free(&arena);
}

Test(sweep, a_part_that_is_no_results_file_is_told_and_kept)
{
    char results[80], part[96];
    struct store *store = NULL;
    snprintf(results, sizeof results, "%s/results.db", directory);
    snprintf(part, sizeof part, "%s.rank-3", results);
    FILE *file = fopen(part, "w");
    fputs("these are notes, not results, and longer than a database's header of 100 bytes or so, "
          "which is where SQLite looks first\n",
          file);
    fclose(file);
    cr_assert(store_open(&store, results, true, &error) == STATUS_OK, "%s", error.text);

    cr_expect(sweep_merge(store, results, &error) == STATUS_INVALID);
    store_close(store);

    cr_expect(strstr(error.text, "results.db.rank-3: is not a results file") != NULL, "%s",
              error.text);
    cr_expect(access(part, F_OK) == 0);
}
