/* engine_network.c -- groups are released, messages sent, arrivals counted. */
#include "engine_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "digest.h"

static enum status reserve(struct engine *engine, int32_t count)
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
                             int64_t root_ns)
{
    int32_t id = engine->in_flight_free;
    if (id >= 0) {
        engine->in_flight_free = engine->in_flight[id].next_free;
    } else {
        id = engine->in_flight_count++;
    }
    engine->in_flight[id] = (struct in_flight){transfer, root_ns, message, -1};
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

/* Sends a group whose waits are done. */
static enum status send_group(struct engine *engine, struct transfer *transfer, int32_t group_index)
{
    const struct message_group *group = &transfer->plan.group[group_index];
    if (group->count == 0) {
        return STATUS_OK;
    }
    enum status status = reserve(engine, group->count);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t root_ns = transfer->group_root_ns[group_index];
    for (int32_t index = 0; index < group->count; index++) {
        const struct message *message = &transfer->plan.message[group->first + index];
        engine->outbox[index] =
            (struct net_message){in_flight_add(engine, transfer, group->first + index, root_ns),
                                 message->src_rank, message->dst_rank, message->bytes};
        engine->metrics.bytes_sent += message->bytes;
    }
    engine->metrics.messages += group->count;
    status = engine->scenario->net->send(engine->net, engine->queue.now_ns, engine->outbox,
                                         group->count);
    return status == STATUS_OK ? schedule_wake(engine) : status;
}

/* One of the group's waits is over; root_ns is when its cause was ready. */
static enum status group_step(struct engine *engine, struct transfer *transfer, int32_t group,
                              int64_t root_ns)
{
    assert(transfer->group_waits[group] > 0);
    if (transfer->group_root_ns[group] < root_ns) {
        transfer->group_root_ns[group] = root_ns;
    }
    if (--transfer->group_waits[group] > 0) {
        return STATUS_OK;
    }
    return send_group(engine, transfer, group);
}

/* One of the things the rank waits for has come. */
static enum status rank_step(struct engine *engine, struct transfer *transfer, int32_t rank,
                             int64_t root_ns)
{
    assert(transfer->rank_waits[rank] > 0);
    transfer->rank_root_ns[rank] = root_ns;
    if (--transfer->rank_waits[rank] > 0) {
        return STATUS_OK;
    }
    return rank_data_arrived(engine, rank, transfer);
}

enum status network_schedule_release(struct engine *engine, struct transfer *transfer, int32_t rank,
                                     double startup_ns)
{
    transfer->ready_ns[rank] = engine->queue.now_ns;
    return event_push(&engine->queue,
                      (struct event){.time_ns = engine->queue.now_ns + (int64_t)llround(startup_ns),
                                     .kind = EVENT_RELEASE,
                                     .rank = rank,
                                     .transfer = transfer});
}

enum status network_release(struct engine *engine, struct transfer *transfer, int32_t rank)
{
    const struct transfer_plan *plan = &transfer->plan;
    int64_t root_ns = transfer->ready_ns[rank];
    for (int32_t index = plan->owned_begin[rank]; index < plan->owned_begin[rank + 1]; index++) {
        enum status status = group_step(engine, transfer, plan->owned_group[index], root_ns);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return rank_step(engine, transfer, rank, root_ns);
}

static enum status deliver(struct engine *engine, int32_t id)
{
    struct in_flight in_flight = engine->in_flight[id];
    struct transfer *transfer = in_flight.transfer;
    const struct message *message = &transfer->plan.message[in_flight.message];
    engine->in_flight[id].next_free = engine->in_flight_free;
    engine->in_flight_free = id;
    engine->metrics.bytes_received += message->bytes;

    uint64_t digest = digest_u64(engine->metrics.digest, (uint64_t)engine->queue.now_ns);
    digest = digest_u64(digest, (uint64_t)(uint32_t)message->src_rank << 32 |
                                    (uint64_t)(uint32_t)message->dst_rank);
    digest = digest_u64(digest, (uint64_t)message->bytes);
    engine->metrics.digest =
        digest_u64(digest, (uint64_t)((int64_t)transfer->layer * 16 + transfer->kind));

    int32_t dst_rank = message->dst_rank;
    if (message->feeds != NO_GROUP) {
        enum status status = group_step(engine, transfer, message->feeds, in_flight.root_ns);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return message->payload ? rank_step(engine, transfer, dst_rank, in_flight.root_ns) : STATUS_OK;
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
