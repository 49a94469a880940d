/*
 * lend.h -- token rescheduling: wishes leave the slot that is home to them for ranks that borrow.
 *
 * What llep and harmoeny share. Wishes are dealt to the replicas of their expert in turn (with one
 * replica an expert, as in the originals, that is the native GPU) and listed by slot, in the order
 * of tokens, so by sender. A scheduler moves ranges of the list to other ranks. A rank that does
 * not hold the expert then borrows it: the home slot's rank sends the weights once. Left out: the
 * all-gather of counts, the time to decide, and the room that lent weights take for the layer.
 */
#ifndef MOESIM_LEND_H
#define MOESIM_LEND_H

#include "dispatch/dispatch.h"

/* Wishes list[begin] .. list[end - 1] of one slot go to to_rank. */
struct shift {
    int32_t begin;
    int32_t end;
    int32_t home_slot;
    int32_t to_rank;
};

struct lend {
    const struct dispatch_input *input;
    struct route *route;
    int32_t *list;        /* [num_kept] wishes by home slot, then in order */
    int32_t *begin;       /* [num_slots + 1] where each slot's wishes start in list */
    int32_t *rank_tokens; /* [num_ranks] at home: schedulers keep their own count */
    int64_t num_kept;
    struct shift *shift; /* [num_shifts] */
    int32_t num_shifts;
    int32_t capacity;
};

/* Deals the wishes to their homes: route->slot is filled. STATUS_NO_MEMORY is the only failure, as
 * below. */
MUST_CHECK enum status lend_open(struct lend *lend, const struct dispatch_input *input,
                                 struct route *route);

/* Moves a range to to_rank, which is not the home's rank. Ranges must not overlap. */
MUST_CHECK enum status lend_shift(struct lend *lend, struct shift shift);

/* Lists the loans and gives every wish its final slot. */
MUST_CHECK enum status lend_settle(struct lend *lend);

static inline int32_t lend_tokens(const struct lend *lend, int32_t slot)
{
    return lend->begin[slot + 1] - lend->begin[slot];
}

#endif
