/*
 * report.c -- from a results file to a page: ask, draw, write, rename.
 */
#include "report.h"

#include <string.h>

#include "data.h"
#include "draft.h"
#include "report_internal.h"
#include "textfile.h"

/* The run, when and where it ran, and numbers the answer is made of. */
static const char run_sql[] =
    "SELECT " STORE_DIGEST_SQL ", run.*, run_origin.finished_utc, run_origin.hostname,"
    " (SELECT count(*) FROM rebalance WHERE run_id = ?1) AS num_rebalances,"
    " coalesce("
    "  (SELECT best.verdict FROM study JOIN study AS best USING (study_id, group_label)"
    "   WHERE study.run_id = ?1 AND best.place = 1 ORDER BY study.rowid DESC LIMIT 1),"
    "  (SELECT value FROM serving_total WHERE run_id = ?1 AND name = 'verdict')) AS verdict,"
    " served.usd_per_million_new, served.usd_per_million_all, served.host_request_ms,"
    " served.host_error, first.p50_s * 1e9 AS first_ns_p50,"
    " first.p99_s * 1e9 AS first_ns_p99, further.p50_s * 1e9 AS further_ns_p50,"
    " further.p99_s * 1e9 AS further_ns_p99,"
    " (SELECT dropped_assignments * 1.0 / assignments FROM drop_curve WHERE run_id = ?1"
    "  AND capacity_factor = 1.25 AND scope = run.capacity_scope) AS dropped_share_at_1_25,"
    " offloaded.hits_share, offloaded.best_hits_share, offloaded.policy AS offload_policy,"
    " time.fetch / time.total AS fetch_share,"
    " time.dispatch / time.total AS dispatch_share, time.combine / time.total AS combine_share,"
    " time.waiting / time.total AS waiting_share, time.rebalance / time.total AS rebalance_share "
    "FROM run LEFT JOIN run_origin USING (run_id) JOIN ("
    " SELECT sum(phase_ns_sum) AS total,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'fetch') AS fetch,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'dispatch') AS dispatch,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'combine') AS combine,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'waiting') AS waiting,"
    "  sum(phase_ns_sum) FILTER (WHERE phase = 'rebalance') AS rebalance"
    " FROM step_phase WHERE run_id = ?1) AS time JOIN ("
    " SELECT 1e6 * usd / nullif(new_tokens, 0) AS usd_per_million_new,"
    "  1e6 * usd / nullif(new_tokens + prompt_tokens, 0) AS usd_per_million_all,"
    "  host_request_ms, host_error"
    " FROM (SELECT max(value) FILTER (WHERE name = 'usd') AS usd,"
    "  max(value) FILTER (WHERE name = 'new_tokens') AS new_tokens,"
    "  max(value) FILTER (WHERE name = 'prompt_tokens') AS prompt_tokens,"
    "  max(value) FILTER (WHERE name = 'host_request_ms') AS host_request_ms,"
    "  max(value) FILTER (WHERE name = 'host_error') AS host_error"
    "  FROM serving_total WHERE run_id = ?1)) AS served "
    "LEFT JOIN (SELECT run_id, policy, sum(hits) * 1.0 / sum(touches) AS hits_share,"
    "  sum(best_hits) * 1.0 / sum(touches) AS best_hits_share"
    "  FROM offload JOIN offload_layer USING (run_id) WHERE run_id = ?1) AS offloaded"
    " ON offloaded.run_id = run.run_id "
    "LEFT JOIN serving_latency AS first ON first.run_id = run.run_id AND first.measure = 'ttft' "
    "LEFT JOIN serving_latency AS further"
    " ON further.run_id = run.run_id AND further.measure = 'tpot' "
    "WHERE run.run_id = ?1";

static const char assumption_sql[] =
    "SELECT name AS assumption, value, unit, source FROM assumption WHERE run_id = ?1"
    " ORDER BY assumption.assumption";

/* What is shown side by side shares a currency: the prices of the run and of those that the figure
 * of runs sets beside it. */
static const char money_sql[] =
    "WITH mine AS (SELECT study_id, group_label FROM study WHERE run_id = ?1"
    " ORDER BY rowid DESC LIMIT 1) "
    "SELECT " STORE_CURRENCY_SQL " FROM run WHERE complete = 1 AND (run_id = ?1 OR run_id IN"
    " (SELECT run_id FROM study WHERE (study_id, group_label) ="
    "  (SELECT study_id, group_label FROM mine))"
    " OR NOT EXISTS (SELECT 1 FROM mine) AND NOT EXISTS (SELECT 1 FROM serving WHERE run_id = ?1)"
    "  AND run_id NOT IN (SELECT run_id FROM serving) AND (scenario, label = '') ="
    "  (SELECT scenario, label = '' FROM run WHERE run_id = ?1))";

static const char runs_sql[] = "SELECT run_id, label FROM run WHERE complete = 1 ORDER BY rowid";

/* Finds the run to report on: the one asked for, else the newest. */
static enum status choose_run(struct report *report, struct error *error)
{
    const char *results = report->options->results;
    enum status status = rows_query(&report->runs, report->store, runs_sql, NULL, error);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t count = report->runs.num_rows;
    if (count == 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: holds no complete run; what moesim plan stores becomes a page by its "
                         "own --report",
                         results);
    }
    const char *wanted = report->options->run_id;
    for (int64_t row = count - 1; row >= 0; row--) {
        const char *run_id = rows_text(&report->runs, row, "run_id");
        bool is_wanted = wanted == NULL || strcmp(run_id, wanted) == 0 ||
                         strcmp(rows_text(&report->runs, row, "label"), wanted) == 0;
        if (is_wanted) {
            snprintf(report->run_id, sizeof report->run_id, "%s", run_id);
            return STATUS_OK;
        }
    }
    status = error_add(error, STATUS_INVALID, "%s: holds no complete run %s; it holds:", results,
                       wanted);
    for (int64_t row = 0; row < count; row++) {
        error_add(error, status, "    %s %s", rows_text(&report->runs, row, "run_id"),
                  rows_text(&report->runs, row, "label"));
    }
    return status;
}

static enum status choose_money(struct report *report, struct error *error)
{
    struct rows price = {0};
    enum status status = rows_query(&price, report->store, money_sql, report->run_id, error);
    for (int64_t row = 0; row < price.num_rows; row++) {
        rows_add_money(&report->money, &price, row);
    }
    rows_free(&price);
    report->figures.shown = report->money.shown;
    store_show_money(report->store, &report->money.shown);
    return status;
}

static enum status query_all(struct report *report, struct error *error)
{
    enum status status = choose_run(report, error);
    if (status == STATUS_OK) {
        status = rows_query(&report->run, report->store, run_sql, report->run_id, error);
    }
    if (status == STATUS_OK && report->run.num_rows != 1) {
        status = error_add(error, STATUS_INVALID, "%s: run %s is not whole",
                           report->options->results, report->run_id);
    }
    if (status == STATUS_OK) {
        status = choose_money(report, error);
    }
    if (status == STATUS_OK) {
        status =
            rows_query(&report->assumption, report->store, assumption_sql, report->run_id, error);
    }
    for (int32_t i = 0; i < report->figures.count && status == STATUS_OK; i++) {
        status = figure_query(&report->figures.figure[i], report->store, report->run_id,
                              &report->arena, error);
    }
    return status;
}

enum status report_load_part(const char **text, const char *name, struct report *report,
                             struct error *error)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/reports/%s", data_directory(), name);
    return text_read(text, path, &report->arena, error);
}

static enum status load_parts(struct report *report, struct error *error)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/reports", data_directory());
    enum status status = figures_load(&report->figures, path, &report->arena, error);
    if (status == STATUS_OK) {
        status = report_load_part(&report->css, "page.css", report, error);
    }
    if (status == STATUS_OK) {
        status = report_load_part(&report->script, "page.js", report, error);
    }
    if (status == STATUS_OK) {
        status = report_load_part(&report->limits, "limits.html", report, error);
    }
    return status;
}

enum status report_make(struct report *report,
                        enum status (*write)(const struct report *report, FILE *page,
                                             struct error *error),
                        struct error *error)
{
    struct draft draft;
    FILE *page = NULL;
    report->figures.has_pdf = report->options->pdf;
    enum status status = draft_open(&draft, report->options->out, error);
    report->figures_directory = draft.directory;
    if (status == STATUS_OK) {
        status = figures_draw(&report->figures, &draft, error);
    }
    if (status == STATUS_OK) {
        status = draft_create(&page, &draft, "index.html", error);
    }
    if (status == STATUS_OK) {
        status = write(report, page, error);
        enum status finished = draft_finish(page, &draft, "index.html", error);
        status = status == STATUS_OK ? finished : status;
    }
    if (status == STATUS_OK) {
        status = figures_publish(&report->figures, &draft, error);
    }
    if (status == STATUS_OK) {
        status = draft_publish(&draft, "index.html", "index.html", error);
    }
    draft_close(&draft);
    return status;
}

static enum status write_all(struct report *report, struct error *error)
{
    enum status status = load_parts(report, error);
    if (status == STATUS_OK) {
        status = query_all(report, error);
    }
    if (status == STATUS_OK) {
        answer_model_error(report);
        status = report_make(report, page_write, error);
    }
    return status;
}

enum status report_write(const struct report_options *options, struct error *error)
{
    struct report report = {.options = options};
    enum status status = store_open(&report.store, options->results, false, error);
    if (status == STATUS_OK) {
        status = write_all(&report, error);
    }
    figures_free(&report.figures);
    rows_free(&report.run);
    rows_free(&report.runs);
    rows_free(&report.assumption);
    store_close(report.store);
    arena_free(&report.arena);
    return status;
}
