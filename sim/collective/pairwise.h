/*
 * pairwise.h -- one message straight from each rank to each other, shared by the collectives that
 * send one copy of a token per chosen expert, or one per rank that holds any.
 */
#ifndef MOESIM_PAIRWISE_H
#define MOESIM_PAIRWISE_H

#include "collective/collective.h"

enum pairwise_unit {
    PAIRWISE_COPIES, /* one a chosen expert */
    PAIRWISE_TOKENS, /* one a rank, however many of its experts were chosen */
};

/* Destinations start after the sender and wrap round, so that not all begin with rank 0. */
MUST_CHECK enum status pairwise_dispatch(const struct collective_input *input,
                                         struct transfer_plan *plan, enum pairwise_unit unit);
MUST_CHECK enum status pairwise_combine(const struct collective_input *input,
                                        struct transfer_plan *plan, enum pairwise_unit unit);

#endif
