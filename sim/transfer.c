/* transfer.c -- counters of a plan on its way. */
#include "transfer.h"

enum status transfer_init(struct transfer *transfer, struct arena *arena)
{
    size_t groups = (size_t)transfer->plan.num_groups;
    size_t ranks = (size_t)transfer->plan.num_ranks;
    transfer->group_waits = arena_alloc(arena, groups, sizeof(int32_t));
    transfer->group_root_ns = arena_alloc(arena, groups, sizeof(int64_t));
    transfer->rank_waits = arena_alloc(arena, ranks, sizeof(int32_t));
    transfer->rank_root_ns = arena_alloc(arena, ranks, sizeof(int64_t));
    transfer->ready_ns = arena_alloc(arena, ranks, sizeof(int64_t));
    if (transfer->group_waits == NULL || transfer->group_root_ns == NULL ||
        transfer->rank_waits == NULL || transfer->rank_root_ns == NULL ||
        transfer->ready_ns == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t group = 0; group < transfer->plan.num_groups; group++) {
        transfer->group_waits[group] = transfer->plan.group[group].waits;
    }
    for (int32_t rank = 0; rank < transfer->plan.num_ranks; rank++) {
        transfer->rank_waits[rank] = transfer->plan.arrivals[rank] + 1;
    }
    return STATUS_OK;
}
