/*
 * serve_prefix.c -- the cache of hashed prefixes: blocks of prompts, least recently used out.
 *
 * A hash stands for its block and all blocks before it, so a prompt's cached prefix is its longest
 * run of known hashes. An open-addressed table finds a hash's place in the list of use; deleting
 * shifts back what follows (Knuth, 6.4, algorithm R).
 */
#include <assert.h>
#include <stdlib.h>

#include "digest.h"
#include "serve/serve_internal.h"

#define NOBODY (-1)

struct cached_block {
    int64_t hash;
    int32_t older; /* towards the least recently used */
    int32_t newer;
};

struct prefix_cache_state {
    struct cached_block *block; /* [capacity] those in use come first */
    int32_t capacity;           /* blocks it may hold */
    int32_t count;
    int32_t oldest;
    int32_t newest;
    int32_t *table; /* [table_size] place of a block, or NOBODY */
    uint32_t table_size;
};

/* The slot of the table that holds the hash, or the free one where it would be. */
static uint32_t slot_of(const struct prefix_cache_state *cache, int64_t hash)
{
    uint32_t mask = cache->table_size - 1;
    uint32_t slot = (uint32_t)digest_u64(0, (uint64_t)hash) & mask;
    while (cache->table[slot] != NOBODY && cache->block[cache->table[slot]].hash != hash) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

static void unlink_block(struct prefix_cache_state *cache, int32_t place)
{
    const struct cached_block *block = &cache->block[place];
    *(block->older != NOBODY ? &cache->block[block->older].newer : &cache->oldest) = block->newer;
    *(block->newer != NOBODY ? &cache->block[block->newer].older : &cache->newest) = block->older;
}

static void link_newest(struct prefix_cache_state *cache, int32_t place)
{
    struct cached_block *block = &cache->block[place];
    block->newer = NOBODY;
    block->older = cache->newest;
    *(cache->newest != NOBODY ? &cache->block[cache->newest].newer : &cache->oldest) = place;
    cache->newest = place;
}

static void forget_hash(struct prefix_cache_state *cache, int64_t hash)
{
    uint32_t mask = cache->table_size - 1;
    uint32_t hole = slot_of(cache, hash);
    for (uint32_t slot = (hole + 1) & mask; cache->table[slot] != NOBODY;
         slot = (slot + 1) & mask) {
        int64_t other = cache->block[cache->table[slot]].hash;
        uint32_t home = (uint32_t)digest_u64(0, (uint64_t)other) & mask;
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            cache->table[hole] = cache->table[slot];
            hole = slot;
        }
    }
    cache->table[hole] = NOBODY;
}

enum status prefix_open(struct serving *serving)
{
    const struct serving_config *config = serving->options->config;
    if (config->prefix_cache != PREFIX_CACHE_HASHES) {
        return STATUS_OK;
    }
    struct prefix_cache_state *cache = calloc(1, sizeof *cache);
    serving->prefixes = cache;
    if (cache == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t blocks = config->cache_tokens / ARRIVALS_HASH_TOKENS;
    bool is_limited = config->cache_tokens > 0 && blocks < serving->arrivals->num_hashes;
    blocks = is_limited ? blocks : serving->arrivals->num_hashes;
    cache->capacity = (int32_t)(blocks < INT32_MAX / 4 ? blocks : INT32_MAX / 4);
    cache->oldest = NOBODY;
    cache->newest = NOBODY;
    cache->table_size = 16;
    while (cache->table_size < 2 * (uint32_t)cache->capacity + 2) {
        cache->table_size *= 2;
    }
    cache->block = malloc(((size_t)cache->capacity + 1) * sizeof *cache->block);
    cache->table = malloc((size_t)cache->table_size * sizeof *cache->table);
    if (cache->block == NULL || cache->table == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (uint32_t slot = 0; slot < cache->table_size; slot++) {
        cache->table[slot] = NOBODY;
    }
    return STATUS_OK;
}

void prefix_close(struct serving *serving)
{
    if (serving->prefixes != NULL) {
        free(serving->prefixes->block);
        free(serving->prefixes->table);
        free(serving->prefixes);
    }
}

/* Blocks of the prompt that are there, from its first on. They count as used from the last to the
 * first: a block without those before it is worth nothing, so tails go first. */
static int32_t use_prefix(struct prefix_cache_state *cache, const struct arrivals *arrivals,
                          const struct arrival *arrival)
{
    int32_t found = 0;
    if (arrival->num_hashes == 0) {
        return 0;
    }
    const int64_t *hash = &arrivals->hash[arrival->hash_begin];
    while (found < arrival->num_hashes && cache->table[slot_of(cache, hash[found])] != NOBODY) {
        found++;
    }
    for (int32_t i = found - 1; i >= 0; i--) {
        int32_t place = cache->table[slot_of(cache, hash[i])];
        unlink_block(cache, place);
        link_newest(cache, place);
    }
    return found;
}

int32_t prefix_find(struct serving *serving, int32_t id)
{
    const struct serving_config *config = serving->options->config;
    const struct arrival *arrival = &serving->arrivals->arrival[id];
    struct prefix_cache_state *cache = serving->prefixes;
    int64_t tokens = 0;
    switch (config->prefix_cache) {
    case PREFIX_CACHE_NONE:
        break;
    case PREFIX_CACHE_RATE:
        tokens = (int64_t)(config->hit_rate * (double)arrival->prompt_tokens);
        break;
    case PREFIX_CACHE_HASHES:
        tokens = (int64_t)use_prefix(cache, serving->arrivals, arrival) * ARRIVALS_HASH_TOKENS;
        break;
    }
    int64_t most = arrival->prompt_tokens - 1; /* the last one's output is wanted */
    return (int32_t)(tokens < most ? tokens : most);
}

void prefix_keep(struct serving *serving, int32_t id)
{
    const struct arrival *arrival = &serving->arrivals->arrival[id];
    struct prefix_cache_state *cache = serving->prefixes;
    if (cache == NULL || cache->capacity == 0) {
        return;
    }
    for (int32_t i = arrival->num_hashes - 1; i >= 0; i--) {
        int64_t hash = serving->arrivals->hash[arrival->hash_begin + i];
        uint32_t slot = slot_of(cache, hash);
        int32_t place = cache->table[slot];
        if (place != NOBODY) {
            unlink_block(cache, place);
        } else if (cache->count < cache->capacity) {
            place = cache->count++;
            cache->table[slot] = place;
        } else {
            place = cache->oldest;
            unlink_block(cache, place);
            forget_hash(cache, cache->block[place].hash);
            cache->table[slot_of(cache, hash)] = place;
        }
        cache->block[place].hash = hash;
        link_newest(cache, place);
    }
}
