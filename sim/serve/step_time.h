/*
 * step_time.h -- how long a step of a deployment takes, as a function of its batch.
 *
 * A serving simulation asks for millions of step times; the engine simulates a few dozen. With
 *
 *   a  attention of the busiest replica, from the GPU model, layer by layer
 *   h  output head of the replica that wants most logits, likewise
 *   n  tokens a rank, decode and prefill together, mean over ranks
 *
 *   step(batch) = a + h + rest(n) + own(n of the fullest rank) - own(n)
 *
 * rest(n) is what the engine needs for everything else, with real routing from the trace: dense
 * layers, gate, dispatch, experts, combine and waiting. It is tabulated by direct runs and taken
 * between them along a line of log time over log tokens; points are added until runs in the middle
 * between two of them are met. Below a token a rank, as in a group of eight GPUs that answers one
 * request, steps that decode have points for 1, 2, 4 ... tokens in all: fewer tokens read fewer
 * experts. own(n) is the part of it that follows a rank's own tokens (dense
 * layers, gate, dispatch, combine, exchange). Attention and head are outside, because without
 * micro-batches nothing overlaps them: the sum is then exact. With micro-batches attention hides
 * communication, a is that of the micro-batches one after another, and rest is tabulated for
 * several contexts.
 *
 * A batch may mix sequences that decode with chunks of prompts: projections run once over all
 * tokens, attention over the cache apart for each kind. Where a group does both, steps in which any
 * replica reads have a table of their own, of the engine's prefill phase: prompts of one request
 * stand together, tokens travel by the scenario's prefill_collective, and kernels are those
 * measured behind it.
 *
 * Left out: rebalancing (a strategy places once, by the loads of warm-up steps), steps whose
 * experts are busier than the mean of those sampled, and skewed receivers when ranks hold unequal
 * numbers of tokens.
 */
#ifndef MOESIM_STEP_TIME_H
#define MOESIM_STEP_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"
#include "status.h"
#include "trace.h"

/* What a replica (the scenario's tp ranks that compute attention together) does in a step. */
struct step_load {
    int32_t sequences;        /* that decode */
    int32_t decode_tokens;    /* of them: sequences, times one more than tokens drafted */
    int64_t context_tokens;   /* KV entries of them, summed over sequences */
    int32_t prefill_tokens;   /* of all chunks of prompts */
    int64_t prefill_attended; /* positions that these look back on, summed over tokens */
    int64_t prefill_context;  /* KV entries of these prompts up to the chunk's end, summed */
    int32_t head_tokens;      /* logits that are wanted */
};

/* A chunk of a prompt: tokens first .. first + count - 1 of it. Adds to the load. */
void step_load_add_chunk(struct step_load *load, int64_t first, int32_t count);

#define STEP_CONTEXTS 3 /* of a point, where attention overlaps other work; else one */

/* A point of the table; the rest is measured at several contexts. */
struct step_point {
    int32_t tokens_per_rank;
    int32_t ranks_per_token; /* that share tokens_per_rank = 1, where a step has fewer tokens than
                                there are ranks; else 0 or 1 */
    double extra_ns[STEP_CONTEXTS]; /* attention over the cache, ascending; the first is 0 */
    double rest_ns[STEP_CONTEXTS];
    double own_ns;
    bool reads; /* of steps that read prompts beside answers */
};

static inline double step_point_tokens(const struct step_point *point)
{
    return point->ranks_per_token > 1
               ? (double)point->tokens_per_rank / (double)point->ranks_per_token
               : (double)point->tokens_per_rank;
}

struct rebalance_stalls; /* rebalance_stalls.h */

/* Where points stay, so that a table that is made again need not simulate them, and what moves of
 * experts take. find and keep may be called by several threads; find looks for a point of
 * point->tokens_per_rank, ranks_per_token and reads. */
struct step_store {
    enum status (*find)(void *context, struct step_point *point, bool *found, struct error *error);
    enum status (*keep)(void *context, const struct step_point *point, struct error *error);
    enum status (*find_stalls)(void *context, struct rebalance_stalls *stalls, bool *found,
                               struct error *error);
    enum status (*keep_stalls)(void *context, const struct rebalance_stalls *stalls,
                               struct error *error);
    void *context;
};

struct step_time_options {
    int32_t tokens_per_rank_max; /* largest n that will be asked for; at least 1 */
    int32_t decode_per_rank_max; /* largest n of steps that read no prompt, where they have a table
                                    of their own; 0: one table, of the scenario's phase */
    double tolerance;            /* of a run between two points; 0: 0.02 */
    int32_t num_threads;         /* 0: one. Results do not depend on it */
    /* Called as points are done, total being those known of so far; false stops. NULL: none. */
    bool (*point_done)(void *context, int64_t done, int64_t total);
    void *context;
    const struct step_store *store; /* of this deployment's points; NULL: none */
};

/* How far interpolation was off the runs that tested it, before their points joined the table. */
struct step_time_error {
    int32_t num_runs; /* engine runs in all, with those that the store had */
    int32_t num_tests;
    double median;
    double max;
};

struct step_time;

/* Simulates the scenario's deployment for the table; its phase says which kind of attention the
 * runs have, its batching whose tokens share a step (interleaved where the trace is too short for
 * another). tokens_per_rank, context_tokens, num_steps and rebalancing of the scenario are not
 * used; a slow rank must be slow in every step. trace is NULL for a dense model. Both are borrowed.
 * STATUS_INVALID with the engine's problems. Release with step_time_close. */
MUST_CHECK enum status step_time_open(struct step_time **step_time, const struct scenario *scenario,
                                      const struct trace *trace,
                                      const struct step_time_options *options, struct error *error);
void step_time_close(struct step_time *step_time); /* safe on NULL */

/* The step's length for the loads of the group's replicas (ep / tp of them), or of one if all are
 * alike. More tokens than tokens_per_rank_max go on along the last line. 0 for no token at all. */
double step_time_ns(const struct step_time *step_time, const struct step_load *load,
                    int32_t num_replicas);

struct step_time_error step_time_error(const struct step_time *step_time);

/* Where experts lie in all of its steps: [MoE layers][slots], borrowed; NULL: slot s holds expert
 * s % experts. */
int32_t *step_time_placement(const struct step_time *step_time);

/* The table of steps that decode, or the only one: tokens a rank and the step's length there less
 * attention and head, without context. */
int32_t step_time_num_points(const struct step_time *step_time);
void step_time_point(const struct step_time *step_time, int32_t point, int32_t *tokens_per_rank,
                     double *rest_ns);

/* Folds the tables into a digest. */
uint64_t step_time_digest(const struct step_time *step_time, uint64_t digest);

#endif
