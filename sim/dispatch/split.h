/*
 * split.h -- how many of an expert's tokens each of its slots serves: found first, dealt out after.
 *
 * What lp, lp_fixed and micro_ep share. A solver sees the tokens of every expert of one batch and
 * writes quotas: whole tokens a slot, that sum to their expert's. A dealer then walks the wishes in
 * order and gives each a slot with quota left. Counting the batch needs an all-gather of the ranks'
 * counts, whose time is not charged.
 */
#ifndef MOESIM_SPLIT_H
#define MOESIM_SPLIT_H

#include "dispatch/dispatch.h"

struct split {
    const struct placement *placement;
    int32_t *tokens;      /* [num_experts] kept wishes */
    int32_t *quota;       /* [num_slots] filled already for experts with one slot */
    int32_t *rank_tokens; /* [num_ranks] of the quotas that are filled */
    int32_t *choice;      /* [num_choices] wished experts with several slots, by (tokens
                             descending, id ascending) */
    int32_t num_choices;
};

static inline bool split_is_kept(const struct route *route, int64_t wish)
{
    return route->expert[wish] != EXPERT_NOT_ROUTED && !route->dropped[wish];
}

/* Counts the batch. Arrays are input->scratch's. STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status split_open(struct split *split, const struct dispatch_input *input,
                                  const struct route *route);

/* Fills the other quotas so that the busiest rank has as few tokens as any whole-number split
 * allows. STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status split_level(struct split *split, struct arena *scratch);

/* An expert's wishes take its slots in turn, each as often as its quota says, well mixed. */
MUST_CHECK enum status split_deal_mixed(const struct split *split, struct route *route,
                                        struct arena *scratch);

/* A wish takes a slot on its own GPU while that has quota left, else on its node, else any; every
 * source rank's wishes for its own GPU come before anyone's for others. */
MUST_CHECK enum status split_deal_nearest(const struct split *split,
                                          const struct dispatch_input *input, struct route *route);

#endif
