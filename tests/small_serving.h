/*
 * small_serving.h -- a replica with steps of the test's own length, and the law of conservation.
 */
#ifndef MOESIM_SMALL_SERVING_H
#define MOESIM_SMALL_SERVING_H

#include "serve/serve.h"

extern struct error small_serving_error;
extern const struct serving_config small_serving_config; /* blocks of 16 tokens, nothing else */

void small_expect(enum status status); /* it is STATUS_OK */

/* 2 ms, 10 us a token, 2 ns a KV entry of sequences, 1 ns a position that a prompt looks back on;
 * of the busiest replica. */
double small_linear_ns(const void *context, const struct step_load *load, int32_t num_replicas);

/* One replica that holds all KV entries there can be. */
struct serve_options small_serving(double (*step_ns)(const void *, const struct step_load *,
                                                     int32_t),
                                   int32_t sequences);

/* Requests, tokens and their times add up. */
void small_check_conservation(const struct serve_result *result, const struct arrivals *arrivals);

#endif
