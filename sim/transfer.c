/* transfer.c -- counters of a plan on its way. */
#include "transfer.h"

enum status transfer_init(struct transfer *transfer, struct arena *arena)
{
    size_t groups = (size_t)transfer->plan.num_groups;
    size_t ranks = (size_t)transfer->plan.num_ranks;
    transfer->group = arena_alloc(arena, groups, sizeof *transfer->group);
    transfer->rank = arena_alloc(arena, ranks, sizeof *transfer->rank);
    transfer->rank_ready = arena_alloc(arena, ranks, sizeof *transfer->rank_ready);
    transfer->ready_ns = arena_alloc(arena, ranks, sizeof *transfer->ready_ns);
    if (transfer->group == NULL || transfer->rank == NULL || transfer->rank_ready == NULL ||
        transfer->ready_ns == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t group = 0; group < transfer->plan.num_groups; group++) {
        transfer->group[group].left = transfer->plan.group[group].waits;
    }
    for (int32_t rank = 0; rank < transfer->plan.num_ranks; rank++) {
        transfer->rank[rank].left = transfer->plan.arrivals[rank] + 1;
    }
    return STATUS_OK;
}

enum status transfer_count_hbm(struct transfer *transfer, const struct gpu_spec *gpu,
                               struct arena *arena)
{
    size_t ranks = (size_t)transfer->plan.num_ranks;
    const struct port_bytes *bytes = transfer->plan.port_bytes;
    transfer->hbm_bytes_per_s = arena_alloc(arena, ranks, sizeof *transfer->hbm_bytes_per_s);
    if (transfer->hbm_bytes_per_s == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t rank = 0; rank < ranks; rank++) {
        double sum = 0.0;
        double seconds = 0.0;
        for (int tier = 0; tier < TIER_COUNT; tier++) {
            double rate = gpu->port[tier].bytes_per_s * gpu->port[tier].fraction;
            for (int direction = 0; direction < PORT_DIRECTION_COUNT; direction++) {
                double moved = (double)bytes[rank].of[tier][direction];
                sum += moved;
                seconds = moved / rate > seconds ? moved / rate : seconds;
            }
        }
        transfer->hbm_bytes_per_s[rank] = seconds > 0.0 ? (int64_t)(sum / seconds) : 0;
    }
    return STATUS_OK;
}
