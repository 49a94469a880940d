/*
 * uncontended -- latency plus bytes over bandwidth; every message has the wires to itself.
 *
 *     done = now + latency + bytes / bandwidth
 *
 * Left out: all queueing, at ports and in the fabric; so no real network is faster, and what
 * alpha_beta adds to this is the cost of waiting.
 */
#include "net/net.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum direction { OUT, IN, DIRECTION_COUNT };

struct port {
    double ns_per_byte;
    double busy_ns;
    int64_t bytes;
};

struct delivery {
    int64_t done_ns;
    int32_t id;
};

struct uncontended {
    const struct cluster *cluster;
    int32_t num_ranks;
    struct port *port;      /* [num_ranks][TIER_COUNT][DIRECTION_COUNT] */
    struct delivery *queue; /* [capacity], the next to be done last */
    int32_t count;
    int32_t capacity;
};

static void uncontended_close(void *state)
{
    struct uncontended *net = state;
    if (net != NULL) {
        free(net->port);
        free(net->queue);
        free(net);
    }
}

static struct port *port_of(const struct uncontended *net, int32_t rank, enum tier tier,
                            enum direction direction)
{
    size_t index = ((size_t)rank * TIER_COUNT + (size_t)tier) * DIRECTION_COUNT;
    return &net->port[index + (size_t)direction];
}

static void uncontended_set_port(void *state, int32_t rank, enum tier tier, double share)
{
    struct uncontended *net = state;
    const struct port_spec *spec = &net->cluster->gpu.port[tier];
    double ns_per_byte = 1e9 / (spec->bytes_per_s * spec->fraction * share);
    port_of(net, rank, tier, OUT)->ns_per_byte = ns_per_byte;
    port_of(net, rank, tier, IN)->ns_per_byte = ns_per_byte;
}

static enum status uncontended_open(void **state, const struct cluster *cluster, int32_t num_ranks)
{
    struct uncontended *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return STATUS_NO_MEMORY;
    }
    net->cluster = cluster;
    net->num_ranks = num_ranks;
    net->port = calloc((size_t)num_ranks * TIER_COUNT * DIRECTION_COUNT, sizeof *net->port);
    if (net->port == NULL) {
        uncontended_close(net);
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        uncontended_set_port(net, rank, TIER_SCALE_UP, 1.0);
        uncontended_set_port(net, rank, TIER_SCALE_OUT, 1.0);
    }
    *state = net;
    return STATUS_OK;
}

/* Returns how long the message passes the port. */
static double pass(struct port *port, const struct net_message *message)
{
    double wire_ns = (double)message->bytes * (1.0 + message->overhead) * port->ns_per_byte;
    port->bytes += message->bytes;
    port->busy_ns += wire_ns;
    return wire_ns;
}

/* Of two done at the same time, the one sent first comes out first. */
static void enqueue(struct uncontended *net, struct delivery delivery)
{
    int32_t place = net->count++;
    while (place > 0 && net->queue[place - 1].done_ns <= delivery.done_ns) {
        net->queue[place] = net->queue[place - 1];
        place--;
    }
    net->queue[place] = delivery;
}

static enum status uncontended_send(void *state, int64_t now_ns, const struct net_message *message,
                                    int32_t count)
{
    struct uncontended *net = state;
    if (net->capacity - net->count < count) {
        int32_t capacity = 2 * (net->count + count);
        struct delivery *queue = realloc(net->queue, (size_t)capacity * sizeof *queue);
        if (queue == NULL) {
            return STATUS_NO_MEMORY;
        }
        net->queue = queue;
        net->capacity = capacity;
    }
    for (const struct net_message *next = message; next < message + count; next++) {
        enum tier tier = net_message_tier(net->cluster, next);
        double out_ns = pass(port_of(net, next->src_rank, tier, OUT), next);
        double in_ns = pass(port_of(net, next->dst_rank, tier, IN), next);
        double way_ns = net->cluster->gpu.port[tier].latency_ns + fmax(out_ns, in_ns);
        enqueue(net, (struct delivery){now_ns + llround(way_ns), next->id});
    }
    return STATUS_OK;
}

static int64_t uncontended_next_done_ns(const void *state)
{
    const struct uncontended *net = state;
    return net->count > 0 ? net->queue[net->count - 1].done_ns : NET_IDLE;
}

static int32_t uncontended_pop_done(void *state)
{
    struct uncontended *net = state;
    assert(net->count > 0);
    return net->queue[--net->count].id;
}

static int32_t uncontended_num_links(const void *state)
{
    return ((const struct uncontended *)state)->num_ranks * TIER_COUNT * DIRECTION_COUNT;
}

static void uncontended_link(const void *state, int32_t link, struct net_link *counters)
{
    const struct uncontended *net = state;
    enum tier tier = (enum tier)(link / DIRECTION_COUNT % TIER_COUNT);
    *counters = (struct net_link){.tier = tier,
                                  .bytes_per_s = net->cluster->gpu.port[tier].bytes_per_s,
                                  .bytes = net->port[link].bytes,
                                  .busy_ns = net->port[link].busy_ns};
    snprintf(counters->name, sizeof counters->name, "rank %d %s %s",
             (int)(link / (TIER_COUNT * DIRECTION_COUNT)),
             tier == TIER_SCALE_UP ? "scale-up" : "scale-out",
             link % DIRECTION_COUNT == OUT ? "out" : "in");
}

const struct net_model net_uncontended = {
    .name = "uncontended",
    .summary = "latency plus bytes over bandwidth; no message waits for another",
    .source = "",
    .open = uncontended_open,
    .close = uncontended_close,
    .send = uncontended_send,
    .next_done_ns = uncontended_next_done_ns,
    .pop_done = uncontended_pop_done,
    .set_port = uncontended_set_port,
    .num_links = uncontended_num_links,
    .link = uncontended_link,
};
