/*
 * arrivals_prefix.c -- how much of all prompts was said before.
 *
 * A hash stands for its block and all blocks before it, so a prompt's known prefix is its longest
 * run of hashes that an earlier request had. Sorted by hash and then by request, each hash's first
 * request stands before the others.
 */
#include <stdlib.h>

#include "arrivals.h"

struct block {
    int64_t hash;
    int64_t request; /* index of arrivals */
    bool *is_known;  /* out: an earlier request had it */
};

static int compare(const void *left, const void *right)
{
    const struct block *a = left;
    const struct block *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return (a->request > b->request) - (a->request < b->request);
}

static void mark_known(struct block *block, int64_t count)
{
    int64_t first = 0;
    qsort(block, (size_t)count, sizeof *block, compare);
    for (int64_t i = 0; i < count; i++) {
        first = block[i].hash == block[first].hash ? first : i;
        *block[i].is_known = block[i].request > block[first].request;
    }
}

/* Tokens of a prompt's known run; the last one's output is wanted. */
static int64_t known_tokens(const struct arrival *arrival, const bool *is_known)
{
    int64_t blocks = 0;
    int64_t most = arrival->prompt_tokens - 1;
    while (blocks < arrival->num_hashes && is_known[arrival->hash_begin + blocks]) {
        blocks++;
    }
    return blocks * ARRIVALS_HASH_TOKENS < most ? blocks * ARRIVALS_HASH_TOKENS : most;
}

enum status arrivals_cached_share(double *share, const struct arrivals *arrivals)
{
    size_t capacity = (size_t)arrivals->num_hashes + 1;
    struct block *block = malloc(capacity * sizeof *block);
    bool *is_known = calloc(capacity, sizeof *is_known);
    enum status status = block == NULL || is_known == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    double cached = 0.0;
    double all = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < arrivals->count && status == STATUS_OK; i++) {
        const struct arrival *arrival = &arrivals->arrival[i];
        for (int64_t at = arrival->hash_begin; at < arrival->hash_begin + arrival->num_hashes;
             at++) {
            block[count++] = (struct block){arrivals->hash[at], i, &is_known[at]};
        }
    }
    if (status == STATUS_OK) {
        mark_known(block, count);
    }
    for (int64_t i = 0; i < arrivals->count && status == STATUS_OK; i++) {
        cached += (double)known_tokens(&arrivals->arrival[i], is_known);
        all += (double)arrivals->arrival[i].prompt_tokens;
    }
    *share = status == STATUS_OK && all > 0.0 ? cached / all : 0.0;
    free(block);
    free(is_known);
    return status;
}
