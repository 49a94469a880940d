/* best_hits.c -- grants wishes to keep experts; the idea is in best_hits.h. */
#include "offload/best_hits.h"

#include <stdbool.h>

/* The latest touched first: their wishes are the shortest. */
static void sort_by_last(int32_t *touched, int32_t count, const int64_t *last_lookup)
{
    for (int32_t i = 1; i < count; i++) {
        int32_t expert = touched[i];
        int32_t place = i;
        while (place > 0 && last_lookup[touched[place - 1]] < last_lookup[expert]) {
            touched[place] = touched[place - 1];
            place--;
        }
        touched[place] = expert;
    }
}

static bool grant(struct best_hits *best, int32_t expert, int64_t since)
{
    bool was_there = since > 0 || expert < best->num_slots;
    if (!was_there || since < best->full_until) {
        return false;
    }
    if (best->lookups - since > BEST_HITS_GAPS) {
        return true; /* nobody remembers what else was kept */
    }
    for (int64_t gap = since; gap < best->lookups; gap++) {
        if (++best->held[gap % BEST_HITS_GAPS] == best->num_slots) {
            best->full_until = gap + 1;
        }
    }
    return true;
}

int32_t best_hits_look_up(struct best_hits *best, int32_t *touched, int32_t count,
                          const int64_t *last_lookup)
{
    int32_t hits = 0;
    best->held[best->lookups % BEST_HITS_GAPS] = 0; /* the gap that this lookup ends */
    best->lookups++;
    if (best->num_slots == 0) {
        return 0;
    }
    sort_by_last(touched, count, last_lookup);
    for (int32_t i = 0; i < count; i++) {
        hits += grant(best, touched[i], last_lookup[touched[i]]);
    }
    return hits;
}
