/*
 * compare.h -- simulations side by side on threads.
 */
#ifndef MOESIM_COMPARE_H
#define MOESIM_COMPARE_H

#include "cli/options.h"
#include "cli/variant.h"

#define VARIANTS_MAX 1000

/* Runs opened variants that are not left out, num_threads at a time. Each is one thread and a
 * function of its inputs alone, so the results do not depend on num_threads. An optional variant
 * that fails is left out; of the others the first failure, in order, is reported. */
MUST_CHECK enum status compare_simulate(struct variant *variants, int32_t count,
                                        int32_t num_threads, struct error *error);

/* Opens, simulates, judges, stores and prints variants whose scenario and label are set; makes the
 * page if options->report is. Returns the exit code; variants [count] are the caller's to close. */
int compare_run(struct variant *variants, int32_t count, const struct cli_options *options,
                struct error *error);

#endif
