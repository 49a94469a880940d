/*
 * api_price.h -- what others sell a model's tokens for, and what that leaves.
 *
 * scenarios/api-prices/MODEL.yaml holds a list; every price has its provider, source and date.
 * Prices move: the date says when each was seen.
 */
#ifndef MOESIM_API_PRICE_H
#define MOESIM_API_PRICE_H

#include <stdint.h>

#include "cost.h"
#include "model.h"
#include "status.h"

#define API_PRICES_MAX 32

struct api_price {
    char provider[NAME_BYTES];
    char sold_as[NAME_BYTES];
    double usd_per_million_input;
    double usd_per_million_cached_input; /* < 0: as input */
    double usd_per_million_output;
    char date[NAME_BYTES];
    char source[SOURCE_BYTES];
};

struct api_price_list {
    int32_t count;
    struct api_price price[API_PRICES_MAX];
};

/* The list of a model, by its preset's name; empty where there is none. STATUS_INVALID with all
 * problems of the file, each with its line. */
MUST_CHECK enum status api_price_load(struct api_price_list *list, const char *model,
                                      struct error *error);

/* The same from a file. */
MUST_CHECK enum status api_price_read(struct api_price_list *list, const char *path,
                                      struct error *error);

/* Dollars a day that the traffic would be billed. */
double api_price_income_usd(const struct api_price *price, const struct cost_traffic *traffic);

#endif
