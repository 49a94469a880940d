/* test_net.c -- the network model's arithmetic, and laws every network model keeps. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/net.h"
#include "rng.h"

extern const struct net_model net_alpha_beta;

/* 100 GB/s and 1000 ns inside a node, 10 GB/s and 5000 ns between nodes; 2 GPUs a node. */
static struct cluster two_tiers(void)
{
    struct cluster cluster = {.num_nodes = 4, .gpus_per_node = 2};
    cluster.gpu.port[TIER_SCALE_UP] = (struct port_spec){100e9, 1.0, 1000.0};
    cluster.gpu.port[TIER_SCALE_OUT] = (struct port_spec){10e9, 1.0, 5000.0};
    return cluster;
}

static void *open_net(const struct net_model *net, const struct cluster *cluster)
{
    void *state = NULL;
    cr_assert_eq(net->open(&state, cluster, cluster_num_gpus(cluster)), STATUS_OK);
    return state;
}

Test(alpha_beta, takes_latency_plus_bytes_over_bandwidth)
{
    struct cluster cluster = two_tiers();
    void *state = open_net(&net_alpha_beta, &cluster);
    struct net_message message = {.id = 7, .src_rank = 0, .dst_rank = 1, .bytes = 100000};

    cr_assert_eq(net_alpha_beta.send(state, 50, &message, 1), STATUS_OK);

    /* 50 + 1000 + 100000 B / 100 B/ns */
    cr_expect_eq(net_alpha_beta.next_done_ns(state), 2050);
    cr_expect_eq(net_alpha_beta.pop_done(state), 7);
    cr_expect_eq(net_alpha_beta.next_done_ns(state), NET_IDLE);
    net_alpha_beta.close(state);
}

Test(alpha_beta, uses_the_slow_tier_between_nodes)
{
    struct cluster cluster = two_tiers();
    void *state = open_net(&net_alpha_beta, &cluster);
    struct net_message message = {.id = 0, .src_rank = 1, .dst_rank = 2, .bytes = 100000};

    cr_assert_eq(net_alpha_beta.send(state, 0, &message, 1), STATUS_OK);

    cr_expect_eq(net_alpha_beta.next_done_ns(state), 15000); /* 5000 + 100000 / 10 */
    net_alpha_beta.close(state);
}

Test(alpha_beta, serves_an_egress_port_in_order)
{
    struct cluster cluster = two_tiers();
    void *state = open_net(&net_alpha_beta, &cluster);
    struct net_message messages[] = {{0, 0, 2, 100000, 0.0, false}, {1, 0, 4, 100000, 0.0, false}};

    cr_assert_eq(net_alpha_beta.send(state, 0, messages, 2), STATUS_OK);

    cr_expect_eq(net_alpha_beta.next_done_ns(state), 15000);
    cr_expect_eq(net_alpha_beta.pop_done(state), 0);
    cr_expect_eq(net_alpha_beta.next_done_ns(state), 25000); /* left 10000 later */
    net_alpha_beta.close(state);
}

Test(alpha_beta, queues_at_an_ingress_port)
{
    struct cluster cluster = two_tiers();
    void *state = open_net(&net_alpha_beta, &cluster);
    struct net_message messages[] = {{0, 0, 6, 100000, 0.0, false}, {1, 2, 6, 100000, 0.0, false}};

    cr_assert_eq(net_alpha_beta.send(state, 0, messages, 2), STATUS_OK);

    cr_expect_eq(net_alpha_beta.pop_done(state), 0);
    cr_expect_eq(net_alpha_beta.next_done_ns(state), 25000); /* the first is in at 15000 */
    net_alpha_beta.close(state);
}

Test(alpha_beta, does_not_add_up_rounding_errors)
{
    struct cluster cluster = two_tiers();
    void *state = open_net(&net_alpha_beta, &cluster);

    for (int32_t id = 0; id < 1000; id++) { /* 0.3 ns each */
        struct net_message message = {id, 0, 1, 30, 0.0, false};
        cr_assert_eq(net_alpha_beta.send(state, 0, &message, 1), STATUS_OK);
    }
    int64_t last_ns = 0;
    while (net_alpha_beta.next_done_ns(state) != NET_IDLE) {
        last_ns = net_alpha_beta.next_done_ns(state);
        net_alpha_beta.pop_done(state);
    }

    cr_expect_eq(last_ns, 1300);
    net_alpha_beta.close(state);
}

/* Law: every message sent is delivered once, in an order of time that never runs back, not before
 * its latency and wire time, and the links count its bytes twice (out and in). */
static void check_conservation(const struct net_model *net, uint64_t round)
{
    enum { MESSAGES = 200 };
    struct cluster cluster = two_tiers();
    int32_t ranks = cluster_num_gpus(&cluster);
    void *state = open_net(net, &cluster);
    gsl_rng *rng = rng_stream(round, "test net", 0);
    int64_t sent_ns[MESSAGES];
    struct net_message messages[MESSAGES];
    bool done[MESSAGES] = {false};
    int64_t now_ns = 0;
    int64_t bytes = 0;
    int32_t delivered = 0;
    int32_t id = 0;
    while (delivered < MESSAGES) {
        int64_t next_ns = net->next_done_ns(state);
        int64_t send_ns = now_ns + (int64_t)gsl_rng_uniform_int(rng, 3000);
        if (id < MESSAGES && send_ns < next_ns) {
            now_ns = send_ns;
            int32_t src = (int32_t)gsl_rng_uniform_int(rng, (unsigned long)ranks);
            int32_t turn = 1 + (int32_t)gsl_rng_uniform_int(rng, (unsigned long)ranks - 1);
            messages[id] = (struct net_message){
                id,  src,  (src + turn) % ranks, 1 + (int64_t)gsl_rng_uniform_int(rng, 1000000),
                0.0, false};
            sent_ns[id] = now_ns;
            bytes += messages[id].bytes;
            cr_assert_eq(net->send(state, now_ns, &messages[id], 1), STATUS_OK);
            id++;
            continue;
        }
        cr_assert_neq(next_ns, NET_IDLE, "%s lost a message", net->name);
        cr_assert_geq(next_ns, now_ns, "%s: time runs back", net->name);
        now_ns = next_ns;
        int32_t popped = net->pop_done(state);
        cr_assert(!done[popped], "%s delivered a message twice", net->name);
        done[popped] = true;
        delivered++;
        enum tier tier =
            cluster_tier(&cluster, messages[popped].src_rank, messages[popped].dst_rank);
        const struct port_spec *port = &cluster.gpu.port[tier];
        double least_ns =
            port->latency_ns + (double)messages[popped].bytes / port->bytes_per_s * 1e9;
        cr_expect_geq((double)(now_ns - sent_ns[popped]), least_ns - 1.0, "%s", net->name);
    }
    int64_t counted = 0;
    for (int32_t link = 0; link < net->num_links(state); link++) {
        struct net_link counters;
        net->link(state, link, &counters);
        counted += counters.bytes;
    }
    cr_expect_geq(counted, 2 * bytes, "%s: links carried less than was sent", net->name);
    gsl_rng_free(rng);
    net->close(state);
}

/* 5000 ns + 100000 bytes at 10 bytes/ns, at 5 while the receiver's NIC is at half its rate. */
Test(net, a_port_passes_the_share_it_was_given_until_it_gets_another)
{
    const double share[] = {0.5, 1.0};
    const int64_t took_ns[] = {25000, 15000};
    int32_t count = 0;
    const struct net_model *const *models = net_all(&count);
    for (int32_t index = 0; index < count; index++) {
        struct cluster cluster = two_tiers();
        void *state = open_net(models[index], &cluster);
        struct net_message message = {.id = 3, .src_rank = 1, .dst_rank = 2, .bytes = 100000};
        int64_t now_ns = 0;
        for (int change = 0; change < 2; change++) {
            models[index]->set_port(state, 2, TIER_SCALE_OUT, share[change]);
            cr_assert_eq(models[index]->send(state, now_ns, &message, 1), STATUS_OK);
            int64_t done_ns = models[index]->next_done_ns(state);
            cr_expect_eq(done_ns - now_ns, took_ns[change], "%s", models[index]->name);
            cr_expect_eq(models[index]->pop_done(state), 3);
            now_ns = done_ns;
        }
        models[index]->close(state);
    }
}

/* 1000 ns + 100000 bytes at 100 bytes/ns inside the node, 1.5 times as long on the wires with an
 * overhead of a half; by NIC 5000 ns + 100000 bytes at 10 bytes/ns. Links count bytes all the same.
 */
Test(net, overhead_stretches_a_message_and_a_nic_takes_one_to_its_own_node)
{
    const struct net_message messages[] = {
        {.id = 0, .src_rank = 0, .dst_rank = 1, .bytes = 100000, .overhead = 0.5},
        {.id = 0, .src_rank = 0, .dst_rank = 1, .bytes = 100000, .by_nic = true},
        {.id = 0, .src_rank = 0, .dst_rank = 1, .bytes = 100000, .overhead = -0.5, .by_nic = true}};
    const int64_t took_ns[] = {2500, 15000, 10000};
    int32_t count = 0;
    const struct net_model *const *models = net_all(&count);
    for (int32_t index = 0; index < count; index++) {
        struct cluster cluster = two_tiers();
        void *state = open_net(models[index], &cluster);
        int64_t now_ns = 0;
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(models[index]->send(state, now_ns, &messages[i], 1), STATUS_OK);
            int64_t done_ns = models[index]->next_done_ns(state);
            cr_expect_eq(done_ns - now_ns, took_ns[i], "%s took %lld", models[index]->name,
                         (long long)(done_ns - now_ns));
            cr_expect_eq(models[index]->pop_done(state), 0);
            now_ns = done_ns;
        }
        struct net_link out;
        models[index]->link(state, 2, &out); /* rank 0, scale-out, out */
        cr_expect_eq(out.bytes, 200000, "%s", models[index]->name);
        cr_expect_float_eq(out.busy_ns, 15000.0, 1e-6, "%s", models[index]->name);
        models[index]->close(state);
    }
}

Test(net, every_model_delivers_every_message_once_and_in_time)
{
    int32_t count = 0;
    const struct net_model *const *models = net_all(&count);
    for (int32_t index = 0; index < count; index++) {
        for (uint64_t round = 0; round < 50; round++) {
            check_conservation(models[index], round);
        }
    }
}
