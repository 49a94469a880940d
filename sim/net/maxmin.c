/* maxmin.c -- a max-min network from outside: flows start, time passes, flows finish. */
#include "net/maxmin_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void maxmin_close(struct maxmin *net)
{
    if (net == NULL) {
        return;
    }
    for (int32_t i = 0; net->link != NULL && i < net->num_links; i++) {
        free(net->link[i].entry);
    }
    free(net->link);
    free(net->load);
    free(net->level);
    free(net->order);
    free(net->place);
    free(net->event);
    free(net->event_place);
    free(net->dirty);
    free(net->flow);
    free(net->class);
    free(net->bottleneck);
    free(net->finish_bytes);
    free(net->bucket);
    free(net->cap);
    free(net->moved);
    free(net->done);
    free(net);
}

enum status maxmin_open(struct maxmin **opened, const double *capacity_bytes_per_ns,
                        int32_t num_links)
{
    assert(num_links > 0);
    struct maxmin *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return STATUS_NO_MEMORY;
    }
    net->num_links = num_links;
    net->free_flow = NONE;
    net->free_class = NONE;
    net->link = calloc((size_t)num_links, sizeof *net->link);
    net->load = calloc((size_t)num_links, sizeof *net->load);
    net->level = malloc((size_t)num_links * sizeof *net->level);
    net->order = malloc((size_t)num_links * sizeof *net->order);
    net->place = malloc((size_t)num_links * sizeof *net->place);
    net->event = malloc((size_t)num_links * sizeof *net->event);
    net->event_place = malloc((size_t)num_links * sizeof *net->event_place);
    net->dirty = malloc((size_t)num_links * sizeof *net->dirty);
    if (net->link == NULL || net->load == NULL || net->level == NULL || net->order == NULL ||
        net->place == NULL || net->event == NULL || net->event_place == NULL ||
        net->dirty == NULL) {
        maxmin_close(net);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < num_links; i++) {
        assert(capacity_bytes_per_ns[i] > 0.0);
        net->link[i] = (struct link){
            .capacity = capacity_bytes_per_ns[i], .first_bytes = UNLIMITED, .dominator = NONE};
        net->level[i] = UNLIMITED;
        net->place[i] = INT32_MAX;
        net->event[i] = (struct keyed_link){UNLIMITED, i};
        net->event_place[i] = i;
    }
    *opened = net;
    return STATUS_OK;
}

void maxmin_set_capacity(struct maxmin *net, int32_t link, double bytes_per_ns)
{
    assert(bytes_per_ns > 0.0);
    assert(net->num_flows == 0);
    assert(net->done_first == net->done_count);
    net->link[link].capacity = bytes_per_ns; /* the next start forgets all else */
}

static enum status flows_reserve(struct maxmin *net, int32_t count)
{
    if (count <= net->flows_capacity) {
        return STATUS_OK;
    }
    int32_t capacity = 2 * count;
    struct flow *flow = realloc(net->flow, (size_t)capacity * sizeof *flow);
    net->flow = flow != NULL ? flow : net->flow;
    struct done_flow *done = realloc(net->done, (size_t)capacity * sizeof *done);
    net->done = done != NULL ? done : net->done;
    if (flow == NULL || done == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t id = capacity - 1; id >= net->flows_capacity; id--) {
        flow[id] = (struct flow){.child = NONE, .sibling = net->free_flow};
        net->free_flow = id;
    }
    net->flows_capacity = capacity;
    return STATUS_OK;
}

/* Whether the flow passes a dropped link but not the link for whose sake it was dropped. */
static bool needs_dropped_link(const struct maxmin *net, const struct maxmin_flow *flow)
{
    for (int32_t i = 0; i < flow->num_links; i++) {
        int32_t dominator = net->link[flow->link[i]].dominator;
        bool passes = dominator == NONE;
        for (int32_t k = 0; k < flow->num_links; k++) {
            passes |= flow->link[k] == dominator;
        }
        if (!passes) {
            return true;
        }
    }
    return false;
}

static void mark_path_dirty(struct maxmin *net, const struct maxmin_flow *flow)
{
    for (int32_t i = 0; i < flow->num_links; i++) {
        if (net->link[flow->link[i]].dominator == NONE) {
            link_mark_dirty(net, flow->link[i]);
        }
    }
}

/* Puts every flow back on all its links, from now until the network has been idle: a network that
 * flows keep coming to must not drop and restore links all the time. */
static enum status restore_links(struct maxmin *net)
{
    for (int32_t id = 0; id < net->classes_capacity; id++) {
        double clock_bytes = net->class[id].count > 0 ? class_clock_bytes(net, id) : 0.0;
        int32_t root = net->class[id].root;
        while (root != NONE) {
            int32_t rest = flow_heap_pop(net, root);
            net->flow[root].given.bytes = net->flow[root].finish_bytes - clock_bytes;
            root = rest;
        }
    }
    classes_reset(net);
    net->keeps_links = true;
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < net->flows_capacity && status == STATUS_OK; id++) {
        if (net->flow[id].given.num_links > 0) {
            status = class_add_flow(net, id);
            mark_path_dirty(net, &net->flow[id].given);
        }
    }
    return status;
}

static enum status start_flow(struct maxmin *net, const struct maxmin_flow *given)
{
    assert(given->num_links >= 1);
    assert(given->num_links <= MAXMIN_PATH_LINKS_MAX);
    if (needs_dropped_link(net, given)) {
        enum status status = restore_links(net);
        if (status != STATUS_OK) {
            return status;
        }
    }
    int32_t id = net->free_flow;
    struct flow *flow = &net->flow[id];
    net->free_flow = flow->sibling;
    *flow = (struct flow){.given = *given, .seq = net->next_seq++, .child = NONE, .sibling = NONE};
    net->num_flows++;
    return class_add_flow(net, id);
}

enum status maxmin_start(struct maxmin *net, double now_ns, const struct maxmin_flow *flow,
                         int32_t count)
{
    assert(now_ns >= net->now_ns);
    assert(now_ns <= maxmin_next_ns(net));
    net->now_ns = now_ns;
    enum status status = flows_reserve(net, net->num_flows + count);
    if (status == STATUS_OK) {
        status = classes_reserve(net, net->num_flows + count);
    }
    if (status == STATUS_OK && net->num_flows == 0) {
        classes_reset(net);
        net->keeps_links = false;
    }
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = start_flow(net, &flow[i]);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t i = 0; i < count; i++) {
        mark_path_dirty(net, &flow[i]);
    }
    levels_update(net);
    return STATUS_OK;
}

double maxmin_next_ns(const struct maxmin *net)
{
    return net->done_first < net->done_count ? net->now_ns : net->event[0].key;
}

double maxmin_now_ns(const struct maxmin *net)
{
    return net->now_ns;
}

/* Takes a finished flow off the network. */
static void finish_flow(struct maxmin *net, int32_t class_id)
{
    int32_t id = class_pop_flow(net, class_id);
    net->done[net->done_count++] = (struct done_flow){net->flow[id].seq, id};
    net->num_flows--;
}

static void finish_on_link(struct maxmin *net, int32_t link_id, double slack_ns)
{
    struct link *link = &net->link[link_id];
    double until_bytes = link_clock_bytes(net, link_id) + net->level[link_id] * slack_ns;
    for (int32_t i = link->num_members - 1; i >= 0; i--) { /* a class that goes is replaced by */
        int32_t id = link->entry[i].class_id;              /* the last, which was seen before */
        int32_t count = link->entry[i].count;
        for (; count > 0 && net->finish_bytes[id] <= until_bytes; count--) {
            finish_flow(net, id);
        }
    }
    link_mark_dirty(net, link_id);
    event_heap_set(net, link_id, UNLIMITED); /* until it is levelled */
}

static int by_seq(const void *a, const void *b)
{
    int64_t a_seq = ((const struct done_flow *)a)->seq;
    int64_t b_seq = ((const struct done_flow *)b)->seq;
    return (a_seq > b_seq) - (a_seq < b_seq);
}

static void finish_next(struct maxmin *net)
{
    net->now_ns = net->event[0].key;
    assert(net->now_ns < UNLIMITED);
    net->done_first = 0;
    net->done_count = 0;
    double slack_ns = SAME_TIME_NS + 1e-15 * net->now_ns; /* the clock may be that coarse */
    while (net->event[0].key <= net->now_ns + slack_ns) {
        finish_on_link(net, net->event[0].link, slack_ns);
    }
    assert(net->done_count > 0);
    if (net->done_count > 1) {
        qsort(net->done, (size_t)net->done_count, sizeof *net->done, by_seq);
    }
    for (int32_t i = 0; i < net->done_count; i++) {
        int32_t id = net->done[i].id;
        struct maxmin_flow *given = &net->flow[id].given;
        for (int32_t k = 0; k < given->num_links; k++) {
            link_try_drop(net, given->link[k]);
        }
        given->num_links = 0;
        net->flow[id].sibling = net->free_flow;
        net->free_flow = id;
        net->done[i].id = given->id;
    }
    levels_update(net);
}

int32_t maxmin_pop(struct maxmin *net)
{
    if (net->done_first == net->done_count) {
        finish_next(net);
    }
    return net->done[net->done_first++].id;
}

double maxmin_level_bytes_per_ns(const struct maxmin *net, int32_t link)
{
    return net->level[link];
}

double maxmin_bound_ns(const double *capacity_bytes_per_ns, int32_t num_links,
                       const struct maxmin_flow *flow, int32_t count, double *scratch)
{
    memset(scratch, 0, (size_t)num_links * sizeof *scratch);
    for (int32_t i = 0; i < count; i++) {
        for (int32_t k = 0; k < flow[i].num_links; k++) {
            scratch[flow[i].link[k]] += flow[i].bytes;
        }
    }
    double bound_ns = 0.0;
    for (int32_t i = 0; i < num_links; i++) {
        bound_ns = fmax(bound_ns, scratch[i] / capacity_bytes_per_ns[i]);
    }
    return bound_ns;
}
