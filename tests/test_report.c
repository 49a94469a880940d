/* test_report.c -- the page is whole, tells the truth, and holds nobody else's markup. */
#include "report.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page.h"
#include "report_place.h"
#include "rows.h"
#include "textfile.h"

static struct report_place place;

static void set_up(void)
{
    report_place_make(&place);
}

static void tear_down(void)
{
    report_place_remove(&place);
}

TestSuite(report, .init = set_up, .fini = tear_down, .timeout = 120);

Test(report, is_balanced_markup)
{
    report_place_store(&place, &place.run, "");

    cr_expect_str_eq(page_unbalanced(report_place_page(&place)), "");
}

static void expect_figure(const char *page, const char *name)
{
    char text[2 * PATH_LENGTH];
    snprintf(text, sizeof text, "<figure id=\"%s\">", name);
    const char *figure = strstr(page, text);
    cr_assert(figure != NULL, "%s", name);
    cr_expect(strstr(figure, "</figure>") - figure > 8000, "%s is short", name);

    snprintf(text, sizeof text, "figures/%s.svg", name);
    cr_expect(page_count(report_place_text(&place, text), "<path") > 3, "%s", name);
    struct stat entry;
    snprintf(text, sizeof text, "%s/figures/%s.png", place.out, name);
    cr_expect(stat(text, &entry) == 0 && entry.st_size > 2000, "%s", name);
}

Test(report, shows_every_figure_that_has_data_and_says_which_has_none)
{
    static const char *const names[] = {
        "step_time",       "cost",      "expert_load", "hottest_experts", "rank_load",
        "layer_imbalance", "drop_rate", "traffic",     "link_load",       "memory"};
    report_place_store(&place, &place.run, "");

    const char *page = report_place_page(&place);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        expect_figure(page, names[i]);
    }
    /* Each once for desks and once for phones. */
    cr_expect(page_count(page, "<svg") == 2 * page_count(page, "<figure id="));
    cr_expect(page_holds(page, "The results file holds one run"));
    cr_expect(!page_holds(page, "<figure id=\"runs\">"));
}

Test(report, tells_run_commit_and_digest_with_every_figure)
{
    char origin[64];
    report_place_store(&place, &place.run, "");
    snprintf(origin, sizeof origin, "<p class=\"origin\">Run <code>%s</code>", place.run_id);

    const char *page = report_place_page(&place);

    int figures = page_count(page, "<figure id=");
    cr_expect(page_count(page, origin) == figures);
    cr_expect(page_count(page, "digest <code>0123456789abcdef") == figures + 1);
}

Test(report, says_that_the_error_of_an_unfitted_model_is_unknown)
{
    report_place_store(&place, &place.run, "");

    cr_expect(page_count(report_place_page(&place), "not fitted to measurements: error unknown") >=
              8);
}

Test(report, repeats_the_error_of_a_fitted_model)
{
    struct gpu_model fitted = *place.run.scenario.gpu_model;
    fitted.name = "fitted";
    fitted.fitted_on = "412 moe-bench rows, H100, 2026-11";
    fitted.error_median = 0.083;
    place.run.scenario.gpu_model = &fitted;
    report_place_store(&place, &place.run, "");

    const char *page = report_place_page(&place);

    cr_expect(page_holds(page, "fitted on 412 moe-bench rows, H100, 2026-11"));
    cr_expect(
        page_holds(page, "median error 8.30\xc2\xa0% of kernels, 8\xc2\xa0% of whole engines"));
    cr_expect(
        page_holds(page, "Kernels alone are not an engine: whole engines&#39; time per token"));
    cr_expect(!page_holds(page, "error unknown"));
}

Test(report, tells_the_error_of_exchanges)
{
    report_place_store(&place, &place.run, "");
    cr_expect(page_holds(report_place_page(&place), "Exchanges are not fitted to measurements."));

    struct cluster *cluster = &place.run.scenario.cluster;
    cluster->num_fitted = 1;
    cluster->fitted_used = 1;
    cluster->fitted[0].fit.error_median = 0.071;
    strcpy(cluster->fitted[0].fit.fitted_on, "113 rows of a test");
    report_place_store(&place, &place.run, "");

    cr_expect(page_holds(report_place_page(&place),
                         "Exchanges are fitted on 113 rows of a test; held out, their "
                         "median error is 7.1\xc2\xa0%."));
}

Test(report, answers_in_words_that_match_the_numbers)
{
    place.run.totals.rank_tokens_max_over_mean = 1.9;
    place.run.totals.step_ns_mean = 47.2e6;
    place.run.totals.usd_per_million_tokens = 0.42;
    report_place_store(&place, &place.run, "");

    const char *page = report_place_page(&place);

    cr_expect(page_holds(page, "busiest rank carries <strong>1.90\xc3\x97</strong> the mean load"));
    cr_expect(page_holds(page, "A decode step takes <strong>47.2 ms</strong>"));
    cr_expect(page_holds(page, "A million tokens cost <strong>$0.420</strong> at $2.49"));
    /* fake_run.c: 35 % * exp(-1.4 * 0.25) = 24.66 % */
    cr_expect(page_holds(page, "at 1.25 it would be 24.7\xc2\xa0%"));
}

Test(report, loads_nothing_from_anywhere)
{
    report_place_store(&place, &place.run, "");

    const char *page = report_place_page(&place);

    cr_expect(!page_holds(page, "http:") && !page_holds(page, "https:"));
    cr_expect(!page_holds(page, " src=") && !page_holds(page, "<link"));
    cr_expect(!page_holds(page, "@import") && page_holds(page, "default-src 'none'"));
}

Test(report, escapes_whatever_the_results_file_holds)
{
    static char evil[] = "</title></script><script>alert(1)</script>\"'><img src=x "
                         "onerror=alert(1)>&amp;<!-- \xff\xc0\x01";
    snprintf(place.run.scenario.name, sizeof place.run.scenario.name, "%.60s", evil);
    snprintf(place.run.scenario.question, sizeof place.run.scenario.question, "%s", evil);
    snprintf(place.run.scenario.model.name, sizeof place.run.scenario.model.name, "%.60s",
             evil + 20);
    snprintf(place.run.scenario.price.source, sizeof place.run.scenario.price.source, "%s", evil);
    snprintf(place.run.metrics.link[0].name, sizeof place.run.metrics.link[0].name, "%.60s",
             evil + 8);
    place.run.metrics.link[0].busy_ns = 1e12;
    place.run.scenario.text = evil;
    report_place_store(&place, &place.run, evil);
    report_place_store(&place, &place.run, "two\nlines, \"quotes\" and a, comma");

    const char *page = report_place_page(&place);

    cr_expect(page_holds(page, "<figure id=\"runs\">"));
    cr_expect(!page_holds(page, "<img") && !page_holds(page, "<script>alert"));
    cr_expect(!page_holds(page, "<!--"));
    cr_expect(page_count(page, "<script") == 4); /* three maps bring their cells; page.js */
    cr_expect(page_count(page, "</title>") == 1);
    cr_expect(page_holds(page, "&lt;img src=x onerror=alert(1)&gt;&amp;amp;&lt;!-- "
                               "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"));
    cr_expect_str_eq(page_unbalanced(page), "");
}

/* As two sweeps of the same keys leave them, each with a strategy of its own. */
Test(report, tells_runs_of_one_label_apart)
{
    static char other_text[] = "seed: 2\n";
    static const char *const strategies[] = {"static", "eplb"};
    char names[2][64];
    for (int i = 0; i < 2; i++) {
        place.run.scenario.strategy = balance_find(strategies[i]);
        report_place_store(&place, &place.run, "point");
        snprintf(names[i], sizeof names[i], "\npoint %.4s,%s,", place.run_id, strategies[i]);
        place.run.scenario.text = other_text;
    }

    report_place_page(&place);

    cr_expect(page_holds(report_place_text(&place, "figures/runs.csv"), names[0]));
    cr_expect(page_holds(report_place_text(&place, "figures/runs.csv"), names[1]));
}

Test(report, writes_csv_that_equals_the_database)
{
    report_place_store(&place, &place.run, "");
    report_place_page(&place);

    const char *line = report_place_text(&place, "figures/expert_load.csv");
    cr_assert(strncmp(line, "layer,expert,tokens,tokens_over_mean\n", 37) == 0);
    for (int32_t layer = 0; layer < place.run.metrics.num_layers; layer++) {
        for (int32_t expert = 0; expert < place.run.metrics.num_experts; expert++) {
            int layer_read, expert_read;
            long long tokens;
            line = strchr(line, '\n') + 1;
            cr_assert(sscanf(line, "%d,%d,%lld,", &layer_read, &expert_read, &tokens) == 3);
            cr_assert(layer_read == place.run.metrics.layer[layer].model_layer);
            cr_assert(expert_read == expert);
            cr_assert(tokens == place.run.metrics.expert_tokens[layer * 32 + expert]);
        }
    }
    cr_expect_str_eq(strchr(line, '\n'), "\n");
}

Test(report, quotes_what_csv_must_quote)
{
    struct store *file = NULL;
    struct rows rows = {0};
    char csv[PATH_LENGTH] = "", tabs[PATH_LENGTH] = "";
    report_place_store(&place, &place.run, "");
    cr_assert(store_open(&file, place.results, false, &place.error) == STATUS_OK);
    cr_assert(rows_query(&rows, file, "SELECT 'a,b' AS x, 'say \"c\"' AS y, NULL AS z, 1.5 AS w",
                         place.run_id, &place.error) == STATUS_OK);

    FILE *text = fmemopen(csv, sizeof csv, "w");
    rows_write_csv(&rows, text);
    fclose(text);
    text = fmemopen(tabs, sizeof tabs, "w");
    rows_write_tabs(&rows, text);
    fclose(text);
    rows_free(&rows);
    store_close(file);

    cr_expect_str_eq(csv, "x,y,z,w\n\"a,b\",\"say \"\"c\"\"\",,1.5\n");
    cr_expect_str_eq(tabs, "x\ty\tz\tw\na,b\tsay  c \t\t1.5\n");
}

Test(report, leaves_out_what_a_dense_model_does_not_have)
{
    struct fake_run dense;
    fake_run_make(&dense, &(struct fake_size){0, 0, 1, 1, 0}, &place.arena);
    report_place_store(&place, &dense, "");

    const char *page = report_place_page(&place);

    cr_expect(page_holds(page, "This model has no experts, so there is no expert load to show."));
    cr_expect(!page_holds(page, "<figure id=\"expert_load\">"));
    cr_expect(page_holds(page, "<figure id=\"step_time\">"));
    cr_expect_str_eq(page_unbalanced(page), "");
}

Test(report, draws_one_layer_one_window_and_few_experts)
{
    struct fake_run small;
    fake_run_make(&small, &(struct fake_size){1, 4, 2, 1, 0.4}, &place.arena);
    report_place_store(&place, &small, "");

    cr_expect(page_holds(report_place_page(&place), "<figure id=\"expert_load\">"));
}

Test(report, shows_the_run_that_was_asked_for)
{
    char first[RUN_ID_BYTES];
    report_place_store(&place, &place.run, "first");
    memcpy(first, place.run_id, sizeof first);
    report_place_store(&place, &place.run, "second");
    struct report_options options = {.results = place.results, .out = place.out, .run_id = first};

    cr_assert(report_write(&options, &place.error) == STATUS_OK, "%s", place.error.text);

    cr_expect(page_holds(report_place_text(&place, "index.html"), "fake \xc2\xb7 run first</p>"));
}

Test(report, names_the_runs_it_knows_when_asked_for_another)
{
    report_place_store(&place, &place.run, "known");
    struct report_options options = {
        .results = place.results, .out = place.out, .run_id = "0000000000000000"};

    cr_expect(report_write(&options, &place.error) == STATUS_INVALID);

    cr_expect(page_holds(place.error.text, "no complete run 0000000000000000"), "%s",
              place.error.text);
    cr_expect(page_holds(place.error.text, place.run_id) && page_holds(place.error.text, "known"),
              "%s", place.error.text);
    cr_expect(access(place.out, F_OK) != 0);
}

Test(report, writes_into_any_directory_and_says_when_it_is_none)
{
    report_place_store(&place, &place.run, "");
    snprintf(place.out, sizeof place.out, "%s/it's \"so\" $(far) `away`/deep", place.directory);
    cr_expect(page_holds(report_place_page(&place), "<figure"));

    struct report_options options = {.results = place.results, .out = place.results};
    cr_expect(report_write(&options, &place.error) == STATUS_IO);
    cr_expect(page_holds(place.error.text, "results.db"), "%s", place.error.text);
}

Test(report, says_how_to_install_gnuplot)
{
    report_place_store(&place, &place.run, "");
    setenv("PATH", place.directory, 1);
    struct report_options options = {.results = place.results, .out = place.out};

    cr_expect(report_write(&options, &place.error) == STATUS_IO);
    setenv("PATH", "/usr/bin:/bin", 1);

    cr_expect(page_holds(place.error.text, "apt-get install gnuplot-nox"), "%s", place.error.text);
    cr_expect(place.error.num_problems == 1);
    char figures[2 * PATH_LENGTH];
    snprintf(figures, sizeof figures, "%s/figures", place.out);
    cr_expect(access(figures, F_OK) != 0, "figures without a page");
}

Test(report, leaves_nothing_but_page_and_figures)
{
    char path[2 * PATH_LENGTH];
    report_place_store(&place, &place.run, "");
    report_place_page(&place);

    snprintf(path, sizeof path, "%s/figures", place.out);
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        const char *suffix = strchr(entry->d_name, '.');
        bool expected = strcmp(suffix, ".csv") == 0 || strcmp(suffix, ".svg") == 0 ||
                        strcmp(suffix, ".png") == 0;
        cr_expect(entry->d_name[0] == '.' || expected, "%s", entry->d_name);
    }
    closedir(folder);
    snprintf(path, sizeof path, "%s/index.html.partial", place.out);
    cr_expect(access(path, F_OK) != 0);
}
