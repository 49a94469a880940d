/* plan.c -- builds transfer plans in an arena; arrays double, the old ones are left to the arena.
 */
#include "collective/collective.h"

#include <assert.h>
#include <string.h>

#define CAPACITY_MIN 64

void plan_init(struct transfer_plan *plan, const struct cluster *cluster, int32_t num_ranks,
               bool by_nic, struct arena *arena)
{
    *plan = (struct transfer_plan){
        .cluster = cluster, .by_nic = by_nic, .num_ranks = num_ranks, .arena = arena};
}

/* Room for one more element: returns the array to use, or NULL. */
static void *grow(struct transfer_plan *plan, void *array, int32_t *capacity, int32_t count,
                  size_t size)
{
    if (count < *capacity) {
        return array;
    }
    int32_t larger = *capacity > 0 ? 2 * *capacity : CAPACITY_MIN;
    void *fresh = arena_take(plan->arena, (size_t)larger, size);
    if (fresh == NULL) {
        plan->out_of_memory = true;
        return NULL;
    }
    if (count > 0) {
        memcpy(fresh, array, (size_t)count * size);
    }
    *capacity = larger;
    return fresh;
}

/* What messages are counted in, if it is not there yet. */
static bool allocate_counts(struct transfer_plan *plan)
{
    size_t ranks = (size_t)plan->num_ranks;
    if (plan->arrivals == NULL) {
        plan->arrivals = arena_alloc(plan->arena, ranks, sizeof(int32_t));
        plan->port_bytes = arena_alloc(plan->arena, ranks, sizeof *plan->port_bytes);
    }
    return plan->arrivals != NULL && plan->port_bytes != NULL;
}

void plan_reserve(struct transfer_plan *plan, int32_t num_messages)
{
    assert(plan->message == NULL);
    plan->message = arena_take(plan->arena, (size_t)num_messages, sizeof *plan->message);
    plan->message_capacity = num_messages;
    plan->out_of_memory = plan->message == NULL || !allocate_counts(plan);
}

int32_t plan_add_group(struct transfer_plan *plan, int32_t owner_rank)
{
    assert(owner_rank >= 0 && owner_rank < plan->num_ranks);
    if (plan->out_of_memory) {
        return 0;
    }
    struct message_group *group =
        grow(plan, plan->group, &plan->group_capacity, plan->num_groups, sizeof *group);
    if (group == NULL) {
        return 0;
    }
    plan->group = group;
    group[plan->num_groups] =
        (struct message_group){.first = plan->num_messages, .waits = 1, .owner_rank = owner_rank};
    return plan->num_groups++;
}

void plan_add_message(struct transfer_plan *plan, int32_t dst_rank, int64_t bytes, bool payload,
                      int32_t feeds)
{
    assert(dst_rank >= 0 && dst_rank < plan->num_ranks);
    assert(bytes >= 0);
    if (plan->out_of_memory || bytes == 0) {
        return;
    }
    struct message_group *group = &plan->group[plan->num_groups - 1];
    if (group->owner_rank == dst_rank) {
        return;
    }
    struct message *message =
        grow(plan, plan->message, &plan->message_capacity, plan->num_messages, sizeof *message);
    if (message == NULL) {
        return;
    }
    plan->message = message;
    message[plan->num_messages++] = (struct message){
        .dst_rank = dst_rank, .awaited = message_awaited(feeds, payload), .bytes = bytes};
    group->count++;
}

/* Counts the bytes of a group at its sender. */
static void count_sent(struct transfer_plan *plan, struct message_group *group,
                       const int64_t sent_bytes[TIER_COUNT])
{
    for (int tier = 0; tier < TIER_COUNT; tier++) {
        plan->port_bytes[group->owner_rank].of[tier][SENT] += sent_bytes[tier];
        group->bytes += sent_bytes[tier];
    }
}

void plan_close_group(struct transfer_plan *plan, const struct message *end,
                      const int64_t sent_bytes[TIER_COUNT])
{
    if (plan->out_of_memory) {
        return;
    }
    struct message_group *group = &plan->group[plan->num_groups - 1];
    int32_t num_messages = (int32_t)(end - plan->message);
    assert(num_messages >= plan->num_messages && num_messages <= plan->message_capacity);
    assert(plan->num_counted == plan->num_groups - 1);
    group->count = num_messages - plan->num_messages;
    plan->num_messages = num_messages;
    plan->num_counted = plan->num_groups;
    count_sent(plan, group, sent_bytes);
}

/* Who waits for how many messages of the group, and what they bring to ports. */
static void count_group(struct transfer_plan *plan, struct message_group *group)
{
    if (group->count == 0) {
        return; /* the plan may have no message at all */
    }
    const struct cluster *cluster = plan->cluster;
    const struct message *restrict message = &plan->message[group->first];
    const int32_t node = cluster_node(cluster, group->owner_rank);
    const int32_t node_begin = plan->by_nic ? INT32_MIN : node * cluster->gpus_per_node;
    int64_t sent_bytes[TIER_COUNT] = {0};
    for (int32_t i = 0; i < group->count; i++) {
        const int32_t rank = message[i].dst_rank;
        bool is_near = cluster_on_node(cluster, node_begin, rank);
        const enum tier tier = is_near ? TIER_SCALE_UP : TIER_SCALE_OUT;
        sent_bytes[tier] += message[i].bytes;
        plan->port_bytes[rank].of[tier][RECEIVED] += message[i].bytes;
        plan->arrivals[rank] += message_is_payload(&message[i]);
        if (message_feeds(&message[i]) != NO_GROUP) {
            struct message_group *fed = &plan->group[message_feeds(&message[i])];
            assert(fed->owner_rank == rank);
            fed->waits++;
        }
    }
    count_sent(plan, group, sent_bytes);
}

enum status plan_finish(struct transfer_plan *plan)
{
    plan->owned_begin = arena_alloc(plan->arena, (size_t)plan->num_ranks + 1, sizeof(int32_t));
    plan->owned_group = arena_alloc(plan->arena, (size_t)plan->num_groups, sizeof(int32_t));
    if (plan->out_of_memory || !allocate_counts(plan) || plan->owned_begin == NULL ||
        plan->owned_group == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (; plan->num_counted < plan->num_groups; plan->num_counted++) {
        count_group(plan, &plan->group[plan->num_counted]);
    }
    for (int32_t group = 0; group < plan->num_groups; group++) {
        plan->owned_begin[plan->group[group].owner_rank + 1]++;
    }
    for (int32_t rank = 0; rank < plan->num_ranks; rank++) {
        plan->owned_begin[rank + 1] += plan->owned_begin[rank];
    }
    for (int32_t group = 0; group < plan->num_groups; group++) {
        /* owned_begin of a rank serves as its write position and is put back below. */
        plan->owned_group[plan->owned_begin[plan->group[group].owner_rank]++] = group;
    }
    for (int32_t rank = plan->num_ranks; rank > 0; rank--) {
        plan->owned_begin[rank] = plan->owned_begin[rank - 1];
    }
    plan->owned_begin[0] = 0;
    return STATUS_OK;
}
