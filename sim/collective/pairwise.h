/*
 * pairwise.h -- one message straight from each rank to each other, shared by the collectives that
 * send one copy of a token per chosen expert.
 */
#ifndef MOESIM_PAIRWISE_H
#define MOESIM_PAIRWISE_H

#include "collective/collective.h"

/* Destinations start after the sender and wrap round, so that not all begin with rank 0. */
MUST_CHECK enum status pairwise_dispatch(const struct collective_input *input,
                                         struct transfer_plan *plan);
MUST_CHECK enum status pairwise_combine(const struct collective_input *input,
                                        struct transfer_plan *plan);

#endif
