/*
 * compare_plan.h -- from --vary, --strategies and --sensitivity to the variants of a comparison.
 */
#ifndef MOESIM_COMPARE_PLAN_H
#define MOESIM_COMPARE_PLAN_H

#include "cli/options.h"
#include "cli/variant.h"

#define SETTINGS_MAX (VARY_MAX + 2)

/* One variant to be: what it sets beside the options' overrides. */
struct planned {
    char label[LABEL_BYTES];
    char name[LABEL_BYTES];  /* the strategy where it is varied, else the label */
    char group[LABEL_BYTES]; /* the other settings; "": none */
    char setting[SETTINGS_MAX][LABEL_BYTES];
    int32_t num_settings;
    bool optional; /* asked for by "all" or --sensitivity: left out where it cannot be */
};

struct compare_plan {
    struct planned *planned; /* [count] owned */
    int32_t count;
};

/* Loads the scenario with the first value of every --vary. With --strategies it has one that is
 * asked, so that it knows its interval and a missing one is told. */
MUST_CHECK enum status compare_plan_base(struct scenario *base, const struct cli_options *options,
                                         struct error *error);

/* Checks the options and lists all combinations, the last --vary fastest, strategies fastest of
 * all; then those of --sensitivity, one key at a time. Returns -1 to go on, else the exit code,
 * with the problem told. base is of compare_plan_base. */
int compare_plan_make(struct compare_plan *plan, const struct cli_options *options,
                      const char *command, const struct scenario *base);
void compare_plan_free(struct compare_plan *plan); /* safe on a zeroed struct */

/* Loads the scenario of a planned variant. */
MUST_CHECK enum status compare_plan_load(struct variant *variant, const struct planned *planned,
                                         const struct cli_options *options, struct error *error);

#endif
