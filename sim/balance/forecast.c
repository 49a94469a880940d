/*
 * forecast.c -- the variogram of expert loads, and the weights of steps that follow from it.
 *
 * With x(t) the tokens of an expert in a step and m its mean, and sums over experts,
 *     sum (x(t + k) - x(t))^2 / (2 sum m^2)  =  noise + drift (1 - decay^k)        on average
 * for every lag k, without knowing what the means are. For each candidate decay both variances are
 * a least-squares fit; the candidate that misses least is taken. Steps t and u then have the
 * covariance C = drift decay^|t - u| + noise [t = u], and b with the mean step of the interval. The
 * weights that sum to 1 and leave the least variance are
 *     w = C^-1 b + (1 - 1' C^-1 b) / (1' C^-1 1) C^-1 1.
 * Steps older than the newest FORECAST_STEPS_MAX are one observation, their mean; how far that is
 * from the newest steps' mean is one equation more.
 */
#include "balance/forecast.h"

#include <math.h>
#include <string.h>

#define FIT_EXPERTS_MAX 1536 /* in layers that lie evenly among all */

static const double decays[] = {0.0,  0.3,  0.5,  0.65, 0.75, 0.82,  0.87,
                                0.91, 0.94, 0.96, 0.98, 0.99, 0.995, 0.999};
static const int32_t lags[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48};
#define NUM_DECAYS ((int32_t)(sizeof decays / sizeof decays[0]))
#define NUM_LAGS   ((int32_t)(sizeof lags / sizeof lags[0]))

/* Half the squared difference of two means: of one step each, lag apart; or, in the last, of the
 * newest steps and the old ones. */
struct variogram {
    double value[NUM_LAGS + 1];
    double pairs[NUM_LAGS + 1]; /* that value is a mean of; 0: not known */
    double squared;             /* sum of m^2 */
};

static double power_of(double base, double exponent)
{
    double power = 1.0;
    for (int64_t left = (int64_t)exponent; left > 0; left /= 2) {
        power *= left % 2 == 1 ? base : 1.0;
        base *= base;
    }
    return power;
}

/* 1 + d + ... + d^(count - 1), over count. */
static double mean_power(double decay, double count)
{
    return (1.0 - power_of(decay, count)) / ((1.0 - decay) * count);
}

/* The variance of the mean of consecutive steps, drift 1 and no noise. */
static double mean_variance(double decay, double count)
{
    return (1.0 + decay - 2.0 * decay * mean_power(decay, count)) / ((1.0 - decay) * count);
}

static const int32_t *tokens_at(const struct balance_input *input, int32_t back, int32_t layer)
{
    int64_t step = input->num_steps - 1 - back;
    return input->step_tokens + (step * input->num_layers + layer) * input->num_experts;
}

static double sum_of(const double *value, int32_t count)
{
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        sum += value[i];
    }
    return sum;
}

/* Sum over experts and pairs of steps that lie lag apart. */
static double sum_pairs(double *squares, const struct forecast *forecast,
                        const struct balance_input *input, int32_t layer, int32_t lag)
{
    memset(squares, 0, (size_t)input->num_experts * sizeof *squares);
    for (int32_t back = 0; back + lag < forecast->num_steps; back++) {
        const int32_t *later = tokens_at(input, back, layer);
        const int32_t *tokens = tokens_at(input, back + lag, layer);
#pragma omp simd
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            double difference = later[expert] - tokens[expert];
            squares[expert] += difference * difference;
        }
    }
    return sum_of(squares, input->num_experts);
}

/* newest  [num_experts]  scratch: sums over the newest steps */
static void add_means(struct variogram *variogram, double *newest, const struct forecast *forecast,
                      const struct balance_input *input, int32_t layer, const double *sum_tokens)
{
    double steps = forecast->num_steps;
    memset(newest, 0, (size_t)input->num_experts * sizeof *newest);
    for (int32_t back = 0; back < forecast->num_steps; back++) {
        const int32_t *tokens = tokens_at(input, back, layer);
#pragma omp simd
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            newest[expert] += tokens[expert];
        }
    }
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        double mean = sum_tokens[expert] / (steps + forecast->old_steps);
        variogram->squared += mean * mean;
        if (forecast->old_steps > 0.0) {
            double apart = newest[expert] / steps -
                           (sum_tokens[expert] - newest[expert]) / forecast->old_steps;
            variogram->value[NUM_LAGS] += 0.5 * apart * apart;
        }
    }
}

static void measure(struct variogram *variogram, double *scratch, const struct forecast *forecast,
                    const struct balance_input *input, const double *sum_tokens)
{
    int32_t count = FIT_EXPERTS_MAX / input->num_experts;
    count = count < 1 ? 1 : count < input->num_layers ? count : input->num_layers;
    for (int32_t i = 0; i < count; i++) {
        int32_t layer = (int32_t)((int64_t)i * input->num_layers / count);
        for (int32_t at = 0; at < NUM_LAGS && 3 * lags[at] <= 2 * forecast->num_steps; at++) {
            double pairs = forecast->num_steps - lags[at];
            variogram->pairs[at] = pairs;
            variogram->value[at] +=
                0.5 / pairs * sum_pairs(scratch, forecast, input, layer, lags[at]);
        }
        add_means(variogram, scratch, forecast, input, layer,
                  sum_tokens + (int64_t)layer * input->num_experts);
    }
    variogram->pairs[NUM_LAGS] = forecast->old_steps > 0.0 ? forecast->num_steps : 0.0;
    for (int32_t at = 0; at <= NUM_LAGS; at++) {
        variogram->value[at] /= variogram->squared > 0.0 ? variogram->squared : 1.0;
    }
}

/* What noise and drift of 1 add to a value of the variogram. */
static void share_of(double *noise, double *drift, const struct forecast *forecast, int32_t at,
                     double decay)
{
    double steps = forecast->num_steps;
    double old_steps = forecast->old_steps;
    if (at < NUM_LAGS) {
        *noise = 1.0;
        *drift = 1.0 - power_of(decay, lags[at]);
        return;
    }
    *noise = 0.5 * (1.0 / steps + 1.0 / old_steps);
    *drift = 0.5 * (mean_variance(decay, steps) + mean_variance(decay, old_steps)) -
             decay * mean_power(decay, steps) * mean_power(decay, old_steps);
}

/* Least squares; a variance is not negative. Near lags count more: what they say is asked for. */
static double fit_decay(double *noise, double *drift, const struct variogram *variogram,
                        const struct forecast *forecast, double decay)
{
    double nn = 0.0, nd = 0.0, dd = 0.0, nv = 0.0, dv = 0.0, vv = 0.0;
    for (int32_t at = 0; at <= NUM_LAGS; at++) {
        if (variogram->pairs[at] > 0.0) {
            double n, d;
            double value = variogram->value[at];
            double lag =
                at < NUM_LAGS ? lags[at] : 0.5 * (forecast->num_steps + forecast->old_steps);
            double weight = variogram->pairs[at] / lag;
            share_of(&n, &d, forecast, at, decay);
            nn += weight * n * n;
            nd += weight * n * d;
            dd += weight * d * d;
            nv += weight * n * value;
            dv += weight * d * value;
            vv += weight * value * value;
        }
    }
    double determinant = nn * dd - nd * nd;
    *noise = determinant > 1e-9 * nn * dd ? (nv * dd - dv * nd) / determinant : -1.0;
    *drift = determinant > 1e-9 * nn * dd ? (dv * nn - nv * nd) / determinant : 0.0;
    if (*noise < 0.0 || *drift < 0.0) {
        double noise_alone = nn > 0.0 ? nv * nv / nn : 0.0;
        double drift_alone = dd > 0.0 ? dv * dv / dd : 0.0;
        *noise = noise_alone >= drift_alone && nn > 0.0 ? nv / nn : 0.0;
        *drift = noise_alone < drift_alone ? dv / dd : 0.0;
    }
    return vv - 2.0 * (*noise * nv + *drift * dv) + *noise * *noise * nn +
           2.0 * *noise * *drift * nd + *drift * *drift * dd;
}

static void fit_variogram(struct forecast *forecast, const struct variogram *variogram)
{
    double least = HUGE_VAL;
    for (int32_t at = 0; at < NUM_DECAYS; at++) {
        double noise, drift;
        double missed = fit_decay(&noise, &drift, variogram, forecast, decays[at]);
        if (missed < least) {
            least = missed;
            forecast->decay = decays[at];
            forecast->noise = noise;
            forecast->drift = drift;
        }
    }
}

/* Solves C (y, z) = (y, z), C symmetric and positive, by Cholesky; C becomes its factor. */
static void solve(double *matrix, double *y, double *z, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        double *row = matrix + (int64_t)i * count;
        for (int32_t j = 0; j <= i; j++) {
            const double *other = matrix + (int64_t)j * count;
            double rest = row[j];
            for (int32_t k = 0; k < j; k++) {
                rest -= row[k] * other[k];
            }
            row[j] = j < i ? rest / other[j] : sqrt(rest);
        }
        for (int32_t k = 0; k < i; k++) {
            y[i] -= row[k] * y[k];
            z[i] -= row[k] * z[k];
        }
        y[i] /= row[i];
        z[i] /= row[i];
    }
    for (int32_t i = count - 1; i >= 0; i--) {
        for (int32_t k = i + 1; k < count; k++) {
            y[i] -= matrix[(int64_t)k * count + i] * y[k];
            z[i] -= matrix[(int64_t)k * count + i] * z[k];
        }
        y[i] /= matrix[(int64_t)i * count + i];
        z[i] /= matrix[(int64_t)i * count + i];
    }
}

/* C of the observations, newest first, the old ones' mean last; and b. */
static void set_covariance(double *matrix, double *b, const struct forecast *forecast,
                           int32_t count, double interval_steps)
{
    int32_t steps = forecast->num_steps;
    double drift = forecast->drift;
    double decay = forecast->decay;
    double noise = forecast->noise + 1e-6 * drift; /* never singular */
    double ahead = drift * decay * mean_power(decay, interval_steps);
    double old = count > steps ? mean_power(decay, forecast->old_steps) : 1.0;
    for (int32_t i = 0; i < count; i++) {
        double of_row = i < steps ? 1.0 : old;
        double power = drift * of_row;
        for (int32_t j = i; j >= 0; j--) {
            matrix[(int64_t)i * count + j] = power;
            power *= decay;
        }
        matrix[(int64_t)i * count + i] += noise;
        b[i] = ahead * of_row * power_of(decay, i);
    }
    if (count > steps) {
        matrix[(int64_t)count * count - 1] =
            noise / forecast->old_steps + drift * mean_variance(decay, forecast->old_steps);
    }
}

enum status forecast_weigh(struct forecast *forecast, int32_t interval_steps, struct arena *scratch)
{
    int32_t steps = forecast->num_steps;
    int32_t count = steps + (forecast->old_steps > 0.0);
    if (count == 0) {
        return STATUS_OK; /* nothing was seen */
    }
    double *matrix = arena_take(scratch, (size_t)count * (size_t)(count + 2), sizeof *matrix);
    if (matrix == NULL) {
        return STATUS_NO_MEMORY;
    }
    double *level = matrix + (int64_t)count * count;
    double *mean = level + count;
    if (forecast->noise + forecast->drift <= 0.0) {
        forecast->noise = 1.0; /* no step differs, or there is one only: the mean */
    }
    set_covariance(matrix, level, forecast, count, interval_steps);
    for (int32_t i = 0; i < count; i++) {
        mean[i] = 1.0;
    }
    solve(matrix, level, mean, count);
    forecast->keep = sum_of(level, count);
    double share = (1.0 - forecast->keep) / sum_of(mean, count);
    forecast->sum_weight =
        count > steps ? (level[steps] + share * mean[steps]) / forecast->old_steps : 0.0;
    for (int32_t i = 0; i < steps; i++) {
        forecast->step_weight[i] = level[i] + share * mean[i] - forecast->sum_weight;
    }
    return STATUS_OK;
}

enum status forecast_fit(struct forecast *forecast, const struct balance_input *input,
                         int32_t interval_steps, const double *sum_tokens, double seen_steps)
{
    struct variogram variogram = {0};
    int32_t steps = input->num_steps < FORECAST_STEPS_MAX ? input->num_steps : FORECAST_STEPS_MAX;
    *forecast = (struct forecast){.num_steps = steps, .old_steps = seen_steps - steps};
    double *scratch = arena_take(input->scratch, (size_t)input->num_experts, sizeof *scratch);
    if (scratch == NULL) {
        return STATUS_NO_MEMORY;
    }
    measure(&variogram, scratch, forecast, input, sum_tokens);
    fit_variogram(forecast, &variogram);
    return forecast_weigh(forecast, interval_steps, input->scratch);
}

void forecast_layer(double *tokens, const struct forecast *forecast,
                    const struct balance_input *input, int32_t layer, const double *sum_tokens)
{
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        tokens[expert] = forecast->sum_weight * sum_tokens[expert];
    }
    for (int32_t back = 0; back < forecast->num_steps; back++) {
        const int32_t *step = tokens_at(input, back, layer);
        double weight = forecast->step_weight[back];
#pragma omp simd
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            tokens[expert] += weight * step[expert];
        }
    }
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        tokens[expert] = tokens[expert] > 0.0 ? tokens[expert] : 0.0;
    }
}
