/*
 * bench_rows.h -- what moe-bench forward measured: one phase of one rank a row.
 *
 * The columns are moe-bench's own (kernels/bench_csv.c); those that are read are named in
 * bench_rows.c. Rows of the same step (model, format, tokens, routing, ranks) carry the same
 * number. Of the CPU device the least time of all samples counts, for other programs take of its
 * cores what they will; of a GPU the median.
 */
#ifndef MOESIM_BENCH_ROWS_H
#define MOESIM_BENCH_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "cluster.h"
#include "status.h"

enum bench_phase {
    BENCH_ROUTER, /* CUDA; the CPU's gate has it within */
    BENCH_GATE,
    BENCH_PERMUTE,
    BENCH_ROWS, /* CUDA: the copies that the CPU's permute has within */
    BENCH_DISPATCH,
    BENCH_GATE_UP,
    BENCH_DOWN,
    BENCH_RETURN,
    BENCH_SHARED,
    BENCH_COMBINE,
    BENCH_LAYER, /* the whole step, of all ranks */
    BENCH_WALL,  /* the same by the wall clock, where that differs: other programs' share too */
    BENCH_PHASE_COUNT,
};

const char *bench_phase_name(enum bench_phase phase);

enum bench_skip {
    BENCH_USED,
    BENCH_SKIP_COMMAND, /* of moe-bench check, time or ceilings */
    BENCH_SKIP_STATUS,  /* the case did not end well */
    BENCH_SKIP_PHASE,   /* a phase that is not modelled */
    BENCH_SKIP_PEER,    /* of another library */
    BENCH_SKIP_COUNT,
};

const char *bench_skip_reason(enum bench_skip skip);

struct bench_row {
    enum bench_skip skip;
    enum bench_phase phase;
    int32_t step; /* which step it is a part of */
    bool is_cpu;
    char device[NAME_BYTES]; /* shortened */
    char model[NAME_BYTES];
    char dtype[NAME_BYTES];
    char routing[NAME_BYTES];
    int32_t num_sms; /* of a GPU; threads of a CPU */
    int32_t num_experts, top_k, hidden_dim, ffn_dim, shared_ffn_dim;
    bool is_gated;      /* gate and up; else two layers */
    int32_t num_tokens; /* of the group */
    int32_t rank, num_ranks;
    double ns;
    int32_t num_slots;    /* experts of the rank */
    int32_t *slot_tokens; /* [num_slots] */
};

/* Zero-initialise; release with bench_rows_free. */
struct bench_rows {
    int64_t num_rows;
    struct bench_row *row;
    int32_t num_steps;
    struct arena arena;
};

/* Reads a file and adds its rows. STATUS_INVALID, with file and line, for a missing column or a
 * cell that is not what it should be. */
MUST_CHECK enum status bench_rows_read(struct bench_rows *rows, const char *path,
                                       struct error *error);
void bench_rows_free(struct bench_rows *rows); /* safe on a zeroed struct, and twice */

#endif
