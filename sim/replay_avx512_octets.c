/*
 * replay_avx512_octets.c -- ranks and nodes that are made of octets: eight neighbouring experts.
 *
 * Of a group of 64 experts a row meets some of eight octets, which is a byte. A vector of octets
 * has a lane for each group of eight rows, and in it a byte for each row. A place is met where such
 * a byte has one of its bits. Places of whole groups are bytes that are not zero, which are added
 * up unit by unit as they are made, for sources of whole units.
 */
#include "replay_avx512.h"

#ifdef __x86_64__

#include <string.h>

#define LANES     8
#define BYTE_ONES UINT64_C(0x0101010101010101)

/* Is every label made of whole blocks of so many experts, and within so many neighbours? */
static bool are_places(const struct avx512 *state, const int32_t *label_of_expert, int32_t block,
                       int32_t neighbours)
{
    int32_t where[REPLAY_EXPERTS_MAX];
    memset(where, 0xff, sizeof where);
    for (int32_t expert = 0; expert < state->shape->num_experts; expert++) {
        int32_t label = label_of_expert[expert];
        if (label != label_of_expert[expert / block * block] ||
            (where[label] >= 0 && where[label] != expert / neighbours)) {
            return false;
        }
        where[label] = expert / neighbours;
    }
    return true;
}

/* Enters an octet under its label, beside the other octets that have it in the group. */
static void add_octet(struct places *places, const struct avx512 *state, int32_t octet,
                      int32_t label)
{
    int32_t page = octet / (PAGE_EXPERTS / 8);
    int32_t lane = octet / 8 % GROUPS_MAX / places->span * places->span;
    int32_t i = 0;
    while (places->of_lane[i][page][lane] >= 0 && places->of_lane[i][page][lane] != label) {
        i++;
    }
    bool is_new = places->of_lane[i][page][lane] < 0;
    places->are_octets = places->are_octets && is_new;
    places->of_octet[page][octet % (PAGE_EXPERTS / 8)] = label;
    places->per_group = i < places->per_group ? places->per_group : i + 1;
    for (; lane < LANES; lane += state->num_groups) {
        places->of_lane[i][page][lane] = label;
        ((uint64_t *)&places->mask[i][page])[lane] |= BYTE_ONES << octet % 8;
    }
}

void replay_avx512_find_places(struct places *places, const struct avx512 *state,
                               const int32_t *label_of_expert)
{
    places->span = are_places(state, label_of_expert, 8, 64) ? 1 : 2;
    while (places->span > 1 && places->span <= state->num_groups &&
           !are_places(state, label_of_expert, 64 * places->span, 64 * places->span)) {
        places->span *= 2;
    }
    memset(places->of_octet, 0xff, sizeof places->of_octet);
    memset(places->of_lane, 0xff, sizeof places->of_lane);
    places->are_octets = places->span == 1;
    for (int32_t octet = 0;
         8 * octet < state->shape->num_experts && places->span <= state->num_groups; octet++) {
        add_octet(places, state, octet, label_of_expert[8 * octet]);
    }
    places->are_groups = places->span == 1 && places->per_group == 1;
    places->are_in_order = places->per_group > 0;
    for (int32_t i = 0; i < places->per_group; i++) {
        for (int32_t page = 0; page < state->num_pages; page++) {
            const int32_t *place = places->of_lane[i][page];
            for (int32_t lane = 0; lane < LANES / 2; lane++) {
                places->are_in_order =
                    places->are_in_order && place[0] >= 0 && place[lane] == place[0] + lane;
            }
        }
    }
}

/* A vector of octets; those of groups that are one place are put together. */
INLINE __m512i load_octets(const uint64_t *octets, int32_t span)
{
    __m512i some = _mm512_load_si512(octets);
    if (span > 1) {
        some = _mm512_or_si512(some, _mm512_permutex_epi64(some, 0xb1));
    }
    if (span > 2) {
        some = _mm512_or_si512(some, _mm512_permutex_epi64(some, 0x4e));
    }
    return some;
}

/* What is counted in one go: the i-th place of every group of a page. */
struct sweep {
    const struct avx512 *state;
    const struct places *places;
    int32_t page;
    int32_t i;
};

/* Adds one to the bytes of sums of those rows inside that meet the place. */
INLINE __m512i add_rows(__m512i sums, __m512i octets, __m512i mask, __mmask64 inside)
{
    __mmask64 met = _mm512_mask_test_epi8_mask(inside, octets, mask);
    return _mm512_mask_add_epi8(sums, met, sums, _mm512_set1_epi8(1));
}

/* Which bytes of a vector of octets belong to its rows first .. end - 1? */
INLINE __mmask64 rows_between(const struct avx512 *state, int64_t first, int64_t end)
{
    const __m512i row = _mm512_loadu_si512(state->row_of_byte);
    __mmask64 behind = _mm512_cmpge_epu8_mask(row, _mm512_set1_epi8((char)first));
    return _mm512_mask_cmplt_epu8_mask(behind, row, _mm512_set1_epi8((char)end));
}

/* For each byte of a vector of octets, how many of the rows first .. end - 1 of the block meet the
 * place: a block has at most 128 vectors. */
INLINE __m512i sum_met(const struct sweep *sweep, __m512i mask, int32_t span, int64_t first,
                       int64_t end)
{
    const int32_t shift = sweep->state->row_shift;
    const int64_t vector_rows = INT64_C(1) << shift;
    const uint64_t *octets = sweep->state->octets[sweep->page];
    const uint64_t *from = octets + (first >> shift) * LANES;
    const uint64_t *last = octets + (end >> shift) * LANES;
    const int64_t skipped = first & (vector_rows - 1);
    const int64_t left = end & (vector_rows - 1);
    const __mmask64 all = ~(__mmask64)0;
    __m512i sums = _mm512_setzero_si512();
    __m512i others = _mm512_setzero_si512();
    if (skipped > 0) {
        int64_t until = from == last ? left : vector_rows;
        __mmask64 inside = rows_between(sweep->state, skipped, until);
        sums = add_rows(sums, load_octets(from, span), mask, inside);
        from += LANES;
    }
    for (; last - from >= 4 * LANES; from += 4 * LANES) { /* by turns: sums are waited for */
        sums = add_rows(sums, load_octets(from, span), mask, all);
        others = add_rows(others, load_octets(from + LANES, span), mask, all);
        sums = add_rows(sums, load_octets(from + 2 * LANES, span), mask, all);
        others = add_rows(others, load_octets(from + 3 * LANES, span), mask, all);
    }
    for (; from < last; from += LANES) {
        sums = add_rows(sums, load_octets(from, span), mask, all);
    }
    if (from == last && left > 0) {
        others =
            add_rows(others, load_octets(from, span), mask, rows_between(sweep->state, 0, left));
    }
    return _mm512_add_epi8(sums, others);
}

/* The same for groups, of the units that rows first .. end - 1 fill: rows beyond meet none. */
INLINE __m512i sum_units(const struct sweep *sweep, int64_t first, int64_t end)
{
    const __m512i *met = sweep->state->met_by_unit[sweep->page];
    __m512i sums = _mm512_setzero_si512();
    for (int64_t unit = first / UNIT_ROWS; unit * UNIT_ROWS < end; unit++) {
        sums = _mm512_add_epi8(sums, met[unit]);
    }
    return sums;
}

/* Where a block's rows are added to: run after run of rows, to [num_sources] arrays in turn. */
struct runs {
    int64_t *tokens; /* [num_sources][num_places] */
    int32_t num_places;
    int32_t num_sources;
    int32_t source;     /* of the first run */
    int64_t first_rows; /* of the first run */
    int64_t rows;       /* of the others */
};

INLINE void add_lanes(int64_t *tokens, const int32_t *place, __m256i sums)
{
    for (int32_t lane = 0; lane < LANES / 2; lane++) {
        if (place[lane] >= 0) {
            tokens[place[lane]] += sums[lane];
        }
    }
}

INLINE void add_runs(const struct runs *runs, const struct sweep *sweep, int32_t span,
                     int64_t num_rows)
{
    const __m512i mask = sweep->places->mask[sweep->i][sweep->page];
    const int32_t *place = sweep->places->of_lane[sweep->i][sweep->page];
    const bool has_units = sweep->places->are_groups && runs->first_rows % UNIT_ROWS == 0 &&
                           runs->rows % UNIT_ROWS == 0;
    int32_t source = runs->source;
    int64_t end = runs->first_rows;
    for (int64_t row = 0; row < num_rows; end += runs->rows) {
        end = end < num_rows ? end : num_rows;
        int64_t *tokens = runs->tokens + (int64_t)source * runs->num_places;
        __m512i bytes =
            has_units ? sum_units(sweep, row, end) : sum_met(sweep, mask, span, row, end);
        __m512i sum = _mm512_sad_epu8(bytes, _mm512_setzero_si512());
        __m256i half = _mm256_add_epi64(_mm512_castsi512_si256(sum),
                                        _mm512_extracti64x4_epi64(sum, 1)); /* the same groups */
        if (sweep->places->are_in_order) {
            __m256i *to = (__m256i *)(void *)(tokens + place[0]);
            _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), half));
        } else {
            add_lanes(tokens, place, half);
        }
        row = end;
        source = source + 1 < runs->num_sources ? source + 1 : 0;
    }
}

AVX512 static void add_places(const struct runs *runs, const struct avx512 *state,
                              const struct places *places, int64_t num_rows)
{
    for (int32_t page = 0; page < state->num_pages; page++) {
        for (int32_t i = 0; i < places->per_group; i++) {
            const struct sweep sweep = {state, places, page, i};
            if (places->span == 1) {
                add_runs(runs, &sweep, 1, num_rows);
            } else {
                add_runs(runs, &sweep, places->span, num_rows);
            }
        }
    }
}

void replay_avx512_rank_places(const struct avx512 *state, const struct replay_counts *counts,
                               int64_t num_rows)
{
    const struct runs all = {
        .tokens = counts->rank_tokens, .num_sources = 1, .first_rows = num_rows};
    add_places(&all, state, &state->rank_places, num_rows);
}

void replay_avx512_node_places(const struct avx512 *state, const struct replay_counts *counts,
                               int64_t first_row, int64_t num_rows)
{
    const struct replay_shape *shape = state->shape;
    struct runs runs = {
        .tokens = counts->node_tokens,
        .num_places = shape->num_nodes,
        .num_sources = shape->num_sources,
        .rows =
            shape->rows_per_source < REPLAY_BLOCK_ROWS ? shape->rows_per_source : REPLAY_BLOCK_ROWS,
    };
    runs.first_rows = replay_run(&runs.source, shape, first_row, num_rows);
    add_places(&runs, state, &state->node_places, num_rows);
}

#endif
