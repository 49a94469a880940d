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

#endif
