/* token_sets.c -- tokens become bits. */
#include "token_sets.h"

#include <assert.h>

/* Sets the bits of a word's tokens. Returns their ids that are not -1. */
static int32_t add_word(uint64_t *restrict word, const int32_t *restrict id, int32_t num_tokens,
                        int32_t top_k, uint32_t num_ids)
{
    int32_t absent = 0;
    uint64_t bit = 1;
    for (int32_t token = 0; token < num_tokens; token++, id += top_k, bit <<= 1) {
#pragma GCC unroll 8
        for (int32_t k = 0; k < top_k; k++) {
            if ((uint32_t)id[k] >= num_ids) {
                assert(id[k] == -1);
                absent++;
                continue;
            }
            word[id[k]] |= bit;
        }
    }
    return num_tokens * top_k - absent;
}

int32_t token_sets_add(const struct token_sets *sets, const int32_t *id, int32_t num_tokens,
                       int32_t top_k, int32_t num_ids)
{
    assert(num_tokens <= SET_TOKENS && num_ids <= sets->num_sets);
    int32_t present = 0;
    for (int32_t word = 0; word < SET_WORDS && num_tokens > 0; word++) {
        int32_t tokens = num_tokens < SET_WORD_TOKENS ? num_tokens : SET_WORD_TOKENS;
        present += add_word(token_sets_word(sets, word), id, tokens, top_k, (uint32_t)num_ids);
        id += (int64_t)tokens * top_k;
        num_tokens -= tokens;
    }
    return present;
}
