/*
 * replay_avx512.h -- between the files of the path of 512-bit vectors: replay_avx512.c counts
 * experts, _octets.c and _labels.c ranks and nodes; _stage.c and _tables.c prepare, _fold.c adds
 * up.
 */
#ifndef MOESIM_REPLAY_AVX512_H
#define MOESIM_REPLAY_AVX512_H

#include "replay_internal.h"

#ifdef __x86_64__

#include <immintrin.h>

#define FEATURES "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bitalg,gfni"
#define AVX512   __attribute__((target(FEATURES)))
#define INLINE   AVX512 __attribute__((always_inline)) static inline

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define PAGE_EXPERTS 256
#define PAGES_MAX    (REPLAY_EXPERTS_MAX / PAGE_EXPERTS)
#define GROUPS_MAX   4 /* of 64 experts, in a page */
#define PLACES_MAX   8 /* octets of a group */
#define WORDS_MAX    (REPLAY_TOP_K_MAX / 8)
#define UNIT_ROWS    128 /* sixteen vectors, which fill four levels of the ladder */
#define BLOCK_UNITS  (REPLAY_BLOCK_ROWS / UNIT_ROWS) /* sixteen: four levels more */
#define LEVELS_FIXED 8
#define SHARED_BITS  2 /* 256 experts, four and four, fill one look-up of 64 */
#define STAGE_BYTES  (8 * REPLAY_BLOCK_ROWS)
#define MET_WORDS    (REPLAY_BLOCK_ROWS / 8 * GROUPS_MAX)

/* A bit for each of the page's experts and each of eight rows: a vector for each group, a row a
 * lane; behind them one for the octets that they meet. */
struct planes {
    __m512i plane[GROUPS_MAX + 1];
};

/* Counts of weight 2^level; waiting: one addend more, until the level gets its second. */
struct ladder {
    struct planes sum[REPLAY_LEVELS];
    struct planes waiting[REPLAY_LEVELS];
    uint64_t num_blocks;
};

/* For every label of eight neighbours a bit: which experts have it. */
struct labels {
    int32_t num_labels;
    bool is_shared; /* by experts that differ in the lowest bits alone: one look-up finds any */
    __m512i *table; /* [num_labels / 8, up][num_pages][4]; if is_shared [num_labels / 8, up] */
};

/* Ranks or nodes made of octets (eight neighbouring experts) of one group, or of whole groups. */
struct places {
    int32_t per_group; /* at most; 0: they are not of this kind */
    int32_t span;      /* neighbouring groups that are one place: 1, 2 or 4 */
    bool are_octets;   /* each is one */
    bool are_groups;   /* each is one */
    bool are_in_order; /* of a page's four lanes, from the first up */
    int32_t of_octet[PAGES_MAX][PAGE_EXPERTS / 8]; /* -1: none */
    int32_t of_lane[PLACES_MAX][PAGES_MAX][8];     /* of a vector of octets; -1: none */
    __m512i mask[PLACES_MAX][PAGES_MAX]; /* their octets: the same bits for each of eight rows */
};

/* Ids as the passes read them: [words][rows][8]. */
struct view {
    const uint8_t *id;
    const uint8_t *page; /* NULL: every id is of page 0 */
};

struct avx512 {
    struct ladder ladder[PAGES_MAX];
    struct planes block[BLOCK_UNITS]; /* what the units of a block carry */
    uint8_t id[WORDS_MAX][STAGE_BYTES] __attribute__((aligned(64)));
    uint8_t page[WORDS_MAX][STAGE_BYTES] __attribute__((aligned(64)));
    uint8_t met[STAGE_BYTES] __attribute__((aligned(64))); /* [rows][8] one for each of eight labels
                                                              that any of the row's experts has */
    uint64_t octets[PAGES_MAX][MET_WORDS]
        __attribute__((aligned(64)));            /* [rows / 8][groups] which
                                 octets are met, a byte for each of eight rows */
    __m512i met_by_unit[PAGES_MAX][BLOCK_UNITS]; /* vectors of octets that meet any, for each byte
                                                    of them: what single groups count */
    uint8_t row_of_byte[64];                     /* of a vector of octets */
    int32_t row_shift;                           /* which has 2^row_shift rows */
    uint8_t index[WORDS_MAX][64]; /* where in two vectors of the trace a staged byte stands */
    uint64_t present[WORDS_MAX];  /* of staged bytes: those that a row has */
    int32_t rows_at_once;         /* that two vectors hold, staged: 8, or 4 of two bytes an id */
    const struct replay_shape *shape;
    int32_t num_pages;
    int32_t num_groups; /* of a page: 1, 2 or 4 */
    int32_t num_words;
    bool is_direct;  /* the trace's rows can be read as they are */
    bool has_octets; /* octets are wanted */
    struct places rank_places;
    struct places node_places;
    struct labels ranks; /* where they are no places */
    struct labels nodes;
};

/* The 8 x 8 bit matrix of each lane, transposed. */
INLINE __m512i transpose(__m512i bytes)
{
    return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64((int64_t)0x8040201008040201), bytes, 0);
}

/* Which of the 64 bytes from one on are among the first num_bytes? */
INLINE __mmask64 first_bytes(int64_t num_bytes)
{
    return num_bytes >= 64 ? ~(__mmask64)0 : num_bytes <= 0 ? 0 : ((__mmask64)1 << num_bytes) - 1;
}

/* Fills id and page of state from num_rows rows, up to REPLAY_BLOCK_ROWS, filled up to whole units
 * with rows of no expert. Returns how many ids are "not routed". */
int64_t replay_avx512_stage(struct avx512 *state, const uint8_t *id, int64_t num_rows);

/* Finds the places that labels are, if they are. */
void replay_avx512_find_places(struct places *places, const struct avx512 *state,
                               const int32_t *label_of_expert);

/* Count ranks, and nodes by source, by the octets that rows meet. */
void replay_avx512_rank_places(const struct avx512 *state, const struct replay_counts *counts,
                               int64_t num_rows);
void replay_avx512_node_places(const struct avx512 *state, const struct replay_counts *counts,
                               int64_t first_row, int64_t num_rows);

/* The same by the labels of their ids. */
void replay_avx512_ranks(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t num_rows);
void replay_avx512_nodes(struct avx512 *state, const struct replay_counts *counts,
                         const struct view *view, int64_t first_row, int64_t num_rows);

/* As struct replay_kernel has them. */
MUST_CHECK enum status replay_avx512_open(void **state, const struct replay *replay);
void replay_avx512_close(void *state);
void replay_avx512_fold(void *state, const struct replay_counts *counts, int64_t *expert_tokens);

#endif
#endif
