/*
 * maxmin_level.c -- what each link grants the flows it is the bottleneck of.
 *
 * Levels are the solution of one equation a link, over the classes c on it:
 *
 *     sum of count_c * min(level, cap_c) = capacity,  cap_c = least level of c's other links
 *
 * and UNLIMITED where the sum of count_c * cap_c fits into the capacity. Links that an event has
 * touched are solved anew, the lowest level first and those with room last: while others rise and
 * fall, what passes a link with room may look like too much for it for a moment. A level is swayed
 * only by lower ones, so when a level moves from a to b, only links above min(a, b) that share a
 * class not held back elsewhere are touched in turn; the rest of the network is left alone. That no
 * link is touched any more is the definition of max-min fairness, so the order of solving decides
 * the cost and not the result.
 */
#include "net/maxmin_internal.h"

#include <assert.h>

/* A link with room is solved again before a sum of many roundings could hide that it is full, and
 * a full one often enough that they do not add up. */
#define FIXED_TOLERANCE 1e-10
#define NUM_QUICK_MAX   1000

double link_clock_bytes(const struct maxmin *net, int32_t link_id)
{
    const struct link *link = &net->link[link_id];
    double level = net->level[link_id];
    return level < UNLIMITED ? link->clock_bytes + level * (net->now_ns - link->clock_ns)
                             : link->clock_bytes;
}

void link_note_limit(struct maxmin *net, int32_t link_id)
{
    const struct link *link = &net->link[link_id];
    double room = link->capacity * (1.0 - FIXED_TOLERANCE);
    net->load[link_id].limit =
        link->is_dirty ? UNLIMITED : (net->place[link_id] < INT32_MAX ? -UNLIMITED : room);
}

void link_mark_dirty(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    if (link->is_dirty) {
        return;
    }
    link->is_dirty = true;
    link_note_limit(net, link_id);
    dirty_heap_push(net, (struct keyed_link){net->level[link_id], link_id});
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
        if (free_flows > 0.0 && fabs(next - level) <= 1e-15 * level) {
            return next;
        }
        level = next; /* where all are held, the highest cap lies above the solution */
    }
    return level;
}

int32_t lowest_link(const struct maxmin *net, const int32_t *link, int32_t num_links)
{
    int32_t lowest = NONE;
    int32_t place = INT32_MAX;
    for (int32_t i = 0; i < num_links; i++) {
        if (net->place[link[i]] < place) {
            place = net->place[link[i]];
            lowest = link[i];
        }
    }
    return lowest;
}

static void order_put(struct maxmin *net, int32_t place, int32_t link)
{
    net->order[place] = link;
    net->place[link] = place;
}

/* Moves the link to where its level belongs. It stays behind links of the same level. */
static void order_move(struct maxmin *net, int32_t link)
{
    int32_t place = net->place[link];
    double level = net->level[link];
    for (; place > 0 && net->level[net->order[place - 1]] > level; place--) {
        order_put(net, place, net->order[place - 1]);
    }
    for (; place + 1 < net->num_ordered && net->level[net->order[place + 1]] < level; place++) {
        order_put(net, place, net->order[place + 1]);
    }
    order_put(net, place, link);
}

static void order_remove(struct maxmin *net, int32_t link)
{
    net->num_ordered--;
    for (int32_t place = net->place[link]; place < net->num_ordered; place++) {
        order_put(net, place, net->order[place + 1]);
    }
    net->place[link] = INT32_MAX;
}

void order_append(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double highest = net->num_ordered > 0 ? net->level[net->order[net->num_ordered - 1]] : 0.0;
    link->clock_ns = net->now_ns;
    net->level[link_id] = highest > link->capacity ? highest : link->capacity;
    order_put(net, net->num_ordered++, link_id);
    link_note_limit(net, link_id);
}

/* Sets the clock and the level, and tells the links that the members pass. */
static void set_level(struct maxmin *net, int32_t link_id, double level)
{
    struct link *link = &net->link[link_id];
    double more = level - net->level[link_id];
    link->clock_bytes = link_clock_bytes(net, link_id);
    link->clock_ns = net->now_ns;
    net->level[link_id] = level;
    for (int32_t i = 0; i < link->num_members; i++) {
        const struct link_entry *entry = &link->entry[i];
        double more_flows = entry->count * more;
        for (int32_t k = 0; k < entry->num_others; k++) {
            link_add_fixed(net, entry->other[k], more_flows);
        }
    }
}

static void find_next(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    if (link->first_is_stale) {
        link->first_is_stale = false;
        link->first_bytes = UNLIMITED;
        for (int32_t i = 0; i < link->num_members; i++) {
            double finish_bytes = net->finish_bytes[link->entry[i].class_id];
            link->first_bytes = finish_bytes < link->first_bytes ? finish_bytes : link->first_bytes;
        }
    }
    double next_ns = UNLIMITED;
    if (link->first_bytes < UNLIMITED) {
        double left_bytes = link->first_bytes - link_clock_bytes(net, link_id);
        next_ns = net->now_ns + (left_bytes > 0.0 ? left_bytes / net->level[link_id] : 0.0);
    }
    if (next_ns != link_next_ns(net, link_id)) {
        event_heap_set(net, link_id, next_ns);
    }
}

static bool is_same_level(double old, double now)
{
    return old == now || (old < UNLIMITED && fabs(now - old) <= LEVEL_TOLERANCE * old);
}

/* What the link's flows with another bottleneck take. */
static double fixed_load(const struct maxmin *net, const struct link *link)
{
    double fixed = 0.0;
    for (int32_t i = link->num_members; i < link->num_entries; i++) {
        const struct link_entry *entry = &link->entry[i];
        fixed += entry->count * net->level[net->bottleneck[entry->class_id]];
    }
    return fixed;
}

/* A full link that is nobody's bottleneck any more: all caps are levels of bottlenecks, so their
 * sum tells whether it has room, and then nobody moves. Returns false where it has none. */
static bool update_idle(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double fixed = fixed_load(net, link);
    if (fixed > link->capacity * (1.0 + LEVEL_TOLERANCE)) {
        return false;
    }
    order_remove(net, link_id);
    link->clock_bytes = 0.0;
    net->level[link_id] = UNLIMITED;
    net->load[link_id].fixed = fixed;
    link->num_quick = 0;
    return true;
}

/* While a level stays between its neighbours in the order, its members stay, and the equation is
 * one division. Returns false where that is not so. */
static bool update_quickly(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double fixed = net->load[link_id].fixed;
    const int32_t place = net->place[link_id];
    if (place == INT32_MAX) {
        return fixed <= link->capacity * (1.0 - FIXED_TOLERANCE);
    }
    if (link->num_member_flows == 0) {
        return update_idle(net, link_id);
    }
    if (link->num_quick >= NUM_QUICK_MAX) {
        return false;
    }
    double level = (link->capacity - fixed) / link->num_member_flows;
    double low = place > 0 ? net->level[net->order[place - 1]] : 0.0;
    double high = place + 1 < net->num_ordered ? net->level[net->order[place + 1]] : UNLIMITED;
    if (!(level > 0.0 && level >= low && level <= high)) {
        return false;
    }
    if (!is_same_level(net->level[link_id], level)) {
        set_level(net, link_id, level);
        link->num_quick++;
    }
    return true;
}

/* Gives every class on the link the bottleneck it has in the present order. */
static void move_classes(struct maxmin *net, int32_t link_id)
{
    const struct link *link = &net->link[link_id];
    const int32_t place = net->place[link_id];
    int32_t num_moved = 0;
    for (int32_t i = 0; i < link->num_entries; i++) {
        const struct link_entry *entry = &link->entry[i];
        int32_t other = lowest_link(net, entry->other, entry->num_others);
        bool is_here = other == NONE || place < net->place[other];
        if (is_here != (i < link->num_members)) {
            net->moved[num_moved++] = entry->class_id;
        }
    }
    for (int32_t i = 0; i < num_moved; i++) {
        const struct path_class *class = &net->class[net->moved[i]];
        class_set_bottleneck(net, net->moved[i], lowest_link(net, class->link, class->num_links));
    }
}

static void update_wholly(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    double old = net->level[link_id];
    double wanted = gather_caps(net, link);
    double level = UNLIMITED;
    if (wanted > link->capacity * (1.0 + LEVEL_TOLERANCE)) {
        double even = link->capacity / link->num_flows;
        level = solve(net, link, old < UNLIMITED ? old : even);
    }
    if (is_same_level(old, level)) {
        level = old;
    }
    if (level < UNLIMITED) {
        if (old == UNLIMITED) {
            order_append(net, link_id);
            net->level[link_id] = level;
        } else if (level != old) {
            set_level(net, link_id, level);
        }
        order_move(net, link_id);
        move_classes(net, link_id);
    } else if (old < UNLIMITED) {
        order_remove(net, link_id);
        move_classes(net, link_id);
        link->clock_bytes = 0.0;
        net->level[link_id] = UNLIMITED;
    }
    net->load[link_id].fixed = fixed_load(net, link);
    link->num_quick = 0;
}

void levels_update(struct maxmin *net)
{
    /* Each round over the dirty links settles one for good, so this is far more than it takes. */
    int64_t steps_max = 64 * (int64_t)(net->num_links + 1) * (net->num_links + 1);
    for (int64_t step = 0; net->num_dirty > 0; step++) {
        assert(step < steps_max);
        int32_t link = dirty_heap_pop(net);
        if (!update_quickly(net, link)) {
            update_wholly(net, link);
        }
        find_next(net, link);
        net->link[link].is_dirty = false;
        link_note_limit(net, link);
    }
}
