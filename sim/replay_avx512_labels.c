/*
 * replay_avx512_labels.c -- which of any labels (ranks, nodes) eight rows meet at once.
 *
 * Ids are looked up as one-hot labels, eight labels a pass; transposed, the slots that have a label
 * are a byte, and a row meets the label if it is not zero.
 */
#include "replay_avx512.h"

#ifdef __x86_64__

#define ADDENDS_MAX 255 /* of one, in a byte */

/* One-hot labels of a page's ids: 256 entries are two look-ups of 128. */
INLINE __m512i look_up_page(const __m512i *table, __m512i id)
{
    __m512i lower = _mm512_permutex2var_epi8(table[0], id, table[1]);
    __m512i upper = _mm512_permutex2var_epi8(table[2], id, table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(id), lower, upper);
}

/* One-hot labels of staged ids; those of no page have none. */
INLINE __m512i look_up_staged(const struct avx512 *state, const struct labels *labels,
                              int32_t group, __m512i id, __m512i page)
{
    __m512i result = _mm512_setzero_si512();
    for (int32_t number = 0; number < state->num_pages; number++) {
        const __m512i *table = &labels->table[(group * state->num_pages + number) * 4];
        __mmask64 here = _mm512_cmpeq_epi8_mask(page, _mm512_set1_epi8((char)number));
        result = _mm512_mask_mov_epi8(result, here, look_up_page(table, id));
    }
    return result;
}

/* A byte for each of eight labels and rows, from the one-hot labels of their ids. */
INLINE __m512i labels_met(__m512i one_hot)
{
    return _mm512_min_epu8(transpose(one_hot), _mm512_set1_epi8(1));
}

/* Fills met of rows 0 .. end - 1 for labels 8 group and following. */
AVX512 static void mark(struct avx512 *state, const struct labels *labels, int32_t group,
                        const struct view *view, int64_t end)
{
    for (int64_t row = 0; row < end; row += 8) {
        const __mmask64 counted = first_bytes(8 * (end - row));
        __m512i id = _mm512_maskz_loadu_epi8(counted, view->id + 8 * row);
        __m512i met;
        if (view->page == NULL && labels->is_shared) {
            met = _mm512_permutexvar_epi8(_mm512_srli_epi16(id, SHARED_BITS), labels->table[group]);
        } else if (view->page == NULL) {
            met = look_up_page(&labels->table[group * 4], id);
        } else {
            __m512i page = _mm512_maskz_loadu_epi8(counted, view->page + 8 * row);
            met = look_up_staged(state, labels, group, id, page);
        }
        met = labels_met(met);
        for (int32_t word = 1; word < state->num_words; word++) { /* staged, as it seems */
            int64_t at = (int64_t)word * STAGE_BYTES + 8 * row;
            id = _mm512_maskz_loadu_epi8(counted, view->id + at);
            __m512i page = _mm512_maskz_loadu_epi8(counted, view->page + at);
            met = _mm512_or_si512(met, labels_met(look_up_staged(state, labels, group, id, page)));
        }
        _mm512_mask_storeu_epi8(state->met + 8 * row, counted, met);
    }
}

/* Sums byte i of all lanes for eight i, and adds the first count to tokens. */
INLINE void add_lanes(int64_t *tokens, __m512i bytes, int32_t count)
{
    __m512i pairs = _mm512_add_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes)),
                                     _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1)));
    __m256i fours =
        _mm256_add_epi16(_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64(pairs, 1));
    __m128i sums = _mm_add_epi16(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    __mmask8 kept = (__mmask8)(count < 8 ? (1 << count) - 1 : 0xff);
    __m512i old = _mm512_maskz_loadu_epi64(kept, tokens);
    _mm512_mask_storeu_epi64(tokens, kept, _mm512_add_epi64(old, _mm512_cvtepu16_epi64(sums)));
}

/* Adds what rows first .. end - 1 met to tokens[count]; beyond eight they are not looked at. */
AVX512 static void add_met(int64_t *tokens, const struct avx512 *state, int64_t first, int64_t end,
                           int32_t count)
{
    for (int64_t row = first; row < end;) {
        int64_t stop = end - row < ADDENDS_MAX * 8 ? end : row + ADDENDS_MAX * 8;
        __m512i sums = _mm512_setzero_si512();
        for (; stop - row >= 8; row += 8) {
            sums = _mm512_add_epi8(sums, _mm512_loadu_si512(state->met + 8 * row));
        }
        if (row < stop) {
            __mmask64 counted = first_bytes(8 * (stop - row));
            sums = _mm512_add_epi8(sums, _mm512_maskz_loadu_epi8(counted, state->met + 8 * row));
            row = stop;
        }
        add_lanes(tokens, sums, count);
    }
}

void replay_avx512_ranks(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t num_rows)
{
    const int32_t num_ranks = state->shape->num_ranks;
    for (int32_t group = 0; 8 * group < num_ranks; group++) {
        mark(state, &state->ranks, group, view, num_rows);
        add_met(counts->rank_tokens + 8 * group, state, 0, num_rows, num_ranks - 8 * group);
    }
}

void replay_avx512_nodes(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t first_row, int64_t num_rows)
{
    const struct replay_shape *shape = state->shape;
    for (int32_t group = 0; 8 * group < shape->num_nodes; group++) {
        mark(state, &state->nodes, group, view, num_rows);
        int32_t source;
        int64_t run = replay_run(&source, shape, first_row, num_rows);
        for (int64_t row = 0; row < num_rows;) {
            int64_t *tokens = counts->node_tokens + (int64_t)source * shape->num_nodes;
            add_met(tokens + 8 * group, state, row, row + run, shape->num_nodes - 8 * group);
            row += run;
            run = num_rows - row < shape->rows_per_source ? num_rows - row : shape->rows_per_source;
            source = source + 1 < shape->num_sources ? source + 1 : 0;
        }
    }
}

#endif
