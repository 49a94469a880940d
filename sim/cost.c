/* cost.c -- the arithmetic of cost.h. */
#include "cost.h"

#include <assert.h>
#include <math.h>

#define PI          3.14159265358979323846
#define BUSIEST     15.0 /* hour */
#define MILLION     1e6
#define WATTS_A_KW  1000.0
#define WHOLE_GRAIN 1e-9 /* a group more for less than this share of one is noise */

void cost_flat_day(struct cost_traffic *traffic)
{
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        traffic->hour_weight[hour] = 1.0;
    }
}

void cost_cosine_day(struct cost_traffic *traffic, double peak_over_mean)
{
    assert(peak_over_mean >= 1.0);
    assert(peak_over_mean <= 2.0);
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        double turn = 2.0 * PI * ((double)hour - BUSIEST) / (double)HOURS_A_DAY;
        traffic->hour_weight[hour] = 1.0 + (peak_over_mean - 1.0) * cos(turn);
    }
}

static double weight_mean(const struct cost_traffic *traffic)
{
    double sum = 0.0;
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        assert(traffic->hour_weight[hour] >= 0.0);
        sum += traffic->hour_weight[hour];
    }
    assert(sum > 0.0);
    return sum / (double)HOURS_A_DAY;
}

double cost_peak_over_mean(const struct cost_traffic *traffic)
{
    double peak = 0.0;
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        peak = fmax(peak, traffic->hour_weight[hour]);
    }
    return peak / weight_mean(traffic);
}

/* Tokens of a request that a pool's rate counts. */
static double counted_tokens(const struct cost_traffic *traffic, const struct cost_rates *rates,
                             enum cost_pool pool)
{
    if (pool == COST_DECODE) {
        return traffic->output_tokens;
    }
    return traffic->input_tokens * (rates->counts_cached ? 1.0 : 1.0 - traffic->cached_share);
}

/* GPUs that are busy with a pool's work of the mean hour, without rounding. */
static double gpus_mean(const struct cost_traffic *traffic, const struct cost_rates *rates,
                        enum cost_pool pool)
{
    double tokens_per_s =
        traffic->requests_per_day * counted_tokens(traffic, rates, pool) / SECONDS_A_DAY;
    if (tokens_per_s <= 0.0) {
        return 0.0;
    }
    assert(rates->tokens_per_s_per_gpu[pool] > 0.0);
    return tokens_per_s / (rates->tokens_per_s_per_gpu[pool] * rates->utilisation_max[pool]);
}

static double whole_groups(double gpus, int32_t group_gpus)
{
    if (group_gpus <= 0) {
        return gpus;
    }
    return ceil(gpus / (double)group_gpus - WHOLE_GRAIN) * (double)group_gpus;
}

/* A pool through the day: GPUs of the busiest hour, hours in use and idle. */
static void pass_day(struct cost_day *day, enum cost_pool pool, double mean_gpus,
                     int32_t group_gpus, const struct cost_traffic *traffic)
{
    double mean = weight_mean(traffic);
    day->gpus_peak[pool] = whole_groups(mean_gpus * cost_peak_over_mean(traffic), group_gpus);
    for (int32_t hour = 0; hour < HOURS_A_DAY; hour++) {
        double gpus = whole_groups(mean_gpus * traffic->hour_weight[hour] / mean, group_gpus);
        day->gpu_hours[pool] += gpus;
        day->idle_gpu_hours[pool] += day->gpus_peak[pool] - gpus;
    }
}

/* Dollars of a GPU-hour of useful work. */
static double hour_usd(const struct cost_terms *terms)
{
    double spot_hours = terms->spot_share / (1.0 - terms->spot_lost_share);
    return (1.0 - terms->spot_share) * terms->usd_per_gpu_hour +
           spot_hours * terms->spot_usd_per_gpu_hour;
}

static void charge(struct cost_day *day, enum cost_pool pool, const struct cost_terms *terms)
{
    double kw = terms->watts_per_gpu * terms->pue / WATTS_A_KW;
    double idle_hours = day->idle_gpu_hours[pool] * terms->idle_paid;
    double kwh = kw * (day->gpu_hours[pool] + idle_hours * terms->idle_watts_share);
    double energy_usd = terms->energy_apart ? kwh * terms->usd_per_kwh : 0.0;
    day->energy_kwh += kwh;
    day->energy_usd += energy_usd;
    day->usd[pool] = (day->gpu_hours[pool] + idle_hours) * hour_usd(terms) + energy_usd;
}

/* One pool's hours and dollars become those of the work it did. */
static void split_shared(struct cost_day *day, double prefill_share)
{
    double *const amounts[] = {day->gpu_hours, day->idle_gpu_hours, day->usd};
    for (int32_t i = 0; i < 3; i++) {
        amounts[i][COST_DECODE] = amounts[i][COST_PREFILL] * (1.0 - prefill_share);
        amounts[i][COST_PREFILL] *= prefill_share;
    }
}

static double per_million(double usd, double tokens)
{
    return tokens > 0.0 ? usd / tokens * MILLION : 0.0;
}

/* GPUs that are in use in an hour, split between pools that share them. */
static void use_gpus(struct cost_hour *hour, double weight, const double gpus_mean[COST_POOLS],
                     const struct cost_rates *rates)
{
    double both = gpus_mean[COST_PREFILL] + gpus_mean[COST_DECODE];
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        double share = both > 0.0 ? gpus_mean[pool] / both : 0.0;
        hour->gpus[pool] =
            rates->shared ? share * whole_groups(both * weight, rates->group_gpus[COST_PREFILL])
                          : whole_groups(gpus_mean[pool] * weight, rates->group_gpus[pool]);
        hour->busy_gpus[pool] = gpus_mean[pool] * weight * rates->utilisation_max[pool];
    }
}

void cost_hours(struct cost_hour *hour, const struct cost_terms *terms,
                const struct cost_traffic *traffic, const struct cost_rates *rates)
{
    double mean = weight_mean(traffic), kw = terms->watts_per_gpu * terms->pue / WATTS_A_KW;
    double gpus[COST_POOLS];
    struct cost_hour peak = {0};
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        gpus[pool] = gpus_mean(traffic, rates, (enum cost_pool)pool);
    }
    use_gpus(&peak, cost_peak_over_mean(traffic), gpus, rates);
    for (int32_t i = 0; i < HOURS_A_DAY; i++) {
        hour[i] = (struct cost_hour){0};
        use_gpus(&hour[i], traffic->hour_weight[i] / mean, gpus, rates);
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            hour[i].idle_gpus[pool] = peak.gpus[pool] - hour[i].gpus[pool];
            double paid = hour[i].idle_gpus[pool] * terms->idle_paid;
            double kwh = kw * (hour[i].gpus[pool] + paid * terms->idle_watts_share);
            hour[i].usd += (hour[i].gpus[pool] + paid) * hour_usd(terms) +
                           (terms->energy_apart ? kwh * terms->usd_per_kwh : 0.0);
        }
    }
}

struct cost_day cost_day(const struct cost_terms *terms, const struct cost_traffic *traffic,
                         const struct cost_rates *rates)
{
    assert(terms->spot_lost_share < 1.0);
    struct cost_day day = {0};
    double gpus[COST_POOLS];
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        gpus[pool] = gpus_mean(traffic, rates, (enum cost_pool)pool);
    }
    if (rates->shared) {
        double both = gpus[COST_PREFILL] + gpus[COST_DECODE];
        pass_day(&day, COST_PREFILL, both, rates->group_gpus[COST_PREFILL], traffic);
        charge(&day, COST_PREFILL, terms);
        split_shared(&day, both > 0.0 ? gpus[COST_PREFILL] / both : 0.0);
    } else {
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            pass_day(&day, (enum cost_pool)pool, gpus[pool], rates->group_gpus[pool], traffic);
            charge(&day, (enum cost_pool)pool, terms);
        }
    }
    double input = traffic->requests_per_day * traffic->input_tokens;
    double output = traffic->requests_per_day * traffic->output_tokens;
    day.usd_total = day.usd[COST_PREFILL] + day.usd[COST_DECODE];
    day.usd_per_million_input = per_million(day.usd[COST_PREFILL], input);
    day.usd_per_million_computed_input =
        per_million(day.usd[COST_PREFILL], input * (1.0 - traffic->cached_share));
    day.usd_per_million_output = per_million(day.usd[COST_DECODE], output);
    day.usd_per_million_tokens = per_million(day.usd_total, input + output);
    day.usd_per_request =
        traffic->requests_per_day > 0.0 ? day.usd_total / traffic->requests_per_day : 0.0;
    return day;
}
