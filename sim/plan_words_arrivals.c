/* plan_words_arrivals.c -- what a plan takes from its file of requests, and what it was told. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "plan_words.h"

/* The largest of 24 normal variates is on average so many standard deviations above their mean
 * (Harter 1961, Expected values of normal order statistics). */
#define MAX_OF_24 1.948

static const char *file_name(const struct plan_arrivals *arrivals)
{
    const char *slash = strrchr(arrivals->path, '/');
    return slash != NULL ? slash + 1 : arrivals->path;
}

/* "; 1 M a day are planned, as asked"; nothing where the file's amount is. */
static void say_asked(char *text, size_t bytes, double planned, double of_file, const char *what)
{
    char count[FORMAT_BYTES];
    if (planned != of_file) {
        format_append(text, bytes, "; %s %s are planned, as asked", format_count(count, planned),
                      what);
    }
}

static void say_requests(char *line, size_t bytes, const struct plan *plan)
{
    const struct plan_arrivals *arrivals = &plan->arrivals;
    const struct cost_traffic *of_file = &arrivals->traffic;
    char span[FORMAT_BYTES], day[FORMAT_BYTES], failed[64] = "";
    double hours = arrivals->span_s / 3600.0;
    (void)snprintf(span, sizeof span,
                   hours < 1.0    ? "%.3g min"
                   : hours < 48.0 ? "%.3g h"
                                  : "%.3g days",
                   hours < 1.0    ? hours * 60.0
                   : hours < 48.0 ? hours
                                  : hours / 24.0);
    if (arrivals->file.num_failed > 0) {
        (void)snprintf(failed, sizeof failed, " (%lld more without tokens left out)",
                       (long long)arrivals->file.num_failed);
    }
    (void)snprintf(line, bytes,
                   "%lld requests of %s in %.80s%s: %s a day at their rate; input %.0f tokens on "
                   "average (standard deviation %.2f of it), output %.0f (%.2f)",
                   (long long)arrivals->file.count, span, file_name(arrivals), failed,
                   format_count(day, of_file->requests_per_day), of_file->input_tokens,
                   of_file->input_cv, of_file->output_tokens, of_file->output_cv);
    say_asked(line, bytes, plan->traffic.requests_per_day, of_file->requests_per_day,
              "requests a day");
    say_asked(line, bytes, plan->traffic.input_tokens, of_file->input_tokens, "input tokens");
    say_asked(line, bytes, plan->traffic.output_tokens, of_file->output_tokens, "output tokens");
}

static void say_busiest(char *line, size_t bytes, const struct plan *plan)
{
    const struct plan_arrivals *arrivals = &plan->arrivals;
    double peak = cost_peak_over_mean(&arrivals->traffic);
    double of_stretch = (double)arrivals->file.count / (double)HOURS_A_DAY;
    if (plan_arrivals_have_days(arrivals)) {
        (void)snprintf(line, bytes,
                       "the day is the mean of the file's days, hour 0 from its first request on: "
                       "the busiest hour has %.2f x the mean, the busiest of any single day %.2f x",
                       peak, arrivals->busiest_over_mean);
    } else {
        char stretch[FORMAT_BYTES];
        (void)snprintf(line, bytes,
                       "less than a day: the file stands for a day and each 24th of it, %s, for an "
                       "hour; the busiest has %.2f x the mean (even traffic of so many requests "
                       "would show %.2f x by chance)",
                       format_ns(stretch, arrivals->stretch_s * 1e9), peak,
                       1.0 + MAX_OF_24 / sqrt(of_stretch));
    }
    if (memcmp(plan->traffic.hour_weight, arrivals->traffic.hour_weight,
               sizeof plan->traffic.hour_weight) != 0) {
        format_append(line, bytes, "; %.2f x is planned, as asked",
                      cost_peak_over_mean(&plan->traffic));
    }
}

static void say_cached(char *line, size_t bytes, const struct plan *plan)
{
    char share[FORMAT_BYTES], planned[FORMAT_BYTES];
    double of_file = plan->arrivals.traffic.cached_share;
    (void)snprintf(line, bytes,
                   "prefix cache: %s of the file's input tokens were said before, an upper bound "
                   "for a cache that begins empty: it forgets nothing and serves all replicas; ",
                   format_percent(share, of_file));
    if (plan->traffic.cached_share == of_file) {
        format_append(line, bytes, "that is planned, give traffic.cached_share what yours answers");
    } else {
        format_append(line, bytes, "%s is planned, as asked",
                      format_percent(planned, plan->traffic.cached_share));
    }
}

bool plan_say_arrivals(char *line, size_t bytes, const struct plan *plan, int32_t index)
{
    const struct plan_arrivals *arrivals = &plan->arrivals;
    if (arrivals->file.count == 0 || index > (arrivals->file.num_hashes > 0 ? 2 : 1)) {
        return false;
    }
    switch (index) {
    case 0:
        say_requests(line, bytes, plan);
        return true;
    case 1:
        say_busiest(line, bytes, plan);
        return true;
    default:
        say_cached(line, bytes, plan);
        return true;
    }
}

const char *plan_served_words(const struct plan *plan)
{
    if (plan->arrivals.file.count == 0) {
        return "lengths with a deviation of 0.7 means";
    }
    return plan_arrivals_have_times(&plan->arrivals)
               ? "with the file's requests from its busiest stretch on, at their times, all "
                 "stretches at the rate of the busiest hour"
               : "with the lengths of the file's requests from its busiest stretch on, at Poisson "
                 "times: too few of them for theirs";
}
