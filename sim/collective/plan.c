/* plan.c -- builds transfer plans in an arena; arrays double, the old ones are left to the arena.
 */
#include "collective/collective.h"

#include <assert.h>
#include <string.h>

#define CAPACITY_MIN 64

void plan_init(struct transfer_plan *plan, int32_t num_ranks, struct arena *arena)
{
    *plan = (struct transfer_plan){.num_ranks = num_ranks, .arena = arena};
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

void plan_reserve(struct transfer_plan *plan, int32_t num_messages)
{
    assert(plan->message == NULL);
    plan->message = arena_take(plan->arena, (size_t)num_messages, sizeof *plan->message);
    plan->message_capacity = num_messages;
    plan->out_of_memory = plan->message == NULL;
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
        (struct message_group){.first = plan->num_messages, .owner_rank = owner_rank};
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
    message[plan->num_messages++] = (struct message){.src_rank = group->owner_rank,
                                                     .dst_rank = dst_rank,
                                                     .feeds = feeds,
                                                     .payload = payload,
                                                     .bytes = bytes};
    group->count++;
}

void plan_close_group(struct transfer_plan *plan, const struct message *end)
{
    struct message_group *group = &plan->group[plan->num_groups - 1];
    int32_t num_messages = (int32_t)(end - plan->message);
    assert(num_messages >= plan->num_messages && num_messages <= plan->message_capacity);
    group->count += num_messages - plan->num_messages;
    plan->num_messages = num_messages;
}

/* Who waits for how many messages. */
static void count_waits(struct transfer_plan *plan)
{
    int32_t *restrict arrivals = plan->arrivals;
    const struct message *restrict message = plan->message;
    for (int32_t group = 0; group < plan->num_groups; group++) {
        plan->group[group].waits = 1;
    }
    for (int32_t index = 0; index < plan->num_messages; index++) {
        arrivals[message[index].dst_rank] += message[index].payload;
        if (message[index].feeds != NO_GROUP) {
            struct message_group *fed = &plan->group[message[index].feeds];
            assert(fed->owner_rank == message[index].dst_rank);
            fed->waits++;
        }
    }
}

enum status plan_finish(struct transfer_plan *plan)
{
    size_t ranks = (size_t)plan->num_ranks;
    plan->arrivals = arena_alloc(plan->arena, ranks, sizeof(int32_t));
    plan->owned_begin = arena_alloc(plan->arena, ranks + 1, sizeof(int32_t));
    plan->owned_group = arena_alloc(plan->arena, (size_t)plan->num_groups, sizeof(int32_t));
    if (plan->out_of_memory || plan->arrivals == NULL || plan->owned_begin == NULL ||
        plan->owned_group == NULL) {
        return STATUS_NO_MEMORY;
    }
    count_waits(plan);
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
