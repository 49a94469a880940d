/* cache.c -- lookups, and who leaves. */
#include "offload/cache.h"

#include <assert.h>
#include <string.h>

#define DECAY 0.978572062087700134 /* 2 ^ (-1 / OFFLOAD_HALF_LIFE) */

enum status offload_cache_init(struct offload_cache *cache, const struct offload_policy *policy,
                               int32_t num_experts, int32_t num_slots, int64_t profile_lookups,
                               struct arena *arena)
{
    assert(num_slots >= 0);
    assert(num_slots <= num_experts);
    size_t experts = (size_t)num_experts;
    *cache = (struct offload_cache){.policy = policy,
                                    .num_slots = num_slots,
                                    .num_kept = num_slots,
                                    .profile_lookups = profile_lookups,
                                    .best = {.num_slots = num_slots}};
    cache->is_kept = arena_alloc(arena, experts, sizeof(bool));
    cache->last_lookup = arena_alloc(arena, experts, sizeof(int64_t));
    cache->touches = arena_alloc(arena, experts, sizeof(int64_t));
    cache->profile_touches = arena_alloc(arena, experts, sizeof(int64_t));
    cache->recent = arena_alloc(arena, experts, sizeof(double));
    cache->chance = arena_alloc(arena, experts, sizeof(double));
    cache->touched = arena_alloc(arena, experts, sizeof(int32_t));
    cache->scratch = arena_alloc(arena, experts, sizeof(int32_t));
    bool complete = cache->is_kept != NULL && cache->last_lookup != NULL &&
                    cache->touches != NULL && cache->profile_touches != NULL &&
                    cache->recent != NULL && cache->chance != NULL && cache->touched != NULL &&
                    cache->scratch != NULL;
    if (!complete) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t expert = 0; expert < num_slots; expert++) {
        cache->is_kept[expert] = true;
    }
    cache->view = (struct offload_view){.num_experts = num_experts,
                                        .last_lookup = cache->last_lookup,
                                        .touches = cache->touches,
                                        .profile_touches = cache->profile_touches,
                                        .recent = cache->recent};
    if (!policy->predicts) {
        return STATUS_OK;
    }
    cache->view.chance = cache->chance;
    return follows_init(&cache->next_lookup, num_experts, num_experts, arena);
}

int32_t offload_cache_look_up(struct offload_cache *cache, const int32_t *touched, int32_t count)
{
    size_t bytes = (size_t)count * sizeof *touched;
    memcpy(cache->scratch, touched, bytes);
    int32_t best = best_hits_look_up(&cache->best, cache->scratch, count, cache->last_lookup);
    cache->lookups++;
    for (int32_t expert = 0; expert < cache->view.num_experts; expert++) {
        cache->recent[expert] *= DECAY;
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t expert = touched[i];
        cache->last_lookup[expert] = cache->lookups;
        cache->touches[expert]++;
        cache->profile_touches[expert] += cache->lookups <= cache->profile_lookups;
        cache->recent[expert] += 1.0;
    }
    if (cache->policy->predicts) {
        follows_learn(&cache->next_lookup, cache->touched, cache->num_touched, touched, count);
        follows_predict(&cache->next_lookup, touched, count, cache->touches, cache->lookups,
                        cache->chance);
    }
    memcpy(cache->touched, touched, bytes);
    cache->num_touched = count;
    return best;
}

/* Of those that are there, the one worth least; of equals, the highest number. */
static int32_t least_worth(const struct offload_cache *cache, double *worth)
{
    int32_t least = -1;
    for (int32_t expert = cache->view.num_experts - 1; expert >= 0; expert--) {
        double here = cache->is_kept[expert] ? cache->policy->worth(&cache->view, expert) : 0.0;
        if (cache->is_kept[expert] && (least < 0 || here < *worth)) {
            least = expert;
            *worth = here;
        }
    }
    return least;
}

bool offload_cache_wants(const struct offload_cache *cache, int32_t expert)
{
    double worth = 0.0;
    if (cache->num_kept < cache->num_slots || cache->num_slots == 0) {
        return cache->num_slots > 0;
    }
    (void)least_worth(cache, &worth);
    return !cache->policy->may_refuse || cache->policy->worth(&cache->view, expert) > worth;
}

void offload_cache_keep(struct offload_cache *cache, int32_t expert)
{
    double worth = 0.0;
    assert(!cache->is_kept[expert]);
    if (!offload_cache_wants(cache, expert)) {
        return;
    }
    if (cache->num_kept == cache->num_slots) {
        cache->is_kept[least_worth(cache, &worth)] = false;
        cache->num_kept--;
    }
    cache->is_kept[expert] = true;
    cache->num_kept++;
    assert(cache->num_kept <= cache->num_slots);
}
