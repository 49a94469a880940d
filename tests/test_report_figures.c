/* test_report_figures.c -- what figures of several runs show, and the files beside the page. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "page.h"
#include "report.h"
#include "report_place.h"
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

TestSuite(report_figures, .init = set_up, .fini = tear_down, .timeout = 120);

Test(report_figures, draws_figures_as_pdf_where_asked)
{
    report_place_store(&place, &place.run, "");
    report_place_page(&place);
    char path[2 * PATH_LENGTH];
    snprintf(path, sizeof path, "%s/figures/cost.pdf", place.out);
    cr_expect(access(path, F_OK) != 0);
    struct report_options options = {.results = place.results, .out = place.out, .pdf = true};

    cr_assert(report_write(&options, &place.error) == STATUS_OK, "%s", place.error.text);

    char head[5] = "";
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL && fread(head, 1, 4, file) == 4);
    fclose(file);
    cr_expect_str_eq(head, "%PDF");
    cr_expect(page_holds(report_place_text(&place, "index.html"), "href=\"figures/cost.pdf\""));
}

/* A point of the grid may be missing; points in a row are no grid. */
Test(report_figures, draws_all_settings_of_a_sweep_as_a_map)
{
    report_place_store(&place, &place.run, "routing.top_k=1 parallel.ep=8");
    report_place_store(&place, &place.run, "routing.top_k=1 parallel.ep=16");
    report_place_store(&place, &place.run, "routing.top_k=1 parallel.ep=32");
    report_place_store(&place, &place.run, "routing.top_k=1 parallel.ep=64");
    cr_expect(!page_holds(report_place_page(&place), "<figure id=\"settings\">"));
    report_place_store(&place, &place.run, "routing.top_k=2 parallel.ep=8");
    report_place_store(&place, &place.run, "routing.top_k=2 parallel.ep=32");

    cr_expect(page_holds(report_place_page(&place), "<figure id=\"settings\">"));

    const char *csv = report_place_text(&place, "figures/settings.csv");
    cr_expect(page_count(csv, "\nrouting.top_k,1,parallel.ep,") == 4, "%s", csv);
    cr_expect(page_count(csv, "\nrouting.top_k,2,parallel.ep,") == 2, "%s", csv);
    cr_expect(page_holds(csv, ",1,2\n"), "the third column of the second row: %s", csv);
}
