/*
 * transfer.h -- a plan on its way: what each group and each rank still waits for.
 */
#ifndef MOESIM_TRANSFER_H
#define MOESIM_TRANSFER_H

#include "collective/collective.h"

struct transfer {
    struct transfer_plan plan;
    int32_t layer;          /* of the model; -1: weights on the move */
    int32_t kind;           /* enum transfer_kind of the engine: for the digest */
    int32_t *group_waits;   /* [num_groups] left before the group is sent */
    int64_t *group_root_ns; /* [num_groups] when the last of its causes was ready to start */
    int32_t *rank_waits;    /* [num_ranks] payload messages to come, plus one: the own release */
    int64_t *rank_root_ns;  /* [num_ranks] root of what arrived last */
    int64_t *ready_ns;      /* [num_ranks] when the rank was ready, its start-up not yet paid */
};

/* plan must be finished. Memory is the arena's. */
MUST_CHECK enum status transfer_init(struct transfer *transfer, struct arena *arena);

#endif
