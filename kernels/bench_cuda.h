/*
 * bench_cuda.h -- the commands of moe-bench on the CUDA device. Each returns an enum bench_exit and
 * needs no GPU for a dry run.
 */
#ifndef MOESIM_BENCH_CUDA_H
#define MOESIM_BENCH_CUDA_H

#include "bench.h"
#include "bench_csv.h"

/* Every version of every kernel against its twin in reference/, on fresh random data, outputs
 * poisoned first, twice with the same bits. */
int bench_cuda_check(const struct bench_options *options, struct bench_csv *csv);

/* Every kernel by itself, on a layer's real intermediate results. */
int bench_cuda_time(const struct bench_options *options, struct bench_csv *csv);

/* The layer as one graph, and the same with its phases marked. */
int bench_cuda_forward(const struct bench_options *options, struct bench_csv *csv);

/* Copy, dense GEMM and launch. */
int bench_cuda_ceilings(const struct bench_options *options, struct bench_csv *csv);

/* Which GPU it is, or why it cannot be used. */
int bench_cuda_device(const struct bench_options *options, struct bench_csv *csv);

#endif
