/* maxmin_heap.c -- the orders a max-min network keeps: flows, links by event, links to re-level. */
#include "net/maxmin_internal.h"

#include <assert.h>

static bool flow_before(const struct flow *a, const struct flow *b)
{
    return a->finish_bytes != b->finish_bytes ? a->finish_bytes < b->finish_bytes : a->seq < b->seq;
}

int32_t flow_heap_meld(struct maxmin *net, int32_t a, int32_t b)
{
    if (a == NONE || b == NONE) {
        return a == NONE ? b : a;
    }
    int32_t first = flow_before(&net->flow[a], &net->flow[b]) ? a : b;
    int32_t second = first == a ? b : a;
    net->flow[second].sibling = net->flow[first].child;
    net->flow[first].child = second;
    return first;
}

/* Pairing heap (Fredman et al. 1986): children are melded in pairs, then the pairs into one. */
int32_t flow_heap_pop(struct maxmin *net, int32_t root)
{
    int32_t child = net->flow[root].child;
    int32_t pairs = NONE; /* chained by sibling, last pair first */
    while (child != NONE) {
        int32_t partner = net->flow[child].sibling;
        int32_t rest = partner == NONE ? NONE : net->flow[partner].sibling;
        net->flow[child].sibling = NONE;
        if (partner != NONE) {
            net->flow[partner].sibling = NONE;
        }
        int32_t pair = flow_heap_meld(net, child, partner);
        net->flow[pair].sibling = pairs;
        pairs = pair;
        child = rest;
    }
    int32_t all = NONE;
    while (pairs != NONE) {
        int32_t rest = net->flow[pairs].sibling;
        net->flow[pairs].sibling = NONE;
        all = flow_heap_meld(net, all, pairs);
        pairs = rest;
    }
    net->flow[root].child = NONE;
    return all;
}

static bool link_before(const struct keyed_link *a, const struct keyed_link *b)
{
    return a->key != b->key ? a->key < b->key : a->link < b->link;
}

static void event_put(struct maxmin *net, int32_t place, struct keyed_link event)
{
    net->event[place] = event;
    net->event_place[event.link] = place;
}

void event_heap_set(struct maxmin *net, int32_t link, double next_ns)
{
    const struct keyed_link event = {next_ns, link};
    int32_t hole = net->event_place[link];
    while (hole > 0 && link_before(&event, &net->event[(hole - 1) / 2])) {
        event_put(net, hole, net->event[(hole - 1) / 2]);
        hole = (hole - 1) / 2;
    }
    for (int32_t child = 2 * hole + 1; child < net->num_links; child = 2 * hole + 1) {
        if (child + 1 < net->num_links && link_before(&net->event[child + 1], &net->event[child])) {
            child++;
        }
        if (!link_before(&net->event[child], &event)) {
            break;
        }
        event_put(net, hole, net->event[child]);
        hole = child;
    }
    event_put(net, hole, event);
}

void dirty_heap_push(struct maxmin *net, struct keyed_link link)
{
    assert(net->num_dirty < net->num_links);
    int32_t hole = net->num_dirty++;
    while (hole > 0 && link_before(&link, &net->dirty[(hole - 1) / 2])) {
        net->dirty[hole] = net->dirty[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    net->dirty[hole] = link;
}

int32_t dirty_heap_pop(struct maxmin *net)
{
    assert(net->num_dirty > 0);
    int32_t first = net->dirty[0].link;
    struct keyed_link last = net->dirty[--net->num_dirty];
    int32_t hole = 0;
    for (int32_t child = 1; child < net->num_dirty; child = 2 * hole + 1) {
        if (child + 1 < net->num_dirty && link_before(&net->dirty[child + 1], &net->dirty[child])) {
            child++;
        }
        if (!link_before(&net->dirty[child], &last)) {
            break;
        }
        net->dirty[hole] = net->dirty[child];
        hole = child;
    }
    net->dirty[hole] = last;
    return first;
}
