/* plan_page_tiles.c -- the winner's key numbers with their intervals, atop a plan's page. */
#include "plan_page_internal.h"

#include "format.h"
#include "html.h"
#include "plan_words.h"

static void write_tile(FILE *page, const char *name, const char *value, const char *note)
{
    html_named(page, "<div class=\"tile\"><dt>", name, "</dt><dd class=\"value\">");
    html_named(page, "", value, "</dd><dd class=\"note\">");
    html_named(page, "", note, "</dd></div>\n");
}

/* The percentile that is the target, or the mean. */
static void write_latency_tile(FILE *page, const char *name, double mean_s, const char *mean_note,
                               const struct plan_latency *latency, int32_t percentile)
{
    char value[FORMAT_BYTES], mean[FORMAT_BYTES], note[128];
    (void)snprintf(note, sizeof note, "%s", mean_note);
    format_ns(value, mean_s * 1e9);
    for (int32_t i = 0; i < PLAN_PERCENTILES && percentile > 0; i++) {
        if (plan_percentiles[i] == percentile) {
            (void)snprintf(note, sizeof note, "at p%d, request by request; %s on average",
                           (int)percentile, format_ns(mean, latency->mean_s * 1e9));
            format_ns(value, latency->percentile_s[i] * 1e9);
        }
    }
    write_tile(page, name, value, note);
}

/* With its interval by the models' errors; behind it what else is to be said. */
static void write_amount_tile(FILE *page, const char *name, double usd,
                              const struct plan_range *range, const struct plan_deployment *winner,
                              enum plan_amount amount, const char *more, const struct money *money)
{
    bool is_known = plan_amount_is_known(winner, amount);
    bool is_vague = plan_amount_is_vague(winner, amount);
    char value[FORMAT_BYTES], ends[96], note[192];
    const char *of_models = is_vague ? " by held-out errors, unknown of half the step and more"
                                     : " as models and engines were off";
    if (!is_known) {
        of_models = "models not fitted to measurements: error unknown";
    } else if (range->high == range->low) {
        of_models = "whole groups: the models\xe2\x80\x99 error moves none";
    }
    bool has_ends = is_known && range->high > range->low;
    (void)snprintf(note, sizeof note, "%s%s%s",
                   has_ends ? plan_range_money(ends, sizeof ends, range, &money->shown) : "",
                   of_models, more);
    write_tile(page, name, format_money(value, usd, &money->shown), note);
}

/* A mean's note, with its interval where there is one. */
static void say_latency_note(char *note, size_t bytes, const char *words,
                             const struct plan_range *range_s, bool is_known)
{
    char ends[96];
    (void)snprintf(note, bytes, "%s%s%s", words, is_known ? "; " : "",
                   is_known ? plan_range_time(ends, sizeof ends, range_s) : "");
}

void plan_page_write_tiles(FILE *page, const struct plan *plan, const struct plan_answer *answer)
{
    char value[FORMAT_BYTES], note[128];
    struct money money = plan_money(plan);
    if (answer->winner < 0) {
        return;
    }
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    const struct plan_interval *interval = &winner->interval;
    fputs("<section aria-labelledby=\"numbers\">\n<h2 id=\"numbers\">Key numbers</h2>\n"
          "<dl class=\"tiles\">\n",
          page);
    write_amount_tile(page, "A day", winner->cost.usd_total, &interval->usd_per_day, winner,
                      PLAN_OF_BOTH, "", &money);
    write_amount_tile(page, "A million input tokens", winner->cost.usd_per_million_input,
                      &interval->usd_per_million_input, winner, PLAN_OF_INPUT,
                      plan->traffic.cached_share > 0.0 ? "; cached ones included" : "", &money);
    write_amount_tile(page, "A million output tokens", winner->cost.usd_per_million_output,
                      &interval->usd_per_million_output, winner, PLAN_OF_OUTPUT, "", &money);
    (void)snprintf(value, sizeof value, "%d", (int)winner->num_gpus);
    write_tile(page, "GPUs", value, "in the busiest hour");
    say_latency_note(note, sizeof note, "mean of the busiest hour", &interval->ttft_s,
                     plan_amount_is_known(winner, PLAN_OF_INPUT));
    write_latency_tile(page, "Time to first token", winner->ttft_s, note, &winner->ttft,
                       plan->ttft_percentile);
    say_latency_note(note, sizeof note, "of a full batch", &interval->tpot_s,
                     plan_amount_is_known(winner, PLAN_OF_OUTPUT));
    write_latency_tile(page, "Time per output token", winner->tpot_s, note, &winner->tpot,
                       plan->tpot_percentile);
    fputs("</dl>\n</section>\n", page);
}
