/*
 * transfer.h -- a plan on its way: what each group and each rank still waits for.
 */
#ifndef MOESIM_TRANSFER_H
#define MOESIM_TRANSFER_H

#include "collective/collective.h"
#include "collective/exchange.h"

/* Counts down what must still be said about something, and keeps when the last of it happens: the
 * network may tell of an arrival before its time. */
struct countdown {
    int32_t left;
    int64_t last_ns; /* latest time told so far */
    int64_t root_ns; /* of what comes last: when its cause was ready to start */
};

struct transfer {
    struct transfer_plan plan;
    struct exchange_cost cost; /* collectives only */
    int32_t lane;              /* of every rank's, that it serves */
    int32_t layer;             /* of the model; -1: weights on the move */
    int32_t kind;              /* enum transfer_kind of the engine: for the digest */
    struct countdown *group;   /* [num_groups] its owner's release and the messages that feed it */
    struct countdown *rank;    /* [num_ranks] its own release and the payload messages to come */
    bool *rank_ready;          /* [num_ranks] all has happened */
    int64_t *ready_ns;         /* [num_ranks] when the rank was ready, its start-up not yet paid */
    int64_t *hbm_bytes_per_s;  /* [num_ranks] that it takes of the rank's HBM while it runs, had it
                                  the ports for itself; collectives only */
};

/* plan must be finished. Memory is the arena's. */
MUST_CHECK enum status transfer_init(struct transfer *transfer, struct arena *arena);

/* Fills hbm_bytes_per_s: what a rank sends is read once and what it receives written once, in the
 * time of its busiest port. */
MUST_CHECK enum status transfer_count_hbm(struct transfer *transfer, const struct gpu_spec *gpu,
                                          struct arena *arena);

#endif
