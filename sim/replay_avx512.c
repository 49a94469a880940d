/*
 * replay_avx512.c -- eight rows an instruction, by bit matrices over GF(2) (AVX-512, VBMI, GFNI).
 *
 * Eight ids of a row are one word of 64 bits. An id is 64 group + 8 high + low. Let H be the 8 x 8
 * bit matrix with H[high][slot] = 1 for the slot's id, if it is of the group at hand, and L[low]
 * [slot] likewise: then H L^T, contracted over the slots, has bit (high, low) set exactly for the
 * experts that the row chose, as long as none is named twice. One GF2P8AFFINEQB multiplies, and
 * the same instruction transposes one-hot bytes into H and L and spreads the ids' bits 7 and 6 over
 * a row to tell groups apart.
 *
 * The sets are counted bit by bit, all 512 at once, in a carry-save ladder (Harley and Seal; see
 * Mula, Kurz and Lemire, "Faster population counts using AVX2 instructions", 2018): adders of three
 * bits are two instructions, and every level is used half as often as the one below. The lowest two
 * levels are added up pair by pair, the next two unit by unit, four more block by block: so none of
 * them asks whose turn it is, and few are in registers at a time. GF2P8AFFINEQB, VPERMB and
 * VPTESTMB share two of the four ports of Zen 5: 14.5 of them to eight rows are 7.3 cycles of
 * about 11.
 *
 * A row meets an octet, eight neighbouring experts, if its byte of H is not zero; that needs no
 * distinct ids. Those bits are counted in the ladder too, which is all that a rank of one octet
 * wants; others and nodes are told from them afterwards (replay_avx512_octets.c).
 *
 * More than 256 experts are pages of 256, one after the other. Rows that are not eight single bytes
 * of all 256 experts are staged first: eight slots a row and word, two words above top-8, beside
 * each id its page, 255 where there is none.
 */
#include "replay_avx512.h"

#ifdef __x86_64__

#include <assert.h>
#include <string.h>

#define AHEAD_BYTES  8192 /* fetched early: the processor's own prefetcher stops at 4 KiB pages */
#define UNIT_PAIRS   (UNIT_ROWS / 16)
#define VECTOR_BYTES 64

/* The bits of three vectors, added: returns the carries. They are told from the new sum, for where
 * b and c differ the old one was its opposite: so no register is needed to keep it. */
INLINE __m512i add_bits(__m512i *sum, __m512i b, __m512i c)
{
    *sum = _mm512_ternarylogic_epi64(*sum, b, c, 0x96);
    return _mm512_ternarylogic_epi64(b, *sum, c, 0xb2); /* b == c ? b : !sum */
}

/* Adds up pairs of vectors of a level, each of which makes one of the next, in its place. */
INLINE void add_pairs(struct ladder *ladder, int32_t plane, int32_t level, __m512i *addend,
                      int32_t num_pairs)
{
    __m512i sum = ladder->sum[level].plane[plane];
    UNROLL
    for (int32_t i = 0; i < num_pairs; i++) {
        addend[i] = add_bits(&sum, addend[2 * i], addend[2 * i + 1]);
    }
    ladder->sum[level].plane[plane] = sum;
}

/* Eight rows' ids as matrices. */
struct matrices {
    __m512i high; /* H of all groups at once */
    __m512i low;  /* L; within a byte the highest bit stands first, as the product wants it */
    __m512i bit6; /* the ids' own bits, the same in every row of the matrix */
    __m512i bit7;
};

INLINE struct matrices read_matrices(const uint8_t *id, const uint8_t *page, int32_t number)
{
    const __m512i one_hot_low = _mm512_set1_epi64(0x0102040810204080);
    const __m512i one_hot_high = _mm512_set_epi64(
        (int64_t)0x8080808080808080, 0x4040404040404040, 0x2020202020202020, 0x1010101010101010,
        0x0808080808080808, 0x0404040404040404, 0x0202020202020202, 0x0101010101010101);
    __m512i ids = _mm512_loadu_si512(id);
    __m512i high = _mm512_permutexvar_epi8(ids, one_hot_high);
    if (page != NULL) {
        __m512i pages = _mm512_loadu_si512(page);
        high = _mm512_maskz_mov_epi8(_mm512_cmpeq_epi8_mask(pages, _mm512_set1_epi8((char)number)),
                                     high);
    }
    return (struct matrices){
        .high = transpose(high),
        .low = transpose(_mm512_permutexvar_epi8(ids, one_hot_low)),
        .bit6 = _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi8(0x40), ids, 0),
        .bit7 = _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi8((char)0x80), ids, 0),
    };
}

/* H of one group: high & bit7 & bit6, either or both negated. */
INLINE __m512i high_of(const struct matrices *of, int32_t group, int32_t groups)
{
    if (groups == 1) {
        return of->high;
    }
    if (groups == 2) {
        return group == 0 ? _mm512_andnot_si512(of->bit6, of->high)
                          : _mm512_and_si512(of->bit6, of->high);
    }
    return group == 0   ? _mm512_ternarylogic_epi64(of->high, of->bit7, of->bit6, 0x10)
           : group == 1 ? _mm512_ternarylogic_epi64(of->high, of->bit7, of->bit6, 0x20)
           : group == 2 ? _mm512_ternarylogic_epi64(of->high, of->bit7, of->bit6, 0x40)
                        : _mm512_ternarylogic_epi64(of->high, of->bit7, of->bit6, 0x80);
}

/* What count_units works on. */
struct pass {
    struct ladder *ladder;
    struct planes *carry; /* [num_units] out: addends of the first level that a unit leaves */
    const uint8_t *id;    /* [words][num_units][UNIT_ROWS][8] */
    const uint8_t *page;  /* the same shape; NULL: every id is of page 0 */
    int32_t number;       /* the page to count */
    int32_t num_units;
    uint64_t *octets; /* [num_units][UNIT_ROWS / 8][groups] out: which octets are met */
    __m512i *met;     /* [num_units] out: vectors of octets that meet any, for each byte of them */
};

/* The ids of eight rows, of one word or two. */
struct rows {
    struct matrices word[WORDS_MAX];
};

INLINE struct rows read_rows(const struct pass *pass, int32_t vector, int32_t words)
{
    const uint8_t *id = pass->id + vector * VECTOR_BYTES;
    const uint8_t *page = pass->page == NULL ? NULL : pass->page + vector * VECTOR_BYTES;
    struct rows rows = {{read_matrices(id, page, pass->number)}};
    if (words == 2) {
        rows.word[1] = read_matrices(id + STAGE_BYTES, page + STAGE_BYTES, pass->number);
    }
    return rows;
}

/* The sets of eight rows in one group, and which octets they meet. */
INLINE __m512i group_sets(uint64_t *octets, const struct rows *rows, int32_t group, int32_t groups,
                          int32_t words, bool has_octets)
{
    __m512i high = high_of(&rows->word[0], group, groups);
    __m512i sets = _mm512_gf2p8affine_epi64_epi8(high, rows->word[0].low, 0);
    if (words == 2) {
        __m512i more = high_of(&rows->word[1], group, groups);
        __m512i others = _mm512_gf2p8affine_epi64_epi8(more, rows->word[1].low, 0);
        sets = _mm512_xor_si512(sets, others);
        high = _mm512_or_si512(high, more);
    }
    if (has_octets) {
        octets[group] = _mm512_test_epi8_mask(high, high);
    }
    return sets;
}

/* Counts sixteen rows into ones; returns the carries. */
INLINE struct planes count_pair(struct planes *ones, const struct pass *pass, int32_t vector,
                                int32_t groups, int32_t words, bool has_octets)
{
    const struct rows left = read_rows(pass, vector, words);
    const struct rows right = read_rows(pass, vector + 1, words);
    uint64_t *octets = pass->octets + vector * groups;
    struct planes carry;
    if (pass->page == NULL) {
        const uint8_t *ahead = pass->id + vector * VECTOR_BYTES + AHEAD_BYTES;
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        _mm_prefetch((const char *)ahead + VECTOR_BYTES, _MM_HINT_T0);
    }
    UNROLL
    for (int32_t group = 0; group < groups; group++) {
        carry.plane[group] = add_bits(
            &ones->plane[group], group_sets(octets, &left, group, groups, words, has_octets),
            group_sets(octets + groups, &right, group, groups, words, has_octets));
    }
    return carry;
}

/* Adds up what the pairs of a unit carry to the second level, there and in the third. */
INLINE void add_unit(struct ladder *ladder, struct planes *carry, const struct planes *four,
                     int32_t groups)
{
    UNROLL
    for (int32_t group = 0; group < groups; group++) {
        __m512i addend[UNIT_PAIRS / 2];
        UNROLL
        for (int32_t i = 0; i < UNIT_PAIRS / 2; i++) {
            addend[i] = four[i].plane[group];
        }
        add_pairs(ladder, group, 2, addend, 2);
        add_pairs(ladder, group, 3, addend, 1);
        carry->plane[group] = addend[0];
    }
}

/* Adds up the octets of a unit; there are 2 groups vectors of them, which begin higher up. */
INLINE void add_octets(const struct pass *pass, int32_t unit, int32_t groups)
{
    const uint64_t *octets = pass->octets + unit * (UNIT_ROWS / 8) * groups;
    const __m512i none = _mm512_set1_epi8((char)0xfe); /* ff where any is met: one less than 0 */
    __m512i met = _mm512_set1_epi8((char)(2 * 2 * groups));
    __m512i addend[2 * GROUPS_MAX];
    UNROLL
    for (int32_t i = 0; i < 2 * groups; i++) {
        addend[i] = _mm512_load_si512(octets + 8 * i);
        met = _mm512_add_epi8(met, _mm512_adds_epu8(addend[i], none));
    }
    if (groups == 4) {
        add_pairs(pass->ladder, groups, 1, addend, 4);
    }
    if (groups >= 2) {
        add_pairs(pass->ladder, groups, 2, addend, 2);
    }
    add_pairs(pass->ladder, groups, 3, addend, 1);
    pass->met[unit] = met;
    pass->carry[unit].plane[groups] = addend[0];
}

/* What is constant in a call is settled by inlining: every instance is two loops without a branch.
 * The inner one stays a loop, for unrolled it would want more registers than there are. */
INLINE void count_units(const struct pass *pass, int32_t groups, int32_t words, bool has_octets)
{
    struct ladder *ladder = pass->ladder;
    struct planes ones = ladder->sum[0];
    struct planes twos = ladder->sum[1];
    for (int32_t unit = 0; unit < pass->num_units; unit++) {
        struct planes four[UNIT_PAIRS / 2];
#pragma GCC unroll 1
        for (int32_t i = 0; i < UNIT_PAIRS / 2; i++) {
            int32_t vector = 2 * UNIT_PAIRS * unit + 4 * i;
            struct planes left = count_pair(&ones, pass, vector, groups, words, has_octets);
            struct planes right = count_pair(&ones, pass, vector + 2, groups, words, has_octets);
            UNROLL
            for (int32_t group = 0; group < groups; group++) {
                four[i].plane[group] =
                    add_bits(&twos.plane[group], left.plane[group], right.plane[group]);
            }
        }
        add_unit(ladder, &pass->carry[unit], four, groups);
        if (has_octets) {
            add_octets(pass, unit, groups);
        }
    }
    UNROLL
    for (int32_t group = 0; group < groups; group++) {
        ladder->sum[0].plane[group] = ones.plane[group];
        ladder->sum[1].plane[group] = twos.plane[group];
    }
}

/* Adds up the carries of a block's units and lets the rest go up the ladder: there
 * two addends of a level make one of the next. */
AVX512 static void close_block(struct ladder *ladder, struct planes *carry, int32_t num_units,
                               int32_t num_planes)
{
    memset(carry + num_units, 0, (size_t)(BLOCK_UNITS - num_units) * sizeof *carry);
    const uint64_t turns = ladder->num_blocks++;
    for (int32_t plane = 0; plane < num_planes; plane++) {
        __m512i addend[BLOCK_UNITS];
        UNROLL
        for (int32_t i = 0; i < BLOCK_UNITS; i++) {
            addend[i] = carry[i].plane[plane];
        }
        add_pairs(ladder, plane, 4, addend, 8);
        add_pairs(ladder, plane, 5, addend, 4);
        add_pairs(ladder, plane, 6, addend, 2);
        add_pairs(ladder, plane, 7, addend, 1);
        __m512i rest = addend[0];
        int32_t level = LEVELS_FIXED;
        for (uint64_t turn = turns; turn & 1; turn >>= 1, level++) {
            rest = add_bits(&ladder->sum[level].plane[plane], ladder->waiting[level].plane[plane],
                            rest);
            ladder->waiting[level].plane[plane] = _mm512_setzero_si512();
        }
        assert(level < REPLAY_LEVELS);
        ladder->waiting[level].plane[plane] = rest;
    }
}

AVX512 static void count_direct(struct avx512 *state, const uint8_t *id, int32_t num_units)
{
    struct pass pass = {
        .ladder = &state->ladder[0],
        .carry = state->block,
        .id = id,
        .num_units = num_units,
        .octets = state->octets[0],
        .met = state->met_by_unit[0],
    };
    if (state->has_octets) {
        count_units(&pass, 4, 1, true);
    } else {
        count_units(&pass, 4, 1, false);
    }
}

AVX512 static void count_pass(const struct avx512 *state, const struct pass *pass)
{
    const bool has_octets = state->has_octets;
    const bool wide = state->num_words == 2;
    if (state->num_groups == 1 && !wide) {
        count_units(pass, 1, 1, has_octets);
    } else if (state->num_groups == 1) {
        count_units(pass, 1, 2, has_octets);
    } else if (state->num_groups == 2 && !wide) {
        count_units(pass, 2, 1, has_octets);
    } else if (state->num_groups == 2) {
        count_units(pass, 2, 2, has_octets);
    } else if (!wide) {
        count_units(pass, 4, 1, has_octets);
    } else {
        count_units(pass, 4, 2, has_octets);
    }
}

/* Counts rows staged, behind direct_units that were counted already, and ends the block. */
static void count_staged(struct avx512 *state, int32_t direct_units, int32_t num_units)
{
    for (int32_t page = 0; page < state->num_pages; page++) {
        const struct pass pass = {
            .ladder = &state->ladder[page],
            .carry = state->block + direct_units,
            .id = state->id[0],
            .page = state->page[0],
            .number = page,
            .num_units = num_units,
            .octets = state->octets[page] + direct_units * (UNIT_ROWS / 8) * state->num_groups,
            .met = state->met_by_unit[page] + direct_units,
        };
        count_pass(state, &pass);
        close_block(pass.ladder, state->block, direct_units + num_units,
                    state->num_groups + state->has_octets);
    }
}

static int64_t avx512_count(void *opaque, const struct replay_counts *counts, const void *id,
                            int64_t first_row, int64_t num_rows)
{
    struct avx512 *state = opaque;
    const int64_t direct_rows = state->is_direct ? num_rows / UNIT_ROWS * UNIT_ROWS : 0;
    int64_t row_bytes = (int64_t)state->shape->top_k * state->shape->id_bytes;
    const uint8_t *rest = (const uint8_t *)id + direct_rows * row_bytes;
    int64_t rest_rows = num_rows - direct_rows;
    count_direct(state, id, (int32_t)(direct_rows / UNIT_ROWS));
    int64_t not_routed = replay_avx512_stage(state, rest, rest_rows);
    count_staged(state, (int32_t)(direct_rows / UNIT_ROWS),
                 (int32_t)((rest_rows + UNIT_ROWS - 1) / UNIT_ROWS));
    struct view view = {state->id[0], state->page[0]};
    if (state->is_direct) {
        view = (struct view){.id = id};
    }
    if (state->shape->num_nodes > 0 && state->node_places.per_group > 0) {
        replay_avx512_node_places(state, counts, first_row, num_rows);
    } else if (state->shape->num_nodes > 0) {
        replay_avx512_nodes(state, counts, &view, first_row, num_rows);
    }
    if (state->rank_places.per_group > 0 && !state->rank_places.are_octets) {
        replay_avx512_rank_places(state, counts, num_rows);
    } else if (state->shape->num_ranks > 0 && state->rank_places.per_group == 0) {
        replay_avx512_ranks(state, counts, &view, num_rows);
    }
    return not_routed;
}

const struct replay_kernel replay_kernel_avx512 = {
    .open = replay_avx512_open,
    .close = replay_avx512_close,
    .count = avx512_count,
    .fold = replay_avx512_fold,
};

#endif
