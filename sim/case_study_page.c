/*
 * case_study_page.c -- a study on one page, in the dress of the report: question, answer, figures
 * with their tables, what the numbers rest on, every run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_study_internal.h"
#include "data.h"
#include "digest.h"
#include "format.h"
#include "html.h"
#include "report_internal.h"
#include "store_points.h"
#include "textfile.h"
#include "whole_engine.h"

/* The report comes first, so that a writer of pages finds the study behind it. */
struct study_report {
    struct report report;
    const struct case_study *study;
    const struct case_study_result *result;
    struct rows models; /* of GPUs, with their errors */
    struct rows steps;  /* kinds of steps whose models' error is known */
    char digest[RUN_ID_BYTES];
};

/* What page_write_figures prints below a figure; one row. */
static const char origin_sql[] =
    "SELECT max(commit_id) AS commit_id, ?1 AS digest, "
    "max(rebalance_ns) AS rebalance_ns FROM point JOIN run USING (run_id)";

static const char models_sql[] =
    "SELECT gpu, gpu_model, fitted_on <> '' AS is_fitted, error_median, "
    "replace(group_concat(DISTINCT CASE WHEN assumption.name = 'median error of the exchange' "
    "THEN value END), ',', ' and ') AS exchange_percent "
    "FROM point JOIN run USING (run_id) JOIN assumption USING (run_id) "
    "GROUP BY 1, 2, 3, 4 ORDER BY min(point)";

static const char steps_sql[] =
    "SELECT DISTINCT phase = 'prefill' AS is_prefill, phase <> 'prefill' AND expert_tp > 1 AS "
    "is_cut FROM point JOIN run USING (run_id) WHERE fitted_on <> '' AND error_median IS NOT NULL "
    "ORDER BY 1, 2";

static const char assumption_sql[] =
    "SELECT assumption.name AS assumption, group_concat(DISTINCT value) AS value, unit, source "
    "FROM point JOIN assumption USING (run_id) GROUP BY assumption.name, unit, source "
    "ORDER BY min(assumption.assumption), min(point)";

static const char runs_sql[] =
    "SELECT run_id, label AS point, step_ns_mean, tokens_per_s_per_gpu, usd_per_million_tokens, "
    "digest FROM point JOIN run USING (run_id) ORDER BY point.point";

/* "Times and costs come from compute models: h800-sxm: fitted, ...". */
static void tell_models(struct study_report *study_report)
{
    struct report *report = &study_report->report;
    const struct rows *models = &study_report->models;
    char *text = report->model_error;
    size_t used = (size_t)snprintf(text, MODEL_ERROR_BYTES, "Times and costs come from models");
    for (int64_t row = 0; row < models->num_rows && used < MODEL_ERROR_BYTES; row++) {
        char percent[FORMAT_BYTES], words[96];
        format_percent(percent, rows_number(models, row, "error_median"));
        if (rows_number(models, row, "is_fitted") == 0.0) {
            (void)snprintf(words, sizeof words, "not fitted to measurements, error unknown");
        } else if (rows_text(models, row, "error_median")[0] == '\0') {
            (void)snprintf(words, sizeof words, "error not measured");
        } else {
            (void)snprintf(words, sizeof words, "median error %s on measurements held out",
                           percent);
        }
        const char *exchange = rows_text(models, row, "exchange_percent");
        bool is_fitted = exchange[0] >= '0' && exchange[0] <= '9';
        used += (size_t)snprintf(text + used, MODEL_ERROR_BYTES - used,
                                 "%s %s of %s, %s; its exchange, %s%s", row == 0 ? ":" : ";",
                                 rows_text(models, row, "gpu_model"), rows_text(models, row, "gpu"),
                                 words, is_fitted ? exchange : "not fitted", is_fitted ? " %" : "");
    }
    for (int64_t row = 0; row < study_report->steps.num_rows && used < MODEL_ERROR_BYTES; row++) {
        const struct whole_engine_error *whole =
            whole_engine_error(rows_number(&study_report->steps, row, "is_prefill") > 0.0,
                               rows_number(&study_report->steps, row, "is_cut") > 0.0);
        used +=
            (size_t)snprintf(text + used, MODEL_ERROR_BYTES - used, "%s%s",
                             row == 0 ? ". Kernels alone are not an engine: " : "; ", whole->words);
    }
    if (used + 1 < MODEL_ERROR_BYTES) {
        memcpy(text + used, ".", 2);
    }
}

static void write_head(const struct study_report *study_report, FILE *page)
{
    const struct case_study *study = study_report->study;
    const struct report *report = &study_report->report;
    html_head(page, study->name, "moesim study", report->css, "");
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to the figures</a>\n"
          "<header><div class=\"page\">\n",
          page);
    html_named(page, "<p class=\"brand\">moesim study \xc2\xb7 ", study->name, "</p>\n");
    html_named(page, "<h1>", study->question, "</h1>\n");
    for (int32_t i = 0; i < study->num_answers; i++) {
        html_named(page, "<p class=\"answer\">", study_report->result->answer[i], "</p>\n");
    }
    fputs("<nav aria-label=\"Contents\">\n<ul>\n", page);
    for (int32_t i = 0; i < report->figures.count; i++) {
        const struct figure *figure = &report->figures.figure[i];
        fprintf(page, "<li><a href=\"#%s\">", figure->drawn ? figure->name : "figures");
        html_named(page, "", figure->title, "</a></li>\n");
    }
    fputs("<li><a href=\"#assumptions\">What the numbers rest on</a></li>\n"
          "<li><a href=\"#repeat\">Repeat it</a></li>\n</ul>\n</nav>\n</div></header>\n"
          "<main id=\"main\" class=\"page\" tabindex=\"-1\">\n",
          page);
}

static void write_assumptions(const struct study_report *study_report, FILE *page)
{
    const struct report *report = &study_report->report;
    fputs("<section aria-labelledby=\"assumptions\">\n<h2 id=\"assumptions\">What the numbers rest "
          "on, and what is left out</h2>\n",
          page);
    html_named(page, "<p class=\"warning\">", report->model_error, "</p>\n<ul>\n");
    for (int32_t i = 0; i < study_report->study->num_notes; i++) {
        html_named(page, "<li>", study_report->study->note[i], "</li>\n");
    }
    fputs("</ul>\n<details><summary>Assumptions of all runs, with their sources</summary>\n"
          "<div class=\"wrap facts\">\n",
          page);
    html_table(page, &report->assumption, INT64_MAX, "assumptions", &report->figures.shown);
    fputs("</div>\n</details>\n<h3>Not modelled</h3>\n", page);
    fputs(report->limits, page);
    fputs("</section>\n", page);
}

/* Points that cannot be are told: a figure without them would look whole. */
static void write_failures(const struct study_report *study_report, FILE *page)
{
    const struct error *failures = study_report->result->failures;
    if (failures->num_problems == 0) {
        return;
    }
    fprintf(page, "<h3>Points that failed: %d</h3>\n", (int)failures->num_problems);
    html_named(page, "<pre tabindex=\"0\">", failures->text, "</pre>\n");
}

static void write_repeat(const struct study_report *study_report, FILE *page)
{
    const struct case_study *study = study_report->study;
    const struct report *report = &study_report->report;
    fputs("<section aria-labelledby=\"repeat\">\n<h2 id=\"repeat\">Repeat it</h2>\n", page);
    write_failures(study_report, page);
    html_named(page, "<p><code>moesim study ", study->name, "</code>");
    fprintf(page,
            " makes this page, and <code>moesim report RESULTS -o OUT --run ID</code> the page of "
            "a run; the %" PRId64 " runs of commit <code>",
            report->runs.num_rows);
    html_text(page, report_text(report, "commit_id"));
    /* Figures show mostly settled steps, and would seem to contradict this table. */
    fprintf(page, "</code> are%s:</p>\n<div class=\"wrap\">\n",
            report_number(report, "rebalance_ns") > 0.0
                ? ", in the mean of all steps, those that wait for moved weights too"
                : "");
    html_table(page, &report->runs, INT64_MAX, "runs", &report->figures.shown);
    fputs("</div>\n", page);
    html_named(page, "<details><summary>The study, as it was asked</summary>\n<pre tabindex=\"0\">",
               study->text, "</pre></details>\n</section>\n<footer>Made by moesim.</footer>\n");
}

static enum status write_page(const struct report *report, FILE *page, struct error *error)
{
    const struct study_report *study_report = (const struct study_report *)report;
    write_head(study_report, page);
    enum status status = page_write_figures(report, page, error);
    write_assumptions(study_report, page);
    write_repeat(study_report, page);
    fprintf(page, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", report->script);
    return status;
}

static enum status load_figures(struct study_report *study_report, struct error *error)
{
    static const char *const charts[CHART_KINDS] = {"study/lines.gp", "study/bars.gp"};
    struct report *report = &study_report->report;
    const struct case_study *study = study_report->study;
    const char *chart[CHART_KINDS];
    struct figure_list *list = &report->figures;
    enum status status = report_load_part(&list->style, "style.gp", report, error);
    for (int32_t kind = 0; kind < CHART_KINDS && status == STATUS_OK; kind++) {
        status = report_load_part(&chart[kind], charts[kind], report, error);
    }
    list->figure = arena_alloc(&report->arena, (size_t)study->num_figures, sizeof *list->figure);
    if (status == STATUS_OK && list->figure == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t i = 0; i < study->num_figures && status == STATUS_OK; i++) {
        const struct case_figure *from = &study->figure[i];
        status = case_study_chart(&list->figure[list->count++], study, from, report->store,
                                  chart[from->kind], &report->arena, error);
    }
    return status;
}

static enum status load(struct study_report *study_report, struct error *error)
{
    struct report *report = &study_report->report;
    enum status status = report_load_part(&report->css, "page.css", report, error);
    if (status == STATUS_OK) {
        status = report_load_part(&report->script, "page.js", report, error);
    }
    if (status == STATUS_OK) {
        status = report_load_part(&report->limits, "limits.html", report, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&report->runs, report->store, runs_sql, NULL, error);
    }
    uint64_t digest = DIGEST_START;
    for (int64_t row = 0; row < report->runs.num_rows; row++) {
        digest = digest_text(digest, rows_text(&report->runs, row, "digest"));
    }
    (void)snprintf(study_report->digest, RUN_ID_BYTES, "%016" PRIx64, digest);
    if (status == STATUS_OK) {
        status = rows_query(&report->run, report->store, origin_sql, study_report->digest, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&report->assumption, report->store, assumption_sql, NULL, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&study_report->models, report->store, models_sql, NULL, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&study_report->steps, report->store, steps_sql, NULL, error);
    }
    tell_models(study_report);
    return status == STATUS_OK ? load_figures(study_report, error) : status;
}

static enum status open_results(struct store **store, const struct case_study *study,
                                const struct case_study_result *result, struct error *error)
{
    int64_t count = study->points.num_points;
    const char **name = calloc((size_t)count + 1, sizeof *name);
    enum status status = name == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                                      : store_open(store, result->results, false, error);
    for (int64_t point = 0; point < count && status == STATUS_OK; point++) {
        name[point] = sweep_study_point_name(&study->points, point);
    }
    if (status == STATUS_OK) {
        status = store_points(*store, result->run_id, name, count, error);
    }
    free(name);
    return status;
}

enum status case_study_answer(const struct case_study *study, struct case_study_result *result,
                              struct error *error)
{
    struct store *store = NULL;
    struct rows rows = {0};
    result->answer =
        arena_alloc(result->arena, (size_t)study->num_answers + 1, sizeof *result->answer);
    enum status status = result->answer == NULL
                             ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                             : open_results(&store, study, result, error);
    for (int32_t i = 0; i < study->num_answers && status == STATUS_OK; i++) {
        status = rows_query(&rows, store, study->answer[i], NULL, error);
        const char *text = rows.num_rows > 0 ? rows_value(&rows, 0, 0) : NULL;
        if (status == STATUS_OK && text == NULL) {
            status = error_add(error, STATUS_INVALID,
                               "%s: answer %d: the query gives no text for these results",
                               study->path, (int)i + 1);
        } else if (status == STATUS_OK) {
            result->answer[i] = arena_strdup(result->arena, text);
            status = result->answer[i] == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                                               : STATUS_OK;
        }
    }
    rows_free(&rows);
    store_close(store);
    return status;
}

enum status case_study_write_page(const struct case_study *study,
                                  const struct case_study_result *result, const char *directory,
                                  struct error *error)
{
    struct report_options options = {.results = result->results, .out = directory};
    struct study_report *study_report = calloc(1, sizeof *study_report);
    if (study_report == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    struct report *report = &study_report->report;
    study_report->study = study;
    study_report->result = result;
    report->options = &options;
    enum status status = open_results(&report->store, study, result, error);
    if (status == STATUS_OK) {
        status = load(study_report, error);
    }
    if (status == STATUS_OK) {
        status = report_make(report, write_page, error);
    }
    figures_free(&report->figures);
    rows_free(&report->run);
    rows_free(&report->runs);
    rows_free(&report->assumption);
    rows_free(&study_report->models);
    rows_free(&study_report->steps);
    store_close(report->store);
    arena_free(&report->arena);
    free(study_report);
    return status;
}
