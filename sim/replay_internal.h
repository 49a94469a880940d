/*
 * replay_internal.h -- between replay.c, which cuts rows into chunks and checks them, and the paths
 * that count a chunk.
 *
 * The paths with vectors count sets: an expert's bit is set or not, however often a row names it.
 * So the counts of a chunk sum to its ids that are routed exactly if every id was an expert and no
 * row named one twice. replay.c checks that sum, and has the scalar path count the experts of a
 * chunk where it fails. Ranks and nodes are sets by definition.
 */
#ifndef MOESIM_REPLAY_INTERNAL_H
#define MOESIM_REPLAY_INTERNAL_H

#include "replay.h"

#define REPLAY_CHUNK_ROWS (1 << 18) /* folding the counters is nothing beside that many */
#define REPLAY_LEVELS     19        /* bits of a count of that many rows */
#define REPLAY_BLOCK_ROWS 2048      /* ids stay in the cache */

/* A path with vectors. */
struct replay_kernel {
    enum status (*open)(void **state, const struct replay *replay);
    void (*close)(void *state);
    /* Counts up to REPLAY_BLOCK_ROWS rows: experts privately, ranks and nodes into counts. Returns
     * how many ids are "not routed". */
    int64_t (*count)(void *state, const struct replay_counts *counts, const void *id,
                     int64_t first_row, int64_t num_rows);
    /* Adds the private counts to expert_tokens[num_experts], those of ranks to counts, and clears
     * them. */
    void (*fold)(void *state, const struct replay_counts *counts, int64_t *expert_tokens);
};

struct replay {
    struct replay_shape shape; /* its arrays are the replay's own */
    enum replay_path path;
    const struct replay_kernel *kernel; /* NULL: scalar */
    void *state;                        /* the kernel's */
    int32_t *rank_of_expert;            /* [num_experts] */
    int32_t *node_of_expert;            /* [num_experts] */
    int32_t *node_of_rank;              /* [num_ranks] */
    int64_t *expert_tokens;             /* [num_experts] of the chunk at hand */
    int64_t serial;                     /* of the last row that the scalar path has seen, from 1 */
    int64_t *rank_last_row;             /* [num_ranks] serial of the last row it counted */
    int64_t *node_last_row;             /* [num_nodes] */
};

extern const struct replay_kernel replay_kernel_avx512;
extern const struct replay_kernel replay_kernel_avx2;
extern const struct replay_kernel replay_kernel_neon;

/* The id that means "not routed"; -1: none does. */
static inline int32_t replay_not_routed(const struct replay_shape *shape)
{
    return shape->id_bytes == 2 ? 0xffff : shape->num_experts <= 255 ? 0xff : -1;
}

/* The rows from row on, at most num_rows, that belong to one source; which source out. */
static inline int64_t replay_run(int32_t *source, const struct replay_shape *shape, int64_t row,
                                 int64_t num_rows)
{
    int64_t block = row / shape->rows_per_source;
    int64_t left = (block + 1) * shape->rows_per_source - row;
    *source = (int32_t)(block % shape->num_sources);
    return left < num_rows ? left : num_rows;
}

/* The twin: replay_count as anyone would write it. */
int64_t replay_count_scalar(struct replay *replay, const struct replay_counts *counts,
                            const void *id, int64_t first_row, int64_t num_rows);

/* Adds weight to tokens[64 word + bit] for every bit that is set in one of the lanes of plane.
 *   plane  [num_words][lanes], up to 8 lanes */
void replay_fold_plane(int64_t *tokens, const uint64_t *plane, int32_t num_words, int32_t lanes,
                       int64_t weight);

#endif
