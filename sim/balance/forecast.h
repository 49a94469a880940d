/*
 * forecast.h -- what the experts of a layer will have to serve in the steps to come.
 *
 * A window's sum says what was; a placement serves what comes. An expert's tokens in a step are
 * taken for a mean of its own, a deviation of which `decay` is left a step later, and noise of the
 * single step. How much there is of each is fitted once a call, on a few layers, to how much steps
 * differ that lie 1, 2, 3, ... apart (the variogram). The best linear unbiased forecast of the
 * interval that comes (ordinary kriging, with time for space) then is one weighted sum over the
 * steps, of the same weights for all experts. No constant is tuned to a trace.
 *
 * Source: N. Cressie, Statistics for Spatial Data, 1993, 2.4, 2.6 and 3.2. Ours takes deviations as
 * shares of an expert's mean, so that hot and cold experts have one variogram.
 */
#ifndef MOESIM_FORECAST_H
#define MOESIM_FORECAST_H

#include "balance/balance.h"

#define FORECAST_STEPS_MAX 64 /* older steps count as one, their mean */

struct forecast {
    int32_t num_steps; /* newest, each with a weight of its own */
    double old_steps;  /* that came before */

    /* Variances, in shares of an expert's mean squared. */
    double drift; /* of the deviation */
    double noise; /* of a step around it */
    double decay;

    double keep; /* how much of the forecast is deviation, and fades; the rest is mean */
    double step_weight[FORECAST_STEPS_MAX]; /* newest first, of tokens */
    double sum_weight;                      /* of tokens summed over all steps seen */
};

/* For the interval_steps behind the window.
 *   sum_tokens  [num_layers][num_experts]  of the seen_steps steps up to the window's last
 * STATUS_NO_MEMORY. */
MUST_CHECK enum status forecast_fit(struct forecast *forecast, const struct balance_input *input,
                                    int32_t interval_steps, const double *sum_tokens,
                                    double seen_steps);

/* The second half of that: sets keep and weights from what comes before them. STATUS_NO_MEMORY. */
MUST_CHECK enum status forecast_weigh(struct forecast *forecast, int32_t interval_steps,
                                      struct arena *scratch);

/* Of a step of the interval.
 *   tokens      [num_experts]  out
 *   sum_tokens  [num_experts]  of the layer, as above */
void forecast_layer(double *tokens, const struct forecast *forecast,
                    const struct balance_input *input, int32_t layer, const double *sum_tokens);

#endif
