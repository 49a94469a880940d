/*
 * page.c -- the page: header with the answer, key numbers, figures, assumptions, how to repeat it.
 *
 * Self-contained: style and script stand in it and the figures are inline SVG; a content security
 * policy keeps it from loading anything, whatever a results file holds.
 */
#include <inttypes.h>
#include <string.h>

#include "html.h"
#include "report_internal.h"
#include "scenario.h"

#define TABLE_ROWS_MAX 50

/* As moesim run says it, where experts are cut. */
static void write_sharing(const struct report *report, FILE *page)
{
    char sharing[SHARING_BYTES];
    int32_t expert_tp = (int32_t)report_number(report, "expert_tp");
    if (expert_tp > 1) {
        int32_t ep = (int32_t)report_number(report, "ep");
        html_named(page, " \xc2\xb7 experts ", scenario_sharing(sharing, ep, expert_tp), "");
        html_named(page, ", attention TP", report_text(report, "tp"), "");
    } else {
        html_named(page, " \xc2\xb7 EP ", report_text(report, "ep"), "");
        html_named(page, ", TP ", report_text(report, "tp"), "");
    }
}

/* One line on what was simulated. */
static void write_setting(const struct report *report, FILE *page)
{
    fputs("<p class=\"setting\">", page);
    html_text(page, report_text(report, "model"));
    html_named(page, " \xc2\xb7 ", report_text(report, "num_gpus"), " \xc3\x97 ");
    html_text(page, report_text(report, "gpu"));
    write_sharing(report, page);
    html_named(page, " \xc2\xb7 ", report_text(report, "phase"), "");
    html_named(page, ", ", report_text(report, "tokens_per_rank"), " tokens a rank");
    if (report_text(report, "trace")[0] != '\0') { /* else a dense model */
        html_named(page, " \xc2\xb7 placement ", report_text(report, "strategy"), "");
        html_named(page, " \xc2\xb7 collective ", report_text(report, "collective"), "");
        html_named(page, " \xc2\xb7 trace ", report_text(report, "trace"), "");
        html_named(page, " (", report_text(report, "trace_origin"), ")");
    }
    fputs("</p>\n", page);
}

static void write_contents(const struct report *report, FILE *page)
{
    fputs("<nav aria-label=\"Contents\">\n<ul>\n", page);
    for (int32_t i = 0; i < report->figures.count; i++) {
        const struct figure *figure = &report->figures.figure[i];
        if (figure->drawn) {
            fprintf(page, "<li><a href=\"#%s\">", figure->name);
            html_text(page, figure->title);
            fputs("</a></li>\n", page);
        }
    }
    fputs("<li><a href=\"#assumptions\">Assumptions and limits</a></li>\n"
          "<li><a href=\"#repeat\">Repeat it</a></li>\n</ul>\n</nav>\n",
          page);
}

static void write_header(const struct report *report, FILE *page)
{
    const char *question = report_text(report, "question");
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to the numbers</a>\n"
          "<header><div class=\"page\">\n",
          page);
    html_named(page, "<p class=\"brand\">moesim report \xc2\xb7 ", report_text(report, "scenario"),
               "");
    if (report_text(report, "label")[0] != '\0') {
        html_named(page, " \xc2\xb7 run ", report_text(report, "label"), "");
    }
    html_named(page, "</p>\n<h1>", question[0] != '\0' ? question : report_text(report, "scenario"),
               "</h1>\n");
    answer_write(report, page);
    write_setting(report, page);
    write_contents(report, page);
    fputs("</div></header>\n", page);
}

static void write_key_numbers(const struct report *report, FILE *page)
{
    fputs("<section aria-labelledby=\"numbers\">\n<h2 id=\"numbers\">Key numbers</h2>\n", page);
    answer_write_tiles(report, page);
    html_named(page, "<p class=\"warning\">", report->model_error, "</p>\n");
    if (report->runs.num_rows > 1) {
        fprintf(page,
                "<p>The results file holds %" PRId64
                " runs. This page is about run <code>%s</code>, "
                "but for figures that compare runs",
                report->runs.num_rows, report->run_id);
        if (*report_text(report, "label") != '\0') {
            html_named(page, " (", report_text(report, "label"), ")");
        }
        fputs(
            "; <code>moesim report RESULTS -o OUT --run ID</code> makes the page of another.</p>\n",
            page);
    }
    fputs("</section>\n", page);
}

static enum status write_plot(const struct report *report, const struct figure *figure, FILE *page,
                              struct error *error)
{
    static const char *const names[] = {[FIGURE_WIDE] = "wide", [FIGURE_NARROW] = "narrow"};
    enum status status = STATUS_OK;
    html_named(page, "<div class=\"plot\" role=\"img\" aria-label=\"", figure->title, ".");
    if (figure->finding != NULL) {
        html_named(page, " ", figure->finding, "");
    }
    fputs("\">\n", page);
    for (int32_t form = 0; form < FIGURE_FORMS && status == STATUS_OK; form++) {
        const struct plot_box *box = &figure->box[form];
        fprintf(page, "<div class=\"%s\" data-box=\"%.5f %.5f %.5f %.5f\">\n", names[form],
                box->left, box->right, box->top, box->bottom);
        status =
            figure_inline(figure, (enum figure_form)form, report->figures_directory, page, error);
        fputs("</div>\n", page);
    }
    fputs("</div>\n", page);
    if (figure->row_column != NULL) {
        fputs("<output class=\"readout\" aria-live=\"polite\" hidden>Point at a cell, or reach the "
              "map with Tab and use the arrow keys.</output>\n",
              page);
        html_cells(page, &figure->rows, figure->row_column, figure->column_column);
    }
    return status;
}

static void write_caption(const struct report *report, const struct figure *figure, FILE *page)
{
    html_named(page, "<figcaption>\n<p>", figure->caption, "</p>\n");
    if (figure->tells_model_error && report->model_error_short[0] != '\0') {
        html_named(page, "<p>Times and costs: ", report->model_error_short, ".</p>\n");
    } else if (figure->tells_model_error) {
        html_named(page, "<p>", report->model_error, "</p>\n");
    }
    if (report->run_id[0] != '\0') {
        fprintf(page, "<p class=\"origin\">Run <code>%s</code>", report->run_id);
    } else {
        fprintf(page, "<p class=\"origin\">%" PRId64 " runs, listed below", report->runs.num_rows);
    }
    fputs(" \xc2\xb7 commit <code>", page);
    html_text(page, report_text(report, "commit_id"));
    html_named(page, "</code> \xc2\xb7 digest <code>", report_text(report, "digest"), "</code>");
    fprintf(page,
            " \xc2\xb7 <a href=\"figures/%s.csv\">CSV</a>"
            " <a href=\"figures/%s.svg\">SVG</a>"
            " <a href=\"figures/%s.png\">PNG</a>",
            figure->name, figure->name, figure->name);
    if (report->figures.has_pdf) {
        fprintf(page, " <a href=\"figures/%s.pdf\">PDF</a>", figure->name);
    }
    fputs("</p>\n</figcaption>\n", page);
}

static void write_data(const struct report *report, const struct figure *figure, FILE *page)
{
    const struct rows *rows = &figure->rows;
    fprintf(page, "<details%s><summary>Data: ", figure->table_open ? " open" : "");
    if (rows->num_rows > TABLE_ROWS_MAX) {
        fprintf(page, "the first %d of %" PRId64 " rows (the CSV has all)", TABLE_ROWS_MAX,
                rows->num_rows);
    } else {
        fprintf(page, "%" PRId64 " row%s", rows->num_rows, rows->num_rows == 1 ? "" : "s");
    }
    fputs("</summary>\n", page);
    html_table(page, rows, TABLE_ROWS_MAX, figure->title, &report->figures.shown);
    fputs("</details>\n", page);
}

/* A figure that is missing says why: nobody should wonder whether something broke. */
static void write_left_out(const struct report *report, FILE *page)
{
    bool any = false;
    for (int32_t i = 0; i < report->figures.count; i++) {
        const struct figure *figure = &report->figures.figure[i];
        if (figure->drawn || figure->empty == NULL) {
            continue;
        }
        fputs(any ? "" : "<h3>Left out</h3>\n<ul>\n", page);
        html_named(page, "<li><strong>", figure->title, ".</strong> ");
        html_named(page, "", figure->empty, "</li>\n");
        any = true;
    }
    fputs(any ? "</ul>\n" : "", page);
    fputs("</section>\n", page);
}

enum status page_write_figures(const struct report *report, FILE *page, struct error *error)
{
    enum status status = STATUS_OK;
    fputs("<section aria-labelledby=\"figures\">\n<h2 id=\"figures\">Figures</h2>\n", page);
    for (int32_t i = 0; i < report->figures.count && status == STATUS_OK; i++) {
        const struct figure *figure = &report->figures.figure[i];
        if (!figure->drawn) {
            continue;
        }
        fprintf(page, "<figure id=\"%s\">\n", figure->name);
        html_named(page, "<h3>", figure->title, "</h3>\n");
        if (figure->finding != NULL) {
            html_named(page, "<p class=\"finding\">", figure->finding, "</p>\n");
        }
        status = write_plot(report, figure, page, error);
        write_caption(report, figure, page);
        write_data(report, figure, page);
        fputs("</figure>\n", page);
    }
    if (status == STATUS_OK) {
        write_left_out(report, page);
    }
    return status;
}

static void write_assumptions(const struct report *report, FILE *page)
{
    fputs("<section aria-labelledby=\"assumptions\">\n"
          "<h2 id=\"assumptions\">Assumptions, and what this does not model</h2>\n",
          page);
    html_named(page, "<p>", report->model_error,
               " The numbers below went into it; of a GPU's file, which says why at each key, ");
    html_named(page, "<code>moesim list gpus ", report_text(report, "gpu"),
               "</code> shows all.</p>\n");
    fputs("<div class=\"wrap facts\">\n", page);
    html_table(page, &report->assumption, INT64_MAX, "assumptions", &report->figures.shown);
    fputs("</div>\n<h3>Not modelled</h3>\n", page);
    fputs(report->limits, page);
    fputs("</section>\n", page);
}

static void write_repeat(const struct report *report, FILE *page)
{
    fputs("<section aria-labelledby=\"repeat\">\n<h2 id=\"repeat\">Repeat it</h2>\n", page);
    fprintf(page, "<p>Run <code>%s</code>", report->run_id);
    html_named(page, ", commit <code>", report_text(report, "commit_id"), "</code>");
    html_named(page, ", seed <code>", report_text(report, "seed"), "</code>");
    html_named(page, ", digest <code>", report_text(report, "digest"), "</code>");
    if (report_text(report, "trace_digest")[0] != '\0') {
        html_named(page, ", trace <code>", report_text(report, "trace_digest"), "</code> (");
        html_named(page, "", report_text(report, "trace_source"), ")");
    }
    fputs(
        ". The same commit, scenario, trace and seed give the same digest on every machine.</p>\n",
        page);
    html_named(page,
               "<details><summary>The scenario, as it was run</summary>\n<pre tabindex=\"0\">",
               report_text(report, "scenario_text"), "</pre></details>\n</section>\n");
}

static void write_footer(const struct report *report, FILE *page)
{
    fputs("<footer>Made by moesim", page);
    if (report_text(report, "finished_utc")[0] != '\0') {
        html_named(page, "; simulated ", report_text(report, "finished_utc"), "");
        html_named(page, " on ", report_text(report, "hostname"), "");
    }
    fputs(".</footer>\n", page);
}

enum status page_write(const struct report *report, FILE *page, struct error *error)
{
    html_head(page, report_text(report, "scenario"), "moesim report", report->css, "");
    write_header(report, page);
    fputs("<main id=\"main\" class=\"page\" tabindex=\"-1\">\n", page);
    write_key_numbers(report, page);
    enum status status = page_write_figures(report, page, error);
    write_assumptions(report, page);
    write_repeat(report, page);
    write_footer(report, page);
    fprintf(page, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", report->script);
    return status;
}
