/*
 * device_limited -- a device has a budget, not an expert: its lightest wishes are dropped.
 *
 *     C of a device = ceil(T k CF / devices)
 *
 * One sequence in ten (routing.exempt_share) is never dropped: its wishes stand before all others,
 * over the budget if need be. Sequences are requests of the trace; of one without requests, rows.
 *
 * Source: DeepSeek-V2 (arXiv 2405.04434, section 2.2.4), whose factor is 1. Who is exempt is drawn
 * there at random; here from seed and request, so that a sequence stays what it is. An expert's
 * device is that of its first slot: nobody knows yet which replica a token will go to.
 */
#include "gate_hash.h"
#include "radix_sort.h"
#include "route/drop_order.h"

static int64_t device_capacity(const struct capacity_input *input)
{
    return capacity_assignments(input->num_tokens, input->top_k, input->settings->num_ranks,
                                input->settings->capacity_factor);
}

static int64_t sequence_of(const struct trace *trace, int64_t row)
{
    int64_t first = 0;
    int64_t end = trace == NULL ? 0 : trace->num_requests;
    if (end == 0) {
        return row;
    }
    while (end - first > 1) { /* the last request that begins at the row or before */
        int64_t middle = first + (end - first) / 2;
        if (trace->requests[middle].row_offset <= row) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return first;
}

static bool is_exempt(const struct route_input *input, int64_t row)
{
    uint64_t draw =
        gate_hash(input->settings->seed ^ gate_hash((uint64_t)sequence_of(input->trace, row)));
    return (double)(draw >> 11) * 0x1p-53 < input->settings->exempt_share;
}

static int32_t device_of(const struct placement *placement, int32_t expert)
{
    return placement->rank_of_slot[placement->slot_of[placement->slot_begin[expert]]];
}

static int64_t drop_light_wishes(struct route *route, const struct route_input *input,
                                 const struct drop_scope *scope)
{
    const size_t num_devices = (size_t)input->settings->num_ranks;
    int64_t *taken = arena_alloc(input->scratch, num_devices, sizeof *taken);
    uint64_t *record = scope->work + route->num_experts;
    uint64_t *swap = record + (int64_t)scope->count * route->top_k;
    int32_t num_records = 0;
    if (taken == NULL) {
        return -1;
    }
    for (int32_t token = scope->first; token < scope->first + scope->count; token++) {
        bool exempt = is_exempt(input, input->batch->row[token]);
        for (int32_t k = 0; k < route->top_k; k++) {
            int64_t wish = (int64_t)token * route->top_k + k;
            route->dropped[wish] = false;
            if (route->expert[wish] == EXPERT_NOT_ROUTED) {
                continue;
            }
            if (exempt) {
                taken[device_of(input->placement, route->expert[wish])]++;
            } else {
                record[num_records++] = radix_descending(route->gate_weight[wish], (uint32_t)wish);
            }
        }
    }
    const uint64_t *heaviest_first = radix_sort(record, swap, num_records);
    int64_t dropped = 0;
    for (int32_t i = 0; i < num_records; i++) {
        int64_t wish = (int64_t)(uint32_t)heaviest_first[i];
        int64_t *device = &taken[device_of(input->placement, route->expert[wish])];
        route->dropped[wish] = (*device)++ >= scope->capacity_assignments;
        dropped += route->dropped[wish];
    }
    return dropped;
}

const struct drop_policy drop_device_limited = {
    .name = "device_limited",
    .summary = "a device's lightest wishes are dropped, but for one sequence in ten",
    .source = "DeepSeek-V2, arXiv 2405.04434, section 2.2.4",
    .limits_devices = true,
    .capacity = device_capacity,
    .drop = drop_light_wishes,
};
