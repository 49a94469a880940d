/*
 * cpu_forward.h -- the MoE layer of reference/forward.h, fast: fp32, OpenMP threads, OpenBLAS, and
 * experts and tokens over MPI ranks.
 *
 * Rank r of R holds the experts E r / R to E (r + 1) / R - 1 and the tokens likewise. Phases, as
 * they are timed:
 *
 *   gate      router GEMM and choice                      on the tokens of the rank
 *   permute   rows sorted by expert, and so by rank
 *   dispatch  R > 1: row counts, then rows, by MPI_Alltoallv; received rows sorted by expert
 *   gate_up   one GEMM an expert and the activation       on the rows of the rank's experts
 *   down      one GEMM an expert
 *   return    R > 1: rows back by MPI_Alltoallv
 *   shared    shared experts                              on the tokens of the rank
 *   combine   weighted sum
 *
 * A row is computed from the same numbers in the same order whatever R is (an expert sees all of
 * its rows at once, and in one order), so the result does not depend on R, bit for bit. Shared
 * experts see the rank's own tokens; OpenBLAS rounds a row by where in the batch it stands, so with
 * them results of different R differ by rounding.
 *
 * GEMMs are cut into tasks of one expert and some of its columns; OpenBLAS runs each task on one
 * thread, OpenMP the tasks on all.
 */
#ifndef MOESIM_CPU_FORWARD_H
#define MOESIM_CPU_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "bench.h"
#include "forward.h"

#ifndef _OPENMP
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#endif
#ifdef __clang__ /* a loop that a sanitizer keeps scalar is no mistake */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

#define CPU_TASK_ROWS    1024 /* of tokens in one GEMM: more would not save weight traffic */
#define CPU_TASK_COLUMNS 1024 /* of weights; a multiple of two granules of gate and up */
#define CPU_ROW_ALIGN    4    /* an expert's rows are padded: OpenBLAS is slower for 3 than for 4 */
#define CPU_GATE_TOKENS  64   /* that a thread routes at a time */

enum cpu_phase {
    CPU_GATE,
    CPU_PERMUTE,
    CPU_DISPATCH,
    CPU_GATE_UP,
    CPU_DOWN,
    CPU_RETURN,
    CPU_SHARED,
    CPU_COMBINE,
    CPU_PHASES,
};

const char *cpu_phase_name(enum cpu_phase phase);

/* Of one rank. Zero-initialise; release with cpu_layer_free. */
struct cpu_layer {
    struct moe_layer layer; /* expert.num_experts and weights: of this rank; gate: of the group */
    int32_t num_experts;    /* of the group */
    int32_t first_expert;
    int32_t num_threads;
    int32_t num_ranks;
    int32_t *expert_begin; /* [num_ranks + 1] */
    float *router_columns; /* [hidden_dim][num_experts] */
    float *thread_work;    /* [num_threads][thread_floats] */
    int64_t thread_floats;
    struct arena weights;
    struct arena scratch; /* of one step */
    /* When each phase of the last step ended, after the step's beginning: by the wall clock, and in
     * time that the thread was running (of one thread; of several, by the wall clock too). */
    double end_s[CPU_PHASES];
    double busy_end_s[CPU_PHASES];
    double begin_s;
    double busy_begin_s;
};

/* Random weights of the shape, each expert's the same on whatever rank it is. num_ranks 1: all
 * experts, of any number of processes. STATUS_NO_MEMORY. */
MUST_CHECK enum status cpu_layer_make(struct cpu_layer *cpu, const struct bench_layer *shape,
                                      int32_t num_threads, int32_t rank, int32_t num_ranks,
                                      uint64_t seed);
void cpu_layer_free(struct cpu_layer *cpu);

/* One step. x and out [num_tokens][hidden_dim], of this rank's tokens. expert and gate_weight
 * [num_tokens][top_k]: what the gate chooses, out; with given choices the gate runs all the same
 * and its answer is put aside. num_rows [experts of the rank] out: rows of each of its experts.
 * Collective over the ranks, and begins with a barrier. STATUS_NO_MEMORY, STATUS_INVALID as
 * ref_permute. */
MUST_CHECK enum status cpu_forward(struct cpu_layer *cpu, int32_t num_tokens, float *out,
                                   int32_t *expert, float *gate_weight, bool given, const float *x,
                                   int32_t *num_rows);

/* The clock of busy_end_s. */
double cpu_busy_s(int32_t num_threads);

/* c [m][n], its rows c_stride apart, = a [m][depth] b [n][depth]^T, on this thread. */
void cpu_gemm(int32_t m, int32_t n, int32_t depth, const float *a, const float *b, float *c,
              int32_t c_stride);

/* OpenBLAS: its name and version, or NULL where it was not there at build time. */
const char *cpu_blas(void);
void cpu_blas_threads(int32_t num_threads);

/* The two grouped GEMMs; rows of expert e: row_begin[e] to row_begin[e + 1] - 1, padding and all.
 */
void cpu_gate_up(const struct cpu_layer *cpu, struct expert_shape shape, float *h, const float *x,
                 const int32_t *row_begin, const float *weight, const float *bias);
void cpu_down(const struct cpu_layer *cpu, struct expert_shape shape, float *y, const float *h,
              const int32_t *row_begin, const float *weight, const float *bias);

#endif
