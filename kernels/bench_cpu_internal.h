/*
 * bench_cpu_internal.h -- what the files of the CPU device share.
 */
#ifndef MOESIM_BENCH_CPU_INTERNAL_H
#define MOESIM_BENCH_CPU_INTERNAL_H

#include "bench_cpu.h"
#include "cpu_forward.h"

#define DENSE_DIM                                                                                  \
    1024 /* of the dense GEMM: large enough to reach the peak, 15 ms at 150 GFLOP/s                \
          */

enum { SAMPLE_LAYER = CPU_PHASES, SAMPLE_WALL, SAMPLE_DENSE, SAMPLE_KINDS };

/* One routing of so many tokens, this rank's part of it. */
struct forward_case {
    const char *routing;
    int32_t num_tokens; /* of the group */
    int32_t local_tokens;
    int32_t *expert; /* [local_tokens][top_k] */
    float *gate_weight;
    int32_t *num_rows; /* [experts of the rank] */
    double *sample_ns; /* [num_samples][SAMPLE_KINDS] of this rank */
    int32_t num_samples;
};

struct bench {
    const struct bench_options *options;
    struct bench_layer shape;
    struct cpu_layer cpu;
    int32_t num_cases;
    struct forward_case *cases;
    float *x; /* [tokens of the largest case][hidden_dim] */
    float *out;
    float *dense; /* [3][DENSE_DIM][DENSE_DIM] */
    char *flush;  /* [flush_bytes], twice the last-level cache */
    size_t flush_bytes;
    struct arena arena;
};

/* Threads of this process: --threads, or its share of the host's. */
int32_t cpu_threads(const struct bench_options *options);

/* Name of the CPU, BLAS and threads. */
void cpu_describe_machine(struct bench_machine *machine, int32_t num_threads);

/* BENCH_OK, or the code to leave with after telling why: no OpenBLAS, fp8, ranks that were not
 * started. */
int cpu_check_device(const struct bench_options *options);

/* Tells what went wrong; returns the exit code. */
int cpu_fail(enum status status, struct error *error);

/* One dense GEMM with as many threads of OpenBLAS's own, in ns. dense: [3][DENSE_DIM][DENSE_DIM].
 */
double cpu_dense_ns(float *dense, int32_t num_threads);

/* Rows of a case, from all ranks, by rank 0. Collective. */
MUST_CHECK enum status cpu_write_case(struct bench *bench, struct bench_csv *csv,
                                      const struct forward_case *one);

#endif
