/*
 * transfer.h -- a plan on its way: what each group and each rank still waits for.
 */
#ifndef MOESIM_TRANSFER_H
#define MOESIM_TRANSFER_H

#include "collective/collective.h"

/* Counts down what must still be said about something, and keeps when the last of it happens: the
 * network may tell of an arrival before its time. */
struct countdown {
    int32_t left;
    int64_t last_ns; /* latest time told so far */
    int64_t root_ns; /* of what comes last: when its cause was ready to start */
};

struct transfer {
    struct transfer_plan plan;
    int32_t layer;           /* of the model; -1: weights on the move */
    int32_t kind;            /* enum transfer_kind of the engine: for the digest */
    struct countdown *group; /* [num_groups] its owner's release and the messages that feed it */
    struct countdown *rank;  /* [num_ranks] its own release and the payload messages to come */
    bool *rank_ready;        /* [num_ranks] all has happened */
    int64_t *ready_ns;       /* [num_ranks] when the rank was ready, its start-up not yet paid */
};

/* plan must be finished. Memory is the arena's. */
MUST_CHECK enum status transfer_init(struct transfer *transfer, struct arena *arena);

#endif
