/*
 * plan_serve.h -- a plan's winner as scenarios for moesim serve, which knows queues, percentiles
 * and requests that differ, where the plan knows means.
 */
#ifndef MOESIM_PLAN_SERVE_H
#define MOESIM_PLAN_SERVE_H

#include "plan.h"

#define PLAN_SERVE_ARRIVALS "arrivals.csv"

/* Writes DIRECTORY/serve.yaml and, where prompts are read apart, DIRECTORY/prefill.yaml: all groups
 * of a deployment under a share of the busiest hour's requests, lengths with a standard deviation
 * of 0.7 means. Where traffic comes from a file, its requests are DIRECTORY/arrivals.csv.
 * STATUS_IO, STATUS_NO_MEMORY. */
MUST_CHECK enum status plan_serve_write(const char *directory, const struct plan *plan,
                                        const struct plan_answer *answer,
                                        const struct plan_deployment *deployment, double share,
                                        struct error *error);

#endif
