/*
 * price.h -- what an hour of a GPU costs: presets of scenarios/prices/, files and numbers.
 */
#ifndef MOESIM_PRICE_H
#define MOESIM_PRICE_H

#include "cluster.h"
#include "model.h"
#include "money.h"
#include "status.h"

struct price {
    char name[NAME_BYTES];
    char source[SOURCE_BYTES];
    char date[NAME_BYTES];
    char gpu[NAME_BYTES]; /* the preset it is a price of */
    double usd_per_gpu_hour;
    struct currency currency; /* that it was given in */
};

/* Loads a preset of scenarios/prices/ by name, or a YAML path. It gives usd_per_gpu_hour, or
 * per_gpu_hour with a currency and what one of it is in dollars. Errors as model_load. */
MUST_CHECK enum status price_load(struct price *price, const char *name_or_path,
                                  struct error *error);

/* The same, of this GPU (NULL: of any): what follows the GPU's family in a preset's name will do,
 * so that "neocloud" is h100-neocloud with an h100-sxm; and a number is dollars a GPU-hour. */
MUST_CHECK enum status price_load_for(struct price *price, const char *name,
                                      const struct gpu_spec *gpu, struct error *error);

/* What is told of a GPU where nothing is asked for: of the kinds of offer that presets are named
 * after, the first that there is for it. STATUS_INVALID: there is none. */
MUST_CHECK enum status price_load_usual(struct price *price, const struct gpu_spec *gpu,
                                        struct error *error);

#endif
