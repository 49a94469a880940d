/*
 * maxmin_class.c -- flows of one path are one class, with one clock and one heap.
 *
 * A class follows the clock of its bottleneck at an offset, so that it changes bottlenecks without
 * touching its flows. A link that all its flows leave only through a link of no more capacity can
 * never be a bottleneck: it is dropped from their paths, and classes that have become equal merge.
 */
#include "net/maxmin_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint32_t path_bucket(const struct maxmin *net, const int32_t *link, int32_t num_links)
{
    uint32_t hash = 2166136261U; /* FNV-1a over whole numbers */
    for (int32_t i = 0; i < num_links; i++) {
        hash = (hash ^ (uint32_t)link[i]) * 16777619U;
    }
    return (hash ^ hash >> 15) & ((uint32_t)net->classes_capacity - 1U);
}

static int32_t class_find(const struct maxmin *net, const int32_t *link, int32_t num_links)
{
    int32_t id = net->bucket[path_bucket(net, link, num_links)];
    while (id != NONE &&
           (net->class[id].num_links != num_links ||
            memcmp(net->class[id].link, link, (size_t)num_links * sizeof *link) != 0)) {
        id = net->class[id].next;
    }
    return id;
}

static void hash_insert(struct maxmin *net, int32_t id)
{
    struct path_class *class = &net->class[id];
    uint32_t bucket = path_bucket(net, class->link, class->num_links);
    class->next = net->bucket[bucket];
    net->bucket[bucket] = id;
}

static void hash_remove(struct maxmin *net, int32_t id)
{
    const struct path_class *class = &net->class[id];
    int32_t *place = &net->bucket[path_bucket(net, class->link, class->num_links)];
    while (*place != id) {
        assert(*place != NONE);
        place = &net->class[*place].next;
    }
    *place = class->next;
}

enum status classes_reserve(struct maxmin *net, int32_t count)
{
    if (count <= net->classes_capacity) {
        return STATUS_OK;
    }
    int32_t capacity = net->classes_capacity > 0 ? net->classes_capacity : 64;
    while (capacity < count) {
        capacity *= 2;
    }
    size_t size = (size_t)capacity;
    struct path_class *class = realloc(net->class, size * sizeof *class);
    net->class = class != NULL ? class : net->class;
    int32_t *bottleneck = realloc(net->bottleneck, size * sizeof *bottleneck);
    net->bottleneck = bottleneck != NULL ? bottleneck : net->bottleneck;
    double *finish_bytes = realloc(net->finish_bytes, size * sizeof *finish_bytes);
    net->finish_bytes = finish_bytes != NULL ? finish_bytes : net->finish_bytes;
    int32_t *bucket = realloc(net->bucket, size * sizeof *bucket);
    net->bucket = bucket != NULL ? bucket : net->bucket;
    if (class == NULL || bottleneck == NULL || finish_bytes == NULL || bucket == NULL) {
        return STATUS_NO_MEMORY;
    }
    memset(bucket, 0xff, size * sizeof *bucket); /* NONE */
    for (int32_t id = capacity - 1; id >= net->classes_capacity; id--) {
        class[id] = (struct path_class){.root = NONE, .next = net->free_class};
        net->free_class = id;
    }
    int32_t used = net->classes_capacity;
    net->classes_capacity = capacity;
    for (int32_t id = 0; id < used; id++) {
        if (class[id].count > 0) {
            hash_insert(net, id);
        }
    }
    return STATUS_OK;
}

void classes_reset(struct maxmin *net)
{
    net->free_class = NONE;
    net->num_ordered = 0;
    for (int32_t id = net->classes_capacity - 1; id >= 0; id--) {
        net->class[id] = (struct path_class){.root = NONE, .next = net->free_class};
        net->bucket[id] = NONE;
        net->free_class = id;
    }
    for (int32_t i = 0; i < net->num_links; i++) {
        struct link *link = &net->link[i];
        link->num_entries = 0;
        link->num_members = 0;
        link->num_flows = 0;
        link->num_member_flows = 0;
        link->dominator = NONE;
        net->place[i] = INT32_MAX;
        net->load[i].fixed = 0.0;
        link_note_limit(net, i);
        link->first_bytes = UNLIMITED;
        link->first_is_stale = false;
        link->clock_bytes = 0.0;
        link->clock_ns = net->now_ns;
        net->level[i] = UNLIMITED;
        if (link_next_ns(net, i) < UNLIMITED) {
            event_heap_set(net, i, UNLIMITED);
        }
    }
}

/* Copies what entries hold of the class: its other links and its count. */
static void write_entries(struct maxmin *net, int32_t id)
{
    const struct path_class *class = &net->class[id];
    for (int32_t i = 0; i < class->num_links; i++) {
        struct link_entry *entry = &net->link[class->link[i]].entry[class->entry[i]];
        entry->class_id = id;
        entry->count = class->count;
        entry->num_others = 0;
        for (int32_t k = 0; k < class->num_links; k++) {
            if (k != i) {
                entry->other[entry->num_others++] = class->link[k];
            }
        }
    }
}

static void count_flows(struct maxmin *net, int32_t id, int32_t more)
{
    struct path_class *class = &net->class[id];
    int32_t bottleneck = net->bottleneck[id];
    class->count += more;
    for (int32_t i = 0; i < class->num_links; i++) {
        struct link *link = &net->link[class->link[i]];
        link->entry[class->entry[i]].count = class->count;
        link->num_flows += more;
        if (class->link[i] == bottleneck) {
            link->num_member_flows += more;
        } else {
            net->load[class->link[i]].fixed += more * net->level[bottleneck];
        }
    }
}

static void class_remove(struct maxmin *net, int32_t id)
{
    struct path_class *class = &net->class[id];
    hash_remove(net, id);
    for (int32_t i = 0; i < class->num_links; i++) {
        entry_remove(net, class->link[i], class->entry[i]);
    }
    *class = (struct path_class){.root = NONE, .next = net->free_class};
    net->free_class = id;
}

static enum status class_make(struct maxmin *net, int32_t *id, const int32_t *link,
                              int32_t num_links)
{
    for (int32_t i = 0; i < num_links; i++) {
        if (entries_reserve(net, &net->link[link[i]]) != STATUS_OK) {
            return STATUS_NO_MEMORY;
        }
    }
    assert(net->free_class != NONE);
    *id = net->free_class;
    struct path_class *class = &net->class[*id];
    net->free_class = class->next;
    *class = (struct path_class){.num_links = num_links, .root = NONE};
    memcpy(class->link, link, (size_t)num_links * sizeof *link);
    for (int32_t i = 0; i < num_links; i++) {
        class->entry[i] = net->link[link[i]].num_entries++;
    }
    write_entries(net, *id);
    int32_t bottleneck = lowest_link(net, class->link, num_links);
    if (bottleneck == NONE) {
        bottleneck = class->link[0];
        order_append(net, bottleneck);
    }
    net->bottleneck[*id] = bottleneck;
    members_join(net, *id);
    hash_insert(net, *id);
    return STATUS_OK;
}

double class_clock_bytes(const struct maxmin *net, int32_t id)
{
    return net->class[id].offset_bytes + link_clock_bytes(net, net->bottleneck[id]);
}

static void class_note_finish(struct maxmin *net, int32_t id)
{
    const struct path_class *class = &net->class[id];
    struct link *link = &net->link[net->bottleneck[id]];
    net->finish_bytes[id] = net->flow[class->root].finish_bytes - class->offset_bytes;
    if (net->finish_bytes[id] < link->first_bytes) {
        link->first_bytes = net->finish_bytes[id];
    }
}

enum status class_add_flow(struct maxmin *net, int32_t flow_id)
{
    int32_t link[MAXMIN_PATH_LINKS_MAX];
    int32_t num_links = 0;
    struct flow *flow = &net->flow[flow_id];
    for (int32_t i = 0; i < flow->given.num_links; i++) {
        if (net->link[flow->given.link[i]].dominator == NONE) {
            link[num_links++] = flow->given.link[i];
        }
    }
    assert(num_links > 0);
    int32_t id = class_find(net, link, num_links);
    if (id == NONE) {
        enum status status = class_make(net, &id, link, num_links);
        if (status != STATUS_OK) {
            return status;
        }
    }
    flow->finish_bytes = flow->given.bytes + class_clock_bytes(net, id);
    net->class[id].root = flow_heap_meld(net, net->class[id].root, flow_id);
    class_note_finish(net, id);
    count_flows(net, id, 1);
    return STATUS_OK;
}

int32_t class_pop_flow(struct maxmin *net, int32_t id)
{
    struct path_class *class = &net->class[id];
    int32_t flow = class->root;
    class->root = flow_heap_pop(net, flow);
    net->link[net->bottleneck[id]].first_is_stale = true;
    for (int32_t i = 0; i < class->num_links; i++) {
        if (net->level[class->link[i]] < UNLIMITED) {
            link_mark_dirty(net, class->link[i]);
        }
    }
    count_flows(net, id, -1);
    if (class->count > 0) {
        class_note_finish(net, id);
    } else {
        class_remove(net, id);
    }
    return flow;
}

void class_set_bottleneck(struct maxmin *net, int32_t id, int32_t to)
{
    struct path_class *class = &net->class[id];
    int32_t from = net->bottleneck[id];
    double was = class->count * net->level[from];
    double now = class->count * net->level[to];
    class->offset_bytes = class_clock_bytes(net, id) - link_clock_bytes(net, to);
    members_leave(net, id);
    net->link[from].num_member_flows -= class->count;
    net->bottleneck[id] = to;
    members_join(net, id);
    net->link[to].num_member_flows += class->count;
    for (int32_t i = 0; i < class->num_links; i++) {
        int32_t link = class->link[i];
        link_add_fixed(net, link, (link == to ? 0.0 : now) - (link == from ? 0.0 : was));
    }
    class_note_finish(net, id);
}

/* Moves the flows of the class with fewer into the other. Both have one path, so one rate; they may
 * stand at different bottlenecks of one level. */
static void merge(struct maxmin *net, int32_t a, int32_t b)
{
    int32_t to = net->class[a].count > net->class[b].count ? a : b;
    int32_t from = to == a ? b : a;
    double shift_bytes = class_clock_bytes(net, to) - class_clock_bytes(net, from);
    int32_t count = net->class[from].count;
    int32_t root = net->class[from].root;
    while (root != NONE) {
        int32_t rest = flow_heap_pop(net, root);
        net->flow[root].finish_bytes += shift_bytes;
        net->class[to].root = flow_heap_meld(net, net->class[to].root, root);
        root = rest;
    }
    link_mark_dirty(net, net->bottleneck[to]);
    link_mark_dirty(net, net->bottleneck[from]);
    net->link[net->bottleneck[from]].first_is_stale = true;
    count_flows(net, from, -count);
    class_remove(net, from);
    count_flows(net, to, count);
    class_note_finish(net, to);
}

static void class_leave_link(struct maxmin *net, int32_t id, int32_t link)
{
    struct path_class *class = &net->class[id];
    hash_remove(net, id);
    int32_t kept = 0;
    for (int32_t i = 0; i < class->num_links; i++) {
        if (class->link[i] == link) {
            entry_remove(net, link, class->entry[i]);
            continue;
        }
        class->link[kept] = class->link[i];
        class->entry[kept++] = class->entry[i];
    }
    class->num_links = kept;
    write_entries(net, id);
    int32_t same = class_find(net, class->link, kept);
    hash_insert(net, id);
    if (same != NONE) {
        merge(net, same, id);
    }
}

static bool all_pass(const struct link *link, int32_t other)
{
    for (int32_t i = 0; i < link->num_entries; i++) {
        const struct link_entry *entry = &link->entry[i];
        bool passes = false;
        for (int32_t k = 0; k < entry->num_others; k++) {
            passes |= entry->other[k] == other;
        }
        if (!passes) {
            return false;
        }
    }
    return true;
}

void link_try_drop(struct maxmin *net, int32_t link_id)
{
    struct link *link = &net->link[link_id];
    if (net->keeps_links || link->num_entries == 0 || net->level[link_id] < UNLIMITED) {
        return;
    }
    int32_t dominator = NONE;
    for (int32_t k = 0; k < link->entry[0].num_others && dominator == NONE; k++) {
        int32_t other = link->entry[0].other[k];
        if (net->link[other].capacity <= link->capacity && all_pass(link, other)) {
            dominator = other;
        }
    }
    if (dominator == NONE) {
        return;
    }
    link->dominator = dominator;
    while (link->num_entries > 0) {
        class_leave_link(net, link->entry[link->num_entries - 1].class_id, link_id);
    }
}
