/*
 * dispatch.h -- which replica of the wished expert serves each token.
 *
 * A dispatch may also lend: have a rank compute an expert that it does not hold, for this layer of
 * this step (token rescheduling). The engine sends the weights behind the tokens, and the rank's
 * experts wait for both.
 */
#ifndef MOESIM_DISPATCH_H
#define MOESIM_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster.h"
#include "placement.h"
#include "route/route.h"
#include "token_sets.h"

/* What a dispatch lends; zeroed before. With num_moves > 0 route->slot names slots of placement
 * here, which is the one in force and, behind each rank's own slots, what the moves bring. */
struct dispatch_loans {
    struct placement placement;
    struct expert_move *move; /* [num_moves] by (to_rank, expert), the scratch arena's */
    int32_t num_moves;
};

struct dispatch_input {
    const struct placement *placement; /* of this layer */
    const struct trace_batch *batch;
    const struct cluster *cluster;
    int32_t layer; /* MoE layer, 0-based among MoE layers */
    struct arena *scratch;
    uint64_t seed;                /* of the scenario, for named streams */
    int32_t lane;                 /* which part of the step the batch is, if it is split */
    struct dispatch_loans *loans; /* out; only what lends touches it */
};

struct replica_dispatch {
    const char *name;
    const char *summary;
    const char *source;
    size_t state_bytes; /* zeroed private state, one for the run; num_layers etc. come by input */
    bool lends;         /* ranks may serve experts that they do not hold */
    /* Fills route->slot: a slot of the wished expert for every kept assignment, SLOT_DROPPED for
     * the others. STATUS_NO_MEMORY is the only failure. */
    enum status (*assign)(void *state, const struct dispatch_input *input, struct route *route);
    /* Optional: the same a block of a source rank's tokens at a time, sources ascending, for wishes
     * of which none is dropped and a token has none twice (traffic_dealt.h). deal_open makes what
     * deal goes by, of the scratch arena; NULL: no memory. Set e of sets is who wishes expert e;
     * deal fills set num_experts + s, empty so far, with those that slot s serves, for all slots of
     * experts that have several. */
    void *(*deal_open)(const struct dispatch_input *input);
    void (*deal)(void *dealer, int32_t source_rank, const struct token_sets *sets);
};

const struct replica_dispatch *const *dispatch_all(int32_t *count);
const struct replica_dispatch *dispatch_find(const char *name); /* NULL: no such */

#endif
