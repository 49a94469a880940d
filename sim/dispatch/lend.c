/* lend.c -- home slots, ranges that leave them, and the experts that have to be lent. */
#include "dispatch/lend.h"

#include <assert.h>
#include <gsl/gsl_heapsort.h>
#include <string.h>

#define CAPACITY_MIN 64
#define NOT_HELD     (-1)

/* Wish i of an expert has replica i mod n for a home. */
static enum status deal_homes(struct lend *lend)
{
    const struct placement *placement = lend->input->placement;
    struct route *route = lend->route;
    int32_t *turn = arena_alloc(lend->input->scratch, (size_t)placement->num_experts, sizeof *turn);
    if (turn == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        int32_t expert = route->expert[wish];
        if (expert == EXPERT_NOT_ROUTED || route->dropped[wish]) {
            route->slot[wish] = SLOT_DROPPED;
            continue;
        }
        int32_t place = placement->slot_begin[expert] + turn[expert];
        bool is_last = place + 1 == placement->slot_begin[expert + 1];
        turn[expert] = is_last ? 0 : turn[expert] + 1;
        int32_t slot = placement->slot_of[place];
        route->slot[wish] = slot;
        lend->begin[slot + 1]++;
        lend->rank_tokens[placement->rank_of_slot[slot]]++;
        lend->num_kept++;
    }
    return STATUS_OK;
}

/* A counting sort, stable. */
static void list_wishes(struct lend *lend, int32_t num_slots)
{
    const struct route *route = lend->route;
    for (int32_t slot = 0; slot < num_slots; slot++) {
        lend->begin[slot + 1] += lend->begin[slot];
    }
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        if (route->slot[wish] != SLOT_DROPPED) {
            /* begin of a slot serves as its write position and is put back below. */
            lend->list[lend->begin[route->slot[wish]]++] = (int32_t)wish;
        }
    }
    for (int32_t slot = num_slots; slot > 0; slot--) {
        lend->begin[slot] = lend->begin[slot - 1];
    }
    lend->begin[0] = 0;
}

enum status lend_open(struct lend *lend, const struct dispatch_input *input, struct route *route)
{
    const struct placement *placement = input->placement;
    assert(route->num_experts == placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct arena *scratch = input->scratch;
    *lend = (struct lend){
        .input = input,
        .route = route,
        .begin = arena_alloc(scratch, (size_t)placement->num_slots + 1, sizeof(int32_t)),
        .rank_tokens = arena_alloc(scratch, (size_t)placement->num_ranks, sizeof(int32_t)),
    };
    if (lend->begin == NULL || lend->rank_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = deal_homes(lend);
    if (status != STATUS_OK) {
        return status;
    }
    lend->list = arena_take(scratch, (size_t)lend->num_kept, sizeof(int32_t));
    if (lend->list == NULL) {
        return STATUS_NO_MEMORY;
    }
    list_wishes(lend, placement->num_slots);
    return STATUS_OK;
}

enum status lend_shift(struct lend *lend, struct shift shift)
{
    assert(shift.begin >= lend->begin[shift.home_slot] && shift.begin < shift.end);
    assert(shift.end <= lend->begin[shift.home_slot + 1]);
    assert(shift.to_rank != lend->input->placement->rank_of_slot[shift.home_slot]);
    if (lend->num_shifts == lend->capacity) {
        int32_t larger = lend->capacity > 0 ? 2 * lend->capacity : CAPACITY_MIN;
        struct shift *fresh = arena_take(lend->input->scratch, (size_t)larger, sizeof *fresh);
        if (fresh == NULL) {
            return STATUS_NO_MEMORY;
        }
        if (lend->num_shifts > 0) {
            memcpy(fresh, lend->shift, (size_t)lend->num_shifts * sizeof *fresh);
        }
        lend->shift = fresh;
        lend->capacity = larger;
    }
    lend->shift[lend->num_shifts++] = shift;
    return STATUS_OK;
}

/* The first slot of the expert on the rank, or NOT_HELD. Slots of an expert ascend, and ranks with
 * them. */
static int32_t slot_on(const struct placement *placement, int32_t expert, int32_t rank)
{
    int32_t low = placement->slot_begin[expert];
    int32_t high = placement->slot_begin[expert + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (placement->rank_of_slot[placement->slot_of[middle]] < rank) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < placement->slot_begin[expert + 1] &&
                 placement->rank_of_slot[placement->slot_of[low]] == rank;
    return found ? placement->slot_of[low] : NOT_HELD;
}

static int by_borrower(const void *left, const void *right)
{
    const struct expert_move *a = left;
    const struct expert_move *b = right;
    if (a->to_rank != b->to_rank) {
        return a->to_rank < b->to_rank ? -1 : 1;
    }
    if (a->expert != b->expert) {
        return a->expert < b->expert ? -1 : 1;
    }
    return (a->from_rank > b->from_rank) - (a->from_rank < b->from_rank);
}

/* One loan an expert and borrower; where two homes would lend, the lower rank does. */
static enum status list_loans(struct lend *lend)
{
    const struct placement *placement = lend->input->placement;
    struct dispatch_loans *loans = lend->input->loans;
    loans->move = arena_take(lend->input->scratch, (size_t)lend->num_shifts, sizeof *loans->move);
    if (loans->move == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t count = 0;
    for (int32_t i = 0; i < lend->num_shifts; i++) {
        const struct shift *shift = &lend->shift[i];
        int32_t expert = placement->expert_of_slot[shift->home_slot];
        if (slot_on(placement, expert, shift->to_rank) == NOT_HELD) {
            loans->move[count++] =
                (struct expert_move){lend->input->layer, expert,
                                     placement->rank_of_slot[shift->home_slot], shift->to_rank};
        }
    }
    gsl_heapsort(loans->move, (size_t)count, sizeof *loans->move, by_borrower);
    for (int32_t i = 0; i < count; i++) {
        const struct expert_move *move = &loans->move[i];
        bool is_first =
            i == 0 || move[-1].to_rank != move->to_rank || move[-1].expert != move->expert;
        if (is_first) {
            loans->move[loans->num_moves++] = *move;
        }
    }
    return STATUS_OK;
}

enum status lend_settle(struct lend *lend)
{
    const struct placement *placement = lend->input->placement;
    struct dispatch_loans *loans = lend->input->loans;
    struct route *route = lend->route;
    if (lend->num_shifts == 0) {
        return STATUS_OK;
    }
    enum status status = list_loans(lend);
    if (status == STATUS_OK && loans->num_moves > 0) {
        status = placement_extend(&loans->placement, placement, loans->move, loans->num_moves,
                                  lend->input->scratch);
        for (int64_t i = 0; i < lend->num_kept && status == STATUS_OK; i++) {
            int32_t *slot = &route->slot[lend->list[i]];
            int32_t rank = placement->rank_of_slot[*slot];
            *slot += loans->placement.rank_begin[rank] - placement->rank_begin[rank];
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct placement *final = loans->num_moves > 0 ? &loans->placement : placement;
    for (int32_t i = 0; i < lend->num_shifts; i++) {
        const struct shift *shift = &lend->shift[i];
        int32_t expert = placement->expert_of_slot[shift->home_slot];
        int32_t slot = slot_on(final, expert, shift->to_rank);
        assert(slot != NOT_HELD);
        for (int32_t at = shift->begin; at < shift->end; at++) {
            route->slot[lend->list[at]] = slot;
        }
    }
    return STATUS_OK;
}
