/* replay_avx512_fold.c -- adds a ladder up: how many rows had each expert, and met each octet. */
#include "replay_avx512.h"

#ifdef __x86_64__

#include <string.h>

/* How many of eight rows have each of a group's experts: a byte an expert. */
INLINE __m512i count_rows(__m512i sets)
{
    const __m512i by_octet = _mm512_set_epi64(
        0x3f372f271f170f07, 0x3e362e261e160e06, 0x3d352d251d150d05, 0x3c342c241c140c04,
        0x3b332b231b130b03, 0x3a322a221a120a02, 0x3931292119110901, 0x3830282018100800);
    return _mm512_popcnt_epi8(transpose(_mm512_permutexvar_epi8(by_octet, sets)));
}

/* tokens[64] of a plane, added up over the levels: of a group's experts, or of the octets in each
 * lane of their vectors. */
AVX512 static void fold_plane(uint32_t *tokens, const struct ladder *ladder, int32_t plane,
                              bool are_octets)
{
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                      _mm512_setzero_si512()};
    for (int32_t level = REPLAY_LEVELS - 1; level >= 0; level--) {
        __m512i bits[2] = {ladder->sum[level].plane[plane], ladder->waiting[level].plane[plane]};
        uint8_t rows[64];
        for (int32_t i = 0; i < 2; i++) {
            bits[i] = are_octets ? _mm512_popcnt_epi8(transpose(bits[i])) : count_rows(bits[i]);
        }
        _mm512_storeu_si512(rows, _mm512_add_epi8(bits[0], bits[1]));
        for (int32_t i = 0; i < 4; i++) {
            __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(rows + 16 * i));
            sum[i] = _mm512_add_epi32(_mm512_add_epi32(sum[i], sum[i]), _mm512_cvtepu8_epi32(some));
        }
    }
    memcpy(tokens, sum, sizeof sum);
}

/* Adds what a page's octets count to tokens, by the ranks that they are. Of fewer groups there are
 * fewer vectors, which began higher up. */
static void fold_octets(int64_t *rank_tokens, const struct avx512 *state, int32_t page)
{
    const int32_t groups = state->num_groups;
    const int32_t first_level = groups == 4 ? 1 : groups == 2 ? 2 : 3;
    uint32_t tokens[64];
    fold_plane(tokens, &state->ladder[page], groups, true);
    for (int32_t i = 0; i < 64; i++) {
        int32_t rank = state->rank_places.of_octet[page][i & (8 * groups - 1)];
        if (rank >= 0) {
            rank_tokens[rank] += tokens[i] >> first_level;
        }
    }
}

void replay_avx512_fold(void *opaque, const struct replay_counts *counts, int64_t *expert_tokens)
{
    struct avx512 *state = opaque;
    for (int32_t page = 0; page < state->num_pages; page++) {
        for (int32_t group = 0; group < state->num_groups; group++) {
            int32_t first = page * PAGE_EXPERTS + group * 64;
            uint32_t tokens[64];
            fold_plane(tokens, &state->ladder[page], group, false);
            for (int32_t i = 0; i < 64 && first + i < state->shape->num_experts; i++) {
                expert_tokens[first + i] += tokens[i];
            }
        }
        if (state->rank_places.are_octets) {
            fold_octets(counts->rank_tokens, state, page);
        }
        memset(&state->ladder[page], 0, sizeof state->ladder[page]);
    }
}

#endif
