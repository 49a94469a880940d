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

/* Bytes by rank, tier and direction: sent, received. */
struct port_bytes {
    int64_t of[TIER_COUNT][2];
};

static void count_ports(struct port_bytes *restrict bytes, const struct transfer *transfer,
                        const int32_t *restrict node_of_rank)
{
    const struct transfer_plan *plan = &transfer->plan;
    for (int32_t index = 0; index < plan->num_groups; index++) {
        const struct message_group *group = &plan->group[index];
        const struct message *restrict message = &plan->message[group->first];
        const int32_t node = transfer->by_nic ? -1 : node_of_rank[group->owner_rank];
        int64_t sent[TIER_COUNT] = {0};
        for (int32_t i = 0; i < group->count; i++) {
            bool is_far = node_of_rank[message[i].dst_rank] != node;
            sent[TIER_SCALE_OUT] += is_far ? message[i].bytes : 0;
            sent[TIER_SCALE_UP] += message[i].bytes;
            bytes[message[i].dst_rank].of[is_far ? TIER_SCALE_OUT : TIER_SCALE_UP][1] +=
                message[i].bytes;
        }
        sent[TIER_SCALE_UP] -= sent[TIER_SCALE_OUT];
        for (int tier = 0; tier < TIER_COUNT; tier++) {
            bytes[group->owner_rank].of[tier][0] += sent[tier];
        }
    }
}

enum status transfer_count_hbm(struct transfer *transfer, const struct gpu_spec *gpu,
                               const int32_t *node_of_rank, struct arena *arena)
{
    size_t ranks = (size_t)transfer->plan.num_ranks;
    struct port_bytes *bytes = arena_alloc(arena, ranks, sizeof *bytes);
    transfer->hbm_bytes_per_s = arena_alloc(arena, ranks, sizeof *transfer->hbm_bytes_per_s);
    if (bytes == NULL || transfer->hbm_bytes_per_s == NULL) {
        return STATUS_NO_MEMORY;
    }
    count_ports(bytes, transfer, node_of_rank);
    for (size_t rank = 0; rank < ranks; rank++) {
        double sum = 0.0;
        double seconds = 0.0;
        for (int tier = 0; tier < TIER_COUNT; tier++) {
            double rate = gpu->port[tier].bytes_per_s * gpu->port[tier].fraction;
            for (int direction = 0; direction < 2; direction++) {
                double moved = (double)bytes[rank].of[tier][direction];
                sum += moved;
                seconds = moved / rate > seconds ? moved / rate : seconds;
            }
        }
        transfer->hbm_bytes_per_s[rank] = seconds > 0.0 ? (int64_t)(sum / seconds) : 0;
    }
    return STATUS_OK;
}
