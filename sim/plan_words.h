/*
 * plan_words.h -- a plan's answer in sentences, for terminal and page.
 */
#ifndef MOESIM_PLAN_WORDS_H
#define MOESIM_PLAN_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "plan.h"

/* What the prices of its GPUs are shown in. */
struct money plan_money(const struct plan *plan);

/* Sentence number index (from 0) of the answer: the winner, what binds it, the reference. False
 * behind the last. */
bool plan_sentence(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer, int32_t index);

/* The same of what the figures rest on. */
bool plan_assumption(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer, int32_t index);

/* Of plan_percentiles those that are shown: p95 where a target is one. */
bool plan_shows_percentile(const struct plan *plan, int32_t index);

/* Of plan_sentence, where finalists were simulated (num_served > 0): the winner's percentiles, or
 * those of the finalist that comes nearest; and why none of them meets the targets. */
void plan_say_served(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer);
void plan_say_missed(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer);

/* Without a winner or finalists: each target beside the best there is. */
void plan_say_none(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer);

#endif
