/*
 * replay_avx512.h -- between replay_avx512.c, which counts, and replay_avx512_tables.c, which
 * prepares.
 */
#ifndef MOESIM_REPLAY_AVX512_H
#define MOESIM_REPLAY_AVX512_H

#include "replay_internal.h"

#ifdef __x86_64__

#include <immintrin.h>

#define AVX512       __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,gfni")))
#define INLINE       AVX512 __attribute__((always_inline)) static inline

#define PAGE_EXPERTS 256
#define PAGES_MAX    (REPLAY_EXPERTS_MAX / PAGE_EXPERTS)
#define WORDS_MAX    (REPLAY_TOP_K_MAX / 8)
#define NO_PAGE      0xff
#define UNIT_ROWS    64 /* eight vectors: what the first three levels of the ladder take at once */
#define SHARED_BITS  2  /* 256 experts, four and four, fill one look-up of 64 */
#define STAGE_BYTES  (8 * REPLAY_BLOCK_ROWS)

/* A bit for each of the page's experts and each of eight rows: group by group, a row a lane. */
struct quad {
    __m512i a, b, c, d;
};

/* Counts of weight 2^level; waiting: one addend more, until the level gets its second. */
struct ladder {
    struct quad sum[REPLAY_LEVELS];
    struct quad waiting[REPLAY_LEVELS];
    uint64_t num_units;
};

/* For every label of eight neighbours a bit: which experts have it. */
struct labels {
    int32_t num_labels;
    bool is_shared; /* by experts that differ in the lowest bits alone: one look-up finds any */
    __m512i *table; /* [num_labels / 8, up][num_pages][4]; if is_shared [num_labels / 8, up] */
};

/* Ids as the passes read them: [words][rows][8]. */
struct view {
    const uint8_t *id;
    const uint8_t *page; /* NULL: every id is of page 0 */
};

struct avx512 {
    struct ladder ladder[PAGES_MAX];
    uint8_t id[WORDS_MAX][STAGE_BYTES] __attribute__((aligned(64)));
    uint8_t page[WORDS_MAX][STAGE_BYTES] __attribute__((aligned(64)));
    uint8_t met[STAGE_BYTES] __attribute__((aligned(64))); /* [rows][8] one for each of eight labels
                                                              that any of the row's experts has */
    uint8_t index[WORDS_MAX][64]; /* where in two vectors of the trace a staged byte stands */
    uint64_t present[WORDS_MAX];  /* of staged bytes: those that a row has */
    int32_t rows_at_once;         /* that two vectors hold, staged: 8, or 4 of two bytes an id */
    const struct replay_shape *shape;
    int32_t num_pages;
    int32_t num_words;
    bool is_direct;                                /* the trace's rows can be read as they are */
    bool has_octets;                               /* eight neighbouring experts are a rank */
    bool marks_nodes;                              /* met is filled for nodes on the way */
    int32_t rank_of_octet[REPLAY_EXPERTS_MAX / 8]; /* -1: no expert */
    struct labels ranks;                           /* unless has_octets */
    struct labels nodes;
};

/* The 8 x 8 bit matrix of each lane, transposed. */
INLINE __m512i transpose(__m512i bytes)
{
    return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64((int64_t)0x8040201008040201), bytes, 0);
}

/* A byte for each of eight labels and rows, from the one-hot labels of their ids. */
INLINE __m512i labels_met(__m512i one_hot)
{
    return _mm512_min_epu8(transpose(one_hot), _mm512_set1_epi8(1));
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

/* Which of the 64 bytes from one on are among the first num_bytes? */
INLINE __mmask64 first_bytes(int64_t num_bytes)
{
    return num_bytes >= 64 ? ~(__mmask64)0 : num_bytes <= 0 ? 0 : ((__mmask64)1 << num_bytes) - 1;
}

/* Fills id and page of state from num_rows rows, up to REPLAY_BLOCK_ROWS, filled up to whole units
 * with rows of no expert. Returns how many ids are "not routed". */
int64_t replay_avx512_stage(struct avx512 *state, const uint8_t *id, int64_t num_rows);

/* Counts the ranks that rows meet, where they are not octets. */
void replay_avx512_ranks(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t num_rows);

/* Counts the nodes by source; met is filled already up to num_marked. */
void replay_avx512_nodes(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t first_row, int64_t num_rows,
                         int64_t num_marked);

/* As struct replay_kernel has them. */
MUST_CHECK enum status replay_avx512_open(void **state, const struct replay *replay);
void replay_avx512_close(void *state);

#endif
#endif
