/*
 * alpha_beta -- latency plus bytes over bandwidth, with a queue at every port.
 *
 * Each rank has an egress and an ingress port on the scale-up and on the scale-out network. A
 * message leaves when its egress port has sent what it was given before; its first byte arrives
 * latency_ns later. An ingress port works off what is sent to it without keeping gaps for messages
 * that still queue at their senders, so a message is done when both its own way and the port's work
 * allow:
 *
 *     out  = max(now, egress_free);                  egress_free  = out + bytes / bandwidth
 *     work = max(now + latency, ingress_free) + bytes / bandwidth;  ingress_free = work
 *     done = max(out + latency + bytes / bandwidth, work)
 *
 * The last of a burst is then done at the largest, over ports, of bytes / bandwidth + latency,
 * which is what fair sharing gives too; times of single messages are not those of fair sharing.
 * Left out: the fabric between ports (switches, oversubscription, rails). Port clocks are doubles;
 * a message is rounded once, at the end, so that many small messages do not add up a rounding
 * error.
 */
#include "net/net.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum direction { EGRESS, INGRESS, DIRECTION_COUNT };

struct port {
    double ns_per_byte;
    double free_ns; /* when it has passed all it was given */
    double busy_ns;
    int64_t bytes;
};

struct delivery {
    int64_t done_ns;
    int64_t seq; /* of sending: makes the order total */
    int32_t id;
};

struct alpha_beta {
    const struct cluster *cluster;
    int32_t num_ranks;
    struct port *port; /* [num_ranks][TIER_COUNT][DIRECTION_COUNT] */
    struct delivery *heap;
    int32_t count;
    int32_t capacity;
    int64_t next_seq;
};

static struct port *port_of(const struct alpha_beta *net, int32_t rank, enum tier tier,
                            enum direction direction)
{
    return &net->port[((size_t)rank * TIER_COUNT + (size_t)tier) * DIRECTION_COUNT +
                      (size_t)direction];
}

static void alpha_beta_close(void *state)
{
    struct alpha_beta *net = state;
    if (net != NULL) {
        free(net->port);
        free(net->heap);
        free(net);
    }
}

static void alpha_beta_set_port(void *state, int32_t rank, enum tier tier, double share)
{
    struct alpha_beta *net = state;
    const struct port_spec *spec = &net->cluster->gpu.port[tier];
    double ns_per_byte = 1e9 / (spec->bytes_per_s * spec->fraction * share);
    port_of(net, rank, tier, EGRESS)->ns_per_byte = ns_per_byte;
    port_of(net, rank, tier, INGRESS)->ns_per_byte = ns_per_byte;
}

static enum status alpha_beta_open(void **state, const struct cluster *cluster, int32_t num_ranks)
{
    struct alpha_beta *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return STATUS_NO_MEMORY;
    }
    net->cluster = cluster;
    net->num_ranks = num_ranks;
    net->port = calloc((size_t)num_ranks * TIER_COUNT * DIRECTION_COUNT, sizeof *net->port);
    if (net->port == NULL) {
        alpha_beta_close(net);
        return STATUS_NO_MEMORY;
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        alpha_beta_set_port(net, rank, TIER_SCALE_UP, 1.0);
        alpha_beta_set_port(net, rank, TIER_SCALE_OUT, 1.0);
    }
    *state = net;
    return STATUS_OK;
}

static bool delivered_before(const struct delivery *a, const struct delivery *b)
{
    return a->done_ns != b->done_ns ? a->done_ns < b->done_ns : a->seq < b->seq;
}

static void heap_push(struct alpha_beta *net, struct delivery delivery)
{
    int32_t hole = net->count++;
    while (hole > 0 && delivered_before(&delivery, &net->heap[(hole - 1) / 2])) {
        net->heap[hole] = net->heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    net->heap[hole] = delivery;
}

static struct delivery heap_pop(struct alpha_beta *net)
{
    struct delivery first = net->heap[0];
    struct delivery last = net->heap[--net->count];
    int32_t hole = 0;
    for (int32_t child = 1; child < net->count; child = 2 * hole + 1) {
        if (child + 1 < net->count && delivered_before(&net->heap[child + 1], &net->heap[child])) {
            child++;
        }
        if (!delivered_before(&net->heap[child], &last)) {
            break;
        }
        net->heap[hole] = net->heap[child];
        hole = child;
    }
    net->heap[hole] = last;
    return first;
}

static double later_ns(double a, double b) /* fmax is a call */
{
    return a > b ? a : b;
}

/* Sends bytes, stretched by the overhead, out of one port, which is not free before now, and into
 * another, which sees the first of them at first_ns or later. */
static inline int64_t pass_ports(struct port *restrict egress, struct port *restrict ingress,
                                 double first_ns, double latency_ns, int64_t bytes, double stretch)
{
    double wire_bytes = (double)bytes * stretch;
    double out_wire_ns = wire_bytes * egress->ns_per_byte;
    double in_wire_ns = wire_bytes * ingress->ns_per_byte;
    double work_ns = later_ns(first_ns, ingress->free_ns) + in_wire_ns;
    egress->free_ns += out_wire_ns;
    ingress->free_ns = work_ns;
    egress->busy_ns += out_wire_ns;
    ingress->busy_ns += in_wire_ns;
    egress->bytes += bytes;
    ingress->bytes += bytes;
    double done_ns = later_ns(egress->free_ns + latency_ns, work_ns);
    return (int64_t)(done_ns + 0.5); /* to the nearest: time is not negative */
}

static enum status alpha_beta_send(void *state, int64_t now_ns, const struct net_message *message,
                                   int32_t count)
{
    struct alpha_beta *net = state;
    if (net->capacity - net->count < count) {
        int32_t capacity = 2 * (net->count + count);
        struct delivery *heap = realloc(net->heap, (size_t)capacity * sizeof *heap);
        if (heap == NULL) {
            return STATUS_NO_MEMORY;
        }
        net->heap = heap;
        net->capacity = capacity;
    }
    for (int32_t index = 0; index < count; index++) {
        assert(message[index].src_rank != message[index].dst_rank);
        enum tier tier = net_message_tier(net->cluster, &message[index]);
        struct port *egress = port_of(net, message[index].src_rank, tier, EGRESS);
        struct port *ingress = port_of(net, message[index].dst_rank, tier, INGRESS);
        double latency_ns = net->cluster->gpu.port[tier].latency_ns;
        egress->free_ns = later_ns((double)now_ns, egress->free_ns);
        int64_t done_ns = pass_ports(egress, ingress, (double)now_ns + latency_ns, latency_ns,
                                     message[index].bytes, 1.0 + message[index].overhead);
        heap_push(net, (struct delivery){done_ns, net->next_seq++, message[index].id});
    }
    return STATUS_OK;
}

/* Sends messages from first on, as long as they go to ranks on the node that begins with
 * node_begin, or as long as they do not: their sender's port stays in registers. Returns the next.
 */
static inline int32_t decide_run(const struct alpha_beta *net, double begin_ns,
                                 const struct net_burst *burst, int32_t first, int32_t node_begin,
                                 enum tier tier, int64_t *restrict done_ns)
{
    const struct cluster *cluster = net->cluster;
    const struct message *restrict message = burst->message;
    const int32_t count = burst->count;
    const double latency_ns = cluster->gpu.port[tier].latency_ns;
    const double first_ns = begin_ns + latency_ns;
    const double stretch = 1.0 + burst->overhead[tier];
    struct port *restrict ingress = port_of(net, 0, tier, INGRESS);
    struct port egress = *port_of(net, burst->src_rank, tier, EGRESS);
    egress.free_ns = later_ns(begin_ns, egress.free_ns);
    int32_t index = first;
    for (; index < count; index++) {
        const int32_t rank = message[index].dst_rank;
        if (cluster_on_node(cluster, node_begin, rank) != (tier == TIER_SCALE_UP)) {
            break;
        }
        assert(rank != burst->src_rank);
        done_ns[index] = pass_ports(&egress, &ingress[rank * TIER_COUNT * DIRECTION_COUNT],
                                    first_ns, latency_ns, message[index].bytes, stretch);
    }
    *port_of(net, burst->src_rank, tier, EGRESS) = egress;
    return index;
}

static void alpha_beta_decide(void *state, int64_t now_ns, const struct net_burst *burst,
                              int64_t *restrict done_ns)
{
    const struct alpha_beta *net = state;
    const double begin_ns = (double)now_ns;
    const int32_t node = cluster_node(net->cluster, burst->src_rank);
    const int32_t node_begin = burst->by_nic ? INT32_MIN : node * net->cluster->gpus_per_node;
    for (int32_t index = 0; index < burst->count;) {
        index = decide_run(net, begin_ns, burst, index, node_begin, TIER_SCALE_UP, done_ns);
        index = decide_run(net, begin_ns, burst, index, node_begin, TIER_SCALE_OUT, done_ns);
    }
}

static int64_t alpha_beta_next_done_ns(const void *state)
{
    const struct alpha_beta *net = state;
    return net->count > 0 ? net->heap[0].done_ns : NET_IDLE;
}

static int32_t alpha_beta_pop_done(void *state)
{
    struct alpha_beta *net = state;
    assert(net->count > 0);
    return heap_pop(net).id;
}

static int32_t alpha_beta_num_links(const void *state)
{
    return ((const struct alpha_beta *)state)->num_ranks * TIER_COUNT * DIRECTION_COUNT;
}

static void alpha_beta_link(const void *state, int32_t link, struct net_link *counters)
{
    static const char *const tier_names[] = {"scale-up", "scale-out"};
    static const char *const direction_names[] = {"out", "in"};
    const struct alpha_beta *net = state;
    int32_t rank = link / (TIER_COUNT * DIRECTION_COUNT);
    enum tier tier = (enum tier)(link / DIRECTION_COUNT % TIER_COUNT);
    enum direction direction = (enum direction)(link % DIRECTION_COUNT);
    const struct port *port = port_of(net, rank, tier, direction);
    *counters = (struct net_link){.tier = tier,
                                  .bytes_per_s = net->cluster->gpu.port[tier].bytes_per_s,
                                  .bytes = port->bytes,
                                  .busy_ns = port->busy_ns};
    snprintf(counters->name, sizeof counters->name, "rank %d %s %s", (int)rank, tier_names[tier],
             direction_names[direction]);
}

const struct net_model net_alpha_beta = {
    .name = "alpha_beta",
    .summary = "latency plus bytes over bandwidth, a queue at every port; no shared fabric",
    .source = "Hockney 1994, with ports that carry one message at a time",
    .open = alpha_beta_open,
    .close = alpha_beta_close,
    .send = alpha_beta_send,
    .next_done_ns = alpha_beta_next_done_ns,
    .pop_done = alpha_beta_pop_done,
    .decide = alpha_beta_decide,
    .set_port = alpha_beta_set_port,
    .num_links = alpha_beta_num_links,
    .link = alpha_beta_link,
};
