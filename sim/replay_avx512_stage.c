/* replay_avx512_stage.c -- rows of any top_k and width of ids, as the passes of replay_avx512.c
 * read them. */
#include "replay_avx512.h"

#ifdef __x86_64__

AVX512 int64_t replay_avx512_stage(struct avx512 *state, const uint8_t *id, int64_t num_rows)
{
    const __m512i ones = _mm512_set1_epi8((char)0xff);
    const int64_t row_bytes = (int64_t)state->shape->top_k * state->shape->id_bytes;
    const int64_t end = (num_rows + UNIT_ROWS - 1) / UNIT_ROWS * UNIT_ROWS;
    const bool has_gaps = replay_not_routed(state->shape) >= 0;
    const bool is_small = state->shape->num_experts < PAGE_EXPERTS; /* not all of a page's ids */
    const __m512i limit = _mm512_set1_epi8((char)state->shape->num_experts);
    int64_t not_routed = 0;
    for (int64_t row = 0; row < end; row += state->rows_at_once) {
        int64_t left_bytes = (num_rows - row) * row_bytes;
        __m512i first = _mm512_maskz_loadu_epi8(first_bytes(left_bytes), id + row * row_bytes);
        __m512i second =
            _mm512_maskz_loadu_epi8(first_bytes(left_bytes - 64), id + row * row_bytes + 64);
        uint64_t rows_left = first_bytes(8 * (num_rows - row));
        for (int32_t word = 0; word < state->num_words; word++) {
            __m512i index = _mm512_loadu_si512(state->index[word]);
            __m512i bytes = _mm512_permutex2var_epi8(first, index, second);
            uint64_t present = state->present[word] & rows_left;
            uint64_t gaps = has_gaps ? _mm512_cmpeq_epi8_mask(bytes, ones) : 0;
            uint64_t outside = is_small ? _mm512_mask_cmpge_epu8_mask(present, bytes, limit) : 0;
            uint8_t *id_at = state->id[word] + 8 * row;
            uint8_t *page_at = state->page[word] + 8 * row;
            if (state->shape->id_bytes == 1) {
                not_routed += __builtin_popcountll(gaps & present);
                _mm512_storeu_si512(id_at, bytes);
                _mm512_storeu_si512(page_at, _mm512_maskz_mov_epi8(~present | outside, ones));
            } else { /* low bytes in the lower half, pages in the upper */
                bytes =
                    _mm512_mask_mov_epi8(bytes, ~(present | present << 32) | outside << 32, ones);
                not_routed += __builtin_popcountll(gaps & gaps >> 32 & present);
                _mm256_storeu_si256((__m256i *)(void *)id_at, _mm512_castsi512_si256(bytes));
                _mm256_storeu_si256((__m256i *)(void *)page_at,
                                    _mm512_extracti64x4_epi64(bytes, 1));
            }
        }
    }
    return not_routed;
}

#endif
