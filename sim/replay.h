/*
 * replay.h -- counts recorded routing at the speed of memory.
 *
 * For every row (token) of one layer: which experts it chose, which ranks hold at least one of
 * them, and which nodes. Three results, all sums over rows and so the same whatever path, order or
 * number of threads:
 *
 *   expert_tokens[e]      rows that chose expert e (an expert named twice counts twice)
 *   rank_tokens[r]        rows with at least one expert on rank r: what is sent to it once a token
 *   node_tokens[s][n]     rows of source s with at least one expert on node n: the traffic matrix
 *                         of a collective that sends a token once a node
 *
 * (DeepEP's get_dispatch_layout makes the same three: num_tokens_per_expert, _per_rank and
 * _per_rdma_rank.) A rank's load in assignments is the sum of its experts' tokens:
 * replay_rank_load.
 *
 * A source is whoever holds the row before dispatch. Rows are dealt in blocks, the sources in turn:
 * row i belongs to source (i / rows_per_source) % num_sources. With rows_per_source =
 * tokens_per_rank that is the engine's consecutive batching (sim/batch.h); with num_sources = 1
 * nobody is told apart.
 *
 * Paths: scalar does every shape and is what the others must equal bit for bit. avx512, avx2 and
 * neon do up to REPLAY_EXPERTS_MAX experts and a top_k of REPLAY_TOP_K_MAX; beyond, a replay runs
 * scalar whatever path was asked for.
 */
#ifndef MOESIM_REPLAY_H
#define MOESIM_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

#define REPLAY_EXPERTS_MAX 1024 /* of a path with vectors */
#define REPLAY_TOP_K_MAX   16

enum replay_path {
    REPLAY_SCALAR,
    REPLAY_NEON,
    REPLAY_AVX2,   /* needs BMI2 too */
    REPLAY_AVX512, /* needs GFNI, VBMI and BITALG: Ice Lake, Zen 4 and later */
    REPLAY_PATH_COUNT,
};

/* What is counted, of one layer. Arrays are copied. */
struct replay_shape {
    int32_t num_experts; /* 1 to 65535 */
    int32_t top_k;       /* at least 1 */
    int32_t id_bytes;  /* 1 (up to 256 experts) or 2; all ones: not routed, but with 256 experts of
                          one byte 255 is an expert (sim/trace.h) */
    int32_t num_ranks; /* 0: ranks and nodes are not counted */
    int32_t num_nodes; /* 0: nodes are not counted */
    const int32_t *rank_of_expert; /* [num_experts] */
    const int32_t *node_of_rank;   /* [num_ranks] */
    int32_t num_sources;           /* at least 1, where nodes are counted */
    int64_t rows_per_source;       /* at least 1, where nodes are counted */
};

/* Where counts are added to; what the shape does not count may be NULL. */
struct replay_counts {
    int64_t *expert_tokens; /* [num_experts] */
    int64_t *rank_tokens;   /* [num_ranks] */
    int64_t *node_tokens;   /* [num_sources][num_nodes] */
};

struct replay;

const char *replay_path_name(enum replay_path path);
bool replay_path_runs(enum replay_path path); /* on this processor */
enum replay_path replay_path_best(void);      /* the fastest that does */

/* Makes the tables of a shape. One replay serves one thread at a time. STATUS_NO_MEMORY is the only
 * failure; *replay is NULL after it. */
MUST_CHECK enum status replay_open(struct replay **replay, const struct replay_shape *shape,
                                   enum replay_path path);
void replay_close(struct replay *replay); /* safe on NULL */

enum replay_path replay_path_of(const struct replay *replay); /* the one in use */

/* Adds rows first_row .. first_row + num_rows - 1 to counts.
 *   id  [num_rows][top_k] uint8_t or uint16_t: the ids of those rows
 * Returns -1, or the index in id of the first that is neither an expert nor "not routed"; counts
 * are then half made. */
MUST_CHECK int64_t replay_count(struct replay *replay, const struct replay_counts *counts,
                                const void *id, int64_t first_row, int64_t num_rows);

/* Sums expert_tokens[num_experts] by rank into load_tokens[num_ranks]: assignments a rank. */
void replay_rank_load(int64_t *load_tokens, const struct replay_shape *shape,
                      const int64_t *expert_tokens);

#endif
