/*
 * maxmin_level.c -- what each link grants the flows it is the bottleneck of.
 *
 * Levels are the solution of one equation a link, over the classes c on it:
 *
 *     sum of count_c * min(level, cap_c) = capacity,  cap_c = least level of c's other links
 *
 * and UNLIMITED where the sum of count_c * cap_c fits into the capacity. Links that an event has
 * touched are solved anew, the lowest level first. A level is swayed only by lower ones, so when a
 * level moves from a to b, only links above min(a, b) that share a class not held back elsewhere
 * are touched in turn; the rest of the network is left alone. That no link is touched any more is
 * the definition of max-min fairness, so the order of solving decides the cost and not the result.
 */
#include "net/maxmin_internal.h"

#include <assert.h>

/* A link with room is solved again before a sum of many roundings could hide that it is full. */
#define USED_TOLERANCE 1e-10

double link_clock_bytes(const struct maxmin *net, int32_t link_id)
{
    const struct link *link = &net->link[link_id];
    double level = net->level[link_id];
    return level < UNLIMITED ? link->clock_bytes + level * (net->now_ns - link->clock_ns)
                             : link->clock_bytes;
}

void link_mark_dirty(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    if (link->is_dirty) {
        return;
    }
    double even = link->num_flows > 0 ? link->capacity / link->num_flows : 0.0;
    link->is_dirty = true;
    link->dirty_level = net->level[link_id] < UNLIMITED ? net->level[link_id] : even;
    dirty_heap_push(net, link_id);
}

/* The caps of the link's classes, in the order of its list, and the sum of count * cap. */
static double gather_caps(struct maxmin *net, const struct link *link)
{
    double sum = 0.0;
    for (int32_t i = 0; i < link->num_entries; i++) {
        const struct link_entry *entry = &link->entry[i];
        double cap = UNLIMITED;
        for (int32_t k = 0; k < entry->num_others; k++) {
            double level = net->level[entry->other[k]];
            cap = level < cap ? level : cap;
        }
        net->cap[i] = cap;
        sum += entry->count * cap;
    }
    return sum;
}

/* Solves the link's equation by Newton's method. The sum is concave in the level, so from the
 * second step on it approaches from below, and it is there when the set of classes held back by
 * their caps stays as it is: each step but the last adds to that set. */
static double solve(const struct maxmin *net, const struct link *link, double guess)
{
    double level = guess;
    for (int32_t step = 0; step < link->num_entries + 3; step++) {
        double held = 0.0;
        double free_flows = 0.0;
        double cap_max = 0.0;
        for (int32_t i = 0; i < link->num_entries; i++) {
            double cap = net->cap[i];
            double count = link->entry[i].count;
            bool is_held = cap < level;
            held += is_held ? count * cap : 0.0;
            free_flows += is_held ? 0.0 : count;
            cap_max = cap > cap_max ? cap : cap_max;
        }
        double next = free_flows > 0.0 ? (link->capacity - held) / free_flows : cap_max;
        if (fabs(next - level) <= 1e-15 * level) {
            return next;
        }
        level = next;
    }
    return level;
}

static int32_t lowest_other(const struct maxmin *net, const struct link_entry *entry)
{
    int32_t lowest = entry->other[0];
    for (int32_t k = 1; k < entry->num_others; k++) {
        int32_t other = entry->other[k];
        lowest = net->level[other] < net->level[lowest] ? other : lowest;
    }
    return lowest;
}

/* Gives every class on the link the bottleneck it has now, as far as this link has a say. */
static void assign(struct maxmin *net, int32_t link_id)
{
    const struct link *link = &net->link[link_id];
    double level = net->level[link_id];
    double above = level * (1.0 + TIE_TOLERANCE);
    double below = level * (1.0 - TIE_TOLERANCE);
    for (int32_t i = 0; i < link->num_entries; i++) {
        int32_t id = link->entry[i].class_id;
        int32_t bottleneck = net->bottleneck[id];
        if (bottleneck == link_id) {
            if (net->cap[i] < below) {
                int32_t other = lowest_other(net, &link->entry[i]);
                class_set_bottleneck(net, id, other);
                link_mark_dirty(net, other);
            }
        } else if (bottleneck == NONE ? net->cap[i] >= below : net->cap[i] > above) {
            if (bottleneck != NONE) {
                link_mark_dirty(net, bottleneck);
            }
            class_set_bottleneck(net, id, link_id);
        }
    }
}

/* Tells the links that the move of a level from old to now may concern. */
static void spread(struct maxmin *net, int32_t link_id, double old)
{
    const struct link *link = &net->link[link_id];
    double now = net->level[link_id];
    double low = now < old ? now : old;
    for (int32_t i = 0; i < link->num_entries; i++) {
        const struct link_entry *entry = &link->entry[i];
        double cap = net->cap[i];
        if (cap <= low) {
            continue; /* held back elsewhere, before and now */
        }
        double more = entry->count * ((now < cap ? now : cap) - (old < cap ? old : cap));
        for (int32_t k = 0; k < entry->num_others; k++) {
            int32_t other = entry->other[k];
            if (net->level[other] < UNLIMITED) {
                if (net->level[other] > low) {
                    link_mark_dirty(net, other);
                }
                continue;
            }
            struct link *roomy = &net->link[other];
            roomy->used += more;
            if (!(roomy->used <= roomy->capacity * (1.0 - USED_TOLERANCE))) {
                link_mark_dirty(net, other); /* full, or its class had no rate yet */
            }
        }
    }
}

static void find_next(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double first_bytes = UNLIMITED;
    for (int32_t i = 0; i < link->num_entries; i++) {
        int32_t id = link->entry[i].class_id;
        if (net->bottleneck[id] == link_id && net->finish_bytes[id] < first_bytes) {
            first_bytes = net->finish_bytes[id];
        }
    }
    double next_ns = UNLIMITED;
    if (first_bytes < UNLIMITED) {
        double left_bytes = first_bytes - link->clock_bytes;
        next_ns = net->now_ns + (left_bytes > 0.0 ? left_bytes / net->level[link_id] : 0.0);
    }
    if (next_ns != link->next_ns) {
        link->next_ns = next_ns;
        event_heap_move(net, link_id);
    }
}

static void update(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double old = net->level[link_id];
    link->clock_bytes = link->num_entries > 0 ? link_clock_bytes(net, link_id) : 0.0;
    link->clock_ns = net->now_ns;
    double wanted = gather_caps(net, link);
    double level = UNLIMITED;
    if (wanted > link->capacity * (1.0 + LEVEL_TOLERANCE)) {
        level = solve(net, link, link->dirty_level);
    }
    link->used = wanted;
    bool is_same = old == level || (old < UNLIMITED && fabs(level - old) <= LEVEL_TOLERANCE * old);
    if (!is_same) {
        net->level[link_id] = level;
    }
    assign(net, link_id);
    if (!is_same) {
        spread(net, link_id, old);
    }
    find_next(net, link_id);
}

void levels_update(struct maxmin *net)
{
    /* Each round over the dirty links settles one for good, so this is far more than it takes. */
    int64_t steps_max = 64 * (int64_t)(net->num_links + 1) * (net->num_links + 1);
    for (int64_t step = 0; net->num_dirty > 0; step++) {
        assert(step < steps_max);
        int32_t link = dirty_heap_pop(net);
        net->link[link].is_dirty = false;
        update(net, link);
    }
}
