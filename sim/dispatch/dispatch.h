/*
 * dispatch.h -- which replica of the wished expert serves each token.
 */
#ifndef MOESIM_DISPATCH_H
#define MOESIM_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

#include "cluster.h"
#include "placement.h"
#include "route/route.h"

struct dispatch_input {
    const struct placement *placement; /* of this layer */
    const struct trace_batch *batch;
    const struct cluster *cluster;
    int32_t layer; /* MoE layer, 0-based among MoE layers */
    struct arena *scratch;
    uint64_t seed; /* of the scenario, for named streams */
    int32_t lane;  /* which part of the step the batch is, if it is split */
};

struct replica_dispatch {
    const char *name;
    const char *summary;
    const char *source;
    size_t state_bytes; /* zeroed private state, one for the run; num_layers etc. come by input */
    /* Fills route->slot: a slot of the wished expert for every kept assignment, SLOT_DROPPED for
     * the others. */
    enum status (*assign)(void *state, const struct dispatch_input *input, struct route *route);
};

const struct replica_dispatch *const *dispatch_all(int32_t *count);
const struct replica_dispatch *dispatch_find(const char *name); /* NULL: no such */

#endif
