/*
 * cost.h -- what a day of traffic costs: GPU-hours, dollars, kWh, and dollars a million tokens.
 *
 * A pool of GPUs that does R tokens a second each, at most utilisation_max of the time, needs in an
 * hour with r tokens a second
 *
 *     GPUs(hour) = r / (R utilisation_max)       rounded up to whole groups
 *
 * The most of the day are provisioned. An hour in which fewer are needed leaves the rest idle: idle
 * GPUs cost idle_paid of their price (1: reserved, 0: given back at once). Prefill pays for input
 * tokens, decode for output tokens; where both share GPUs the day's dollars are split by the GPU
 * time that each needs. Arithmetic alone: rates come from a simulation or from measurements, and
 * their error is the caller's to carry on (cost_day with rates of both ends).
 */
#ifndef MOESIM_COST_H
#define MOESIM_COST_H

#include <stdbool.h>
#include <stdint.h>

#define HOURS_A_DAY   24
#define SECONDS_A_DAY 86400.0

/* Of the two kinds of work, and of the pools that do them. */
enum cost_pool { COST_PREFILL, COST_DECODE, COST_POOLS };

/* What an hour of a GPU costs. */
struct cost_terms {
    double usd_per_gpu_hour;
    double spot_share;            /* of GPU-hours that are bought as preemptible */
    double spot_usd_per_gpu_hour; /* of those */
    double spot_lost_share;       /* of their work that preemption undoes */
    double idle_paid;             /* of the price, for GPUs that are scaled down */
    bool energy_apart;            /* the price does not include electricity */
    double watts_per_gpu;         /* busy, with its share of the host; 0: unknown */
    double idle_watts_share;      /* of that, when idle and not given back */
    double pue;                   /* facility over equipment; 1 where watts_per_gpu has it all */
    double usd_per_kwh;
};

/* Requests of a day. */
struct cost_traffic {
    double requests_per_day;
    double input_tokens; /* of a request, cached ones included */
    double output_tokens;
    double input_cv; /* standard deviation over the mean; 0: all alike. Costs need none */
    double output_cv;
    double cached_share;             /* of input tokens that the prefix cache answers */
    double hour_weight[HOURS_A_DAY]; /* relative; all equal: a flat day */
};

/* What GPUs get done. */
struct cost_rates {
    double tokens_per_s_per_gpu[COST_POOLS]; /* input or output tokens, at full load */
    bool counts_cached;                      /* the input rate counts cached tokens too */
    int32_t group_gpus[COST_POOLS];          /* GPUs are added by so many; 0: any fraction of one */
    double utilisation_max[COST_POOLS];      /* share of the full rate that is planned with */
    bool shared;                             /* one pool does both: COST_PREFILL's group counts */
};

struct cost_day {
    double gpus_peak[COST_POOLS]; /* provisioned; shared: all in COST_PREFILL */
    double gpu_hours[COST_POOLS]; /* in use, whole groups; shared: split by work */
    double idle_gpu_hours[COST_POOLS];
    double usd[COST_POOLS]; /* idle hours and energy included */
    double energy_kwh;
    double energy_usd; /* 0 where the price includes it */
    double usd_total;
    double usd_per_million_input;          /* of all input tokens, cached ones included */
    double usd_per_million_computed_input; /* of those that were not cached */
    double usd_per_million_output;
    double usd_per_million_tokens; /* input and output together */
    double usd_per_request;
};

/* An hour of the day; where pools share GPUs, these are split by the work of each. */
struct cost_hour {
    double gpus[COST_POOLS];      /* in use, whole groups */
    double busy_gpus[COST_POOLS]; /* of them, what the work fills at the full rate */
    double idle_gpus[COST_POOLS]; /* of the busiest hour's, those that are scaled down */
    double usd;                   /* idle GPUs and energy included */
};

/* Every hour weighs the same. */
void cost_flat_day(struct cost_traffic *traffic);

/* A day whose busiest hour (15:00) is peak_over_mean times the mean: a cosine, at most 2. */
void cost_cosine_day(struct cost_traffic *traffic, double peak_over_mean);

/* The busiest hour over the mean. */
double cost_peak_over_mean(const struct cost_traffic *traffic);

/* Rates of a pool without work may be 0. */
struct cost_day cost_day(const struct cost_terms *terms, const struct cost_traffic *traffic,
                         const struct cost_rates *rates);

/* The same hour by hour: hour [HOURS_A_DAY] out, whose sums are cost_day's. */
void cost_hours(struct cost_hour *hour, const struct cost_terms *terms,
                const struct cost_traffic *traffic, const struct cost_rates *rates);

#endif
