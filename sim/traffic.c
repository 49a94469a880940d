/*
 * traffic.c -- one pass over a dispatched route, a block of a source rank's tokens at a time: a
 * token sets its bit at every slot that it goes to. Only one that goes to a slot twice has to be
 * looked for.
 */
#include "traffic.h"

#include <assert.h>

#include "flow_counter.h"

/* Adds what bits do not tell: that a token goes to a slot once more. */
static void count_repeats(const struct flow_counter *counter, const struct route *route,
                          int32_t first, int32_t last)
{
    for (int32_t token = first; token < last; token++) {
        const int32_t *slot = &route->slot[(int64_t)token * route->top_k];
        for (int32_t k = 1; k < route->top_k; k++) {
            int32_t before = 0;
            while (before < k && slot[before] != slot[k]) {
                before++;
            }
            if (before < k && slot[k] != SLOT_DROPPED) {
                counter->traffic->slot_tokens[slot[k]]++;
                counter->rank_copies[counter->placement->rank_of_slot[slot[k]]]++;
            }
        }
    }
}

enum status traffic_count(struct traffic *traffic, const struct route *route,
                          const struct placement *placement, const struct trace_batch *batch,
                          const struct cluster *cluster, struct arena *arena)
{
    struct flow_counter counter;
    const int32_t num_slots = placement->num_slots;
    const int64_t kept = route->assignments - route->dropped_assignments;
    enum status status =
        flow_counter_open(&counter, traffic, placement, cluster, kept, num_slots, arena);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        const int32_t end = batch->rank_begin[source + 1];
        for (int32_t first = batch->rank_begin[source]; first < end; first += SET_TOKENS) {
            int32_t last = end - first > SET_TOKENS ? first + SET_TOKENS : end;
            const int32_t *slot = &route->slot[(int64_t)first * route->top_k];
            int32_t assignments =
                token_sets_add(&counter.sets, slot, last - first, route->top_k, num_slots);
            if (flow_counter_fold(&counter) != assignments) {
                count_repeats(&counter, route, first, last);
            }
        }
        flow_counter_end_source(&counter, source);
    }
    flow_counter_close(&counter);
    assert(traffic->copies == kept); /* computed + dropped = all */
    return STATUS_OK;
}
