/*
 * plan_words_interval.c -- what the models' errors make of the winner's figures, and why whole
 * groups may hide some of it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "plan_internal.h"
#include "plan_words.h"

#define HIDDEN     0.5 /* of the error of GPU time, that of a day's cost is less */
#define VAGUE      0.5 /* of a step's time has a known error */
#define MOSTLY     0.9
#define RANGE_TEXT (2 * FORMAT_BYTES + 8)

/* The least of the shares of time that pools behind the amount know the error of, or the most. */
static double known_share(const struct plan_deployment *deployment, enum plan_amount amount,
                          bool is_least)
{
    const double *share = deployment->interval.known_share;
    bool both = deployment->shared || amount == PLAN_OF_BOTH;
    return both ? (is_least ? fmin(share[COST_PREFILL], share[COST_DECODE])
                            : fmax(share[COST_PREFILL], share[COST_DECODE]))
                : share[amount == PLAN_OF_INPUT ? COST_PREFILL : COST_DECODE];
}

bool plan_amount_is_known(const struct plan_deployment *deployment, enum plan_amount amount)
{
    return known_share(deployment, amount, false) > 0.0;
}

bool plan_amount_is_vague(const struct plan_deployment *deployment, enum plan_amount amount)
{
    return known_share(deployment, amount, true) < VAGUE;
}

char *plan_range_money(char *text, size_t bytes, const struct plan_range *range,
                       const struct currency *currency)
{
    char low[FORMAT_BYTES], high[FORMAT_BYTES];
    format_money(low, range->low, currency);
    format_money(high, range->high, currency);
    (void)snprintf(text, bytes, strcmp(low, high) == 0 ? "%s either way" : "%s to %s", low, high);
    return text;
}

char *plan_range_time(char *text, size_t bytes, const struct plan_range *range_s)
{
    char low[FORMAT_BYTES], high[FORMAT_BYTES];
    (void)snprintf(text, bytes, "%s to %s", format_ns(low, range_s->low * 1e9),
                   format_ns(high, range_s->high * 1e9));
    return text;
}

double plan_margin(double usd, double income_usd)
{
    return rint(1000.0 * (1.0 - usd / income_usd)) / 10.0 + 0.0;
}

/* "1", "20 to 23". */
static void say_groups(char text[RANGE_TEXT], const struct plan_range *groups)
{
    int length = snprintf(text, RANGE_TEXT, "%.0f", groups->low);
    if (groups->high > groups->low) {
        (void)snprintf(text + length, RANGE_TEXT - (size_t)length, " to %.0f", groups->high);
    }
}

static void say_all_groups(char *text, size_t bytes, const struct plan_deployment *deployment)
{
    char prefill[RANGE_TEXT], decode[RANGE_TEXT];
    const struct plan_range *groups = deployment->interval.groups;
    say_groups(prefill, &groups[COST_PREFILL]);
    say_groups(decode, &groups[COST_DECODE]);
    if (deployment->shared) {
        (void)snprintf(text, bytes, "%s group%s", prefill,
                       groups[COST_PREFILL].high > 1.0 ? "s" : "");
    } else {
        (void)snprintf(text, bytes, "%s group%s for prefill and %s for decode", prefill,
                       groups[COST_PREFILL].high > 1.0 ? "s" : "", decode);
    }
}

/* What has no measured error widens no interval. */
static void say_unknown(char *text, size_t bytes, const struct plan_deployment *deployment)
{
    const double *share = deployment->interval.known_share;
    text[0] = '\0';
    if (fmin(share[COST_PREFILL], share[COST_DECODE]) < MOSTLY) {
        (void)snprintf(text, bytes,
                       " (none is known of %.0f %% of prefill's step and %.0f %% of decode's)",
                       100.0 * (1.0 - share[COST_PREFILL]), 100.0 * (1.0 - share[COST_DECODE]));
    }
}

/* A target that the error alone could miss. */
static const char *say_at_risk(const struct plan *plan, const struct plan_deployment *deployment)
{
    bool ttft = plan->ttft_s > 0.0 && plan->ttft_percentile == 0 &&
                deployment->interval.ttft_s.high > plan->ttft_s;
    bool tpot = plan->tpot_s > 0.0 && plan->tpot_percentile == 0 &&
                deployment->interval.tpot_s.high > plan->tpot_s;
    return ttft && tpot ? "; at the upper end it misses both targets, and what meets them is dearer"
           : ttft ? "; at the upper end it misses the TTFT target, and what meets it is dearer"
           : tpot ? "; at the upper end it misses the TPOT target, and what meets it is dearer"
                  : "";
}

void plan_say_interval(char *line, size_t bytes, const struct plan *plan,
                       const struct plan_deployment *deployment)
{
    const struct plan_interval *interval = &deployment->interval;
    struct money money = plan_money(plan);
    char unknown[96], day[RANGE_TEXT], request[RANGE_TEXT], input[RANGE_TEXT], output[RANGE_TEXT],
        ttft[RANGE_TEXT], tpot[RANGE_TEXT], groups[3 * RANGE_TEXT];
    if (!plan_amount_is_known(deployment, PLAN_OF_BOTH)) {
        (void)snprintf(line, bytes,
                       "None of these figures has an interval: no part of its steps has a measured "
                       "error (see error).");
        return;
    }
    say_all_groups(groups, sizeof groups, deployment);
    say_unknown(unknown, sizeof unknown, deployment);
    (void)snprintf(
        line, bytes,
        "By what models and whole engines were off%s, a day costs %s, a request %s, a million "
        "input tokens %s, "
        "a million output tokens %s, with %s; TTFT %s, TPOT %s%s.",
        unknown, plan_range_money(day, sizeof day, &interval->usd_per_day, &money.shown),
        plan_range_money(request, sizeof request, &interval->usd_per_request, &money.shown),
        plan_range_money(input, sizeof input, &interval->usd_per_million_input, &money.shown),
        plan_range_money(output, sizeof output, &interval->usd_per_million_output, &money.shown),
        groups, plan_range_time(ttft, sizeof ttft, &interval->ttft_s),
        plan_range_time(tpot, sizeof tpot, &interval->tpot_s), say_at_risk(plan, deployment));
}

void plan_say_host(char *line, size_t bytes, const struct plan *plan)
{
    struct plan_range factor;
    bool is_known = plan_ttft_error(&factor, plan);
    char error[128] = "";
    if (plan->engine[0] == '\0') {
        if (is_known) {
            (void)snprintf(error, sizeof error,
                           "; whole engines' first tokens took %.0f %% longer without it in the "
                           "median of 560 published rows",
                           100.0 * (factor.high - 1.0));
        }
        (void)snprintf(line, bytes,
                       "the engine's host is not in TTFT (engine: vllm or trtllm puts it there)%s",
                       error);
        return;
    }
    if (is_known) {
        (void)snprintf(error, sizeof error,
                       "; with it whole engines' first tokens were %.0f %% off in the median, "
                       "each model by the others' rows",
                       100.0 * plan->host.error_median);
    }
    (void)snprintf(line, bytes, "of TTFT %g ms are the host's of %s%s", plan->host.request_ms,
                   plan->host.name, error);
}

bool plan_say_whole_groups(char *line, size_t bytes, const struct plan_answer *answer,
                           const struct plan_deployment *deployment)
{
    const struct plan_range *day = &deployment->interval.usd_per_day;
    struct plan_range work = plan_work_error(deployment, answer->point);
    double usd = deployment->cost.usd_total;
    double wide = (day->high - day->low) / usd;
    char groups[3 * RANGE_TEXT];
    if (!plan_amount_is_known(deployment, PLAN_OF_BOTH) ||
        wide >= HIDDEN * (work.low + work.high)) {
        return false;
    }
    say_all_groups(groups, sizeof groups, deployment);
    (void)snprintf(line, bytes,
                   "That interval is narrow because GPUs come in whole groups, not because the "
                   "models are sure: their errors are %.1f %% less to %.1f %% more GPU time, and "
                   "%s %s for all of it.",
                   100.0 * work.low, 100.0 * work.high, groups,
                   deployment->interval.groups[COST_PREFILL].high > 1.0 || !deployment->shared
                       ? "are enough"
                       : "is enough");
    return true;
}
