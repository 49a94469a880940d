/*
 * cache.h -- the experts that one GPU keeps of one layer: lookups, what a policy lets go, counts.
 *
 * The cache knows no time: sim/engine_offload.c says when weights arrive. It begins with the first
 * num_slots experts, as an engine that has loaded them before its first request.
 */
#ifndef MOESIM_CACHE_H
#define MOESIM_CACHE_H

#include "arena.h"
#include "offload/best_hits.h"
#include "offload/offload.h"
#include "offload/predict.h"
#include "status.h"

struct offload_cache {
    const struct offload_policy *policy;
    struct offload_view view; /* of the arrays below */
    int32_t num_slots;
    int32_t num_kept; /* <= num_slots */
    int64_t lookups;
    int64_t profile_lookups; /* that count towards a profile */
    bool *is_kept;           /* [num_experts] */
    int64_t *last_lookup;
    int64_t *touches;
    int64_t *profile_touches;
    double *recent;
    double *chance;
    int32_t *touched; /* [num_experts] the num_touched experts of the last lookup, ascending */
    int32_t num_touched;
    int32_t *scratch;           /* [num_experts] */
    struct follows next_lookup; /* of policies that predict */
    struct best_hits best;
};

/* Everything is the arena's. 0 <= num_slots <= num_experts. STATUS_NO_MEMORY. */
MUST_CHECK enum status offload_cache_init(struct offload_cache *cache,
                                          const struct offload_policy *policy, int32_t num_experts,
                                          int32_t num_slots, int64_t profile_lookups,
                                          struct arena *arena);

/* A lookup touches these experts, ascending. Nothing enters or leaves; is_kept says which are hits.
 * Returns how many hits the best policy has. */
int32_t offload_cache_look_up(struct offload_cache *cache, const int32_t *touched, int32_t count);

/* Would an expert that is not there be kept, were it fetched? */
bool offload_cache_wants(const struct offload_cache *cache, int32_t expert);

/* An expert has been fetched that was not there: it is kept, in the place of another where all are
 * taken, unless the policy refuses. */
void offload_cache_keep(struct offload_cache *cache, int32_t expert);

#endif
