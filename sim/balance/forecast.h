/*
 * forecast.h -- what the experts of a layer will have to serve in the steps to come.
 *
 * A window's sum says what was; a placement serves what comes. How fast loads drift, whether they
 * return to their mean and how far steps scatter is fitted once a call, on a few layers, by
 * forecasting the window's own steps from those before them; every layer then needs one weighted
 * sum over its steps. No constant is tuned to a trace.
 */
#ifndef MOESIM_FORECAST_H
#define MOESIM_FORECAST_H

#include "balance/balance.h"

#define FORECAST_STEPS_MAX 64 /* older steps count only in the window's mean */

/* tokens of an expert some steps ahead = keep * level + (1 - keep) * mean, where level gives the
 * newest step the weight gain, the one before gain * (1 - gain), ...; the variance of one step
 * around that is noise * tokens + drift * tokens^2. */
struct forecast {
    double gain;
    double keep;
    double noise; /* 1: every token chooses alone (Poisson); more: tokens choose alike */
    double drift;
};

/* lead_steps: how far ahead the forecast is judged, the middle of the interval. */
MUST_CHECK enum status forecast_fit(struct forecast *forecast, const struct balance_input *input,
                                    int32_t lead_steps);

/* Half of the variance is the formula's, half goes by how much each expert scattered in the window.
 *   tokens    [num_experts]  out
 *   variance  [num_experts]  out */
void forecast_layer(double *tokens, double *variance, const struct forecast *forecast,
                    const struct balance_input *input, int32_t layer);

#endif
