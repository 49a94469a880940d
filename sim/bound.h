/*
 * bound.h -- how much balance is left to win: the least that the busiest rank must serve.
 *
 * For one layer and step. No placement whatever, then no split of tokens over the replicas of the
 * placement in force. A strategy's distance to the first is what a better strategy could win, that
 * of a dispatch policy to the second what a better dispatch could win. Balancedness is at most
 * total tokens / ranks / bound.
 */
#ifndef MOESIM_BOUND_H
#define MOESIM_BOUND_H

#include <stdint.h>

#include "arena.h"
#include "placement.h"
#include "status.h"

/* A lower bound on the tokens of the busiest rank over all placements of num_experts experts on
 * num_slots slots of num_ranks ranks, and all splits over replicas: the greatest of
 *   mean    total tokens / ranks;
 *   slots   the least M with sum over experts of ceil(load / M) <= num_slots: a rank can take
 *           no more than M of an expert, so the expert has ceil(load / M) replicas or more;
 *   pairs   with s = num_slots - num_experts spare slots all but s experts are whole; of the
 *           num_ranks * j + 1 heaviest whole ones some rank has j + 1, for every j.
 *   busiest_tokens  out; fractions of a token count, as even splits have them
 *   load_tokens     [num_experts]
 *   num_ranks       those that have slots
 *   scratch         takes work space; the caller resets it
 * STATUS_INVALID, each problem in words: counts that are no placement's, a negative load, loads
 * whose sum exceeds 2^53 / num_slots. STATUS_NO_MEMORY. */
MUST_CHECK enum status bound_any_placement(double *busiest_tokens, const int64_t *load_tokens,
                                           int32_t num_experts, int32_t num_slots,
                                           int32_t num_ranks, struct arena *scratch,
                                           struct error *error);

/* The tokens of the busiest rank under the best split over the replicas in force; exact, and
 * rounded up it is the best that whole tokens can reach. Arguments and statuses as above. */
MUST_CHECK enum status bound_any_split(double *busiest_tokens, const int64_t *load_tokens,
                                       const struct placement *placement, struct arena *scratch,
                                       struct error *error);

#endif
