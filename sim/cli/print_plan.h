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

/* NULL: no memory. */
cJSON *plan_json(const struct plan *plan, const struct plan_answer *answer,
                 const struct api_price_list *prices);

#endif
