/*
 * collective.h -- from counts of tokens to messages and what waits for what.
 *
 * A plan is a list of messages in groups. A group is sent as a whole when its waits are done: one
 * for its owner (the rank that has finished its gate or its experts), one for each message that
 * feeds it. So forwarding, reduction trees and chunked pipelines are data, not code in the engine.
 */
#ifndef MOESIM_COLLECTIVE_H
#define MOESIM_COLLECTIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "cluster.h"
#include "message.h"
#include "status.h"
#include "traffic.h"

struct message_group {
    int32_t first; /* index of its first message; its messages stand together */
    int32_t count;
    int32_t waits;      /* the owner, plus the messages that feed the group */
    int32_t owner_rank; /* rank that sends it: nothing leaves before this rank is ready */
    int64_t bytes;      /* of all of its messages */
};

enum { SENT, RECEIVED, PORT_DIRECTION_COUNT };

/* What passes the ports of a rank. */
struct port_bytes {
    int64_t of[TIER_COUNT][PORT_DIRECTION_COUNT];
};

/* Arrays are the arena's. Build with plan_init, plan_add_group and plan_add_message, then
 * plan_finish; memory trouble on the way is remembered and told there. */
struct transfer_plan {
    const struct cluster *cluster;
    bool by_nic; /* all messages leave by the NIC, also to ranks of their own node */
    int32_t num_ranks;
    int32_t num_messages;
    struct message *message;
    int32_t num_groups;
    struct message_group *group;
    int32_t num_counted;           /* groups in arrivals, port_bytes and waits */
    int32_t *owned_begin;          /* [num_ranks + 1] into owned_group */
    int32_t *owned_group;          /* [num_groups] groups by owner */
    int32_t *arrivals;             /* [num_ranks] payload messages to expect at each rank */
    struct port_bytes *port_bytes; /* [num_ranks] of all messages */
    int32_t message_capacity;
    int32_t group_capacity;
    struct arena *arena;
    bool out_of_memory;
};

/* The cluster is borrowed. */
void plan_init(struct transfer_plan *plan, const struct cluster *cluster, int32_t num_ranks,
               bool by_nic, struct arena *arena);

/* Makes room for messages at once, right after plan_init, and zeroed arrivals and port_bytes; more
 * messages may still come. Optional. */
void plan_reserve(struct transfer_plan *plan, int32_t num_messages);

/* Opens a group; messages are added to the group opened last. Returns its index. */
int32_t plan_add_group(struct transfer_plan *plan, int32_t owner_rank);

/* Appends a message from the open group's owner. feeds is a group opened earlier, owned by
 * dst_rank, or NO_GROUP. Messages of no bytes, or to the owner itself, are left out. */
void plan_add_message(struct transfer_plan *plan, int32_t dst_rank, int64_t bytes, bool payload,
                      int32_t feeds);

/* The open group's messages, none of which feeds another, have been written to the room that
 * plan_reserve made, from &plan->message[plan->num_messages] to before end, as plan_add_message
 * would have them, and counted at their receivers, in arrivals and port_bytes. For plans of very
 * many. sent_bytes: theirs on each tier. */
void plan_close_group(struct transfer_plan *plan, const struct message *end,
                      const int64_t sent_bytes[TIER_COUNT]);

/* May be called again when more groups have been added. */
MUST_CHECK enum status plan_finish(struct transfer_plan *plan);

struct collective_input {
    const struct cluster *cluster;
    const struct traffic *traffic;
    double dispatch_bytes_per_token; /* hidden_dim activations with scales */
    double combine_bytes_per_token;
    struct arena *scratch;
    const int32_t *token_begin; /* [num_ranks + 1] first token of each rank, routed or not */
};

/* What a collective's SMs copy, for its cost (collective/exchange.h). */
enum copied {
    COPIED_TOKENS,             /* a token once a rank it goes to, its own included */
    COPIED_CHOICES,            /* once a chosen expert */
    COPIED_TOKENS_AND_RELAYED, /* as COPIED_TOKENS, and once more a node that it crosses to */
};

struct collective {
    const char *name;
    const char *summary;
    const char *source;
    /* A kernel's launch, handshake and barrier, before the first byte. */
    double dispatch_startup_ns;
    double combine_startup_ns;
    int32_t num_sms; /* SMs it takes while it runs */
    bool holds_gpu;  /* its start-up is kernels on all SMs; what is under way then takes none */
    enum copied copied;
    bool by_nic;      /* also ranks of one node reach each other through their NICs */
    bool goes_to_all; /* every token goes to every rank, and all that ranks make of it is summed up
                         on the way back: so experts may be cut. It looks at no flows of traffic */
    enum status (*plan_dispatch)(const struct collective_input *input, struct transfer_plan *plan);
    /* The way back: what dispatch brought to a rank leaves it again, reduced where the collective
     * reduces on the way. */
    enum status (*plan_combine)(const struct collective_input *input, struct transfer_plan *plan);
};

const struct collective *const *collective_all(int32_t *count);
const struct collective *collective_find(const char *name); /* NULL: no such */
const char *collective_usual(bool prefill);                 /* where nothing else is said */

/* Likewise: DeepEP's kernels where GPUs have NVLink, else NCCL's collectives. */
const struct collective *collective_usual_on(const struct gpu_spec *gpu, bool prefill);

#endif
