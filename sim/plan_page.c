/*
 * plan_page.c -- a plan's page, in the dress of the report: the answer, figures, prices,
 * assumptions, commands.
 */
#include "plan_page.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "api_price.h"
#include "data.h"
#include "format.h"
#include "html.h"
#include "plan_launch.h"
#include "plan_page_internal.h"
#include "plan_words.h"
#include "report_internal.h"
#include "textfile.h"

#define WORDS 512

/* The report comes first, so that a writer of pages finds the plan behind it. */
struct plan_report {
    struct report report;
    const struct plan_page *page;
    struct api_price_list prices;
};

static const char plan_sql[] = "SELECT plan.*, plan_id AS digest FROM plan WHERE plan_id = ?1";

/* Lines of the answer, some of which a terminal shows as a list. */
static void write_answer(FILE *page, char *line)
{
    char *words = line + strspn(line, " ");
    words[0] = (char)toupper((unsigned char)words[0]);
    html_named(page, "<p class=\"answer\">", words, "</p>\n");
}

static void write_head(const struct plan_report *plan_report, FILE *page)
{
    const struct plan *plan = plan_report->page->plan;
    char line[WORDS], asked[NAME_BYTES + 64];
    (void)snprintf(asked, sizeof asked, "What does it take to serve %s, and what does it cost?",
                   plan->model.name);
    const char *title = plan->question[0] != '\0' ? plan->question : asked;
    html_head(page, plan->name, "moesim plan", plan_report->report.css, "");
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to the numbers</a>\n"
          "<header><div class=\"page\">\n",
          page);
    const struct plan_page *asked_page = plan_report->page;
    const char *study = asked_page->study;
    fprintf(page, "<p class=\"brand\">moesim %s \xc2\xb7 ", study != NULL ? "study" : "plan");
    html_named(page, "", study != NULL ? study : plan->name, "</p>\n");
    html_named(page, "<h1>", title, "</h1>\n");
    for (int32_t i = 0; i < asked_page->num_leads; i++) {
        html_named(page, "<p class=\"answer\">", asked_page->lead[i], "</p>\n");
    }
    for (int32_t i = 0; plan_sentence(line, sizeof line, plan, plan_report->page->answer, i); i++) {
        write_answer(page, line);
    }
    fputs("</div></header>\n<main id=\"main\" class=\"page\" tabindex=\"-1\">\n", page);
}

static void write_percentile_names(const struct plan *plan, FILE *page, const char *name)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        if (plan_shows_percentile(plan, i)) {
            fprintf(page, "<th>%s p%d</th>", name, (int)plan_percentiles[i]);
        }
    }
}

static void write_latency(const struct plan *plan, FILE *page, const struct plan_latency *latency)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        char time[FORMAT_BYTES];
        if (plan_shows_percentile(plan, i)) {
            fprintf(page, "<td>%s</td>", format_ns(time, latency->percentile_s[i] * 1e9));
        }
    }
}

/* Each as its means have it, and with the groups that percentiles take. */
static void write_finalists(const struct plan_report *plan_report, FILE *page)
{
    const struct plan *plan = plan_report->page->plan;
    const struct plan_answer *answer = plan_report->page->answer;
    struct money money = plan_money(plan);
    if (answer->num_served == 0) {
        return;
    }
    fputs("<section aria-labelledby=\"finalists\">\n<h2 id=\"finalists\">Finalists, request by "
          "request</h2>\n<p>Percentiles of the busiest hour in the serving simulator. Of a "
          "finalist that misses a target the second row has the groups it takes, those over the "
          "means in brackets.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>"
          "<th>a day</th><th>GPUs</th><th>groups</th>",
          page);
    write_percentile_names(plan, page, "TTFT");
    write_percentile_names(plan, page, "TPOT");
    fputs("</tr></thead>\n<tbody>\n", page);
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *row = &answer->deployment[i];
        char usd[FORMAT_BYTES];
        if (!row->is_served) {
            continue;
        }
        fprintf(page, "<tr><td>%s</td><td>%s</td><td>%d</td><td>",
                i == answer->winner  ? "winner"
                : row->meets_targets ? "meets all"
                                     : "misses",
                format_money(usd, row->cost.usd_total, &money.shown), (int)row->num_gpus);
        for (int32_t pool = 0; pool < (row->shared ? 1 : COST_POOLS); pool++) {
            const struct plan_point *point = &answer->point[row->point[pool]];
            char sharing[SHARING_BYTES];
            fprintf(page, "%s%d \xc3\x97 %s", pool == COST_PREFILL ? "" : ", ",
                    (int)row->groups[pool], scenario_sharing(sharing, point->ep, point->expert_tp));
            if (row->added[pool] > 0) {
                fprintf(page, " (+%d)", (int)row->added[pool]);
            }
        }
        fputs("</td>", page);
        write_latency(plan, page, &row->ttft);
        write_latency(plan, page, &row->tpot);
        fputs("</tr>\n", page);
    }
    fputs("</tbody>\n</table></div>\n</section>\n", page);
}

static void write_prices(const struct plan_report *plan_report, FILE *page)
{
    const struct plan_answer *answer = plan_report->page->answer;
    const struct api_price_list *prices = &plan_report->prices;
    if (answer->winner < 0 || prices->count == 0) {
        return;
    }
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    const struct plan_range *day = &winner->interval.usd_per_day;
    fputs("<section aria-labelledby=\"prices\">\n<h2 id=\"prices\">Beside API prices</h2>\n"
          "<p>Dollars a million tokens; the margin is what the winner's cost leaves of the income "
          "from this traffic.</p>\n<div class=\"scroll wrap\"><table>\n<thead><tr><th>provider</th>"
          "<th>sold as</th><th>input</th><th>output</th><th>margin</th><th>seen</th>"
          "<th>source</th></tr></thead>\n<tbody>\n",
          page);
    for (int32_t i = 0; i < prices->count; i++) {
        const struct api_price *price = &prices->price[i];
        double income = api_price_income_usd(price, &plan_report->page->plan->traffic);
        html_named(page, "<tr><td>", price->provider, "</td>");
        html_named(page, "<td>", price->sold_as, "</td>");
        fprintf(page, "<td>%.4g</td><td>%.4g</td><td>%.1f\xc2\xa0%%", price->usd_per_million_input,
                price->usd_per_million_output, plan_margin(winner->cost.usd_total, income));
        if (day->high > day->low) {
            fprintf(page, " (%.1f to %.1f)", plan_margin(day->high, income),
                    plan_margin(day->low, income));
        }
        fputs("</td>", page);
        html_named(page, "<td>", price->date, "</td>");
        html_named(page, "<td>", price->source, "</td></tr>\n");
    }
    fputs("</tbody>\n</table></div>\n</section>\n", page);
}

static void write_assumptions(const struct plan_report *plan_report, FILE *page)
{
    const struct plan *plan = plan_report->page->plan;
    char line[WORDS], hour[FORMAT_BYTES], note[MONEY_NOTE_BYTES];
    struct money money = plan_money(plan);
    fputs("<section aria-labelledby=\"assumptions\">\n<h2 id=\"assumptions\">Assumptions</h2>\n"
          "<ul>\n",
          page);
    for (int32_t i = 0; plan_assumption(line, sizeof line, plan, plan_report->page->answer, i);
         i++) {
        html_named(page, "<li>", line, "</li>\n");
    }
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        const struct price *price = &plan->gpu[i].price;
        (void)snprintf(line, sizeof line, "%s: %s a GPU-hour (%s, %s; %s)",
                       plan->gpu[i].cluster.gpu.name,
                       format_money(hour, price->usd_per_gpu_hour, &price->currency), price->name,
                       price->date, price->source);
        html_named(page, "<li>", line, "</li>\n");
    }
    if (money_note(note, &money)[0] != '\0') {
        html_named(page, "<li>", note, "; the CSV files are in dollars</li>\n");
    }
    fputs("</ul>\n</section>\n", page);
}

static void write_launch(const struct plan_report *plan_report, FILE *page)
{
    const struct plan_page *asked = plan_report->page;
    if (asked->answer->winner < 0) {
        return;
    }
    bool is_known = false;
    fputs("<section aria-labelledby=\"launch\">\n<h2 id=\"launch\">To launch it</h2>\n", page);
    for (int32_t engine = 0; engine < LAUNCH_ENGINES; engine++) {
        bool is_named = false;
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            char command[LAUNCH_BYTES];
            if (plan_launch(command, asked->plan, asked->answer, (enum launch_engine)engine,
                            (enum cost_pool)pool)) {
                if (!is_named) {
                    html_named(page, "<h3>", launch_engine_name((enum launch_engine)engine),
                               "</h3>\n");
                }
                is_named = is_known = true;
                fprintf(page, "<p>%s</p>\n",
                        asked->answer->deployment[asked->answer->winner].shared
                            ? "Prefill and decode"
                        : pool == COST_PREFILL ? "Prefill"
                                               : "Decode");
                html_named(page, "<pre tabindex=\"0\">", command, "</pre>\n");
            }
        }
    }
    if (!is_known) {
        fputs("<p>No engine that is known here does this.</p>\n", page);
    }
    fputs("</section>\n", page);
}

static enum status write_page(const struct report *report, FILE *page, struct error *error)
{
    const struct plan_report *plan_report = (const struct plan_report *)report;
    write_head(plan_report, page);
    plan_page_write_tiles(page, plan_report->page->plan, plan_report->page->answer);
    write_finalists(plan_report, page);
    enum status status = page_write_figures(report, page, error);
    write_prices(plan_report, page);
    write_assumptions(plan_report, page);
    write_launch(plan_report, page);
    html_named(page,
               "<section aria-labelledby=\"repeat\">\n<h2 id=\"repeat\">Repeat it</h2>\n"
               "<details><summary>The plan, as it was asked</summary>\n<pre tabindex=\"0\">",
               plan_report->page->plan->text, "</pre></details>\n</section>\n");
    fprintf(page,
            "<footer>Made by moesim.</footer>\n</main>\n<script>\n%s</script>\n</body>\n"
            "</html>\n",
            report->script);
    return status;
}

static enum status load(struct plan_report *plan_report, struct error *error)
{
    struct report *report = &plan_report->report;
    char path[FILE_PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/reports/plan", data_directory());
    enum status status = figures_load(&report->figures, path, &report->arena, error);
    if (status == STATUS_OK) {
        status = report_load_part(&report->css, "page.css", report, error);
    }
    if (status == STATUS_OK) {
        status = report_load_part(&report->script, "page.js", report, error);
    }
    if (status == STATUS_OK) {
        status = api_price_load(&plan_report->prices, plan_report->page->plan->model.name, error);
    }
    if (status == STATUS_OK) {
        status = rows_query(&report->run, report->store, plan_sql, report->run_id, error);
    }
    report->figures.shown = plan_money(plan_report->page->plan).shown;
    store_show_money(report->store, &report->figures.shown);
    for (int32_t i = 0; i < report->figures.count && status == STATUS_OK; i++) {
        status = figure_query(&report->figures.figure[i], report->store, report->run_id,
                              &report->arena, error);
    }
    return status;
}

static enum status write_all(struct plan_report *plan_report, struct error *error)
{
    struct report *report = &plan_report->report;
    enum status status = load(plan_report, error);
    if (status == STATUS_OK) {
        (void)snprintf(report->model_error, sizeof report->model_error, "Decode: %s.",
                       plan_report->page->answer->error[COST_DECODE].words);
        status = report_make(report, write_page, error);
    }
    return status;
}

enum status plan_page_write(const struct plan_page *page, struct error *error)
{
    struct report_options options = {
        .results = page->results, .out = page->out, .run_id = page->plan_id};
    struct plan_report *plan_report = calloc(1, sizeof *plan_report);
    if (plan_report == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct report *report = &plan_report->report;
    plan_report->page = page;
    report->options = &options;
    (void)snprintf(report->run_id, sizeof report->run_id, "%s", page->plan_id);
    enum status status = store_open(&report->store, page->results, false, error);
    if (status == STATUS_OK) {
        status = write_all(plan_report, error);
    }
    figures_free(&report->figures);
    rows_free(&report->run);
    store_close(report->store);
    arena_free(&report->arena);
    free(plan_report);
    return status;
}
