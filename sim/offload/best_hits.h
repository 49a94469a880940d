/*
 * best_hits.h -- the most hits that any policy could have had which fetches what it lacks: Belady's
 * optimum (IBM Systems Journal 5(2), 1966), counted while the run goes on.
 *
 * An expert is a hit of a lookup if it was kept since the lookup that touched it last. Each such
 * wish is an interval of gaps between lookups, and a gap has room for num_slots experts. Taking
 * wishes in the order in which they end, and of those that end together the shorter first, fills
 * the most of them; so a wish is granted if no gap of it is full, as in OPTgen (Jain and Lin, ISCA
 * 2016). That needs no look ahead, and gives the same count as one that knows the future.
 *
 * What lies further back than BEST_HITS_GAPS lookups is taken to have had room: an upper bound
 * then, exact otherwise. Fetching ahead can beat it in hits, never in fetches.
 */
#ifndef MOESIM_BEST_HITS_H
#define MOESIM_BEST_HITS_H

#include <stdint.h>

#define BEST_HITS_GAPS 1024

/* Zero-initialise and set num_slots. The first num_slots experts are there at the beginning. */
struct best_hits {
    int32_t num_slots;
    int64_t lookups;
    int64_t full_until;           /* lookups up to which a gap is full; what was touched later than
                                     that can still be granted */
    int32_t held[BEST_HITS_GAPS]; /* ring: experts kept in gap g, between lookups g and g + 1 */
};

/* A lookup of touched[count], which it reorders: how many of them the best policy has. last_lookup
 * says for every expert when it was touched before; lookups count from 1; 0: never. */
int32_t best_hits_look_up(struct best_hits *best, int32_t *touched, int32_t count,
                          const int64_t *last_lookup);

#endif
