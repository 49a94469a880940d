/*
 * answer.c -- the run in plain words: an answer of a few sentences, and the key numbers.
 *
 * Every time and cost stands beside the error of the model it comes from.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "format.h"
#include "html.h"
#include "report_internal.h"

/* Dollars of a column in the currency of the run's price. */
static char *money_text(const struct report *report, char *amount, const char *name)
{
    return format_money(amount, report_number(report, name), &report->money.shown);
}

static bool has_experts(const struct report *report)
{
    return report_number(report, "assignments") > 0;
}

static bool has_ranks(const struct report *report)
{
    return report_number(report, "ep") > 1.0;
}

static bool is_offloaded(const struct report *report)
{
    return report_text(report, "hits_share")[0] != '\0';
}

static double dropped_fraction(const struct report *report)
{
    return report_number(report, "dropped_assignments") / report_number(report, "assignments");
}

static void write_balance(const struct report *report, FILE *page)
{
    double over_mean = report_number(report, "rank_tokens_max_over_mean");
    if (!has_experts(report)) {
        fputs("This model has no experts: nothing is routed, and no rank is busier than another. ",
              page);
    } else if (!has_ranks(report)) {
        fputs("All experts are on one rank, so no rank can be busier than another. ", page);
    } else {
        fprintf(page,
                "In the mean layer and step the busiest rank carries <strong>%.2f\xc3\x97</strong> "
                "the mean load. ",
                over_mean);
    }
}

static void write_time(const struct report *report, FILE *page)
{
    char step[FORMAT_BYTES], transfer[FORMAT_BYTES], waiting[FORMAT_BYTES];
    double transfer_share =
        report_number(report, "dispatch_share") + report_number(report, "combine_share");
    format_ns(step, report_number(report, "step_ns_mean"));
    html_percent(transfer, transfer_share);
    html_percent(waiting, report_number(report, "waiting_share"));
    fprintf(page, "A %s step takes <strong>%s</strong>", report_text(report, "phase"), step);
    if (transfer_share > 0) {
        fprintf(page,
                "; dispatch and combine take <strong>%s</strong> of it and waiting for slower "
                "ranks %s",
                transfer, waiting);
    }
    if (is_offloaded(report)) {
        fprintf(page,
                "; waiting for experts takes <strong>%s</strong> of it, as GPUs hold %s of those "
                "that are wanted",
                html_percent(waiting, report_number(report, "fetch_share")),
                html_percent(transfer, report_number(report, "hits_share")));
    }
    fputs(". ", page);
}

/* Requests that come and go, of moesim serve; else full steps alone. */
static bool has_requests(const struct report *report)
{
    return report_text(report, "usd_per_million_new")[0] != '\0';
}

static void write_served_cost(const struct report *report, FILE *page)
{
    char batch[FORMAT_BYTES], served[FORMAT_BYTES], price[FORMAT_BYTES];
    fprintf(page,
            "A million tokens of such batches cost %s at %s a GPU-hour; as they are served, idle "
            "time paid, a million answer tokens cost <strong>%s</strong>. ",
            money_text(report, batch, "usd_per_million_tokens"),
            money_text(report, price, "usd_per_gpu_hour"),
            money_text(report, served, "usd_per_million_new"));
}

static void write_cost(const struct report *report, FILE *page)
{
    char cost[FORMAT_BYTES], price[FORMAT_BYTES];
    if (has_requests(report)) {
        write_served_cost(report, page);
        return;
    }
    money_text(report, cost, "usd_per_million_tokens");
    money_text(report, price, "usd_per_gpu_hour");
    fprintf(page, "A million %stokens cost <strong>%s</strong> at %s a GPU-hour. ",
            strcmp(report_text(report, "phase"), "prefill") == 0 ? "input " : "", cost, price);
}

static void write_drops(const struct report *report, FILE *page)
{
    char dropped[FORMAT_BYTES], what_if[FORMAT_BYTES];
    if (!has_experts(report)) {
        return;
    }
    html_percent(dropped, dropped_fraction(report));
    html_percent(what_if, report_number(report, "dropped_share_at_1_25"));
    const char *scope = strcmp(report_text(report, "capacity_scope"), "rank") == 0
                            ? "counted for each source rank"
                            : "counted over the step";
    if (report_number(report, "capacity_factor") > 0) {
        fprintf(page,
                "Capacity factor %g, %s, drops <strong>%s</strong> of all assignments; at 1.25 it "
                "would be %s. ",
                report_number(report, "capacity_factor"), scope, dropped, what_if);
    } else {
        fprintf(page,
                "Nothing is dropped; at capacity factor 1.25, %s, <strong>%s</strong> of all "
                "assignments would be. ",
                scope, what_if);
    }
}

static void write_rebalancing(const struct report *report, FILE *page)
{
    char share[FORMAT_BYTES];
    double changes = report_number(report, "num_rebalances");
    if (changes < 1) {
        return;
    }
    html_percent(share, report_number(report, "rebalance_share"));
    fprintf(page, "Waiting for moved weights, %.0f time%s, took %s of its time. ", changes,
            changes > 1 ? "s" : "", share);
}

static void write_currency(const struct report *report, FILE *page)
{
    char note[MONEY_NOTE_BYTES];
    if (money_note(note, &report->money)[0] != '\0') {
        html_named(page, "All ", note, "; the CSV files are in dollars. ");
    }
}

static void write_advice(const struct report *report, FILE *page)
{
    fputs("<dl class=\"advice\">\n", page);
    for (int32_t i = 0; i < report->options->num_advice; i++) {
        const struct report_advice *advice = &report->options->advice[i];
        html_named(page, "<dt>", advice->topic, "</dt>");
        html_named(page, "<dd>", advice->text, "</dd>\n");
    }
    fputs("</dl>\n", page);
}

void answer_write(const struct report *report, FILE *page)
{
    if (report->options->num_advice > 0) {
        write_advice(report, page);
        return;
    }
    if (report_text(report, "verdict")[0] != '\0') {
        fputs("<p class=\"answer\">", page);
        html_text(page, report_text(report, "verdict"));
        fputs("</p>\n", page);
    }
    fputs("<p class=\"answer\">", page);
    write_balance(report, page);
    write_time(report, page);
    write_cost(report, page);
    write_currency(report, page);
    write_drops(report, page);
    write_rebalancing(report, page);
    fputs("</p>\n", page);
}

/* value and note are plain text. */
static void write_tile(FILE *page, const char *name, const char *value, const char *note)
{
    fputs("<div class=\"tile\"><dt>", page);
    html_text(page, name);
    fputs("</dt><dd class=\"value\">", page);
    html_text(page, value);
    fputs("</dd><dd class=\"note\">", page);
    html_text(page, note);
    fputs("</dd></div>\n", page);
}

static void write_balance_tile(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], note[128];
    snprintf(value, sizeof value, "%.2f\xc3\x97 the mean",
             report_number(report, "rank_tokens_max_over_mean"));
    snprintf(note, sizeof note, "mean over layers and steps; balancedness %.2f",
             report_number(report, "balancedness"));
    write_tile(page, "Busiest rank", value, note);
}

static void write_exchange_tile(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], waiting[FORMAT_BYTES], note[128];
    html_percent(value,
                 report_number(report, "dispatch_share") + report_number(report, "combine_share"));
    snprintf(note, sizeof note, "of a step; waiting for slower ranks: %s",
             html_percent(waiting, report_number(report, "waiting_share")));
    write_tile(page, "Dispatch and combine", value, note);
}

static void write_offload_tile(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], best[FORMAT_BYTES], waiting[FORMAT_BYTES], note[160];
    snprintf(note, sizeof note,
             "of those wanted, by %s; any policy at most %s. Waiting: %s of a step",
             report_text(report, "offload_policy"),
             html_percent(best, report_number(report, "best_hits_share")),
             html_percent(waiting, report_number(report, "fetch_share")));
    write_tile(page, "Experts on the GPU", html_percent(value, report_number(report, "hits_share")),
               note);
}

static void write_drop_tile(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], note[128];
    double factor = report_number(report, "capacity_factor");
    html_percent(value, dropped_fraction(report));
    if (report_number(report, "dropped_assignments") <= 0) {
        snprintf(value, sizeof value, "none");
    }
    if (factor > 0) {
        snprintf(note, sizeof note, "capacity factor %g, scope %s", factor,
                 report_text(report, "capacity_scope"));
    } else {
        snprintf(note, sizeof note, "no capacity limit");
    }
    write_tile(page, "Dropped assignments", value, note);
}

/* One rank is never busier than another, and sends nothing. */
static void write_expert_tiles(const struct report *report, FILE *page)
{
    if (has_ranks(report)) {
        write_balance_tile(report, page);
    }
    if (is_offloaded(report)) {
        write_offload_tile(report, page);
    }
    write_drop_tile(report, page);
    if (has_ranks(report)) {
        write_exchange_tile(report, page);
    }
}

static void write_latency_tile(const struct report *report, FILE *page, const char *title,
                               const char *median, const char *p99, const char *error)
{
    char value[FORMAT_BYTES], slow[FORMAT_BYTES], note[MODEL_ERROR_BYTES + 128];
    snprintf(note, sizeof note, "median; 99 of 100 within %s; %s",
             format_ns(slow, report_number(report, p99)), error);
    write_tile(page, title, format_ns(value, report_number(report, median)), note);
}

/* What users wait and what is paid for them: a full step's own would look like theirs. */
static void write_serving_tiles(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], all[FORMAT_BYTES], note[MODEL_ERROR_BYTES + 96];
    char first_error[MODEL_ERROR_BYTES];
    answer_first_error(first_error, sizeof first_error, report);
    write_latency_tile(report, page, "First token", "first_ns_p50", "first_ns_p99", first_error);
    write_latency_tile(report, page, "Each further token", "further_ns_p50", "further_ns_p99",
                       report->model_error_short);
    snprintf(note, sizeof note, "idle time is paid; %s a million with prompts; %s",
             money_text(report, all, "usd_per_million_all"), report->model_error_short);
    write_tile(page, "A million answer tokens", money_text(report, value, "usd_per_million_new"),
               note);
}

static void write_step_tiles(const struct report *report, FILE *page)
{
    char value[FORMAT_BYTES], price[FORMAT_BYTES], note[MODEL_ERROR_BYTES + 64];
    write_tile(page, "Time of a step", format_ns(value, report_number(report, "step_ns_mean")),
               report->model_error_short);
    write_tile(page, "Tokens a second and GPU",
               format_count(value, report_number(report, "tokens_per_s_per_gpu")),
               report->model_error_short);
    snprintf(note, sizeof note, "at %s a GPU-hour; %s",
             money_text(report, price, "usd_per_gpu_hour"), report->model_error_short);
    write_tile(page, "Cost of a million tokens",
               money_text(report, value, "usd_per_million_tokens"), note);
}

void answer_write_tiles(const struct report *report, FILE *page)
{
    fputs("<dl class=\"tiles\">\n", page);
    if (has_requests(report)) {
        write_serving_tiles(report, page);
    } else {
        write_step_tiles(report, page);
    }
    if (has_experts(report)) {
        write_expert_tiles(report, page);
    }
    fputs("</dl>\n", page);
}
