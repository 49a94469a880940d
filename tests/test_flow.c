/* test_flow.c -- the network model flow, by hand. */
#include <criterion/criterion.h>

#include "net/net.h"

extern const struct net_model net_flow;

/* 100 GB/s and 1000 ns inside a node, 10 GB/s and 5000 ns between nodes; 2 GPUs a node. */
static struct cluster two_tiers(double node_uplink_bytes_per_s)
{
    struct cluster cluster = {.num_nodes = 4, .gpus_per_node = 2};
    cluster.node_uplink_bytes_per_s = node_uplink_bytes_per_s;
    cluster.gpu.port[TIER_SCALE_UP] = (struct port_spec){100e9, 1.0, 1000.0};
    cluster.gpu.port[TIER_SCALE_OUT] = (struct port_spec){10e9, 1.0, 5000.0};
    return cluster;
}

static void *open_and_send(const struct cluster *cluster, const struct net_message *message,
                           int32_t count)
{
    void *state = NULL;
    cr_assert_eq(net_flow.open(&state, cluster, cluster_num_gpus(cluster)), STATUS_OK);
    cr_assert_eq(net_flow.send(state, 0, message, count), STATUS_OK);
    return state;
}

static void expect_arrival(void *state, int32_t id, int64_t time_ns)
{
    cr_expect_eq(net_flow.next_done_ns(state), time_ns, "%lld instead of %lld",
                 (long long)net_flow.next_done_ns(state), (long long)time_ns);
    cr_expect_eq(net_flow.pop_done(state), id);
}

Test(flow, an_undisturbed_message_takes_latency_plus_bytes_over_bandwidth)
{
    struct cluster cluster = two_tiers(0.0);
    struct net_message messages[] = {{7, 0, 1, 100000, 0.0, false}, {8, 1, 2, 100000, 0.0, false}};

    void *state = open_and_send(&cluster, messages, 2);

    expect_arrival(state, 7, 2000);  /* 1000 + 100000 / 100 */
    expect_arrival(state, 8, 15000); /* 5000 + 100000 / 10 */
    cr_expect_eq(net_flow.next_done_ns(state), NET_IDLE);
    net_flow.close(state);
}

Test(flow, messages_of_a_port_share_it)
{
    struct cluster cluster = two_tiers(0.0);
    struct net_message messages[] = {{0, 0, 2, 100000, 0.0, false}, {1, 0, 4, 50000, 0.0, false}};

    void *state = open_and_send(&cluster, messages, 2);

    expect_arrival(state, 1, 15000); /* 50000 at 5, and latency */
    expect_arrival(state, 0, 20000); /* then 50000 at 10 */
    net_flow.close(state);
}

Test(flow, a_later_message_delays_an_earlier_one)
{
    struct cluster cluster = two_tiers(0.0);
    struct net_message messages[] = {{0, 0, 6, 100000, 0.0, false}, {1, 2, 6, 100000, 0.0, false}};
    void *state = open_and_send(&cluster, messages, 1);
    cr_expect_eq(net_flow.next_done_ns(state), 15000);

    cr_assert_eq(net_flow.send(state, 4000, &messages[1], 1), STATUS_OK);

    expect_arrival(state, 0, 21000); /* 40000 alone, 60000 at 5, and latency */
    expect_arrival(state, 1, 25000);
    net_flow.close(state);
}

Test(flow, a_message_on_its_way_no_longer_shares_a_port)
{
    struct cluster cluster = two_tiers(0.0);
    struct net_message messages[] = {{0, 0, 6, 100000, 0.0, false}, {1, 2, 6, 100000, 0.0, false}};
    void *state = open_and_send(&cluster, messages, 1);

    cr_assert_eq(net_flow.send(state, 12000, &messages[1], 1), STATUS_OK); /* out at 10000 */

    expect_arrival(state, 0, 15000);
    expect_arrival(state, 1, 27000);
    net_flow.close(state);
}

Test(flow, nics_of_a_node_share_its_uplink)
{
    struct cluster cluster = two_tiers(12e9); /* for two NICs of 10e9 */
    struct net_message messages[] = {{0, 0, 2, 60000, 0.0, false}, {1, 1, 4, 60000, 0.0, false}};

    void *state = open_and_send(&cluster, messages, 2);

    expect_arrival(state, 0, 15000); /* 6 bytes per ns each */
    expect_arrival(state, 1, 15000);
    struct net_link link;
    net_flow.link(state, 4 * 8, &link); /* after four links a rank */
    cr_expect_str_eq(link.name, "node 0 uplink out");
    cr_expect_eq(link.bytes, 120000);
    cr_expect_float_eq(link.busy_ns, 10000.0, 1e-6);
    net_flow.close(state);
}

/* A leaf of one node has two NICs of 10 bytes a ns and, 4 : 1 oversubscribed, 5 bytes a ns up. */
Test(flow, leaves_share_what_joins_them_to_the_spine)
{
    struct cluster cluster = two_tiers(0.0);
    cluster.fabric = FABRIC_LEAVES;
    cluster.nodes_per_leaf = 1;
    cluster.spine_oversubscription = 4.0;
    struct net_message messages[] = {{0, 0, 2, 50000, 0.0, false}, {1, 1, 4, 50000, 0.0, false}};

    void *state = open_and_send(&cluster, messages, 2);

    expect_arrival(state, 0, 25000); /* 2.5 bytes a ns each */
    expect_arrival(state, 1, 25000);
    struct net_link link;
    net_flow.link(state, 4 * 8, &link);
    cr_expect_str_eq(link.name, "leaf 0 uplink out");
    cr_expect_eq(link.bytes, 100000);
    net_flow.close(state);
}

/* Two nodes a pod: NICs of one index share a leaf with 20 bytes a ns below and, 8 : 1, 2.5 up. */
Test(flow, a_rail_is_left_only_for_another_rail_or_pod)
{
    struct cluster cluster = two_tiers(0.0);
    cluster.fabric = FABRIC_RAILS;
    cluster.nodes_per_leaf = 2;
    cluster.spine_oversubscription = 8.0;
    struct net_message messages[] = {
        {0, 0, 2, 50000, 0.0, false}, {1, 5, 6, 50000, 0.0, false}, {2, 1, 5, 25000, 0.0, false}};

    void *state = open_and_send(&cluster, messages, 3);

    expect_arrival(state, 0, 10000); /* along the rail: the NIC's 10 bytes a ns */
    expect_arrival(state, 2, 15000); /* the same rail, another pod: 2.5 */
    expect_arrival(state, 1, 25000); /* another rail: 2.5 */
    net_flow.close(state);
}
