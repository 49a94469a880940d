/*
 * token_sets.h -- which tokens of a block go where, a bit each.
 *
 * A block is up to SET_TOKENS tokens of one source rank. Set i has the bits of those that go to i:
 * an expert, or one of its slots.
 */
#ifndef MOESIM_TOKEN_SETS_H
#define MOESIM_TOKEN_SETS_H

#include <stdint.h>

#define SET_WORD_TOKENS 64
#define SET_WORDS       2
#define SET_TOKENS      (SET_WORD_TOKENS * SET_WORDS)

struct token_sets {
    int32_t num_sets;
    uint64_t *word; /* [SET_WORDS][num_sets] */
};

/* One word of every set: [num_sets]. */
static inline uint64_t *token_sets_word(const struct token_sets *sets, int32_t word)
{
    return &sets->word[(int64_t)word * sets->num_sets];
}

/* Adds num_tokens tokens, at most a block.
 *   id  [num_tokens][top_k]  below num_ids, which are as many sets or fewer; -1: nowhere
 * Returns how many ids are not -1: more than there are bits where a token names one twice. */
int32_t token_sets_add(const struct token_sets *sets, const int32_t *id, int32_t num_tokens,
                       int32_t top_k, int32_t num_ids);

#endif
