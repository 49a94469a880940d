/* engine_network.c -- groups are released, messages sent, arrivals counted. */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "digest.h"

static enum status reserve_arrivals(struct engine *engine, int32_t count)
{
    if (engine->arrival_capacity < count) {
        int64_t *arrival_ns = realloc(engine->arrival_ns, (size_t)count * 2 * sizeof *arrival_ns);
        if (arrival_ns == NULL) {
            return STATUS_NO_MEMORY;
        }
        engine->arrival_ns = arrival_ns;
        engine->arrival_capacity = 2 * count;
    }
    return STATUS_OK;
}

static enum status reserve_in_flight(struct engine *engine, int32_t count)
{
    if (engine->outbox_capacity < count) {
        struct net_message *outbox = realloc(engine->outbox, (size_t)count * 2 * sizeof *outbox);
        if (outbox == NULL) {
            return STATUS_NO_MEMORY;
        }
        engine->outbox = outbox;
        engine->outbox_capacity = 2 * count;
    }
    if (engine->in_flight_capacity - engine->in_flight_count < count) {
        int32_t capacity = 2 * (engine->in_flight_count + count);
        struct in_flight *in_flight =
            realloc(engine->in_flight, (size_t)capacity * sizeof *in_flight);
        if (in_flight == NULL) {
            return STATUS_NO_MEMORY;
        }
        engine->in_flight = in_flight;
        engine->in_flight_capacity = capacity;
    }
    return STATUS_OK;
}

static int32_t in_flight_add(struct engine *engine, struct transfer *transfer, int32_t message,
                             int32_t src_rank, int64_t root_ns)
{
    int32_t id = engine->in_flight_free;
    if (id >= 0) {
        engine->in_flight_free = engine->in_flight[id].next_free;
    } else {
        id = engine->in_flight_count++;
    }
    engine->in_flight[id] = (struct in_flight){transfer, root_ns, message, src_rank, -1};
    return id;
}

/* Keeps one live wake-up at the network's next delivery; an earlier one overtakes the old. */
static enum status schedule_wake(struct engine *engine)
{
    int64_t next_ns = engine->scenario->net->next_done_ns(engine->net);
    if (next_ns == engine->net_wake_ns) {
        return STATUS_OK;
    }
    engine->net_wake_ns = next_ns;
    engine->net_epoch++;
    if (next_ns == NET_IDLE) {
        return STATUS_OK;
    }
    return event_push(
        &engine->queue,
        (struct event){.time_ns = next_ns, .kind = EVENT_NET_WAKE, .epoch = engine->net_epoch});
}

/* True when nothing is left to be told. */
static inline bool count_down(struct countdown *countdown, int64_t at_ns, int64_t root_ns)
{
    if (at_ns > countdown->last_ns) {
        countdown->last_ns = at_ns;
        countdown->root_ns = root_ns;
    } else if (at_ns == countdown->last_ns && root_ns > countdown->root_ns) {
        countdown->root_ns = root_ns;
    }
    if (--countdown->left > 0) {
        return false;
    }
    assert(countdown->left == 0);
    return true;
}

static uint64_t fold_messages(const struct engine *engine, const struct transfer *transfer,
                              int32_t src_rank, const struct message *message, const int64_t *at_ns,
                              int32_t count)
{
    uint64_t source = (uint64_t)(uint32_t)src_rank << 32;
    uint64_t kind =
        (uint64_t)(((int64_t)transfer->lane * 65536 + transfer->layer) * 16 + transfer->kind);
    uint64_t common = kind * UINT64_C(0xc2b2ae3d27d4eb4f) + source * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t value = message_fold(&engine->message_fold, common, message, at_ns, count);
    return digest_u64(engine->metrics.digest, value);
}

static enum status push_event(struct engine *engine, struct transfer *transfer,
                              enum event_kind kind, int32_t index, int64_t at_ns)
{
    return event_push(
        &engine->queue,
        (struct event){.time_ns = at_ns, .kind = kind, .rank = index, .transfer = transfer});
}

/* A message arrives that a group may wait for, and a rank. */
static enum status note_arrival(struct engine *engine, struct transfer *transfer,
                                const struct message *message, int64_t at_ns, int64_t root_ns)
{
    enum status status = STATUS_OK;
    if (message_feeds(message) != NO_GROUP) {
        int32_t index = message_feeds(message);
        struct countdown *group = &transfer->group[index];
        if (count_down(group, at_ns, root_ns)) {
            status = push_event(engine, transfer, EVENT_GROUP_READY, index, group->last_ns);
        }
    }
    struct countdown *rank = &transfer->rank[message->dst_rank];
    if (message_is_payload(message) && count_down(rank, at_ns, root_ns) && status == STATUS_OK) {
        status = push_event(engine, transfer, EVENT_RANK_READY, message->dst_rank, rank->last_ns);
    }
    return status;
}

/* Told now or earlier: messages of one group arrive at at_ns. What the last of something completes
 * is scheduled for the time at which it arrives. */
static enum status note_arrivals(struct engine *engine, struct transfer *transfer, int32_t src_rank,
                                 const struct message *restrict message,
                                 const int64_t *restrict at_ns, int32_t count, int64_t root_ns)
{
    const uint32_t by_rank_alone = message_awaited(NO_GROUP, true); /* as a rule */
    struct countdown *restrict ranks = transfer->rank;
    engine->metrics.digest = fold_messages(engine, transfer, src_rank, message, at_ns, count);
    for (int32_t i = 0; i < count; i++) {
        enum status status = STATUS_OK;
        struct countdown *rank = &ranks[message[i].dst_rank];
        if (message[i].awaited != by_rank_alone) {
            status = note_arrival(engine, transfer, &message[i], at_ns[i], root_ns);
        } else if (count_down(rank, at_ns[i], root_ns)) {
            status =
                push_event(engine, transfer, EVENT_RANK_READY, message[i].dst_rank, rank->last_ns);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* Sends through a network that knows at once when everything arrives. */
static enum status send_decided(struct engine *engine, struct transfer *transfer,
                                const struct message_group *group, int64_t root_ns)
{
    const struct net_burst burst = {
        .message = &transfer->plan.message[group->first],
        .count = group->count,
        .src_rank = group->owner_rank,
        .by_nic = transfer->plan.by_nic,
        .overhead = {transfer->cost.overhead[TIER_SCALE_UP],
                     transfer->cost.overhead[TIER_SCALE_OUT]},
    };
    enum status status = reserve_arrivals(engine, group->count);
    if (status != STATUS_OK) {
        return status;
    }
    engine->scenario->net->decide(engine->net, engine->queue.now_ns, &burst, engine->arrival_ns);
    engine->metrics.bytes_received += group->bytes;
    return note_arrivals(engine, transfer, group->owner_rank, burst.message, engine->arrival_ns,
                         group->count, root_ns);
}

/* Sends through one that finds out on the way. */
static enum status send_undecided(struct engine *engine, struct transfer *transfer,
                                  const struct message_group *group, int64_t root_ns)
{
    const struct net_model *net = engine->scenario->net;
    enum status status = reserve_in_flight(engine, group->count);
    if (status != STATUS_OK) {
        return status;
    }
    for (int32_t index = 0; index < group->count; index++) {
        const struct message *message = &transfer->plan.message[group->first + index];
        struct net_message *sent = &engine->outbox[index];
        *sent = (struct net_message){
            .id = in_flight_add(engine, transfer, group->first + index, group->owner_rank, root_ns),
            .src_rank = group->owner_rank,
            .dst_rank = message->dst_rank,
            .bytes = message->bytes,
            .by_nic = transfer->plan.by_nic};
        sent->overhead =
            transfer->cost.overhead[net_message_tier(&engine->scenario->cluster, sent)];
    }
    status = net->send(engine->net, engine->queue.now_ns, engine->outbox, group->count);
    return status == STATUS_OK ? schedule_wake(engine) : status;
}

/* A layer's plans are more than a core's cache holds, and the passes over a group's messages would
 * each line wait by itself. */
static void fetch_messages(const struct message *message, int32_t count)
{
    const int32_t of_line = 64 / (int32_t)sizeof *message;
    for (int32_t i = 0; i < count; i += of_line) {
        __builtin_prefetch(&message[i]);
    }
}

enum status network_send_group(struct engine *engine, struct transfer *transfer,
                               int32_t group_index)
{
    const struct message_group *group = &transfer->plan.group[group_index];
    int64_t root_ns = transfer->group[group_index].root_ns;
    if (group->count == 0) {
        return STATUS_OK;
    }
    const struct message *message = &transfer->plan.message[group->first];
    fetch_messages(message, group->count);
    if (transfer->kind == TRANSFER_DISPATCH) {
        record_dispatch(engine, group, message);
    }
    engine->metrics.messages += group->count;
    engine->metrics.bytes_sent += group->bytes;
    return engine->scenario->net->decide != NULL ? send_decided(engine, transfer, group, root_ns)
                                                 : send_undecided(engine, transfer, group, root_ns);
}

enum status network_schedule_release(struct engine *engine, struct transfer *transfer, int32_t rank,
                                     double startup_ns)
{
    transfer->ready_ns[rank] = engine->queue.now_ns;
    return push_event(engine, transfer, EVENT_RELEASE, rank,
                      engine->queue.now_ns + (int64_t)llround(startup_ns));
}

enum status network_release(struct engine *engine, struct transfer *transfer, int32_t rank)
{
    const struct transfer_plan *plan = &transfer->plan;
    const int64_t now_ns = engine->queue.now_ns;
    int64_t root_ns = transfer->ready_ns[rank];
    enum status status = STATUS_OK;
    for (int32_t index = plan->owned_begin[rank];
         index < plan->owned_begin[rank + 1] && status == STATUS_OK; index++) {
        int32_t group = plan->owned_group[index];
        struct countdown *countdown = &transfer->group[group];
        if (!count_down(countdown, now_ns, root_ns)) {
            continue;
        }
        status = countdown->last_ns <= now_ns
                     ? network_send_group(engine, transfer, group)
                     : push_event(engine, transfer, EVENT_GROUP_READY, group, countdown->last_ns);
    }
    struct countdown *own = &transfer->rank[rank];
    if (status != STATUS_OK || !count_down(own, now_ns, root_ns)) {
        return status;
    }
    if (own->last_ns <= now_ns) {
        return network_rank_ready(engine, transfer, rank);
    }
    return push_event(engine, transfer, EVENT_RANK_READY, rank, own->last_ns);
}

enum status network_rank_ready(struct engine *engine, struct transfer *transfer, int32_t rank)
{
    transfer->rank_ready[rank] = true;
    if (transfer_is_collective(transfer)) {
        engine->rank[rank].collectives--;
        engine->rank[rank].collective_bytes_per_s -= transfer->hbm_bytes_per_s[rank];
    }
    return rank_data_arrived(engine, rank, transfer);
}

static enum status deliver(struct engine *engine, int32_t id)
{
    struct in_flight in_flight = engine->in_flight[id];
    const struct message *message = &in_flight.transfer->plan.message[in_flight.message];
    engine->in_flight[id].next_free = engine->in_flight_free;
    engine->in_flight_free = id;
    engine->metrics.bytes_received += message->bytes;
    return note_arrivals(engine, in_flight.transfer, in_flight.src_rank, message,
                         &engine->queue.now_ns, 1, in_flight.root_ns);
}

enum status network_wake(struct engine *engine)
{
    const struct net_model *net = engine->scenario->net;
    engine->net_wake_ns = NET_IDLE; /* this wake-up is spent */
    enum status status = STATUS_OK;
    while (status == STATUS_OK && net->next_done_ns(engine->net) <= engine->queue.now_ns) {
        status = deliver(engine, net->pop_done(engine->net));
    }
    return status == STATUS_OK ? schedule_wake(engine) : status;
}
