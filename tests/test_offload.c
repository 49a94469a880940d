/* test_offload.c -- the cache of offloaded experts: laws of every policy, answers by hand, and the
 * bound against a program that knows the future. */
#include <criterion/criterion.h>
#include <gsl/gsl_rng.h>
#include <stdlib.h>
#include <string.h>

#include "offload/cache.h"
#include "rng.h"

#define EXPERTS_MAX 24
#define LOOKUPS     300

static struct arena arena;

static void clean_up(void)
{
    arena_free(&arena);
}

TestSuite(offload, .fini = clean_up);

static struct offload_cache open_cache(const char *policy, int32_t num_experts, int32_t num_slots)
{
    struct offload_cache cache;
    const struct offload_policy *found = offload_find(policy);
    cr_assert_not_null(found, "%s", policy);
    cr_assert_eq(offload_cache_init(&cache, found, num_experts, num_slots, 50, &arena), STATUS_OK);
    return cache;
}

/* Looks up, fetches what is missing, and says how many hits there were. */
static int32_t use(struct offload_cache *cache, const int32_t *touched, int32_t count,
                   int32_t *best_hits)
{
    bool is_hit[EXPERTS_MAX];
    int32_t hits = 0;
    *best_hits += offload_cache_look_up(cache, touched, count);
    for (int32_t i = 0; i < count; i++) {
        is_hit[i] = cache->is_kept[touched[i]];
        hits += is_hit[i];
    }
    for (int32_t i = 0; i < count; i++) {
        if (!is_hit[i]) {
            offload_cache_keep(cache, touched[i]);
        }
    }
    return hits;
}

static int32_t use_one(struct offload_cache *cache, int32_t expert)
{
    int32_t ignored = 0;
    return use(cache, &expert, 1, &ignored);
}

static void expect_kept(const struct offload_cache *cache, const char *kept)
{
    for (int32_t expert = 0; expert < cache->view.num_experts; expert++) {
        cr_expect_eq(cache->is_kept[expert], kept[expert] == '1', "expert %d of %s", (int)expert,
                     kept);
    }
}

/* Two slots, four experts, 0 and 1 there. Of equal age the higher number leaves. */
Test(offload, lru_by_hand)
{
    struct offload_cache cache = open_cache("lru", 4, 2);

    expect_kept(&cache, "1100");
    cr_expect_eq(use_one(&cache, 2), 0);
    expect_kept(&cache, "1010");
    cr_expect_eq(use_one(&cache, 0), 1);
    cr_expect_eq(use_one(&cache, 1), 0);
    expect_kept(&cache, "1100");
    cr_expect_eq(use_one(&cache, 2), 0);
    expect_kept(&cache, "0110");
    cr_expect_eq(use_one(&cache, 1), 1);
}

/* The same lookups: 0 and 1 kept from the start give three hits, and both are in the way of 2. */
Test(offload, best_hits_by_hand)
{
    struct offload_cache cache = open_cache("lru", 4, 2);
    const int32_t touched[] = {2, 0, 1, 2, 1};
    int32_t best = 0;

    for (size_t i = 0; i < sizeof touched / sizeof touched[0]; i++) {
        (void)use(&cache, &touched[i], 1, &best);
    }
    cr_expect_eq(best, 3);
}

/* Counts: 0 three, 2 two, 1 one. 3 comes with one, and 1, the higher of those with one that were
 * there, leaves; then 3 is the least used and leaves for 1. */
Test(offload, lfu_by_hand)
{
    struct offload_cache cache = open_cache("lfu", 4, 3);
    const int32_t touched[] = {0, 0, 0, 2, 2, 1, 3, 1};

    for (size_t i = 0; i < sizeof touched / sizeof touched[0]; i++) {
        (void)use_one(&cache, touched[i]);
    }
    expect_kept(&cache, "1110");
}

/* Expert 3 was popular long ago, 2 is now, and 1 comes up: lrfu lets 3 go for it, lfu 2. */
Test(offload, lrfu_forgets_and_lfu_does_not)
{
    const struct {
        const char *policy;
        const char *kept;
    } outcomes[] = {{"lrfu", "0110"}, {"lfu", "0101"}};
    for (size_t which = 0; which < 2; which++) {
        struct offload_cache cache = open_cache(outcomes[which].policy, 4, 2);
        for (int32_t i = 0; i < 400; i++) {
            (void)use_one(&cache, i < 250 ? 3 : 2);
        }
        (void)use_one(&cache, 1);
        expect_kept(&cache, outcomes[which].kept);
    }
}

/* The profile is the first 50 lookups: 2 and 3 are used most. Nothing later changes that. */
Test(offload, pinned_keeps_its_profile)
{
    struct offload_cache cache = open_cache("pinned", 4, 2);

    for (int32_t i = 0; i < 50; i++) {
        (void)use_one(&cache, i % 5 == 0 ? 1 : 2 + i % 2);
    }
    expect_kept(&cache, "0011");
    for (int32_t i = 0; i < 200; i++) {
        cr_expect_eq(use_one(&cache, i % 2), 0);
    }
    expect_kept(&cache, "0011");
}

/* Expert i + 1 follows expert i, in a ring: lru with room for two of six never has what comes,
 * prediction does as soon as it has seen a round or two. */
Test(offload, prediction_learns_a_ring)
{
    struct offload_cache lru = open_cache("lru", 6, 3);
    struct offload_cache predicted = open_cache("predicted", 6, 3);
    int32_t hits[2] = {0, 0};

    for (int32_t i = 0; i < 600; i++) {
        int32_t expert = i % 6;
        hits[0] += use_one(&lru, expert);
        hits[1] += use_one(&predicted, expert);
    }
    cr_expect_lt(hits[0], 10);
    cr_expect_gt(hits[1], 200);
}

/* Two lookups touched 0, and 1 followed once: (1 + 8 x 1/4) / (2 + 8) by hand. */
Test(offload, chances_are_counts_shrunk_to_the_base)
{
    struct follows follows;
    double chance[2];
    cr_assert_eq(follows_init(&follows, 2, 2, &arena), STATUS_OK);
    follows_learn(&follows, (int32_t[]){0}, 1, (int32_t[]){1}, 1);
    follows_learn(&follows, (int32_t[]){0}, 1, (int32_t[]){0}, 1);

    follows_predict(&follows, (int32_t[]){0}, 1, (int64_t[]){3, 1}, 4, chance);

    cr_expect_float_eq(chance[1], 0.3, 1e-12);
    cr_expect_float_eq(chance[0], 0.7, 1e-12);
    follows_predict(&follows, NULL, 0, (int64_t[]){3, 1}, 4, chance);
    cr_expect_float_eq(chance[1], 0.25, 1e-12);
}

/* A sequence of lookups: experts ascend, favourites drift. */
struct sequence {
    int32_t num_experts;
    int32_t num_slots;
    int32_t count[LOOKUPS];
    int32_t touched[LOOKUPS][EXPERTS_MAX];
};

static void draw_sequence(struct sequence *sequence, uint64_t round)
{
    gsl_rng *rng = rng_stream(round, "offload sequence", 0);
    sequence->num_experts = 1 + (int32_t)gsl_rng_uniform_int(rng, EXPERTS_MAX);
    sequence->num_slots =
        (int32_t)gsl_rng_uniform_int(rng, (unsigned long)sequence->num_experts + 1);
    double share = 0.05 + 0.5 * gsl_rng_uniform(rng);
    for (int32_t lookup = 0; lookup < LOOKUPS; lookup++) {
        int32_t favourite = lookup / 20 % sequence->num_experts;
        sequence->count[lookup] = 0;
        for (int32_t expert = 0; expert < sequence->num_experts; expert++) {
            double chance = expert == favourite ? 0.9 : share;
            if (gsl_rng_uniform(rng) < chance) {
                sequence->touched[lookup][sequence->count[lookup]++] = expert;
            }
        }
    }
    gsl_rng_free(rng);
}

static int32_t next_use(const struct sequence *sequence, int32_t lookup, int32_t expert)
{
    for (int32_t next = lookup + 1; next < LOOKUPS; next++) {
        for (int32_t i = 0; i < sequence->count[next]; i++) {
            if (sequence->touched[next][i] == expert) {
                return next;
            }
        }
    }
    return INT32_MAX;
}

/* Belady with the future in hand: after each lookup the slots hold those of what was there or has
 * come that are wanted soonest. */
static int64_t belady_hits(const struct sequence *sequence)
{
    bool is_kept[EXPERTS_MAX] = {false};
    int64_t hits = 0;
    for (int32_t expert = 0; expert < sequence->num_slots; expert++) {
        is_kept[expert] = true;
    }
    for (int32_t lookup = 0; lookup < LOOKUPS; lookup++) {
        int32_t here = 0;
        for (int32_t i = 0; i < sequence->count[lookup]; i++) {
            hits += is_kept[sequence->touched[lookup][i]];
            is_kept[sequence->touched[lookup][i]] = true;
        }
        for (int32_t expert = 0; expert < sequence->num_experts; expert++) {
            here += is_kept[expert];
        }
        for (; here > sequence->num_slots; here--) {
            int32_t latest = -1;
            for (int32_t expert = 0; expert < sequence->num_experts; expert++) {
                bool later =
                    is_kept[expert] && (latest < 0 || next_use(sequence, lookup, expert) >
                                                          next_use(sequence, lookup, latest));
                latest = later ? expert : latest;
            }
            is_kept[latest] = false;
        }
    }
    return hits;
}

Test(offload, best_hits_are_beladys)
{
    for (uint64_t round = 0; round < 60; round++) {
        struct sequence sequence;
        draw_sequence(&sequence, round);
        struct offload_cache cache = open_cache("lru", sequence.num_experts, sequence.num_slots);
        int32_t best = 0;
        for (int32_t lookup = 0; lookup < LOOKUPS; lookup++) {
            best += offload_cache_look_up(&cache, sequence.touched[lookup], sequence.count[lookup]);
        }
        cr_expect_eq(best, belady_hits(&sequence), "round %d: %d of %d experts", (int)round,
                     (int)sequence.num_slots, (int)sequence.num_experts);
        arena_reset(&arena);
    }
}

static void check_room(const struct offload_cache *cache, const char *policy)
{
    int32_t kept = 0;
    for (int32_t expert = 0; expert < cache->view.num_experts; expert++) {
        kept += cache->is_kept[expert];
    }
    cr_assert_eq(kept, cache->num_kept, "%s", policy);
    cr_assert_leq(kept, cache->num_slots, "%s", policy);
}

/* Never more than the slots; what must be kept is; no policy beats the bound; a cache of all is
 * always a hit; equal lookups have equal outcomes. */
Test(offload, every_policy_keeps_the_laws)
{
    int32_t num_policies = 0;
    const struct offload_policy *const *policies = offload_all(&num_policies);
    cr_assert_geq(num_policies, 5);
    for (uint64_t round = 0; round < 60; round++) {
        struct sequence sequence;
        draw_sequence(&sequence, round);
        for (int32_t index = 0; index < num_policies; index++) {
            const char *name = policies[index]->name;
            struct offload_cache cache = open_cache(name, sequence.num_experts, sequence.num_slots);
            struct offload_cache again = open_cache(name, sequence.num_experts, sequence.num_slots);
            int32_t hits = 0;
            int32_t best = 0;
            int32_t touches = 0;
            for (int32_t lookup = 0; lookup < LOOKUPS; lookup++) {
                const int32_t *touched = sequence.touched[lookup];
                int32_t count = sequence.count[lookup];
                int32_t ignored = 0;
                int32_t here = use(&cache, touched, count, &best);
                cr_assert_eq(here, use(&again, touched, count, &ignored), "%s", name);
                hits += here;
                touches += count;
                check_room(&cache, name);
                bool must = count == 1 && sequence.num_slots > 0 && !policies[index]->may_refuse;
                cr_assert(!must || cache.is_kept[touched[0]], "%s", name);
            }
            cr_expect_leq(hits, best, "%s, round %d", name, (int)round);
            cr_expect(sequence.num_slots < sequence.num_experts || hits == touches, "%s", name);
            cr_expect(sequence.num_slots > 0 || hits == 0, "%s", name);
        }
        arena_reset(&arena);
    }
}

/* More slots never cost lru a hit (Mattson et al. 1970). */
Test(offload, lru_gains_by_every_slot)
{
    struct sequence sequence;
    draw_sequence(&sequence, 7);
    int32_t before = 0;
    for (int32_t slots = 0; slots <= sequence.num_experts; slots++) {
        struct offload_cache cache = open_cache("lru", sequence.num_experts, slots);
        int32_t hits = 0;
        for (int32_t lookup = 0; lookup < LOOKUPS; lookup++) {
            if (sequence.count[lookup] > 0) {
                hits += use_one(&cache, sequence.touched[lookup][lookup % sequence.count[lookup]]);
            }
        }
        cr_expect_geq(hits, before);
        before = hits;
    }
}
