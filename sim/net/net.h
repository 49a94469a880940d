/*
 * net.h -- when messages arrive.
 *
 * A model may decide at once (alpha_beta) or change its mind when later messages share a link
 * (flows): the engine asks next_done_ns after every send and pop, keeps one live wake-up and
 * ignores overtaken ones by their epoch.
 */
#ifndef MOESIM_NET_H
#define MOESIM_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster.h"
#include "message.h"
#include "status.h"

#define NET_IDLE INT64_MAX

struct net_message {
    int32_t id; /* the caller's; comes back from pop_done */
    int32_t src_rank;
    int32_t dst_rank; /* != src_rank */
    int64_t bytes;
    double overhead; /* time on the wires beyond bytes over rate, as a share of it; > -1 */
    bool by_nic;     /* leaves by the NIC, also to a rank of its own node */
};

/* Messages that one rank sends one after another. */
struct net_burst {
    const struct message *message; /* [count] */
    int32_t count;
    int32_t src_rank;
    bool by_nic;                 /* as in net_message, as is: */
    double overhead[TIER_COUNT]; /* of messages of each tier */
};

static inline enum tier net_message_tier(const struct cluster *cluster,
                                         const struct net_message *message)
{
    return message->by_nic ? TIER_SCALE_OUT
                           : cluster_tier(cluster, message->src_rank, message->dst_rank);
}

/* What passed through one directed link since init. */
struct net_link {
    char name[NAME_BYTES]; /* "rank 3 scale-out out" */
    enum tier tier;
    double bytes_per_s;
    int64_t bytes;
    double busy_ns;
};

struct net_model {
    const char *name;
    const char *summary;
    const char *source;
    /* Makes a network for num_ranks ranks of the cluster, which is borrowed. */
    enum status (*open)(void **state, const struct cluster *cluster, int32_t num_ranks);
    void (*close)(void *state); /* safe on NULL */
    /* Sends at now_ns, which never decreases from call to call. */
    enum status (*send)(void *state, int64_t now_ns, const struct net_message *message,
                        int32_t count);
    int64_t (*next_done_ns)(const void *state); /* NET_IDLE when nothing is under way */
    int32_t (*pop_done)(void *state);           /* id of the message done at next_done_ns */
    /* Where later messages never change earlier ones, a model may tell the times at once: sends as
     * send does, and writes when each message is done to done_ns [count] instead of delivering it
     * by pop_done. NULL where it cannot. The engine prefers it: no heap, no wake-ups. */
    void (*decide)(void *state, int64_t now_ns, const struct net_burst *burst, int64_t *done_ns);
    /* From now on a rank's port of the tier passes this share (above 0) of its rate, both ways.
     * Nothing may be under way. */
    void (*set_port)(void *state, int32_t rank, enum tier tier, double share);
    int32_t (*num_links)(const void *state);
    void (*link)(const void *state, int32_t link, struct net_link *counters);
};

const struct net_model *const *net_all(int32_t *count);
const struct net_model *net_find(const char *name); /* NULL: no such */

#endif
