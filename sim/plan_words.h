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

/* Whose errors an amount carries: of shared pools those of both. */
enum plan_amount { PLAN_OF_BOTH, PLAN_OF_INPUT, PLAN_OF_OUTPUT };

/* Whether anything that such an amount rests on has a measured error; and whether less than half of
 * some step behind it has. */
bool plan_amount_is_known(const struct plan_deployment *deployment, enum plan_amount amount);
bool plan_amount_is_vague(const struct plan_deployment *deployment, enum plan_amount amount);

/* "$1.20 to $1.35", "$1.20 either way", "47.1 ms to 49.9 ms"; they return text. */
char *plan_range_money(char *text, size_t bytes, const struct plan_range *range,
                       const struct currency *currency);
char *plan_range_time(char *text, size_t bytes, const struct plan_range *range_s);

/* What a day's cost leaves of an income, in percent, to a tenth and never a negative zero. */
double plan_margin(double usd, double income_usd);

/* Of plan_sentence: the winner's intervals; and, where the interval of its cost is much narrower
 * than the models' errors because groups come whole, that it is (false: it is not). */
void plan_say_interval(char *line, size_t bytes, const struct plan *plan,
                       const struct plan_deployment *deployment);
/* Of plan_assumption: what of the time to the first token is the engine's host. */
void plan_say_host(char *line, size_t bytes, const struct plan *plan);
bool plan_say_whole_groups(char *line, size_t bytes, const struct plan_answer *answer,
                           const struct plan_deployment *deployment);

/* Sentence number index (from 0) of the answer: the winner, what binds it, the reference. False
 * behind the last. */
bool plan_sentence(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer, int32_t index);

/* The same of what the figures rest on. */
bool plan_assumption(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer, int32_t index);

/* Sentence number index of what the plan's file of requests says of a day; false behind the last,
 * and without a file. */
bool plan_say_arrivals(char *line, size_t bytes, const struct plan *plan, int32_t index);

/* How finalists' requests differ, and when they come. */
const char *plan_served_words(const struct plan *plan);

/* Of plan_percentiles those that are shown: p95 where a target is one. */
bool plan_shows_percentile(const struct plan *plan, int32_t index);

/* Of plan_sentence, where finalists were simulated (num_served > 0): the winner's percentiles, or
 * those of the finalist that comes nearest; and why none of them meets the targets. */
void plan_say_served(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer);
void plan_say_missed(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer);

/* Why no deployment on a kind of GPU meets the targets. */
void plan_say_none_of(char *line, size_t bytes, const struct plan *plan,
                      const struct plan_answer *answer, int32_t gpu);

/* Appends to line, which holds a sentence, the searched lists at whose edge the best is of a target
 * that nothing meets. */
void plan_say_edges(char *line, size_t bytes, const struct plan *plan,
                    const struct plan_answer *answer);

/* Without a winner or finalists: each target beside the best there is. */
void plan_say_none(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer);

#endif
