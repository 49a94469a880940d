/* serve_result.c -- from requests and integrals to percentiles and totals. */
#include <math.h>
#include <stdlib.h>

#include "digest.h"
#include "serve/serve_internal.h"

#define NS_PER_S 1e9

const double serve_quantiles[SERVE_QUANTILES] = {0.5, 0.9, 0.95, 0.99, 1.0};

static const char *const measures[] = {
    [SERVE_TTFT] = "ttft", [SERVE_TPOT] = "tpot", [SERVE_ITL] = "itl", [SERVE_E2E] = "e2e"};

static const char *const pools[] = {[SERVE_MAIN] = "main", [SERVE_PREFILL] = "prefill"};

const char *serve_measure_name(enum serve_measure measure)
{
    return measures[measure];
}

const char *serve_pool_name(enum serve_pool_kind pool)
{
    return pools[pool];
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double curve_fraction(int32_t point)
{
    return (double)point / (double)(SERVE_CURVE_POINTS - 1);
}

/* Where the smallest value stands that so many of all are not above. */
static int64_t place_of(double fraction, int64_t count)
{
    int64_t place = (int64_t)ceil(fraction * (double)count) - 1;
    return place > 0 ? place : 0;
}

/* Sorts value. */
static void summarise(struct serve_latency *latency, double *value, int64_t count)
{
    double sum = 0.0;
    qsort(value, (size_t)count, sizeof *value, compare);
    for (int64_t i = 0; i < count; i++) {
        sum += value[i];
    }
    latency->mean_s = count > 0 ? sum / (double)count : 0.0;
    latency->count = count;
    for (int32_t i = 0; i < SERVE_QUANTILES && count > 0; i++) {
        latency->quantile_s[i] = value[place_of(serve_quantiles[i], count)];
    }
    for (int32_t i = 0; i < SERVE_CURVE_POINTS && count > 0; i++) {
        latency->curve_s[i] = value[place_of(curve_fraction(i), count)];
    }
}

/* The gap that so many are before, by the middle of its bin. */
static double gap_s(const struct serving *serving, int64_t place)
{
    int32_t bin = 0;
    for (int64_t below = serving->gap_count[0]; below <= place; bin++) {
        below += serving->gap_count[bin + 1];
    }
    return exp2(((double)bin + 0.5) / GAP_BINS_OCT) / NS_PER_S;
}

static void summarise_gaps(struct serve_latency *latency, const struct serving *serving)
{
    int64_t count = 0;
    for (int32_t bin = 0; bin < GAP_BINS; bin++) {
        count += serving->gap_count[bin];
    }
    latency->mean_s = count > 0 ? serving->gap_sum_ns / (double)count / NS_PER_S : 0.0;
    latency->count = count;
    for (int32_t i = 0; i < SERVE_QUANTILES && count > 0; i++) {
        latency->quantile_s[i] = gap_s(serving, place_of(serve_quantiles[i], count));
    }
    for (int32_t i = 0; i < SERVE_CURVE_POINTS && count > 0; i++) {
        latency->curve_s[i] = gap_s(serving, place_of(curve_fraction(i), count));
    }
}

static double measure_s(const struct serve_request *request, enum serve_measure measure)
{
    int64_t ns = 0;
    switch (measure) {
    case SERVE_TTFT:
        ns = request->first_token_ns - request->arrival_ns;
        break;
    case SERVE_TPOT:
        ns = request->end_ns - request->first_token_ns;
        return (double)ns / NS_PER_S / (double)(request->decode_tokens - 1);
    case SERVE_E2E:
        ns = request->end_ns - request->arrival_ns;
        break;
    case SERVE_ITL:
    case SERVE_MEASURES:
        break;
    }
    return (double)ns / NS_PER_S;
}

static enum status summarise_latencies(struct serving *serving)
{
    struct serve_result *result = serving->result;
    int64_t all = result->totals.num_requests;
    double *value = malloc((size_t)all * sizeof *value);
    if (value == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t measure = 0; measure < SERVE_MEASURES; measure++) {
        int64_t count = 0;
        for (int64_t i = 0; i < all && measure != SERVE_ITL; i++) {
            const struct serve_request *request = &result->request[i];
            bool has_rest = measure != SERVE_TPOT || request->decode_tokens > 1;
            if (request->end_ns >= 0 && has_rest) {
                value[count++] = measure_s(request, (enum serve_measure)measure);
            }
        }
        summarise(&result->latency[measure], value, count);
    }
    summarise_gaps(&result->latency[SERVE_ITL], serving);
    free(value);
    return STATUS_OK;
}

static void count_met(struct serving *serving)
{
    const struct serving_config *config = serving->options->config;
    struct serve_totals *totals = &serving->result->totals;
    int64_t met = 0;
    for (int64_t i = 0; i < totals->num_requests; i++) {
        const struct serve_request *request = &serving->result->request[i];
        bool has_rest = request->decode_tokens > 1;
        bool is_met = request->end_ns >= 0;
        if (is_met && config->ttft_target_s > 0.0) {
            is_met = measure_s(request, SERVE_TTFT) <= config->ttft_target_s;
        }
        if (is_met && config->tpot_target_s > 0.0 && has_rest) {
            is_met = measure_s(request, SERVE_TPOT) <= config->tpot_target_s;
        }
        met += is_met;
    }
    totals->met_fraction = (double)met / (double)totals->num_requests;
    totals->goodput_per_s = (double)met / totals->duration_s;
}

/* Integrals become means, over windows and over the run. */
static enum status finish_series(struct serving *serving, enum serve_pool_kind kind)
{
    struct serve_result *result = serving->result;
    struct serve_totals *totals = &result->totals;
    struct series *series = &serving->series[kind];
    const struct serve_pool *pool = &serving->options->pool[kind];
    double blocks = (double)pool->num_groups * pool->replicas_per_group * (double)pool->kv_blocks;
    double duration_ns = totals->duration_s * NS_PER_S;
    struct serve_window sum = {0};
    struct serve_window *window = calloc((size_t)result->num_windows, sizeof *window);
    result->window[kind] = window;
    if (window == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < result->num_windows && pool->num_groups > 0; i++) {
        double begin_ns = (double)i * (double)serving->window_ns;
        double width_ns = fmax(1.0, fmin((double)serving->window_ns, duration_ns - begin_ns));
        window[i] = series->window[i];
        sum.waiting += window[i].waiting;
        sum.running += window[i].running;
        sum.kv_fraction += window[i].kv_fraction;
        sum.busy += window[i].busy;
        window[i].waiting /= width_ns;
        window[i].running /= width_ns;
        window[i].kv_fraction /= width_ns * blocks;
        window[i].busy /= width_ns * pool->num_groups;
    }
    if (pool->num_groups > 0) {
        double steps = (double)totals->num_steps[kind] * pool->replicas_per_group;
        totals->busy[kind] = sum.busy / duration_ns / pool->num_groups;
        totals->kv_fraction[kind] = sum.kv_fraction / duration_ns / blocks;
        totals->kv_fraction_max[kind] = (double)series->blocks_max / blocks;
        totals->waiting_mean[kind] = sum.waiting / duration_ns;
        totals->running_mean[kind] = sum.running / duration_ns;
        totals->tokens_per_step[kind] =
            steps > 0.0 ? (double)serving->step_tokens[kind] / steps : 0.0;
    }
    return STATUS_OK;
}

enum status serve_summarise(struct serving *serving)
{
    struct serve_result *result = serving->result;
    struct serve_totals *totals = &result->totals;
    int64_t end_ns = serving->now_ns > 0 ? serving->now_ns : 1;
    totals->duration_s = (double)end_ns / NS_PER_S;
    totals->new_tokens_per_s = (double)totals->new_tokens / totals->duration_s;
    totals->read_tokens_per_s = (double)totals->read_tokens / totals->duration_s;
    totals->digest = digest_u64(totals->digest, (uint64_t)totals->preemptions);
    result->window_s = (double)serving->window_ns / NS_PER_S;
    result->num_windows = (int32_t)((end_ns + serving->window_ns - 1) / serving->window_ns);
    result->num_windows =
        result->num_windows < SERIES_WINDOWS ? result->num_windows : SERIES_WINDOWS;
    count_met(serving);
    enum status status = summarise_latencies(serving);
    for (int32_t pool = 0; pool < SERVE_POOLS && status == STATUS_OK; pool++) {
        status = finish_series(serving, (enum serve_pool_kind)pool);
    }
    return status;
}
