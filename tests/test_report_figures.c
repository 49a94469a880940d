/* test_report_figures.c -- what figures of several runs show, and the files beside the page. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_run.h"
#include "page.h"
#include "report.h"
#include "textfile.h"

#define PATH_LENGTH 256

static char directory[] = "/tmp/moesim-figures-XXXXXX";
static char results[PATH_LENGTH];
static char out[PATH_LENGTH];
static struct arena arena;
static struct fake_run run;
static struct error error;

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(results, sizeof results, "%s/results.db", directory);
    snprintf(out, sizeof out, "%s/out", directory);
    fake_run_make(&run, &(struct fake_size){6, 32, 8, 5, 0.8}, &arena);
}

static void tear_down(void)
{
    char command[PATH_LENGTH];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_expect(system(command) == 0);
    arena_free(&arena);
}

TestSuite(report_figures, .init = set_up, .fini = tear_down, .timeout = 120);

static void store(const char *label)
{
    char run_id[RUN_ID_BYTES];
    enum status status = fake_run_store(run_id, results, &run, label, &error);
    cr_assert(status == STATUS_OK, "%s", error.text);
}

static const char *file_text(const char *name)
{
    char path[2 * PATH_LENGTH];
    const char *text = NULL;
    snprintf(path, sizeof path, "%s/%s", out, name);
    cr_assert(text_read(&text, path, &arena, &error) == STATUS_OK, "%s", error.text);
    return text;
}

/* Makes the report and returns its page. */
static const char *make_page(void)
{
    struct report_options options = {.results = results, .out = out};
    cr_assert(report_write(&options, &error) == STATUS_OK, "%s", error.text);
    return file_text("index.html");
}

Test(report_figures, draws_figures_as_pdf_where_asked)
{
    store("");
    make_page();
    char path[2 * PATH_LENGTH];
    snprintf(path, sizeof path, "%s/figures/cost.pdf", out);
    cr_expect(access(path, F_OK) != 0);
    struct report_options options = {.results = results, .out = out, .pdf = true};

    cr_assert(report_write(&options, &error) == STATUS_OK, "%s", error.text);

    char head[5] = "";
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL && fread(head, 1, 4, file) == 4);
    fclose(file);
    cr_expect_str_eq(head, "%PDF");
    cr_expect(page_holds(file_text("index.html"), "href=\"figures/cost.pdf\""));
}

/* A point of the grid may be missing; points in a row are no grid. */
Test(report_figures, draws_all_settings_of_a_sweep_as_a_map)
{
    store("routing.top_k=1 parallel.ep=8");
    store("routing.top_k=1 parallel.ep=16");
    store("routing.top_k=1 parallel.ep=32");
    store("routing.top_k=1 parallel.ep=64");
    cr_expect(!page_holds(make_page(), "<figure id=\"settings\">"));
    store("routing.top_k=2 parallel.ep=8");
    store("routing.top_k=2 parallel.ep=32");

    cr_expect(page_holds(make_page(), "<figure id=\"settings\">"));

    const char *csv = file_text("figures/settings.csv");
    cr_expect(page_count(csv, "\nrouting.top_k,1,parallel.ep,") == 4, "%s", csv);
    cr_expect(page_count(csv, "\nrouting.top_k,2,parallel.ep,") == 2, "%s", csv);
    cr_expect(page_holds(csv, ",1,2\n"), "the third column of the second row: %s", csv);
}
