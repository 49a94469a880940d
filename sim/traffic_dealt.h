/*
 * traffic_dealt.h -- traffic of wishes that a dispatch deals set by set, not one by one.
 *
 * What a step mostly is: nothing is dropped, no token names an expert twice, and few experts have
 * more than one slot. The tokens of an expert that has one are then those of the slot, and their
 * number the expert's wishes, so one pass over a layer's wishes does for four.
 */
#ifndef MOESIM_TRAFFIC_DEALT_H
#define MOESIM_TRAFFIC_DEALT_H

#include "dispatch/dispatch.h"
#include "traffic.h"

#define WISH_ADDERS_MAX 3

/* Adds the block's tokens of each expert, the first num_experts sets. Returns how many they are
 * together. */
typedef int32_t wish_adder(int32_t *tokens, const struct token_sets *sets, int32_t num_experts);

/* The ways to do so that this processor has, the fastest last: they differ in nothing else. Returns
 * how many. */
int32_t traffic_wish_adders(wish_adder *adder[WISH_ADDERS_MAX]);

/* Counts what replica->assign and traffic_count would have, without slots.
 *   traffic, wish_tokens  [num_ranks][num_experts] wishes of each source  out: the arena's
 * Sets *is_dealt to whether it did: not of a dispatch that cannot, of a route with drops, or where
 * a token names an expert twice. STATUS_NO_MEMORY is the only failure. */
MUST_CHECK enum status traffic_count_dealt(struct traffic *traffic, int32_t **wish_tokens,
                                           const struct route *route,
                                           const struct replica_dispatch *replica,
                                           const struct dispatch_input *input, struct arena *arena,
                                           bool *is_dealt);

#endif
