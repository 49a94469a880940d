/*
 * print_plan.h -- a plan's answer on a terminal and as JSON.
 */
#ifndef MOESIM_PRINT_PLAN_H
#define MOESIM_PRINT_PLAN_H

#include <cjson/cJSON.h>

#include "api_price.h"
#include "plan.h"

void print_plan(const struct plan *plan, const struct plan_answer *answer,
                const struct api_price_list *prices);

/* The winner, or the first of a kind that meets the targets, for deployments are in order of cost;
 * -1: none. */
int32_t plan_cheapest_of(const struct plan_answer *answer, int32_t gpu);

/* NULL: no memory. */
cJSON *plan_json(const struct plan *plan, const struct plan_answer *answer,
                 const struct api_price_list *prices);

#endif
