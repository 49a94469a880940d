/*
 * maxmin_entry.c -- the list of classes that each link keeps, members first.
 */
#include "net/maxmin_internal.h"

#include <stdlib.h>

enum status entries_reserve(struct maxmin *net, struct link *link)
{
    if (link->num_entries == link->entries_capacity) {
        int32_t capacity = link->entries_capacity > 0 ? 2 * link->entries_capacity : 8;
        struct link_entry *entry = realloc(link->entry, (size_t)capacity * sizeof *entry);
        if (entry == NULL) {
            return STATUS_NO_MEMORY;
        }
        link->entry = entry;
        link->entries_capacity = capacity;
    }
    if (link->entries_capacity > net->caps_capacity) {
        double *cap = realloc(net->cap, (size_t)link->entries_capacity * sizeof *cap);
        if (cap == NULL) {
            return STATUS_NO_MEMORY;
        }
        net->cap = cap;
        int32_t *moved = realloc(net->moved, (size_t)link->entries_capacity * sizeof *moved);
        if (moved == NULL) {
            return STATUS_NO_MEMORY;
        }
        net->moved = moved;
        net->caps_capacity = link->entries_capacity;
    }
    return STATUS_OK;
}

/* Puts what stands at one place of the link's list at another. */
static void entry_put(struct maxmin *net, int32_t link_id, int32_t place,
                      const struct link_entry *entry)
{
    net->link[link_id].entry[place] = *entry;
    struct path_class *class = &net->class[entry->class_id];
    for (int32_t i = 0; i < class->num_links; i++) {
        if (class->link[i] == link_id) {
            class->entry[i] = place;
        }
    }
}

static void entry_swap(struct maxmin *net, int32_t link_id, int32_t a, int32_t b)
{
    if (a != b) {
        struct link_entry moved = net->link[link_id].entry[a];
        entry_put(net, link_id, a, &net->link[link_id].entry[b]);
        entry_put(net, link_id, b, &moved);
    }
}

/* The last member takes the place of a member that goes, and the last entry its. */
void entry_remove(struct maxmin *net, int32_t link_id, int32_t place)
{
    struct link *link = &net->link[link_id];
    if (place < link->num_members) {
        entry_swap(net, link_id, place, --link->num_members);
        place = link->num_members;
    }
    entry_swap(net, link_id, place, --link->num_entries);
}

void members_join(struct maxmin *net, int32_t id)
{
    const struct path_class *class = &net->class[id];
    int32_t bottleneck = net->bottleneck[id];
    for (int32_t i = 0; i < class->num_links; i++) {
        if (class->link[i] == bottleneck) {
            entry_swap(net, bottleneck, class->entry[i], net->link[bottleneck].num_members++);
            return;
        }
    }
}

void members_leave(struct maxmin *net, int32_t id)
{
    const struct path_class *class = &net->class[id];
    int32_t bottleneck = net->bottleneck[id];
    net->link[bottleneck].first_is_stale = true;
    for (int32_t i = 0; i < class->num_links; i++) {
        if (class->link[i] == bottleneck) {
            entry_swap(net, bottleneck, class->entry[i], --net->link[bottleneck].num_members);
            return;
        }
    }
}
