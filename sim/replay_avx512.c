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
 * bits are two instructions, and every level is used half as often as the one below.
 *
 * A row reaches a rank if a byte of the matrix of one-hot ranks is not zero; that needs no distinct
 * ids. Where every rank has eight neighbouring experts, H is that matrix already.
 *
 * More than 256 experts are pages of 256, one after the other. Rows that are not eight single bytes
 * of all 256 experts are staged first: eight slots a row and word, two words above top-8, beside
 * each id its page, 255 where there is none.
 */
#include "replay_avx512.h"

#ifdef __x86_64__

#include <assert.h>
#include <string.h>

#define AHEAD_BYTES 8192 /* fetched early: the processor's own prefetcher stops at 4 KiB pages */
#define NUM_LOW     3    /* levels that a unit of rows fills */

/* The bits of three vectors, added: returns the sums, *carry the carries. */
INLINE __m512i add_bits(__m512i *carry, __m512i a, __m512i b, __m512i c)
{
    *carry = _mm512_ternarylogic_epi64(a, b, c, 0xe8);
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

INLINE struct quad add_quads(struct quad *carry, struct quad a, struct quad b, struct quad c,
                             int32_t groups)
{
    struct quad sum = a;
    sum.a = add_bits(&carry->a, a.a, b.a, c.a);
    if (groups > 1) {
        sum.b = add_bits(&carry->b, a.b, b.b, c.b);
    }
    if (groups > 2) {
        sum.c = add_bits(&carry->c, a.c, b.c, c.c);
        sum.d = add_bits(&carry->d, a.d, b.d, c.d);
    }
    return sum;
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

/* The sets of eight rows in one group; adds to octets, a byte each, whether any of eight
 * neighbouring experts is among them. */
INLINE __m512i group_sets(__m512i *octets, const struct matrices *of, int32_t group, int32_t groups,
                          int32_t words, bool has_octets)
{
    __m512i high = high_of(&of[0], group, groups);
    __m512i sets = _mm512_gf2p8affine_epi64_epi8(high, of[0].low, 0);
    if (words == 2) {
        __m512i more = high_of(&of[1], group, groups);
        sets = _mm512_xor_si512(sets, _mm512_gf2p8affine_epi64_epi8(more, of[1].low, 0));
        high = _mm512_or_si512(high, more);
    }
    if (has_octets) {
        *octets = _mm512_add_epi8(*octets, _mm512_min_epu8(high, _mm512_set1_epi8(1)));
    }
    return sets;
}

/* Adds the sets of sixteen rows to ones; returns the carries. */
INLINE struct quad count_pair(struct quad *ones, struct quad *octets, const uint8_t *id,
                              const uint8_t *page, int32_t number, int32_t groups, int32_t words,
                              bool has_octets)
{
    const uint8_t *next = page == NULL ? NULL : page + 64;
    struct matrices left[2] = {read_matrices(id, page, number)};
    struct matrices right[2] = {read_matrices(id + 64, next, number)};
    struct quad carry = {.a = _mm512_setzero_si512()};
    if (words == 2) {
        left[1] = read_matrices(id + STAGE_BYTES, page + STAGE_BYTES, number);
        right[1] = read_matrices(id + STAGE_BYTES + 64, next + STAGE_BYTES, number);
    }
    ones->a =
        add_bits(&carry.a, ones->a, group_sets(&octets->a, left, 0, groups, words, has_octets),
                 group_sets(&octets->a, right, 0, groups, words, has_octets));
    if (groups > 1) {
        ones->b =
            add_bits(&carry.b, ones->b, group_sets(&octets->b, left, 1, groups, words, has_octets),
                     group_sets(&octets->b, right, 1, groups, words, has_octets));
    }
    if (groups > 2) {
        ones->c =
            add_bits(&carry.c, ones->c, group_sets(&octets->c, left, 2, groups, words, has_octets),
                     group_sets(&octets->c, right, 2, groups, words, has_octets));
        ones->d =
            add_bits(&carry.d, ones->d, group_sets(&octets->d, left, 3, groups, words, has_octets),
                     group_sets(&octets->d, right, 3, groups, words, has_octets));
    }
    return carry;
}

/* Lets a full level's sum go up: two addends of a level make one of the next. */
INLINE void carry_up(struct ladder *ladder, struct quad carry, int32_t groups)
{
    uint64_t turn = ladder->num_units++;
    int32_t level = NUM_LOW;
    for (; turn & 1; turn >>= 1, level++) {
        struct quad next = {.a = _mm512_setzero_si512()};
        ladder->sum[level] =
            add_quads(&next, ladder->sum[level], ladder->waiting[level], carry, groups);
        ladder->waiting[level] = (struct quad){.a = _mm512_setzero_si512()};
        carry = next;
    }
    assert(level < REPLAY_LEVELS);
    ladder->waiting[level] = carry;
}

/* Marks the nodes of eight rows, of up to eight nodes and one look-up. */
INLINE void mark_rows(uint8_t *met, const struct labels *nodes, __m512i id)
{
    __m512i index = _mm512_srli_epi16(id, SHARED_BITS);
    _mm512_store_si512(met, labels_met(_mm512_permutexvar_epi8(index, nodes->table[0])));
}

/* What count_units works on. */
struct pass {
    struct ladder *ladder;
    const uint8_t *id;   /* [words][num_units][64][8] */
    const uint8_t *page; /* the same shape; NULL: every id is of page 0 */
    int32_t number;      /* the page to count */
    int32_t num_units;
    int64_t *octet_tokens;      /* [32] added to, if has_octets */
    uint8_t *met;               /* as struct avx512 has it, out if has_nodes */
    const struct labels *nodes; /* up to eight, of one look-up */
};

/* Every instance is one loop without a branch: what is constant here is settled by inlining. */
INLINE void count_units(const struct pass *pass, int32_t groups, int32_t words, bool has_octets,
                        bool has_nodes)
{
    struct ladder *ladder = pass->ladder;
    struct quad ones = ladder->sum[0];
    struct quad twos = ladder->sum[1];
    struct quad octets = {.a = _mm512_setzero_si512()};
    for (int32_t unit = 0; unit < pass->num_units; unit++) {
        struct quad two[4];
        struct quad four[2];
        struct quad eight = {.a = _mm512_setzero_si512()};
#pragma GCC unroll 4
        for (int32_t pair = 0; pair < 4; pair++) {
            int32_t at = unit * 8 * UNIT_ROWS + pair * 128;
            const uint8_t *page = pass->page == NULL ? NULL : pass->page + at;
            if (page == NULL) {
                _mm_prefetch((const char *)pass->id + at + AHEAD_BYTES, _MM_HINT_T0);
                _mm_prefetch((const char *)pass->id + at + AHEAD_BYTES + 64, _MM_HINT_T0);
            }
            if (has_nodes) {
                mark_rows(pass->met + at, pass->nodes, _mm512_loadu_si512(pass->id + at));
                mark_rows(pass->met + at + 64, pass->nodes, _mm512_loadu_si512(pass->id + at + 64));
            }
            two[pair] = count_pair(&ones, &octets, pass->id + at, page, pass->number, groups, words,
                                   has_octets);
            if (pair % 2 == 1) {
                twos = add_quads(&four[pair / 2], twos, two[pair - 1], two[pair], groups);
            }
        }
        ladder->sum[2] = add_quads(&eight, ladder->sum[2], four[0], four[1], groups);
        carry_up(ladder, eight, groups);
    }
    ladder->sum[0] = ones;
    ladder->sum[1] = twos;
    if (has_octets) {
        add_lanes(pass->octet_tokens, octets.a, 8);
        add_lanes(pass->octet_tokens + 8, octets.b, 8);
        add_lanes(pass->octet_tokens + 16, octets.c, 8);
        add_lanes(pass->octet_tokens + 24, octets.d, 8);
    }
}

AVX512 static void count_direct(struct avx512 *state, int64_t *octet_tokens, const uint8_t *id,
                                int64_t num_rows)
{
    struct pass pass = {
        .ladder = &state->ladder[0],
        .id = id,
        .num_units = (int32_t)(num_rows / UNIT_ROWS),
        .octet_tokens = octet_tokens,
        .met = state->met,
        .nodes = &state->nodes,
    };
    if (state->has_octets && state->marks_nodes) {
        count_units(&pass, 4, 1, true, true);
    } else if (state->has_octets) {
        count_units(&pass, 4, 1, true, false);
    } else if (state->marks_nodes) {
        count_units(&pass, 4, 1, false, true);
    } else {
        count_units(&pass, 4, 1, false, false);
    }
}

AVX512 static void count_staged(struct avx512 *state, int64_t *octet_tokens, int64_t num_rows)
{
    const int32_t experts = state->shape->num_experts;
    const bool has_octets = state->has_octets;
    const bool wide = state->num_words == 2;
    struct pass pass = {
        .id = state->id[0],
        .page = state->page[0],
        .num_units = (int32_t)((num_rows + UNIT_ROWS - 1) / UNIT_ROWS),
    };
    for (; pass.number < state->num_pages; pass.number++) {
        pass.ladder = &state->ladder[pass.number];
        pass.octet_tokens = octet_tokens + 32 * pass.number;
        if (experts <= 64 && !wide) {
            count_units(&pass, 1, 1, has_octets, false);
        } else if (experts <= 64) {
            count_units(&pass, 1, 2, has_octets, false);
        } else if (experts <= 128 && !wide) {
            count_units(&pass, 2, 1, has_octets, false);
        } else if (experts <= 128) {
            count_units(&pass, 2, 2, has_octets, false);
        } else if (!wide) {
            count_units(&pass, 4, 1, has_octets, false);
        } else {
            count_units(&pass, 4, 2, has_octets, false);
        }
    }
}

static int64_t avx512_count(void *opaque, const struct replay_counts *counts, const void *id,
                            int64_t first_row, int64_t num_rows)
{
    struct avx512 *state = opaque;
    const int64_t direct_rows = state->is_direct ? num_rows / UNIT_ROWS * UNIT_ROWS : 0;
    int64_t octet_tokens[REPLAY_EXPERTS_MAX / 8] = {0};
    int64_t not_routed = 0;
    count_direct(state, octet_tokens, id, direct_rows);
    if (direct_rows < num_rows) {
        int64_t row_bytes = (int64_t)state->shape->top_k * state->shape->id_bytes;
        const uint8_t *rest = (const uint8_t *)id + direct_rows * row_bytes;
        not_routed = replay_avx512_stage(state, rest, num_rows - direct_rows);
        count_staged(state, octet_tokens, num_rows - direct_rows);
    }
    for (int32_t octet = 0; octet < 32 * state->num_pages && state->has_octets; octet++) {
        if (state->rank_of_octet[octet] >= 0) {
            counts->rank_tokens[state->rank_of_octet[octet]] += octet_tokens[octet];
        }
    }
    struct view view = {state->id[0], state->page[0]};
    if (state->is_direct) {
        view = (struct view){.id = id};
    }
    if (state->shape->num_nodes > 0) { /* first: ranks use met too */
        replay_avx512_nodes(state, counts, &view, first_row, num_rows,
                            state->marks_nodes ? direct_rows : 0);
    }
    if (state->shape->num_ranks > 0 && !state->has_octets) {
        replay_avx512_ranks(state, counts, &view, num_rows);
    }
    return not_routed;
}

static void avx512_fold(void *opaque, int64_t *expert_tokens)
{
    struct avx512 *state = opaque;
    for (int32_t page = 0; page < state->num_pages; page++) {
        int64_t tokens[PAGE_EXPERTS] = {0};
        struct ladder *ladder = &state->ladder[page];
        for (int32_t level = 0; level < REPLAY_LEVELS; level++) {
            const struct quad *sum = &ladder->sum[level];
            const struct quad *waiting = &ladder->waiting[level];
            replay_fold_plane(tokens, (const uint64_t *)(const void *)sum, 4, 8, 1 << level);
            replay_fold_plane(tokens, (const uint64_t *)(const void *)waiting, 4, 8, 1 << level);
        }
        memset(ladder, 0, sizeof *ladder);
        int32_t first = page * PAGE_EXPERTS;
        for (int32_t i = 0; i < PAGE_EXPERTS && first + i < state->shape->num_experts; i++) {
            expert_tokens[first + i] += tokens[i];
        }
    }
}

const struct replay_kernel replay_kernel_avx512 = {
    .open = replay_avx512_open,
    .close = replay_avx512_close,
    .count = avx512_count,
    .fold = avx512_fold,
};

#endif
