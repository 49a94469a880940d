/*
 * plan_arrivals.c -- the day of a file of requests.
 *
 * With n_h requests of c_h seconds that fall into hour h of the day,
 *
 *     requests a day = sum over h of n_h / c_h * 3600,     weight of h = n_h / c_h
 *
 * which of whole days, and of a file that stands for one, is requests over span times a day.
 *
 * Left out: weekdays, growth within the file, and that requests in stretches laid over each other
 * are less even than their mean.
 */
#include "plan_arrivals.h"

#include <math.h>

#define TIMES_MIN  100.0 /* requests a stretch: their number is even to 10 % by chance */
#define CACHED_MAX 0.999 /* as traffic.cached_share */
#define SPAN_MIN_S 1e-6

void plan_arrivals_free(struct plan_arrivals *arrivals)
{
    arrivals_free(&arrivals->file);
}

bool plan_arrivals_have_days(const struct plan_arrivals *arrivals)
{
    return arrivals->span_s >= SECONDS_A_DAY;
}

bool plan_arrivals_have_times(const struct plan_arrivals *arrivals)
{
    return (double)arrivals->file.count * arrivals->stretch_s >= TIMES_MIN * arrivals->span_s;
}

static double since_s(const struct plan_arrivals *arrivals, int64_t request)
{
    return arrivals->file.arrival[request].arrival_s - arrivals->file.arrival[0].arrival_s;
}

/* The last request of a shorter file belongs to the stretch that it ends. */
static int64_t stretch_of(const struct plan_arrivals *arrivals, int64_t request)
{
    int64_t stretch = (int64_t)(since_s(arrivals, request) / arrivals->stretch_s);
    bool is_behind = stretch >= HOURS_A_DAY && !plan_arrivals_have_days(arrivals);
    return is_behind ? HOURS_A_DAY - 1 : stretch;
}

/* Of a stretch's first request, the first of the next one that has any. */
static int64_t stretch_end(const struct plan_arrivals *arrivals, int64_t begin)
{
    int64_t end = begin + 1;
    int64_t stretch = stretch_of(arrivals, begin);
    while (end < arrivals->file.count && stretch_of(arrivals, end) == stretch) {
        end++;
    }
    return end;
}

/* Seconds of the file within a stretch; the last of several days may be cut. */
static double stretch_length_s(const struct plan_arrivals *arrivals, int64_t stretch)
{
    double rest_s = arrivals->span_s - (double)stretch * arrivals->stretch_s;
    return fmin(arrivals->stretch_s, fmax(rest_s, 0.0));
}

/* Seconds of the file within an hour of the day. */
static double covered_s(const struct plan_arrivals *arrivals, int32_t hour)
{
    double days = floor(arrivals->span_s / SECONDS_A_DAY);
    if (!plan_arrivals_have_days(arrivals)) {
        return arrivals->stretch_s;
    }
    double rest_s = arrivals->span_s - days * SECONDS_A_DAY - (double)hour * arrivals->stretch_s;
    return days * arrivals->stretch_s + fmin(arrivals->stretch_s, fmax(rest_s, 0.0));
}

/* Mean and coefficient of variation of prompts, or answers. */
static void measure(double *mean, double *cv, const struct arrivals *file, bool is_input)
{
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < file->count; i++) {
        sum += is_input ? file->arrival[i].prompt_tokens : file->arrival[i].decode_tokens;
    }
    *mean = sum / (double)file->count;
    for (int64_t i = 0; i < file->count; i++) {
        int32_t tokens = is_input ? file->arrival[i].prompt_tokens : file->arrival[i].decode_tokens;
        squares += (tokens - *mean) * (tokens - *mean);
    }
    *cv = sqrt(squares / (double)file->count) / *mean;
}

static void count_day(struct plan_arrivals *arrivals)
{
    struct cost_traffic *traffic = &arrivals->traffic;
    double sum = 0.0;
    for (int64_t i = 0; i < arrivals->file.count; i++) {
        traffic->hour_weight[stretch_of(arrivals, i) % HOURS_A_DAY] += 1.0;
    }
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        traffic->hour_weight[hour] /= covered_s(arrivals, hour);
        sum += traffic->hour_weight[hour];
    }
    traffic->requests_per_day = sum * SECONDS_A_DAY / (double)HOURS_A_DAY;
}

/* Of stretches that the file has whole. */
static void find_busiest(struct plan_arrivals *arrivals)
{
    double mean = (double)arrivals->file.count * arrivals->stretch_s / arrivals->span_s;
    int64_t most = 0;
    for (int64_t begin = 0; begin < arrivals->file.count;) {
        int64_t end = stretch_end(arrivals, begin);
        double length_s = stretch_length_s(arrivals, stretch_of(arrivals, begin));
        bool is_whole = length_s >= arrivals->stretch_s || !plan_arrivals_have_days(arrivals);
        if (is_whole && end - begin > most) {
            most = end - begin;
            arrivals->busiest_begin = begin;
        }
        begin = end;
    }
    arrivals->busiest_over_mean = (double)most / mean;
}

enum status plan_arrivals_read(struct plan_arrivals *arrivals, struct error *error)
{
    struct cost_traffic *traffic = &arrivals->traffic;
    struct arrivals *file = &arrivals->file;
    enum status status = arrivals_read(file, arrivals->path, ARRIVALS_UNKNOWN, error);
    if (status == STATUS_OK) {
        arrivals->span_s = since_s(arrivals, file->count - 1);
        status = arrivals_cached_share(&traffic->cached_share, file);
    }
    if (status == STATUS_OK && arrivals->span_s < SPAN_MIN_S) {
        status = error_add(error, STATUS_INVALID,
                           "%s: all requests come at the same time, which says nothing of a day",
                           arrivals->path);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool has_days = plan_arrivals_have_days(arrivals);
    arrivals->stretch_s = (has_days ? SECONDS_A_DAY : arrivals->span_s) / (double)HOURS_A_DAY;
    traffic->cached_share = fmin(traffic->cached_share, CACHED_MAX);
    measure(&traffic->input_tokens, &traffic->input_cv, file, true);
    measure(&traffic->output_tokens, &traffic->output_cv, file, false);
    count_day(arrivals);
    find_busiest(arrivals);
    return STATUS_OK;
}

/* A request's lengths when the file's means become those of traffic. */
static struct arrival scale(const struct plan_arrivals *arrivals, int64_t request,
                            const struct cost_traffic *traffic)
{
    const struct arrival *from = &arrivals->file.arrival[request];
    double input = from->prompt_tokens * (traffic->input_tokens / arrivals->traffic.input_tokens);
    double output =
        from->decode_tokens * (traffic->output_tokens / arrivals->traffic.output_tokens);
    return (struct arrival){
        .prompt_tokens = (int32_t)fmin(fmax(round(input), 1.0), ARRIVALS_TOKENS_MAX),
        .decode_tokens = (int32_t)fmin(fmax(round(output), 1.0), ARRIVALS_TOKENS_MAX)};
}

int32_t plan_arrivals_longest(const struct plan_arrivals *arrivals,
                              const struct cost_traffic *traffic)
{
    int32_t longest = 0;
    for (int64_t i = 0; i < arrivals->file.count; i++) {
        struct arrival scaled = scale(arrivals, i, traffic);
        int32_t tokens = scaled.prompt_tokens + scaled.decode_tokens;
        longest = tokens > longest ? tokens : longest;
    }
    return longest;
}

/* Stretch by stretch: each takes as long as its requests do at the rate. */
static void take_times(struct arrivals *drawn, const struct plan_arrivals *arrivals,
                       double rate_per_s)
{
    const struct arrivals *file = &arrivals->file;
    int64_t begin = arrivals->busiest_begin;
    for (int64_t taken = 0; taken < drawn->count;) {
        int64_t end = stretch_end(arrivals, begin);
        int64_t stretch = stretch_of(arrivals, begin);
        double begin_s = (double)stretch * arrivals->stretch_s;
        double length_s = stretch_length_s(arrivals, stretch);
        for (int64_t i = begin; i < end && taken + i - begin < drawn->count; i++) {
            double share = length_s > 0.0 ? (since_s(arrivals, i) - begin_s) / length_s : 0.0;
            double place = (double)taken + fmin(share, 1.0) * (double)(end - begin);
            drawn->arrival[taken + i - begin].arrival_s = place / rate_per_s;
        }
        taken += end - begin;
        begin = end < file->count ? end : 0;
    }
}

enum status plan_arrivals_draw(struct arrivals *drawn, const struct plan_arrivals *arrivals,
                               const struct cost_traffic *traffic, double rate_per_s,
                               double duration_s, uint64_t seed, struct error *error)
{
    const struct arrivals *file = &arrivals->file;
    bool has_times = plan_arrivals_have_times(arrivals);
    const struct arrivals_law law = {.rate_per_s = rate_per_s,
                                     .cv = has_times ? 0.0 : 1.0, /* evenly, until they are known */
                                     .duration_s = duration_s,
                                     .prompt_tokens = 1.0,
                                     .decode_tokens = 1.0,
                                     .seed = seed};
    enum status status = arrivals_generate(drawn, &law, error);
    for (int64_t i = 0; i < drawn->count && status == STATUS_OK; i++) {
        double arrival_s = drawn->arrival[i].arrival_s;
        drawn->arrival[i] = scale(arrivals, (arrivals->busiest_begin + i) % file->count, traffic);
        drawn->arrival[i].arrival_s = arrival_s;
    }
    if (status == STATUS_OK && has_times) {
        take_times(drawn, arrivals, rate_per_s);
    }
    return status;
}
