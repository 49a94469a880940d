/*
 * arrivals_generate.c -- requests that nobody recorded.
 *
 * With the expected number of requests until t,
 *
 *     N(t) = rate (t + swing day / (2 pi) sin(2 pi (t / day - 1/2))),
 *
 * the i-th comes when N(t) is the sum of i gaps of mean 1 and the given coefficient of variation
 * (gamma, shape 1 / cv^2). Without a swing that is a renewal process, with cv 1 a Poisson process,
 * with both a Poisson process of that rate (time rescaling: Cinlar 1975, 4.7). Lengths are
 * log-normal by mean and coefficient of variation, rounded, at least 1; or whole numbers between
 * the mean less a spread and the mean more it, as likely as each other, as benchmarks of engines
 * draw them.
 */
#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdlib.h>

#include "arrivals.h"
#include "rng.h"

#define DAY_S    86400.0
#define TWO_PI   6.283185307179586
#define US_PER_S 1e6

static double expected(const struct arrivals_law *law, double t_s)
{
    double swing = law->day_swing * DAY_S / TWO_PI * sin(TWO_PI * (t_s / DAY_S - 0.5));
    return law->rate_per_s * (t_s + swing);
}

/* The time at which expected() reaches a number: it never falls, so halving finds it. */
static double time_of(const struct arrivals_law *law, double number)
{
    double spread_s = law->day_swing * DAY_S / TWO_PI + 1.0;
    double low_s = fmax(0.0, number / law->rate_per_s - spread_s);
    double high_s = number / law->rate_per_s + spread_s;
    if (law->day_swing == 0.0) {
        return round(number / law->rate_per_s * US_PER_S) / US_PER_S;
    }
    while (high_s - low_s > 0.1 / US_PER_S && high_s > nextafter(low_s, high_s)) {
        double middle_s = low_s + (high_s - low_s) / 2.0;
        if (expected(law, middle_s) < number) {
            low_s = middle_s;
        } else {
            high_s = middle_s;
        }
    }
    return round(high_s * US_PER_S) / US_PER_S;
}

static int32_t draw_tokens(gsl_rng *rng, double mean, double cv, double spread)
{
    if (spread > 0.0) {
        int32_t low = (int32_t)lround(fmax((1.0 - spread) * mean, 1.0));
        int32_t high = (int32_t)lround((1.0 + spread) * mean);
        return low + (int32_t)gsl_rng_uniform_int(rng, (unsigned long)(high - low) + 1);
    }
    if (cv == 0.0) {
        return (int32_t)lround(mean);
    }
    double variance = log(1.0 + cv * cv);
    double tokens = gsl_ran_lognormal(rng, log(mean) - variance / 2.0, sqrt(variance));
    return (int32_t)lround(fmin(fmax(tokens, 1.0), 1e9));
}

/* False: nobody comes any more. */
static bool next_arrival(double *arrival_s, double *number, const struct arrivals_law *law,
                         int64_t count, gsl_rng *gaps)
{
    double shape = law->cv > 0.0 ? 1.0 / (law->cv * law->cv) : 0.0;
    *arrival_s = 0.0;
    if (law->num_requests > 0) {
        return count < law->num_requests;
    }
    *number += law->cv > 0.0 ? gsl_ran_gamma(gaps, shape, 1.0 / shape) : 1.0;
    *arrival_s = time_of(law, *number + expected(law, 0.0));
    return *arrival_s < law->duration_s;
}

static enum status draw(struct arrivals *arrivals, const struct arrivals_law *law, gsl_rng *gaps,
                        gsl_rng *prompts, gsl_rng *answers, struct error *error)
{
    int64_t capacity = 0;
    double number = 0.0;
    double arrival_s = 0.0;
    /* Ends: the mean gap is 1, and duration_s is finite. */
    while (next_arrival(&arrival_s, &number, law, arrivals->count, gaps)) {
        if (arrivals->count == capacity) {
            capacity = capacity == 0 ? 4096 : 2 * capacity;
            void *larger = realloc(arrivals->arrival, (size_t)capacity * sizeof *arrivals->arrival);
            if (larger == NULL) {
                return error_add(error, STATUS_NO_MEMORY, "no memory for %lld requests",
                                 (long long)capacity);
            }
            arrivals->arrival = larger;
        }
        arrivals->arrival[arrivals->count++] = (struct arrival){
            .arrival_s = arrival_s,
            .prompt_tokens =
                draw_tokens(prompts, law->prompt_tokens, law->prompt_cv, law->prompt_spread),
            .decode_tokens =
                draw_tokens(answers, law->decode_tokens, law->decode_cv, law->decode_spread)};
    }
    if (arrivals->count == 0) {
        return error_add(error, STATUS_INVALID,
                         "no request comes in %g s at %g a second: give them more time",
                         law->duration_s, law->rate_per_s);
    }
    return STATUS_OK;
}

enum status arrivals_generate(struct arrivals *arrivals, const struct arrivals_law *law,
                              struct error *error)
{
    *arrivals = (struct arrivals){.num_tags = 1};
    arrivals->tag = calloc(1, sizeof *arrivals->tag);
    gsl_rng *gaps = rng_stream(law->seed, "arrival gaps", 0);
    gsl_rng *prompts = rng_stream(law->seed, "arrival prompts", 0);
    gsl_rng *answers = rng_stream(law->seed, "arrival answers", 0);
    enum status status = STATUS_NO_MEMORY;
    if (arrivals->tag != NULL && gaps != NULL && prompts != NULL && answers != NULL) {
        status = draw(arrivals, law, gaps, prompts, answers, error);
    } else {
        status = error_add(error, status, "no memory for requests");
    }
    gsl_rng *const all[] = {gaps, prompts, answers};
    for (size_t i = 0; i < 3; i++) {
        if (all[i] != NULL) {
            gsl_rng_free(all[i]);
        }
    }
    return status;
}
