/* expert_parallel.c -- which copy serves a choice, and how received rows are sorted. */
#include "expert_parallel.h"

#include <string.h>

#include "permute.h"

/* Slots of each expert in the order of ids: first[e] .. first[e + 1] - 1 of list. */
static enum status list_slots(const struct ep_placement *placement, int32_t num_experts,
                              int32_t *first, int32_t *filled, int32_t *list)
{
    memset(first, 0, ((size_t)num_experts + 1) * sizeof *first);
    memset(filled, 0, (size_t)num_experts * sizeof *filled);
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        if (expert < 0 || expert >= num_experts) {
            return STATUS_INVALID;
        }
        first[expert + 1]++;
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        if (first[expert + 1] == 0) {
            return STATUS_INVALID; /* nobody holds it */
        }
        first[expert + 1] += first[expert];
    }
    for (int32_t slot = 0; slot < placement->num_slots; slot++) {
        int32_t expert = placement->expert_of_slot[slot];
        list[first[expert] + filled[expert]++] = slot;
    }
    return STATUS_OK;
}

enum status ref_ep_choose_slots(const struct ep_placement *placement, int32_t num_experts,
                                int32_t num_tokens, int32_t top_k, int64_t first_token,
                                int32_t *slot, const int32_t *expert, int32_t *work)
{
    int32_t *first = work;
    int32_t *filled = first + num_experts + 1;
    int32_t *list = filled + num_experts;
    if (num_experts < 1 || num_tokens < 0 || top_k < 1 || first_token < 0 ||
        list_slots(placement, num_experts, first, filled, list) != STATUS_OK) {
        return STATUS_INVALID;
    }
    for (int64_t i = 0; i < (int64_t)num_tokens * top_k; i++) {
        if (expert[i] < EXPERT_NONE || expert[i] >= num_experts) {
            return STATUS_INVALID;
        }
        slot[i] = EXPERT_NONE;
        if (expert[i] != EXPERT_NONE) {
            int64_t copies = first[expert[i] + 1] - first[expert[i]];
            slot[i] = list[first[expert[i]] + (first_token + i / top_k) % copies];
        }
    }
    return STATUS_OK;
}

enum status ref_ep_receive(int32_t num_ranks, int32_t num_slots, int32_t row_align,
                           int32_t *num_rows, int32_t *row_begin, int32_t *row_of,
                           const int32_t *sent)
{
    int64_t total = 0;
    if (num_ranks < 1 || num_slots < 0 || row_align < 1 || (row_align & (row_align - 1)) != 0) {
        return STATUS_INVALID;
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        int64_t rows = 0;
        for (int64_t source = 0; source < num_ranks; source++) {
            if (sent[source * num_slots + slot] < 0) {
                return STATUS_INVALID;
            }
            rows += sent[source * num_slots + slot];
        }
        total += rows + row_align;
        if (total > INT32_MAX) {
            return STATUS_INVALID;
        }
        num_rows[slot] = (int32_t)rows;
    }
    ref_row_begin(num_slots, row_align, row_begin, num_rows);
    memset(num_rows, 0, (size_t)num_slots * sizeof *num_rows);
    int64_t received = 0;
    for (int64_t i = 0; i < (int64_t)num_ranks * num_slots; i++) {
        int32_t slot = (int32_t)(i % num_slots);
        for (int32_t row = 0; row < sent[i]; row++) {
            row_of[received++] = row_begin[slot] + num_rows[slot]++;
        }
    }
    return STATUS_OK;
}
