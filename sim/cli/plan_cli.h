/*
 * plan_cli.h -- a plan from its arguments to its page, for the commands plan and study.
 */
#ifndef MOESIM_PLAN_CLI_H
#define MOESIM_PLAN_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

#define PLAN_OVERRIDES 64

struct plan_arguments {
    const char *plan;    /* file or name; NULL: all comes from overrides */
    const char *results; /* SQLite file */
    const char *report;  /* directory of the page, or NULL */
    const char *serve;   /* directory of the winner's scenarios, or NULL */
    const char *overrides[PLAN_OVERRIDES];
    int32_t num_overrides;
    int32_t num_threads; /* 0: all */
    bool json;
    const char *study;       /* its name, "" of a plan by itself */
    const char *question;    /* of a study, in place of the plan's; or NULL */
    const char *const *lead; /* [num_leads] a study's queries, each a sentence; ?1: plan's id */
    int32_t num_leads;
};

/* Searches, stores, writes the page and prints. Returns the exit code. */
int cli_plan(const struct plan_arguments *arguments, struct error *error);

#endif
