/*
 * replay_rows.h -- the path of 256-bit vectors without bit matrices: one row at a time.
 *
 * A table has every expert as a set of one bit; a row's set is the OR of its experts', and sets are
 * counted in a carry-save ladder as in replay_avx512.c, 256 bits an instruction (NEON: two). Where
 * it can be, the bits of a rank share a byte and those of a node eight bytes: then the ranks and
 * nodes that a row meets are the bytes and words of its set that are not zero. Else a second table
 * has a bit for every rank and node, and the bits of a row are counted one by one.
 *
 * This is a template. The file that includes it says in ROWS_TARGET what its functions are compiled
 * for, and makes a kernel of rows_open, rows_close, rows_count and rows_fold.
 */
#ifndef MOESIM_REPLAY_ROWS_H
#define MOESIM_REPLAY_ROWS_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replay_internal.h"

#define ROWS_INLINE ROWS_TARGET __attribute__((always_inline)) static inline

#define SET_BITS    256
#define SETS_MAX    (REPLAY_EXPERTS_MAX / SET_BITS)
#define UNIT_ROWS   8  /* they fill three levels of the ladder, in registers */
#define BATCH_UNITS 16 /* four levels more, in memory; bytes count their 128 rows */

#define SET_SHIFT   5 /* a set has 2^5 bytes */

typedef uint64_t bits __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(32)));
/* Counts of a block, for each byte of bits. */
typedef uint16_t block_counts __attribute__((vector_size(64)));

/* Counts of weight 2^level; waiting: one addend more, until the level gets its second. */
struct rows_ladder {
    bits sum[REPLAY_LEVELS];
    bits waiting[REPLAY_LEVELS];
    uint64_t num_batches;
};

struct rows {
    struct rows_ladder ladder[SETS_MAX];
    const struct replay_shape *shape;
    bits *set;         /* [num_sets][num_ids] zero for what is no expert */
    uint64_t *label;   /* [num_words][num_ids] a bit for each rank, then each node */
    int32_t num_sets;  /* of 256 bits */
    int32_t num_ids;   /* experts and one id more, or all that a byte can be */
    int32_t num_words; /* of labels; 0: bytes and words of the sets tell ranks and nodes */
    int32_t bit_of_expert[REPLAY_EXPERTS_MAX];
    int32_t rank_of_byte[REPLAY_EXPERTS_MAX / 8];  /* -1: none */
    int32_t node_of_word[REPLAY_EXPERTS_MAX / 64]; /* -1: none */
};

/* The bits of three vectors, added: returns the sums, *carry the carries. */
ROWS_INLINE void add_bits(bits *carry, bits *sum, const bits *left, const bits *right)
{
    bits half = *left ^ *right;
    *carry = (*left & *right) | (half & *sum);
    *sum ^= half;
}

/* Adds up pairs of vectors of a level, each of which makes one of the next, in its place. */
ROWS_INLINE void add_pairs(bits *level_sum, bits *addend, int32_t num_pairs)
{
    bits sum = *level_sum;
#pragma GCC unroll 8
    for (int32_t i = 0; i < num_pairs; i++) {
        bits next;
        add_bits(&next, &sum, &addend[2 * i], &addend[2 * i + 1]);
        addend[i] = next;
    }
    *level_sum = sum;
}

/* Adds up the carries of a batch's units, four levels, which asks of none whose turn it is; then
 * two addends of a level make one of the next. */
ROWS_INLINE void add_batch(struct rows_ladder *ladder, bits *carry)
{
    add_pairs(&ladder->sum[3], carry, 8);
    add_pairs(&ladder->sum[4], carry, 4);
    add_pairs(&ladder->sum[5], carry, 2);
    add_pairs(&ladder->sum[6], carry, 1);
    int32_t level = 7;
    for (uint64_t turn = ladder->num_batches++; turn & 1; turn >>= 1, level++) {
        bits next;
        add_bits(&next, &ladder->sum[level], &ladder->waiting[level], carry);
        ladder->waiting[level] = (bits){0};
        *carry = next;
    }
    assert(level < REPLAY_LEVELS);
    ladder->waiting[level] = *carry;
}

/* Which row of the tables an id has. */
ROWS_INLINE int32_t entry_of(const struct rows *state, const void *id, int64_t index,
                             int32_t id_bytes)
{
    if (id_bytes == 1) {
        return ((const uint8_t *)id)[index];
    }
    int32_t wide = ((const uint16_t *)id)[index];
    return wide < state->num_ids ? wide : state->num_ids - 1;
}

ROWS_INLINE bits set_of_row(const struct rows *state, const bits *table, const void *id,
                            int64_t row, int32_t top_k, int32_t id_bytes)
{
    bits all = table[entry_of(state, id, row * top_k, id_bytes)];
    for (int32_t k = 1; k < top_k; k++) {
        all |= table[entry_of(state, id, row * top_k + k, id_bytes)];
    }
    return all;
}

/* The set of the id at bit 8 slot of a row's word: an id times 32 is a rotation and a mask. */
ROWS_INLINE bits set_at(const bits *table, uint64_t word, int32_t slot)
{
    int32_t right = (8 * slot + 64 - SET_SHIFT) % 64;
    uint64_t offset_bytes = (word >> right | word << (64 - right)) & (0xff << SET_SHIFT);
    return *(const bits *)(const void *)((const char *)table + offset_bytes);
}

/* The set of a row of eight ids of one byte. */
ROWS_INLINE bits set_of_eight(const bits *table, const uint8_t *id)
{
    uint64_t word;
    memcpy(&word, id, sizeof word);
    bits all = set_at(table, word, 0);
#pragma GCC unroll 7
    for (int32_t slot = 1; slot < 8; slot++) {
        all |= set_at(table, word, slot);
    }
    return all;
}

/* Rows in a vector of the sets. */
struct pass {
    const struct rows *state;
    const bits *table; /* [num_ids] */
    const void *id;    /* [num_rows][top_k] */
    int64_t num_rows;
};

/* What has been counted of them. */
struct tally {
    bits sum[3];   /* the ladder's lowest levels */
    bytes no_rank; /* rows of the batch that do not meet the rank of a byte */
    bits no_node;  /* rows of the source that do not meet the node of a word */
};

/* Counts rows first .. first + 7, of which those from end on are empty. */
ROWS_INLINE bits count_unit(struct tally *tally, const struct pass *pass, int64_t first,
                            int64_t end, int32_t top_k, int32_t id_bytes, bool has_places)
{
    bits two[4];
    bits four[2];
    bits eight;
#pragma GCC unroll 4
    for (int32_t pair = 0; pair < 4; pair++) {
        bits set[2] = {{0}};
#pragma GCC unroll 2
        for (int32_t i = 0; i < 2; i++) {
            int64_t row = first + 2 * pair + i;
            if (end == INT64_MAX && top_k == 8 && id_bytes == 1) {
                set[i] = set_of_eight(pass->table, (const uint8_t *)pass->id + 8 * row);
            } else if (row < end) {
                set[i] = set_of_row(pass->state, pass->table, pass->id, row, top_k, id_bytes);
            }
            if (has_places) {
                tally->no_rank -= (bytes)((bytes)set[i] == 0);
                tally->no_node -= (bits)(set[i] == 0);
            }
        }
        add_bits(&two[pair], &tally->sum[0], &set[0], &set[1]);
        if (pair % 2 == 1) {
            add_bits(&four[pair / 2], &tally->sum[1], &two[pair - 1], &two[pair]);
        }
    }
    add_bits(&eight, &tally->sum[2], &four[0], &four[1]);
    return eight;
}

/* Counts units of whole rows from first on; a loop of its own keeps the tally in registers. */
ROWS_INLINE void count_units(struct tally *tally, bits *carry, const struct pass *pass,
                             int64_t first, int64_t num_units, int32_t top_k, int32_t id_bytes,
                             bool has_places)
{
    struct tally sums = *tally;
    for (int64_t unit = 0; unit < num_units; unit++) {
        carry[unit] = count_unit(&sums, pass, first + unit * UNIT_ROWS, INT64_MAX, top_k, id_bytes,
                                 has_places);
    }
    *tally = sums;
}

/* Adds the rows of one source that met the node of each word: all that were seen, less the rest. */
ROWS_INLINE void add_nodes(const struct rows *state, int64_t *node_tokens, int32_t number,
                           int64_t num_seen, const bits *no_node)
{
    for (int32_t word = 0; word < SET_BITS / 64; word++) {
        int32_t node = state->node_of_word[SET_BITS / 64 * number + word];
        if (node >= 0) {
            node_tokens[node] += num_seen - (int64_t)(*no_node)[word];
        }
    }
}

/* Adds the rows that met the rank of each byte. */
ROWS_INLINE void add_ranks(const struct rows *state, int64_t *rank_tokens, int32_t number,
                           int64_t num_seen, const block_counts *no_rank)
{
    for (int32_t byte = 0; byte < SET_BITS / 8; byte++) {
        int32_t rank = state->rank_of_byte[SET_BITS / 8 * number + byte];
        if (rank >= 0) {
            rank_tokens[rank] += num_seen - (*no_rank)[byte];
        }
    }
}

/* Counts one vector of the sets of rows, and its ranks and nodes if they are bytes and words of it.
 * A unit ends where a source does: it is filled up with empty rows. */
ROWS_INLINE void count_sets(struct rows *state, const struct replay_counts *counts,
                            int64_t first_row, const void *id, int64_t num_rows, int32_t number,
                            int32_t top_k, int32_t id_bytes, bool has_places)
{
    const struct replay_shape *shape = state->shape;
    struct rows_ladder *ladder = &state->ladder[number];
    const struct pass pass = {
        .state = state,
        .table = state->set + (int64_t)number * state->num_ids,
        .id = id,
        .num_rows = num_rows,
    };
    struct tally tally = {.sum = {ladder->sum[0], ladder->sum[1], ladder->sum[2]}};
    const bool has_nodes = has_places && shape->num_nodes > 0;
    int32_t source = 0;
    int64_t run = has_nodes ? replay_run(&source, shape, first_row, INT64_MAX) : INT64_MAX;
    int64_t num_seen_run = 0; /* with the empty rows */
    int64_t num_seen = 0;
    block_counts no_rank = {0};
    for (int64_t row = 0; row < num_rows;) {
        bits carry[BATCH_UNITS] = {{0}};
        for (int64_t unit = 0, more; unit < BATCH_UNITS && row < num_rows; unit += more) {
            int64_t left = num_rows - row < run ? num_rows - row : run;
            int64_t counted = left;
            more = left / UNIT_ROWS < BATCH_UNITS - unit ? left / UNIT_ROWS : BATCH_UNITS - unit;
            if (more > 0) {
                counted = more * UNIT_ROWS;
                count_units(&tally, carry + unit, &pass, row, more, top_k, id_bytes, has_places);
            } else {
                more = 1;
                carry[unit] =
                    count_unit(&tally, &pass, row, row + left, top_k, id_bytes, has_places);
            }
            row += counted;
            run -= counted;
            num_seen_run += more * UNIT_ROWS;
            num_seen += more * UNIT_ROWS;
            if (has_nodes && (run == 0 || row == num_rows)) {
                int64_t *tokens = counts->node_tokens + (int64_t)source * shape->num_nodes;
                add_nodes(state, tokens, number, num_seen_run, &tally.no_node);
                tally.no_node = (bits){0};
                num_seen_run = 0;
                source = source + 1 < shape->num_sources ? source + 1 : 0;
                run = shape->rows_per_source;
            }
        }
        add_batch(ladder, carry);
        no_rank += __builtin_convertvector(tally.no_rank, block_counts);
        tally.no_rank = (bytes){0};
    }
    memcpy(ladder->sum, tally.sum, sizeof tally.sum);
    if (has_places) {
        add_ranks(state, counts->rank_tokens, number, num_seen, &no_rank);
    }
}

/* Counts ranks and nodes by the second table. */
ROWS_INLINE void count_labels(const struct rows *state, const struct replay_counts *counts,
                              int64_t first_row, const void *id, int64_t num_rows)
{
    const struct replay_shape *shape = state->shape;
    int32_t source = 0;
    int64_t run =
        shape->num_nodes > 0 ? replay_run(&source, shape, first_row, INT64_MAX) : INT64_MAX;
    for (int64_t row = 0; row < num_rows; row++) {
        int64_t *node_tokens = counts->node_tokens;
        if (node_tokens != NULL) {
            node_tokens += (int64_t)source * shape->num_nodes;
        }
        for (int32_t word = 0; word < state->num_words; word++) {
            const uint64_t *table = state->label + (int64_t)word * state->num_ids;
            uint64_t met = 0;
            for (int32_t k = 0; k < shape->top_k; k++) {
                met |= table[entry_of(state, id, row * shape->top_k + k, shape->id_bytes)];
            }
            for (; met != 0; met &= met - 1) {
                int32_t label = 64 * word + __builtin_ctzll(met);
                if (label < shape->num_ranks) {
                    counts->rank_tokens[label]++;
                } else {
                    node_tokens[label - shape->num_ranks]++;
                }
            }
        }
        if (--run == 0) {
            source = source + 1 < shape->num_sources ? source + 1 : 0;
            run = shape->rows_per_source;
        }
    }
}

/* How many ids are all ones. */
ROWS_INLINE int64_t count_gaps(const void *id, int64_t num_ids, int32_t id_bytes)
{
    int64_t gaps = 0;
    int64_t first = 0;
    while (id_bytes == 1 && num_ids - first >= SET_BITS / 8) {
        bytes sum = {0};
        for (int32_t i = 0; i < 255 && num_ids - first >= SET_BITS / 8; i++) {
            bytes some;
            memcpy(&some, (const uint8_t *)id + first, sizeof some);
            sum -= (bytes)(some == 0xff);
            first += SET_BITS / 8;
        }
        for (int32_t lane = 0; lane < SET_BITS / 8; lane++) {
            gaps += sum[lane];
        }
    }
    for (; first < num_ids; first++) {
        gaps += id_bytes == 1 ? ((const uint8_t *)id)[first] == 0xff
                              : ((const uint16_t *)id)[first] == 0xffff;
    }
    return gaps;
}

ROWS_TARGET static int64_t rows_count(void *opaque, const struct replay_counts *counts,
                                      const void *id, int64_t first_row, int64_t num_rows)
{
    struct rows *state = opaque;
    const struct replay_shape *shape = state->shape;
    const bool has_places = shape->num_ranks > 0 && state->num_words == 0;
    for (int32_t number = 0; number < state->num_sets; number++) {
        if (shape->top_k == 8 && shape->id_bytes == 1 && has_places) {
            count_sets(state, counts, first_row, id, num_rows, number, 8, 1, true);
        } else if (shape->top_k == 8 && shape->id_bytes == 1) {
            count_sets(state, counts, first_row, id, num_rows, number, 8, 1, false);
        } else {
            count_sets(state, counts, first_row, id, num_rows, number, shape->top_k,
                       shape->id_bytes, has_places);
        }
    }
    if (state->num_words > 0) {
        count_labels(state, counts, first_row, id, num_rows);
    }
    return replay_not_routed(shape) < 0 ? 0
                                        : count_gaps(id, num_rows * shape->top_k, shape->id_bytes);
}

static void rows_fold(void *opaque, const struct replay_counts *counts, int64_t *expert_tokens)
{
    (void)counts; /* ranks are counted block by block */
    struct rows *state = opaque;
    int64_t tokens[REPLAY_EXPERTS_MAX] = {0};
    for (int32_t number = 0; number < state->num_sets; number++) {
        struct rows_ladder *ladder = &state->ladder[number];
        for (int32_t level = 0; level < REPLAY_LEVELS; level++) {
            int64_t *to = tokens + SET_BITS * number;
            replay_fold_plane(to, (const uint64_t *)&ladder->sum[level], 4, 1, 1 << level);
            replay_fold_plane(to, (const uint64_t *)&ladder->waiting[level], 4, 1, 1 << level);
        }
        memset(ladder, 0, sizeof *ladder);
    }
    for (int32_t expert = 0; expert < state->shape->num_experts; expert++) {
        expert_tokens[expert] += tokens[state->bit_of_expert[expert]];
    }
}

#endif
