/*
 * flow -- messages share links max-min fairly, each finishing at its exact time.
 *
 * A message inside a node passes the scale-up ports of its two GPUs, whose switch is non-blocking.
 * A message between nodes passes both NICs and, where the cluster has node uplinks, the uplink of
 * the sending and the downlink of the receiving node; where NICs hang on leaf switches and theirs
 * are not the same, also what joins the leaves to the spine, which itself never blocks:
 *
 *     GPU out -> GPU in                                                       inside a node
 *     NIC out -> [node out] -> [leaf out -> leaf in] -> [node in] -> NIC in   between nodes
 *
 * All links of the path carry the message at one rate from the moment of sending; the last byte
 * arrives latency_ns of the tier after it has left, so an undisturbed message takes bytes /
 * (bytes_per_s * fraction) + latency, as under alpha_beta. The two tiers share no link, so each is
 * a network of its own, and in each messages arrive in the order in which they finish.
 *
 * Left out: anything below the level of messages (packets, congestion control and its ramp, head
 * of line blocking), and collisions of paths on single links between leaf and spine.
 */
#include "net/net.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/maxmin.h"

enum direction { EGRESS, INGRESS, DIRECTION_COUNT };

struct arrival {
    int64_t done_ns;
    int32_t id;
};

struct tier_net {
    struct maxmin *maxmin;
    double latency_ns;
    struct arrival *arrival; /* a ring: finished, not yet popped */
    int32_t first;
    int32_t count;
    int32_t capacity;
    int32_t num_flows;
};

struct flow_link {
    double bytes_per_s;  /* nominal */
    double bytes_per_ns; /* what payload gets of it, now */
    int64_t bytes;
    double wire_bytes;    /* bytes, and what their overhead takes of the wires */
    double earlier_bytes; /* of the wires before the rate last changed, and the time they took */
    double earlier_busy_ns;
};

static double busy_ns(const struct flow_link *link)
{
    return link->earlier_busy_ns + (link->wire_bytes - link->earlier_bytes) / link->bytes_per_ns;
}

/* Links: [rank][TIER][DIRECTION], then [node][DIRECTION] where nodes have uplinks, then
 * [leaf][DIRECTION] where there are leaves. */
struct flow_net {
    const struct cluster *cluster;
    int32_t num_ranks;
    int32_t num_links;
    int32_t first_leaf_link; /* num_links: there are no leaves */
    bool has_uplinks;
    struct flow_link *link;
    struct maxmin_flow *outbox;
    int32_t outbox_capacity;
    struct tier_net tier[TIER_COUNT];
};

static int32_t port_link(int32_t rank, enum tier tier, enum direction direction)
{
    return (rank * TIER_COUNT + (int32_t)tier) * DIRECTION_COUNT + (int32_t)direction;
}

static int32_t uplink(const struct flow_net *net, int32_t node, enum direction direction)
{
    return net->num_ranks * TIER_COUNT * DIRECTION_COUNT + node * DIRECTION_COUNT +
           (int32_t)direction;
}

/* Leaves count pod by pod, of rails one a GPU index. */
static int32_t leaf_of(const struct cluster *cluster, int32_t rank)
{
    int32_t pod = cluster_node(cluster, rank) / cluster->nodes_per_leaf;
    return cluster->fabric == FABRIC_RAILS
               ? pod * cluster->gpus_per_node + rank % cluster->gpus_per_node
               : pod;
}

static int32_t num_leaves(const struct cluster *cluster, int32_t num_nodes)
{
    if (cluster->fabric == FABRIC_FLAT) {
        return 0;
    }
    int32_t pods = (num_nodes + cluster->nodes_per_leaf - 1) / cluster->nodes_per_leaf;
    return cluster->fabric == FABRIC_RAILS ? pods * cluster->gpus_per_node : pods;
}

static void flow_close(void *state)
{
    struct flow_net *net = state;
    if (net == NULL) {
        return;
    }
    for (int32_t tier = 0; tier < TIER_COUNT; tier++) {
        maxmin_close(net->tier[tier].maxmin);
        free(net->tier[tier].arrival);
    }
    free(net->link);
    free(net->outbox);
    free(net);
}

static void describe_links(struct flow_net *net)
{
    for (int32_t rank = 0; rank < net->num_ranks; rank++) {
        for (int32_t tier = 0; tier < TIER_COUNT; tier++) {
            const struct port_spec *port = &net->cluster->gpu.port[tier];
            struct flow_link link = {.bytes_per_s = port->bytes_per_s,
                                     .bytes_per_ns = port->bytes_per_s * port->fraction * 1e-9};
            net->link[port_link(rank, (enum tier)tier, EGRESS)] = link;
            net->link[port_link(rank, (enum tier)tier, INGRESS)] = link;
        }
    }
    const struct port_spec *nic = &net->cluster->gpu.port[TIER_SCALE_OUT];
    double nics_per_leaf = (double)net->cluster->nodes_per_leaf;
    nics_per_leaf *= net->cluster->fabric == FABRIC_LEAVES ? net->cluster->gpus_per_node : 1;
    for (int32_t i = uplink(net, 0, EGRESS); i < net->num_links; i++) {
        double bytes_per_s = net->cluster->node_uplink_bytes_per_s;
        if (i >= net->first_leaf_link) {
            bytes_per_s = nics_per_leaf * nic->bytes_per_s / net->cluster->spine_oversubscription;
        }
        net->link[i] = (struct flow_link){.bytes_per_s = bytes_per_s,
                                          .bytes_per_ns = bytes_per_s * nic->fraction * 1e-9};
    }
}

static enum status open_tiers(struct flow_net *net)
{
    double *capacity = malloc((size_t)net->num_links * sizeof *capacity);
    if (capacity == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < net->num_links; i++) {
        capacity[i] = net->link[i].bytes_per_ns;
    }
    enum status status = STATUS_OK;
    for (int32_t tier = 0; tier < TIER_COUNT && status == STATUS_OK; tier++) {
        net->tier[tier].latency_ns = net->cluster->gpu.port[tier].latency_ns;
        status = maxmin_open(&net->tier[tier].maxmin, capacity, net->num_links);
    }
    free(capacity);
    return status;
}

static enum status flow_open(void **state, const struct cluster *cluster, int32_t num_ranks)
{
    struct flow_net *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return STATUS_NO_MEMORY;
    }
    net->cluster = cluster;
    net->num_ranks = num_ranks;
    net->has_uplinks = cluster->node_uplink_bytes_per_s > 0.0;
    int32_t num_nodes = cluster_node(cluster, num_ranks - 1) + 1;
    net->first_leaf_link = uplink(net, net->has_uplinks ? num_nodes : 0, EGRESS);
    net->num_links = net->first_leaf_link + num_leaves(cluster, num_nodes) * DIRECTION_COUNT;
    net->link = calloc((size_t)net->num_links, sizeof *net->link);
    enum status status = STATUS_NO_MEMORY;
    if (net->link != NULL) {
        describe_links(net);
        status = open_tiers(net);
    }
    if (status != STATUS_OK) {
        flow_close(net);
        return status;
    }
    *state = net;
    return STATUS_OK;
}

/* Many times end in half a nanosecond but for the last digit, which must not decide: they are put
 * on a grid of 1/1024 ns before they are rounded. */
static int64_t arrival_ns(const struct tier_net *tier, double finish_ns)
{
    return (int64_t)llround(rint((finish_ns + tier->latency_ns) * 1024.0) / 1024.0);
}

/* Finishes the next flow and queues its arrival; start made room for it. */
static void finish_one(struct tier_net *tier)
{
    int64_t done_ns = arrival_ns(tier, maxmin_next_ns(tier->maxmin));
    int32_t id = maxmin_pop(tier->maxmin);
    assert(tier->count < tier->capacity);
    tier->arrival[(tier->first + tier->count) % tier->capacity] = (struct arrival){done_ns, id};
    tier->count++;
    tier->num_flows--;
}

/* A ring is unrolled when it grows. */
static enum status reserve_arrivals(struct tier_net *tier, int32_t count)
{
    if (tier->capacity - tier->count - tier->num_flows >= count) {
        return STATUS_OK;
    }
    int32_t capacity = 2 * (tier->count + tier->num_flows + count);
    struct arrival *arrival = malloc((size_t)capacity * sizeof *arrival);
    if (arrival == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < tier->count; i++) {
        arrival[i] = tier->arrival[(tier->first + i) % tier->capacity];
    }
    free(tier->arrival);
    tier->arrival = arrival;
    tier->first = 0;
    tier->capacity = capacity;
    return STATUS_OK;
}

static struct maxmin_flow path_of(const struct flow_net *net, const struct net_message *message,
                                  enum tier tier)
{
    struct maxmin_flow flow = {.id = message->id,
                               .bytes = (double)message->bytes * (1.0 + message->overhead)};
    flow.link[flow.num_links++] = port_link(message->src_rank, tier, EGRESS);
    if (tier == TIER_SCALE_OUT && net->has_uplinks) {
        int32_t src_node = cluster_node(net->cluster, message->src_rank);
        int32_t dst_node = cluster_node(net->cluster, message->dst_rank);
        flow.link[flow.num_links++] = uplink(net, src_node, EGRESS);
        flow.link[flow.num_links++] = uplink(net, dst_node, INGRESS);
    }
    if (tier == TIER_SCALE_OUT && net->cluster->fabric != FABRIC_FLAT) {
        int32_t src_leaf = leaf_of(net->cluster, message->src_rank);
        int32_t dst_leaf = leaf_of(net->cluster, message->dst_rank);
        if (src_leaf != dst_leaf) {
            int32_t first = net->first_leaf_link;
            flow.link[flow.num_links++] = first + src_leaf * DIRECTION_COUNT + EGRESS;
            flow.link[flow.num_links++] = first + dst_leaf * DIRECTION_COUNT + INGRESS;
        }
    }
    flow.link[flow.num_links++] = port_link(message->dst_rank, tier, INGRESS);
    return flow;
}

/* Starts those of the messages that travel on the tier. */
static enum status send_on_tier(struct flow_net *net, enum tier tier_id, int64_t now_ns,
                                const struct net_message *message, int32_t count)
{
    struct tier_net *tier = &net->tier[tier_id];
    int32_t num_flows = 0;
    for (int32_t i = 0; i < count; i++) {
        if (net_message_tier(net->cluster, &message[i]) == tier_id) {
            struct maxmin_flow flow = path_of(net, &message[i], tier_id);
            net->outbox[num_flows++] = flow;
            for (int32_t k = 0; k < flow.num_links; k++) {
                net->link[flow.link[k]].bytes += message[i].bytes;
                net->link[flow.link[k]].wire_bytes += flow.bytes;
            }
        }
    }
    if (num_flows == 0) {
        return STATUS_OK;
    }
    while (maxmin_next_ns(tier->maxmin) <= (double)now_ns) {
        finish_one(tier);
    }
    enum status status = reserve_arrivals(tier, num_flows);
    if (status == STATUS_OK) {
        tier->num_flows += num_flows;
        /* An arrival rounded down may have been popped up to half a nanosecond early. */
        double start_ns = fmax((double)now_ns, maxmin_now_ns(tier->maxmin));
        status = maxmin_start(tier->maxmin, start_ns, net->outbox, num_flows);
    }
    return status;
}

static enum status flow_send(void *state, int64_t now_ns, const struct net_message *message,
                             int32_t count)
{
    struct flow_net *net = state;
    if (net->outbox_capacity < count) {
        struct maxmin_flow *outbox = realloc(net->outbox, 2 * (size_t)count * sizeof *outbox);
        if (outbox == NULL) {
            return STATUS_NO_MEMORY;
        }
        net->outbox = outbox;
        net->outbox_capacity = 2 * count;
    }
    enum status status = send_on_tier(net, TIER_SCALE_UP, now_ns, message, count);
    if (status == STATUS_OK) {
        status = send_on_tier(net, TIER_SCALE_OUT, now_ns, message, count);
    }
    return status;
}

/* When the tier's next message arrives, NET_IDLE when it has none. */
static int64_t tier_next_ns(const struct tier_net *tier)
{
    if (tier->count > 0) {
        return tier->arrival[tier->first].done_ns;
    }
    return tier->num_flows > 0 ? arrival_ns(tier, maxmin_next_ns(tier->maxmin)) : NET_IDLE;
}

static int64_t flow_next_done_ns(const void *state)
{
    const struct flow_net *net = state;
    int64_t up_ns = tier_next_ns(&net->tier[TIER_SCALE_UP]);
    int64_t out_ns = tier_next_ns(&net->tier[TIER_SCALE_OUT]);
    return up_ns < out_ns ? up_ns : out_ns;
}

static int32_t flow_pop_done(void *state)
{
    struct flow_net *net = state;
    bool is_up =
        tier_next_ns(&net->tier[TIER_SCALE_UP]) <= tier_next_ns(&net->tier[TIER_SCALE_OUT]);
    struct tier_net *tier = &net->tier[is_up ? TIER_SCALE_UP : TIER_SCALE_OUT];
    if (tier->count == 0) {
        finish_one(tier);
    }
    int32_t id = tier->arrival[tier->first].id;
    tier->first = (tier->first + 1) % tier->capacity;
    tier->count--;
    return id;
}

static void flow_set_port(void *state, int32_t rank, enum tier tier, double share)
{
    struct flow_net *net = state;
    const struct port_spec *port = &net->cluster->gpu.port[tier];
    for (int32_t direction = 0; direction < DIRECTION_COUNT; direction++) {
        int32_t link_id = port_link(rank, tier, (enum direction)direction);
        struct flow_link *link = &net->link[link_id];
        link->earlier_busy_ns = busy_ns(link);
        link->earlier_bytes = link->wire_bytes;
        link->bytes_per_ns = port->bytes_per_s * port->fraction * share * 1e-9;
        maxmin_set_capacity(net->tier[tier].maxmin, link_id, link->bytes_per_ns);
    }
}

static int32_t flow_num_links(const void *state)
{
    return ((const struct flow_net *)state)->num_links;
}

static void flow_link(const void *state, int32_t link_id, struct net_link *counters)
{
    static const char *const tier_names[] = {"scale-up", "scale-out"};
    static const char *const direction_names[] = {"out", "in"};
    const struct flow_net *net = state;
    const struct flow_link *link = &net->link[link_id];
    int32_t num_ports = uplink(net, 0, EGRESS);
    const char *direction = direction_names[link_id % DIRECTION_COUNT];
    *counters = (struct net_link){.tier = TIER_SCALE_OUT,
                                  .bytes_per_s = link->bytes_per_s,
                                  .bytes = link->bytes,
                                  .busy_ns = busy_ns(link)};
    if (link_id < num_ports) {
        counters->tier = (enum tier)(link_id / DIRECTION_COUNT % TIER_COUNT);
        snprintf(counters->name, sizeof counters->name, "rank %d %s %s",
                 (int)(link_id / (TIER_COUNT * DIRECTION_COUNT)), tier_names[counters->tier],
                 direction);
    } else if (link_id < net->first_leaf_link) {
        snprintf(counters->name, sizeof counters->name, "node %d uplink %s",
                 (int)((link_id - num_ports) / DIRECTION_COUNT), direction);
    } else {
        snprintf(counters->name, sizeof counters->name, "leaf %d uplink %s",
                 (int)((link_id - net->first_leaf_link) / DIRECTION_COUNT), direction);
    }
}

const struct net_model net_flow = {
    .name = "flow",
    .summary = "exact max-min fair sharing of ports, node and leaf uplinks, message by message",
    .source = "Bertsekas and Gallager 1992, section 6.5.2",
    .open = flow_open,
    .close = flow_close,
    .send = flow_send,
    .next_done_ns = flow_next_done_ns,
    .pop_done = flow_pop_done,
    .set_port = flow_set_port,
    .num_links = flow_num_links,
    .link = flow_link,
};
