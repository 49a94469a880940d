/*
 * predict.h -- which experts follow which: counts of pairs, learnt while the run goes on.
 *
 *     chance(e | S) = mean over p in S of (follows(p, e) + W base(e)) / (sources(p) + W)
 *
 * S is the set of experts that a lookup touched; follows(p, e) counts successors of lookups with p
 * that touched e; base(e) is the share of all lookups that touched e, and weighs as much as W of
 * them. A first-order guess: what S means together, or lookups before it, is left out.
 */
#ifndef MOESIM_PREDICT_H
#define MOESIM_PREDICT_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

#define PREDICT_BASE_LOOKUPS 8.0 /* W */

struct follows {
    int32_t num_from;
    int32_t num_to;
    int32_t *count;   /* [num_from][num_to] */
    int32_t *sources; /* [num_from] lookups with it that had a successor */
};

/* STATUS_NO_MEMORY. */
MUST_CHECK enum status follows_init(struct follows *follows, int32_t num_from, int32_t num_to,
                                    struct arena *arena);

/* One lookup touched from[num_from], the next one to[num_to]. */
void follows_learn(struct follows *follows, const int32_t *from, int32_t num_from,
                   const int32_t *to, int32_t num_to);

/* Fills chance[follows->num_to]. base [num_to] counts of lookups that touched each, of num_lookups
 * (0: none yet). With no from, chance is the base alone. */
void follows_predict(const struct follows *follows, const int32_t *from, int32_t num_from,
                     const int64_t *base, int64_t num_lookups, double *chance);

#endif
