/* deal.c -- greedy replication and longest-first dealing, shared by the strategies. */
#include "balance/deal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum status deal_open(struct deal_work *work, const char *name, const struct balance_input *input,
                      struct error *error)
{
    if (input->num_slots < input->num_experts || input->num_slots % input->num_ranks != 0) {
        return error_add(error, STATUS_INVALID,
                         "%s: %d slots for %d experts cannot be dealt evenly to %d ranks", name,
                         input->num_slots, input->num_experts, input->num_ranks);
    }
    struct arena *arena = input->scratch;
    size_t experts = (size_t)input->num_experts;
    size_t slots = (size_t)input->num_slots;
    size_t ranks = (size_t)input->num_ranks;
    *work = (struct deal_work){
        .item = arena_alloc(arena, slots, sizeof *work->item),
        .tokens = arena_alloc(arena, experts, sizeof *work->tokens),
        .rank_tokens = arena_alloc(arena, ranks, sizeof *work->rank_tokens),
        .rank_used = arena_alloc(arena, ranks, sizeof *work->rank_used),
        .replicas = arena_alloc(arena, experts, sizeof *work->replicas),
        .fresh = arena_alloc(arena, slots, sizeof *work->fresh),
        .mark = arena_alloc(arena, 2 * slots, sizeof *work->mark),
    };
    bool complete = work->item != NULL && work->tokens != NULL && work->rank_tokens != NULL &&
                    work->rank_used != NULL && work->replicas != NULL && work->fresh != NULL &&
                    work->mark != NULL;
    return complete ? STATUS_OK
                    : error_add(error, STATUS_NO_MEMORY, "%s: no memory for %d slots", name,
                                input->num_slots);
}

void deal_load(struct deal_work *work, const struct balance_input *input, int32_t layer)
{
    const int64_t *load_tokens = input->load_tokens + (int64_t)layer * input->num_experts;
    for (int32_t expert = 0; expert < input->num_experts; expert++) {
        work->tokens[expert] = (double)load_tokens[expert];
    }
}

static int heavier_first(const void *a, const void *b)
{
    const struct deal_item *x = a;
    const struct deal_item *y = b;
    if (x->tokens != y->tokens) {
        return x->tokens > y->tokens ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

void deal_sort(struct deal_item *item, int32_t count)
{
    qsort(item, (size_t)count, sizeof *item, heavier_first);
}

void deal_replicate(int32_t *replicas, const double *tokens, int32_t num_experts, int32_t num_slots,
                    int32_t replicas_max, bool ties_to_last)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        replicas[expert] = 1;
    }
    for (int32_t slot = num_experts; slot < num_slots; slot++) {
        int32_t hottest = -1; /* of those that may have one more */
        int32_t capped = 0;   /* of all */
        double most_tokens = -1.0;
        double capped_tokens = -1.0;
        for (int32_t expert = 0; expert < num_experts; expert++) {
            double share_tokens = tokens[expert] / (double)replicas[expert];
            bool more = ties_to_last ? share_tokens >= most_tokens : share_tokens > most_tokens;
            if (more && replicas[expert] < replicas_max) {
                hottest = expert;
                most_tokens = share_tokens;
            }
            if (share_tokens > capped_tokens) {
                capped = expert;
                capped_tokens = share_tokens;
            }
        }
        replicas[hottest >= 0 ? hottest : capped]++;
    }
}

int32_t deal_list(struct deal_work *work, int32_t num_experts)
{
    int32_t count = 0;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double share_tokens = work->tokens[expert] / (double)work->replicas[expert];
        for (int32_t replica = 0; replica < work->replicas[expert]; replica++) {
            work->item[count] = (struct deal_item){share_tokens, count, expert};
            count++;
        }
    }
    return count;
}

void deal_clear(struct deal_work *work, int32_t num_ranks)
{
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        work->rank_tokens[rank] = 0.0;
        work->rank_used[rank] = 0;
    }
}

bool deal_holds(const int32_t *slot, int32_t count, int32_t expert)
{
    for (int32_t i = 0; i < count; i++) {
        if (slot[i] == expert) {
            return true;
        }
    }
    return false;
}

void deal_to_lightest(struct deal_work *work, int32_t num_items, int32_t num_ranks,
                      int32_t slots_per_rank, bool spread)
{
    for (int32_t i = 0; i < num_items; i++) {
        const struct deal_item *item = &work->item[i];
        int32_t open = -1;  /* the lightest rank with room */
        int32_t apart = -1; /* the lightest that does not hold the expert yet */
        for (int32_t rank = 0; rank < num_ranks; rank++) {
            if (work->rank_used[rank] == slots_per_rank) {
                continue;
            }
            if (open < 0 || work->rank_tokens[rank] < work->rank_tokens[open]) {
                open = rank;
            }
            if (spread && (apart < 0 || work->rank_tokens[rank] < work->rank_tokens[apart]) &&
                !deal_holds(&work->fresh[rank * slots_per_rank], work->rank_used[rank],
                            item->expert)) {
                apart = rank;
            }
        }
        assert(open >= 0); /* there are as many items as slots */
        int32_t rank = apart >= 0 ? apart : open;
        work->fresh[rank * slots_per_rank + work->rank_used[rank]++] = item->expert;
        work->rank_tokens[rank] += item->tokens;
    }
}

/*   newcomer, kept  [count]  scratch */
static void keep_rank(int32_t *fresh, const int32_t *before, int32_t *newcomer, int32_t *kept,
                      int32_t count)
{
    int32_t num_newcomers = 0;
    memset(kept, 0, (size_t)count * sizeof *kept);
    for (int32_t i = 0; i < count; i++) {
        int32_t place = 0;
        while (place < count && (before[place] != fresh[i] || kept[place])) {
            place++;
        }
        if (place < count) {
            kept[place] = 1;
        } else {
            newcomer[num_newcomers++] = fresh[i];
        }
    }
    int32_t next = 0;
    for (int32_t place = 0; place < count; place++) {
        fresh[place] = kept[place] ? before[place] : newcomer[next++];
    }
    assert(next == num_newcomers);
}

void deal_keep_places(struct deal_work *work, int32_t *fresh, const int32_t *before,
                      int32_t num_slots, int32_t slots_per_rank)
{
    for (int32_t first = 0; first < num_slots; first += slots_per_rank) {
        keep_rank(fresh + first, before + first, work->mark, work->mark + slots_per_rank,
                  slots_per_rank);
    }
}

double deal_busiest(struct deal_work *work, const struct balance_input *input,
                    const int32_t *expert_of_slot)
{
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    double most_tokens = 0.0;
    memset(work->replicas, 0, (size_t)input->num_experts * sizeof *work->replicas);
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        work->replicas[expert_of_slot[slot]]++;
    }
    for (int32_t rank = 0; rank < input->num_ranks; rank++) {
        double tokens = 0.0;
        for (int32_t i = 0; i < slots_per_rank; i++) {
            int32_t expert = expert_of_slot[rank * slots_per_rank + i];
            tokens += work->tokens[expert] / (double)work->replicas[expert];
        }
        work->rank_tokens[rank] = tokens;
        most_tokens = tokens > most_tokens ? tokens : most_tokens;
    }
    return most_tokens;
}

void deal_copy(int32_t *expert_of_slot, const struct deal_work *work,
               const struct balance_input *input, int32_t layer)
{
    memcpy(expert_of_slot + (int64_t)layer * input->num_slots, work->fresh,
           (size_t)input->num_slots * sizeof *work->fresh);
}

void deal_part_doubles(struct deal_work *work, const struct balance_input *input)
{
    int32_t *fresh = work->fresh;
    int32_t slots_per_rank = input->num_slots / input->num_ranks;
    memset(work->replicas, 0, (size_t)input->num_experts * sizeof *work->replicas);
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        work->replicas[fresh[slot]]++;
    }
    for (int32_t slot = 0; slot < input->num_slots; slot++) {
        int32_t first = slot / slots_per_rank * slots_per_rank;
        int32_t hottest = -1;
        if (!deal_holds(fresh + first, slot - first, fresh[slot])) {
            continue;
        }
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            if (!deal_holds(fresh + first, slots_per_rank, expert) &&
                (hottest < 0 || work->tokens[expert] / work->replicas[expert] >
                                    work->tokens[hottest] / work->replicas[hottest])) {
                hottest = expert;
            }
        }
        if (hottest >= 0) {
            work->replicas[fresh[slot]]--;
            work->replicas[hottest]++;
            fresh[slot] = hottest;
        }
    }
}
