/*
 * compare.h -- simulations side by side on threads.
 */
#ifndef MOESIM_COMPARE_H
#define MOESIM_COMPARE_H

#include "cli/compare_plan.h"
#include "cli/options.h"
#include "cli/variant.h"
#include "study.h"

#define VARIANTS_MAX 1000

/* Runs opened variants that are not left out, num_threads at a time. Each is one thread and a
 * function of its inputs alone, so the results do not depend on num_threads. An optional variant
 * that fails is left out; of the others the first failure, in order, is reported. */
MUST_CHECK enum status compare_simulate(struct variant *variants, int32_t count,
                                        int32_t num_threads, struct error *error);

/* Loads the scenario of every planned variant; those that are optional and cannot be are left out.
 * variants [plan->count] is compare_close's to release, after a failure too. */
MUST_CHECK enum status compare_load(struct variant **variants, const struct compare_plan *plan,
                                    const struct cli_options *options, struct error *error);
void compare_close(struct variant *variants, int32_t count); /* safe on NULL */

/* Opens, simulates and judges loaded variants. study->run [study->num_runs] is the caller's to
 * free. */
MUST_CHECK enum status compare_judge(struct study *study, struct variant *variants, int32_t count,
                                     const struct cli_options *options, struct error *error);

/* The run that a comparison's page is about: of the first group, the winner. */
const char *compare_winner(const struct study *study);

/* Stores the variants that were not left out, and what was judged. */
MUST_CHECK enum status compare_store(const struct study *study, struct variant *variants,
                                     int32_t count, const char *results, struct error *error);

/* Opens, simulates, judges, stores and prints variants whose scenario and label are set; makes the
 * page if options->report is. Returns the exit code; variants [count] are the caller's to close. */
int compare_run(struct variant *variants, int32_t count, const struct cli_options *options,
                struct error *error);

#endif
